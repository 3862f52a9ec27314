package participant

import (
	"errors"
	"io"
	"net/http"
)

// Transport carries the request context's transaction to the callee, as the next
// child of the call path, and takes from the answer what became of it there. A nil
// base is http.DefaultTransport. The call ends when the body has been read to its end;
// a body closed before that counts as a call that may still be at work.
func Transport(base http.RoundTripper) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	return transport{base}
}

type transport struct{ base http.RoundTripper }

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	c, err := startCall(r.Context())
	if err != nil {
		if r.Body != nil {
			_ = r.Body.Close() // a RoundTripper closes it always
		}
		return nil, err
	}
	if c == nil {
		return t.base.RoundTrip(r)
	}
	r = r.Clone(r.Context())
	for name, value := range c.headers() {
		r.Header.Set(name, value)
	}
	resp, err := t.base.RoundTrip(r)
	if err != nil {
		c.ended(trailer{})
		return nil, err
	}
	if resp.Header.Get(trailerComplete) != "" {
		c.ended(trailerFromHTTP(resp.Header))
		return resp, nil
	}
	resp.Body = &body{ReadCloser: resp.Body, resp: resp, call: c}
	return resp, nil
}

// body notices its end, which is when the trailer is there.
type body struct {
	io.ReadCloser
	resp *http.Response
	call *outCall
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		b.call.ended(trailerFromHTTP(b.resp.Trailer))
	}
	return n, err
}

func (b *body) Close() error {
	b.call.ended(trailer{}) // no effect after the end was read
	return b.ReadCloser.Close()
}

// Middleware gives handlers a request context that carries the caller's
// transaction, and tells the caller what became of it here: in the trailer, or in
// the header of an answer without a body.
func Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, s, err := enter(r.Context(), r.Header.Get)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if s == nil {
			next.ServeHTTP(w, r)
			return
		}
		aw := &answerWriter{ResponseWriter: w, scope: s, bodyless: r.Method == http.MethodHead}
		next.ServeHTTP(aw, r.WithContext(ctx))
		aw.finish()
	})
}

// answerWriter adds the trailer. The header of an answer without a body is held
// back until the handler has returned, because only then is it known what to say.
type answerWriter struct {
	http.ResponseWriter
	scope    *scope
	bodyless bool
	held     int // status held back, 0 for none
	wrote    bool
}

// Unwrap is for http.ResponseController.
func (w *answerWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *answerWriter) WriteHeader(code int) {
	switch {
	case w.wrote || w.held != 0:
		return
	case code < 200:
		w.ResponseWriter.WriteHeader(code) // informational: the answer is still to come
		return
	case w.bodyless || code == http.StatusNoContent || code == http.StatusNotModified:
		w.held = code
		return
	}
	h := w.Header()
	h.Del("Content-Length") // HTTP/1.1 has trailers only where the length is not told before
	w.scope.trailer().each(func(name string, _ ...string) { h.Add("Trailer", http.CanonicalHeaderKey(name)) })
	w.wrote = true
	w.ResponseWriter.WriteHeader(code)
}

func (w *answerWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.held != 0 {
		if w.bodyless {
			return len(p), nil // HEAD: counted, never sent
		}
		return 0, http.ErrBodyNotAllowed
	}
	return w.ResponseWriter.Write(p)
}

// Flush is for handlers that ask for http.Flusher.
func (w *answerWriter) Flush() {
	w.WriteHeader(http.StatusOK)
	if w.held == 0 {
		_ = http.NewResponseController(w.ResponseWriter).Flush()
	}
}

// finish says what became of the subtree.
func (w *answerWriter) finish() {
	w.scope.answer().each(func(name string, value ...string) { w.Header().Set(name, value[0]) })
	if w.held != 0 {
		w.ResponseWriter.WriteHeader(w.held)
	}
}

func trailerFromHTTP(h http.Header) trailer {
	return readTrailer(h.Get)
}
