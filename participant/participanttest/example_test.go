package participanttest_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/embedded"
	"github.com/quorate/quorate/participant/participanttest"
)

// A manager's own test runs the suite with a harness that opens, crashes and reads
// its resource.
func ExampleRun() {
	test := func(t *testing.T) {
		participanttest.Run(t, participanttest.Harness{
			Open: func(t testing.TB) participanttest.Resource {
				return &file{path: filepath.Join(t.TempDir(), "store.db")}
			},
		})
	}
	_ = test // it would be `func TestConformance(t *testing.T)`
}

// file is the harness' resource: here, the embedded store's.
type file struct {
	path  string
	store *embedded.Store
}

func (f *file) Serve(t testing.TB, client *participant.Client) participant.Manager {
	var err error
	if f.store, err = embedded.Open(f.path, "embedded"); err != nil {
		t.Fatal(err)
	}
	if err := f.store.Serve(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	return f.store
}

func (f *file) Crash(testing.TB) { _ = f.store.Close() }

func (f *file) Begin(ctx context.Context) (participanttest.Work, error) {
	tx, err := f.store.Begin(ctx)
	return text{tx}, err
}

func (f *file) Read(_ context.Context, key string) (string, error) {
	v, err := f.store.Get(key)
	return string(v), err
}

// text is a Tx that holds text.
type text struct{ *embedded.Tx }

func (t text) Get(key string) (string, error) {
	v, err := t.Tx.Get(key)
	return string(v), err
}

func (t text) Put(key, value string) error { return t.Tx.Put(key, []byte(value)) }
