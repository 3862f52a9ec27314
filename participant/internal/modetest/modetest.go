// Package modetest is a cluster, a client, and a service whose branches are called, for
// the tests of the modes' packages.
package modetest

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/quorate/quorate/internal/realcluster"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/fence"
	"github.com/quorate/quorate/participant/handlers"
)

// Patience bounds each wait.
const Patience = 10 * time.Second

// World is all that a test needs.
type World struct {
	Cluster *realcluster.Cluster
	Client  *participant.Client
	http    string
	grpc    string

	mu    sync.Mutex
	on    map[string]handlers.Func
	calls []Call
}

// Call is one that the service was asked for.
type Call struct {
	fence.Call
	// Path is the end of the URL, or the gRPC method's name.
	Path    string
	Payload string
	Header  http.Header
}

// String is `action 01 take`.
func (c Call) String() string {
	return strings.Join(strings.Fields(string(c.Operation)+" "+c.Branch+" "+c.Path), " ")
}

// New starts a world. It ends with the test.
func New(t testing.TB) *World {
	t.Helper()
	w := &World{Cluster: realcluster.New(t), on: make(map[string]handlers.Func)}
	server := httptest.NewServer(http.HandlerFunc(w.serve))
	t.Cleanup(server.Close)
	w.http = server.URL
	w.serveGRPC(t)
	w.Client = w.Dial(t)
	return w
}

// Dial makes one more client.
func (w *World) Dial(t testing.TB) *participant.Client {
	t.Helper()
	client, err := participant.Dial(t.Context(), w.Cluster.Addresses(), participant.WithAttemptTimeout(500*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// URL is where a path is called over HTTP.
func (w *World) URL(path string) string { return w.http + "/" + path }

// Method is where it is called over gRPC.
func (w *World) Method(path string) string { return "grpc://" + w.grpc + "/test.Service/" + path }

// On sets what a path answers; without it, it is done at once.
func (w *World) On(path string, f handlers.Func) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.on[path] = f
}

// Refuse makes a path say no.
func (w *World) Refuse(path string) {
	w.On(path, func(context.Context, []byte) ([]byte, error) { return nil, participant.ErrRefused })
}

// Calls are those so far, in order.
func (w *World) Calls() []Call {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Call(nil), w.calls...)
}

// Told is [World.Calls] as text, one a line.
func (w *World) Told() string {
	var lines []string
	for _, c := range w.Calls() {
		lines = append(lines, c.String())
	}
	return strings.Join(lines, "\n")
}

func (w *World) serve(rw http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/")
	w.handler(path, r.Header).ServeHTTP(rw, r)
}

// handler notes the call, and answers as was set.
func (w *World) handler(path string, header http.Header) handlers.Func {
	return func(ctx context.Context, payload []byte) ([]byte, error) {
		w.mu.Lock()
		w.calls = append(w.calls, Call{Call: fence.FromContext(ctx), Path: path, Payload: string(payload), Header: header})
		f := w.on[path]
		w.mu.Unlock()
		if f == nil {
			return nil, nil
		}
		return f(ctx, payload)
	}
}

func (w *World) serveGRPC(t testing.TB) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.grpc = l.Addr().String()
	methods := handlers.NewMethods()
	for _, path := range []string{"take", "give", "pay", "refund", "try", "confirm", "cancel"} {
		methods.Handle("/test.Service/"+path, w.handler(path, nil))
	}
	server := grpc.NewServer(methods.Options()...)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		<-done //nolint:errcheck // it was told to end
	})
}
