package embedded_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/embedded"
	"github.com/quorate/quorate/participant/participanttest"
)

func TestConformance(t *testing.T) {
	participanttest.Run(t, participanttest.Harness{
		WaitMax: 5 * time.Second,
		Open: func(t testing.TB) participanttest.Resource {
			r := &resource{path: filepath.Join(t.TempDir(), "store.db")}
			t.Cleanup(func() { r.Crash(t) })
			return r
		},
	})
}

// resource is a store's file, and the store while it is open.
type resource struct {
	path  string
	store *embedded.Store
}

func (r *resource) Serve(t testing.TB, client *participant.Client) participant.Manager {
	s, err := embedded.Open(r.path, "embedded", embedded.WithLockTimeout(300*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	r.store = s
	if err := s.Serve(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	return s
}

// Crash closes the file. What a kill would do to it besides, a bbolt transaction
// cut short, is tested with real processes by the demo.
func (r *resource) Crash(testing.TB) {
	if r.store != nil {
		_ = r.store.Close()
	}
}

func (r *resource) Begin(ctx context.Context) (participanttest.Work, error) {
	tx, err := r.store.Begin(ctx)
	if err != nil {
		return nil, err
	}
	return work{tx}, nil
}

func (r *resource) Read(_ context.Context, key string) (string, error) {
	v, err := r.store.Get(key)
	return string(v), err
}

// work is a Tx that holds text.
type work struct{ *embedded.Tx }

func (w work) Get(key string) (string, error) {
	v, err := w.Tx.Get(key)
	return string(v), err
}

func (w work) Put(key, value string) error { return w.Tx.Put(key, []byte(value)) }
