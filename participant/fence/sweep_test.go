package fence_test

import (
	"database/sql"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/testdb"
	"github.com/quorate/quorate/participant/fence"
	"github.com/quorate/quorate/participant/fence/fencetest"
)

// rows counts the rows of branches.
func (s *sqlStore) rows(t *testing.T) (n int) {
	t.Helper()
	if err := s.db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM quorate_fence WHERE gid <> ''").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// floor reads how far was swept.
func (s *sqlStore) floor(t *testing.T) (ms int64) {
	t.Helper()
	if err := s.db.QueryRowContext(t.Context(), "SELECT created FROM quorate_fence WHERE part = 'floor' AND branch = ''").Scan(&ms); err != nil {
		t.Fatal(err)
	}
	return ms
}

// TestSweepDropsWhatIsDueAndNothingElse: more rows than one statement takes, one that a
// call holds, keys young and old, and a floor that is not raised in vain.
func TestSweepDropsWhatIsDueAndNothingElse(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, s *sqlStore) {
		now := time.Now()
		fence.SetNow(s.f, func() time.Time { return now })
		ctx := t.Context()
		const many = 2100
		tx, err := s.db.BeginTx(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range many {
			c := fence.Call{GID: fencetest.GID(4000), Branch: strconv.Itoa(i), Operation: fence.Compensate}
			if err := s.f.DoTx(ctx, tx, c, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		young := fence.Call{GID: fencetest.GID(6000), Branch: "1", Operation: fence.Compensate}
		key := fence.Call{GID: "order-1", Branch: "01", Operation: fence.Compensate, Dialect: fence.DTM}
		for _, c := range []fence.Call{young, key} {
			if err := s.Do(ctx, c, fencetest.Work{}); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := s.f.Sweep(ctx, s.db, 3999); err != nil || n != 0 || s.floor(t) != 0 {
			t.Fatalf("nothing is due: %d rows (%v), floor %d", n, err, s.floor(t))
		}
		if s.kind != fence.SQLite { // which has one writer
			held := fence.Call{GID: fencetest.GID(6000), Branch: "2", Operation: fence.Action}
			err = s.f.Do(ctx, s.db, held, func(*sql.Tx) error {
				n, err := s.f.Sweep(ctx, s.db, 4500)
				if err == nil && n != many {
					t.Errorf("swept %d rows beside a call, want %d", n, many)
				}
				return err
			})
		} else {
			_, err = s.f.Sweep(ctx, s.db, 4500)
		}
		if err != nil {
			t.Fatal(err)
		}
		if left := s.rows(t); left != map[bool]int{true: 3, false: 2}[s.kind != fence.SQLite] || s.floor(t) != 4500 {
			t.Fatalf("%d rows are left, and the floor is %d", left, s.floor(t))
		}
		now = now.Add(fence.KeyRetentionDefault - time.Minute)
		if n, err := s.f.Sweep(ctx, s.db, 4500); err != nil || n != 0 {
			t.Fatalf("the key is not old enough: %d rows (%v)", n, err)
		}
		now = now.Add(2 * time.Minute)
		if n, err := s.f.Sweep(ctx, s.db, 4500); err != nil || n != 1 {
			t.Fatalf("the key is old enough: %d rows (%v)", n, err)
		}
	})
}

// TestDoSweepsByTheFloorOfItsCalls, now and then.
func TestDoSweepsByTheFloorOfItsCalls(t *testing.T) {
	s := openSQL(t, fence.SQLite, fence.SweepInterval(time.Minute))
	now := time.Now()
	fence.SetNow(s.f, func() time.Time { return now })
	ctx := t.Context()
	call := func(born, floor uint64) {
		t.Helper()
		c := fence.Call{GID: fencetest.GID(born), Branch: "1", Operation: fence.Action, FloorMS: floor, ClockMS: 10_000}
		if err := s.Do(ctx, c, fencetest.Work{Counter: "n", N: 1}); err != nil {
			t.Fatal(err)
		}
	}
	call(4000, 0)
	call(6000, 5000)
	if n := s.rows(t); n != 2 {
		t.Fatalf("%d rows before the interval has passed", n)
	}
	now = now.Add(time.Minute)
	call(6000, 20_000) // above the clock: nonsense
	call(6000, 5000)
	if n, floor := s.rows(t), s.floor(t); n != 3 || floor != 5000 {
		t.Fatalf("%d rows are left, and the floor is %d", n, floor)
	}
}

// TestDoSweepsItsOwnCluster: the floor of a call is its cluster's.
func TestDoSweepsItsOwnCluster(t *testing.T) {
	s := openSQL(t, fence.SQLite, fence.SweepInterval(time.Minute))
	now := time.Now()
	fence.SetNow(s.f, func() time.Time { return now })
	ctx := t.Context()
	call := func(cluster, gid string, floor uint64) error {
		c := fence.Call{GID: gid, Branch: "1", Operation: fence.Action, Cluster: cluster, FloorMS: floor, ClockMS: 10_000}
		return s.Do(ctx, c, fencetest.Work{Counter: "n", N: 1})
	}
	old, young, theirs, nobodys := fencetest.GID(4000), fencetest.GID(6000), fencetest.GID(4000), fencetest.GID(4000)
	if err := errors.Join(call("ours", old, 0), call("ours", young, 0), call("theirs", theirs, 0), call("", nobodys, 0)); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Minute)
	if err := call("ours", young, 5000); err != nil { // it sweeps
		t.Fatal(err)
	}
	if n := s.rows(t); n != 3 {
		t.Errorf("%d rows are left, want 3", n)
	}
	if err := call("ours", old, 0); !errors.Is(err, fence.ErrSwept) {
		t.Errorf("a swept call: %v", err)
	}
	if err := errors.Join(call("ours", young, 0), call("theirs", theirs, 0), call("", nobodys, 0)); err != nil {
		t.Error(err)
	}
	if n, err := s.Value(ctx, "n"); err != nil || n != 4 {
		t.Errorf("the counter is %d (%v), want 4", n, err)
	}
}

// TestACheckBackIsOfItsCluster: its mark goes with the others of the cluster that asks, and
// what that cluster has swept is no rollback.
func TestACheckBackIsOfItsCluster(t *testing.T) {
	s := openSQL(t, fence.SQLite)
	ctx := t.Context()
	ask := func(gid string) error {
		return s.f.CheckBack(ctx, s.db, fence.Call{GID: gid, Operation: fence.CheckBack, Mode: "message", Cluster: "ours"})
	}
	gid := fencetest.GID(4000)
	if err := ask(gid); !errors.Is(err, fence.ErrRefused) {
		t.Fatalf("of what was never begun: %v", err)
	}
	if n, err := s.f.Of("ours").Sweep(ctx, s.db, 4000); err != nil || n != 1 {
		t.Fatalf("swept %d marks (%v), want 1", n, err)
	}
	if err := ask(gid); !errors.Is(err, fence.ErrSwept) {
		t.Errorf("of what was swept: %v", err)
	}
}

// TestDatabasesThatMayForgetAreSeen.
func TestDatabasesThatMayForgetAreSeen(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, s *sqlStore) {
		if err := s.f.Probe(t.Context(), s.db); err != nil {
			t.Fatal(err)
		}
		conn, err := s.db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if s.kind == fence.MySQL { // a global setting
			server, err := testdb.StartMariaDB(t.Context(), "innodb-flush-log-at-trx-commit=2")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = server.Close() })
			s = newSQLStore(t, s.kind, "mysql", server.DSN())
			if conn, err = s.db.Conn(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
		} else {
			weaken := map[fence.Database]string{fence.Postgres: "SET synchronous_commit = off", fence.SQLite: "PRAGMA synchronous = NORMAL"}[s.kind]
			if _, err := conn.ExecContext(t.Context(), weaken); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.f.Probe(t.Context(), conn); !errors.Is(err, fence.ErrUnsafe) {
			t.Fatalf("a %s that may forget: %v", s.kind, err)
		}
	})
}
