package participant_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/participanttest"
)

// serveHTTP starts a service with the middleware, and returns its URL and a client
// with the transport.
func serveHTTP(t testing.TB, handler http.HandlerFunc) (string, *http.Client) {
	t.Helper()
	server := httptest.NewServer(participant.Middleware(handler))
	base := &http.Transport{}
	t.Cleanup(func() {
		base.CloseIdleConnections()
		server.Close()
	})
	return server.URL, &http.Client{Transport: participant.Transport(base)}
}

// fetch makes a request and reads the answer to its end.
func fetch(ctx context.Context, h *http.Client, method, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader("body"))
	if err != nil {
		return nil, err
	}
	resp, err := h.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp, err
}

// However the callee answers, the caller learns of its branches: a named commit
// would be refused otherwise.
func TestHTTPCallsCarryTheTransaction(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter){
		"nothing":      func(http.ResponseWriter) {},
		"no content":   func(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) },
		"a body":       func(w http.ResponseWriter) { _, _ = io.WriteString(w, "done") },
		"a large body": func(w http.ResponseWriter) { _, _ = io.WriteString(w, strings.Repeat("done", 100_000)) },
		"a known length": func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "4")
			_, _ = io.WriteString(w, "done")
		},
		"a flushed body": func(w http.ResponseWriter) {
			_, _ = io.WriteString(w, "do")
			w.(http.Flusher).Flush()
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, "ne")
		},
		"an early hint": func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusCreated)
		},
		"an error": func(w http.ResponseWriter) { http.Error(w, "no", http.StatusTeapot) },
	} {
		t.Run(name, func(t *testing.T) {
			c := participanttest.NewCluster(t, 1)
			client := dial(t, c)
			store := bank(t, client, "bank")
			url, h := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
				if err := put(r.Context(), store, "k", "1"); err != nil {
					t.Error(err)
				}
				answer(w)
			})
			err := client.Run(t.Context(), func(ctx context.Context) error {
				_, err := fetch(ctx, h, http.MethodPost, url)
				return err
			}, participant.WithEntry(participant.EntryNamed))
			if err != nil {
				t.Fatal(err)
			}
			settled(t, c)
			eventually(t, store, "k", "1")
			x := c.Transactions()[0]
			if len(x.GetBranches()) != 1 || x.GetBranches()[0].GetSpec().GetId() != "1.1" {
				t.Errorf("branches %v, want 1.1", x.GetBranches())
			}
		})
	}
}

func TestHTTPHead(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	url, h := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Kept", "yes")
		if n, err := io.WriteString(w, "not sent"); n != 8 || err != nil {
			t.Errorf("write: %d, %v", n, err)
		}
		w.(http.Flusher).Flush()
	})
	err := client.Run(t.Context(), func(ctx context.Context) error {
		resp, err := fetch(ctx, h, http.MethodHead, url)
		if err == nil && (resp.StatusCode != 200 || resp.Header.Get("X-Kept") != "yes") {
			t.Errorf("head: %v", resp)
		}
		return err
	}, participant.WithEntry(participant.EntryNamed))
	if err != nil {
		t.Fatal(err)
	}
}

func TestHTTPBodyWhereNoneIsAllowed(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	url, h := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusNoContent)
		w.WriteHeader(http.StatusOK) // superfluous
		if _, err := io.WriteString(w, "body"); !errors.Is(err, http.ErrBodyNotAllowed) {
			t.Errorf("a body after 204: %v", err)
		}
	})
	resp, err := fetch(begin(t, client).Context(t.Context()), h, http.MethodPost, url)
	if err != nil || resp.StatusCode != http.StatusNoContent {
		t.Errorf("%v, %v", resp, err)
	}
}

// An answer that was not read to its end says nothing of its subtree.
func TestAnUnreadHTTPAnswerIsIncomplete(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	url, h := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("x", 1<<20))
	})
	err := client.Run(t.Context(), func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := h.Do(req)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	}, participant.WithEntry(participant.EntryNamed))
	if !errors.Is(err, participant.ErrIncomplete) {
		t.Errorf("commit after an answer that was not read: %v", err)
	}
	settled(t, c)
}

func TestAFailedHTTPCallIsIncomplete(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	h := &http.Client{Transport: participant.Transport(nil)}
	err := client.Run(t.Context(), func(ctx context.Context) error {
		if _, err := fetch(ctx, h, http.MethodPost, "http://127.0.0.1:1/"); err == nil {
			t.Error("nobody answered, and it was no error")
		}
		return nil
	}, participant.WithEntry(participant.EntryNamed))
	if !errors.Is(err, participant.ErrIncomplete) {
		t.Errorf("commit after a call that failed: %v", err)
	}
}

func TestHTTPCallsWithoutATransactionPassThrough(t *testing.T) {
	url, h := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		if info, ok := participant.FromContext(r.Context()); ok {
			t.Errorf("the call carries %v", info)
		}
	})
	resp, err := fetch(t.Context(), h, http.MethodGet, url)
	if err != nil || resp.Header.Get("Quorate-Complete") != "" {
		t.Errorf("%v, %v", resp, err)
	}
}

func TestHTTPBadHeadersAreRefused(t *testing.T) {
	url, h := serveHTTP(t, func(http.ResponseWriter, *http.Request) { t.Error("a call with bad headers was served") })
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Quorate-Gid", "order-1")
	resp, err := h.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("status %d, want 400", resp.StatusCode)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
}

func TestHTTPCallAfterTheAnswer(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	var left context.Context
	url, h := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) { left = context.WithoutCancel(r.Context()) })
	if _, err := fetch(begin(t, client).Context(t.Context()), h, http.MethodGet, url); err != nil {
		t.Fatal(err)
	}
	if _, err := fetch(left, h, http.MethodPost, url); !errors.Is(err, participant.ErrAnswered) {
		t.Errorf("a call after the answer: %v", err)
	}
}
