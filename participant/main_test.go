package participant_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/quorate/quorate/internal/testdb"
	"github.com/quorate/quorate/internal/testkit"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/embedded"
	"github.com/quorate/quorate/participant/participanttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(withDatabases{m}) }

// withDatabases stops the database servers that the tests started before leaks are
// looked for.
type withDatabases struct{ m *testing.M }

func (w withDatabases) Run() int {
	defer testdb.Close()
	return w.m.Run()
}

// patience bounds what a test waits for.
const patience = 10 * time.Second

// dial makes a client that is closed at the test's end.
func dial(t testing.TB, c *participanttest.Cluster, opts ...participant.Option) *participant.Client {
	t.Helper()
	opts = append([]participant.Option{
		participant.WithLogger(testkit.Logger(t)),
		participant.WithAttemptTimeout(500 * time.Millisecond),
		participant.WithScanInterval(200*time.Millisecond, 100*time.Millisecond),
	}, opts...)
	client, err := participant.Dial(t.Context(), c.Addresses(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// bank opens an embedded store in a file of its own and serves it.
func bank(t testing.TB, client *participant.Client, name string) *embedded.Store {
	t.Helper()
	return bankAt(t, client, name, filepath.Join(t.TempDir(), name+".db"))
}

func bankAt(t testing.TB, client *participant.Client, name, path string) *embedded.Store {
	t.Helper()
	s, err := embedded.Open(path, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close(); _ = s.Close() })
	if err := s.Serve(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	return s
}

// put writes a key in a branch, or locally, and commits.
func put(ctx context.Context, s *embedded.Store, key, value string) error {
	tx, err := s.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if err := tx.Put(key, []byte(value)); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// eventually waits until the key has the value; the decision is delivered after
// Run has returned.
func eventually(t testing.TB, s *embedded.Store, key, want string) {
	t.Helper()
	testkit.EventuallyNoError(t, patience, func() error {
		got, err := s.Get(key)
		if err == nil && string(got) != want {
			err = errorf("%s of %s is %q, want %q", key, s.Resource(), got, want)
		}
		return err
	})
}

// settled waits until nothing is in doubt in the cluster.
func settled(t testing.TB, c *participanttest.Cluster) {
	t.Helper()
	testkit.EventuallyNoError(t, patience, func() error {
		for _, x := range c.Transactions() {
			switch x.GetState().String() {
			case "STATE_COMMITTED", "STATE_ROLLED_BACK":
			default:
				return errorf("transaction %s is %s", x.GetGid(), x.GetState())
			}
		}
		return nil
	})
}
