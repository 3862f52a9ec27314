package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

const (
	// bodyTimeout bounds the reading of a request's body.
	bodyTimeout = 10 * time.Second
	// idleTimeout bounds how long a connection without a request stays open.
	idleTimeout = 2 * time.Minute
)

// newHTTP returns the HTTP server, not listening yet.
func (s *Server) newHTTP() (*http.Server, error) {
	gateway, err := s.newGateway()
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", s.serveLive)
	mux.HandleFunc("GET /readyz", s.serveReady)
	mux.Handle("GET /metrics", s.cfg.Metrics.Handler())
	mux.HandleFunc("GET /version", s.serveVersion)
	mux.HandleFunc("GET /openapi.json", serveOpenAPI)
	mux.Handle("GET /v1/events", s.events(gateway))
	mux.Handle("/v1/", gateway)
	mux.HandleFunc("/", func(w http.ResponseWriter, req *http.Request) {
		writeRoutingError(req.Context(), nil, nil, w, req, http.StatusNotFound)
	})
	handler := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if strings.HasPrefix(req.URL.Path, "/api/") {
			s.dtm.ServeHTTP(w, req) // before the mux, whose redirects repeat the path
			return
		}
		mux.ServeHTTP(w, req)
	})
	// A page of another origin must not begin or decide through a browser.
	origins := http.NewCrossOriginProtection()
	origins.SetDenyHandler(http.HandlerFunc(denyOrigin))
	server := &http.Server{
		Handler:           s.bounded(origins.Handler(handler)),
		ReadHeaderTimeout: HandshakeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    HeaderListBytesMax,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: StreamsPerConnectionMax},
		ErrorLog:          slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelDebug),
	}
	server.TLSConfig = withProtocols(s.cfg.TLS, "h2", "http/1.1")
	return server, nil
}

// bounded reads a request's body before anything else runs, within its limits
// of size and time: a slow body holds a connection and nothing more.
func (s *Server) bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if s.stopping.Err() != nil {
			w.Header().Set("Connection", "close")
		}
		control := http.NewResponseController(w)
		if req.Body != nil && req.Body != http.NoBody {
			_ = control.SetReadDeadline(time.Now().Add(bodyTimeout))
			body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, MessageBytesMax))
			if err != nil {
				writeBodyError(w, err)
				return
			}
			_ = control.SetReadDeadline(time.Time{})
			req.Body = io.NopCloser(bytes.NewReader(body))
		}
		if req.URL.Path != eventsPath {
			_ = control.SetWriteDeadline(time.Now().Add(s.cfg.CallTimeout + idleTimeout))
		}
		next.ServeHTTP(w, req)
	})
}

func denyOrigin(w http.ResponseWriter, req *http.Request) {
	e := Errorf(ReasonDenied, "the request was sent by a page of another origin")
	e.Next = "call from a program, or from a page that this node served"
	writeStatus(w, e.GRPCStatus())
}

func writeBodyError(w http.ResponseWriter, err error) {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		e := invalidField("", "the body is larger than %d bytes", MessageBytesMax)
		writeStatusAs(w, e.GRPCStatus(), http.StatusRequestEntityTooLarge)
		return
	}
	writeStatusAs(w, invalidField("", "the body did not arrive within %v", bodyTimeout).GRPCStatus(), http.StatusRequestTimeout)
}

// serveVersion tells what runs here.
func (s *Server) serveVersion(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{
		"version": s.cfg.Version, "commit": s.cfg.Commit, "go": runtime.Version(), "api": "quorate.v1", "node_id": s.cfg.NodeID,
	})
}

func serveOpenAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(quoratev1.OpenAPI)
}
