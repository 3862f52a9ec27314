package bank_test

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/quorate/quorate/chaos/bank"
	"github.com/quorate/quorate/internal/bankstore"
	"github.com/quorate/quorate/internal/bankstore/drivers"
	"github.com/quorate/quorate/internal/cluster"
	"github.com/quorate/quorate/internal/testdb"
	"github.com/quorate/quorate/internal/testkit"
)

// world is a cluster and a bank on it.
type world struct {
	t       *testing.T
	cluster *cluster.Cluster
	bank    *bank.Bank
	stopped bool
}

func startWorld(t *testing.T, databases ...bank.Database) *world {
	t.Helper()
	dir := workDir(t)
	c, err := cluster.Start(t.Context(), cluster.Config{Binary: quorate(t), Nodes: 3, Dir: filepath.Join(dir, "nodes")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Stop() })
	o := bank.NewOptions()
	o.Binary, o.Dir, o.Seeds, o.Seed, o.Opener, o.Databases = quorate(t), filepath.Join(dir, "bank"), c.Endpoints(), 1, drivers.Open, databases
	o.Log = testkit.Logger(t)
	// A machine that is busy is no fault, and nothing here is paused: whoever is called
	// answers, and what can commit does.
	o.Timeout, o.CallMax = time.Minute, 45*time.Second
	b, err := bank.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, cluster: c, bank: b}
	t.Cleanup(func() {
		if !w.stopped {
			_ = b.Stop()
		}
	})
	return w
}

// commits waits until that many more commits were acknowledged.
func (w *world) commits(more int64) {
	w.t.Helper()
	from := w.bank.Progress().Commits
	testkit.Eventually(w.t, time.Minute, func() bool { return w.bank.Progress().Commits >= from+more }, "commits to be acknowledged")
}

// judge settles and wants no finding.
func (w *world) judge() (*bank.Evidence, *bank.Result) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 100*time.Second)
	defer cancel()
	e, err := w.bank.Settle(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	w.stopped = true
	r := bank.Check(e)
	for i, f := range r.Findings {
		if i == 20 {
			w.t.Errorf("... and %d more", len(r.Findings)-i)
			break
		}
		w.t.Error(f)
	}
	for _, s := range w.bank.Surprises() {
		w.t.Error(s)
	}
	w.t.Logf("%+v, %v", w.bank.Progress(), r.Counts)
	return e, r
}

func sqlite(t *testing.T) bank.Database {
	return bank.Database{Name: "bank-sqlite", Kind: bankstore.SQLite, DSN: drivers.SQLiteDSN(filepath.Join(t.TempDir(), "bank.sqlite"))}
}

func databases(t *testing.T) []bank.Database {
	return []bank.Database{
		{Name: "bank-postgres", Kind: bankstore.Postgres, DSN: testdb.Postgres(t)},
		{Name: "bank-mariadb", Kind: bankstore.MySQL, DSN: testdb.MySQL(t)},
		sqlite(t),
	}
}

// TestMoneyWithoutFaults: the mix alone, on every kind of store. Without a fault
// whatever can commit does (S4), and nothing ends on its own.
func TestMoneyWithoutFaults(t *testing.T) {
	w := startWorld(t, databases(t)...)
	w.commits(300)
	_, r := w.judge()
	for _, text := range r.Unexplained {
		t.Error(text)
	}
	if len(r.Explained) > 0 {
		t.Errorf("without a fault, these ended on their own: %v", r.Explained)
	}
	for _, name := range []string{
		"late_refused", "late_in_time", "nested_commit", "vote_read_only", "contrary_commit", "contrary_rollback", "oneshot_commit",
		"branches_embedded", "branches_postgres", "branches_mysql", "branches_sqlite",
	} {
		if r.Counts[name] == 0 {
			t.Errorf("%s: none: the run shows little", name)
		}
	}
}

// workDir is a temporary directory, which a red test keeps.
func workDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "quorate-bank-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() || *keep {
			t.Logf("everything is kept in %s", dir)
			return
		}
		_ = os.RemoveAll(dir)
	})
	return dir
}

var keep = flag.Bool("keep", false, "keep the directories of green tests too")
