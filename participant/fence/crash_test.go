package fence_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/testdb"
	"github.com/quorate/quorate/participant/fence"
	"github.com/quorate/quorate/participant/fence/fencetest"
)

// cut ends the connection of a local transaction from outside, as a crash of the
// participant does.
func (s *sqlStore) cut(ctx context.Context, t *testing.T, tx *sql.Tx) {
	t.Helper()
	ask, end := "SELECT pg_backend_pid()", "SELECT pg_terminate_backend($1::int)"
	if s.kind == fence.MySQL {
		ask, end = "SELECT CONNECTION_ID()", "KILL ?"
	}
	var id int64
	if err := tx.QueryRowContext(ctx, ask).Scan(&id); err != nil {
		t.Error(err)
		return
	}
	if _, err := s.db.ExecContext(ctx, end, id); err != nil {
		t.Error(err)
	}
}

// TestACrashInTheMiddleLeavesNothing: the connection is lost after the business has
// written, and before the commit. Row and work are gone together, and a repeat does both.
func TestACrashInTheMiddleLeavesNothing(t *testing.T) {
	for _, kind := range []fence.Database{fence.Postgres, fence.MySQL} {
		t.Run(string(kind), func(t *testing.T) {
			s := openSQL(t, kind)
			ctx := t.Context()
			c := fence.Call{GID: fencetest.GID(5000), Branch: "1", Mode: "saga", Epoch: fence.Epoch{Incarnation: 1, Term: 1}}
			for i, o := range []fence.Operation{fence.Action, fence.Compensate} {
				c.Operation = o
				counter := string(o)
				for range 3 {
					err := s.f.Do(ctx, s.db, c, func(tx *sql.Tx) error {
						err := s.business(ctx, tx, fencetest.Work{Counter: counter, N: 1})
						s.cut(ctx, t, tx)
						return err
					})
					if err == nil {
						t.Fatal("the commit of a lost connection succeeded")
					}
					if n, err := s.Value(ctx, counter); err != nil || n != 0 {
						t.Fatalf("%s: the counter is %d (%v) after a crash", o, n, err)
					}
				}
				for range 2 {
					if err := s.Do(ctx, c, fencetest.Work{Counter: counter, N: 1}); err != nil {
						t.Fatal(err)
					}
				}
				if n, err := s.Value(ctx, counter); err != nil || n != 1 {
					t.Fatalf("%d. %s: the counter is %d (%v), want 1", i, o, n, err)
				}
			}
		})
	}
}

// TestRowsSurviveTheServersDeath: the database is killed while calls run; afterwards each
// call is repeated until it is answered, and has happened once.
func TestRowsSurviveTheServersDeath(t *testing.T) {
	t.Parallel()
	server, err := testdb.StartPostgres(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	s := newSQLStore(t, fence.Postgres, "pgx", server.DSN())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const calls = 40
	var working, first sync.WaitGroup
	first.Add(calls / 4)
	var gids []string
	var lost atomic.Int64
	for i := range calls {
		c := fence.Call{GID: fencetest.GID(5000), Branch: "1", Operation: fence.Action, Mode: "saga"}
		gids = append(gids, c.GID)
		working.Go(func() {
			for n := 0; n < 4; { // each is answered four times
				err := s.Do(ctx, c, fencetest.Work{Counter: c.GID, N: 1})
				if ctx.Err() != nil {
					t.Errorf("call %d: %v", i, err)
					return
				}
				if err != nil {
					lost.Add(1)
					continue
				}
				if n++; n == 1 && i < calls/4 {
					first.Done()
				}
			}
		})
	}
	first.Wait()
	if err := errors.Join(server.Kill(), server.Restart(ctx)); err != nil {
		t.Error(err)
	}
	working.Wait()
	for i, gid := range gids {
		if n, err := s.Value(ctx, gid); err != nil || n != 1 {
			t.Errorf("call %d: the counter is %d (%v), want 1", i, n, err)
		}
	}
	if lost.Load() == 0 {
		t.Error("no call was lost: the server died too late")
	}
}

// TestAHolderOfTheRowMakesOthersAskAgain: an earlier run of the call holds the row for
// longer than a call waits. Nothing runs twice, and nobody is told that it is done.
func TestAHolderOfTheRowMakesOthersAskAgain(t *testing.T) {
	for _, kind := range databases {
		t.Run(string(kind), func(t *testing.T) {
			s := openSQL(t, kind, fence.Wait(200*time.Millisecond))
			ctx := t.Context()
			if kind == fence.SQLite { // it waits by its own setting
				s = newSQLStore(t, kind, "sqlite", "file:"+filepath.Join(t.TempDir(), "db")+"?_pragma=busy_timeout(200)&_pragma=journal_mode(WAL)")
			}
			c := fence.Call{GID: fencetest.GID(5000), Branch: "1", Operation: fence.Action, Mode: "saga"}
			err := s.Do(ctx, c, fencetest.Work{Counter: "n", N: 1, During: func() {
				for _, o := range []fence.Operation{fence.Action, fence.Compensate} {
					other := c
					other.Operation = o
					if err := s.Do(ctx, other, fencetest.Work{Counter: "n", N: 100}); !errors.Is(err, fence.ErrOngoing) {
						t.Errorf("%s beside the action: %v", o, err)
					}
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			if n, err := s.Value(ctx, "n"); err != nil || n != 1 {
				t.Fatalf("the counter is %d (%v), want 1", n, err)
			}
		})
	}
}

// TestACheckBackThatWaitsAsksAgain, and leaves the connection as it was.
func TestACheckBackThatWaitsAsksAgain(t *testing.T) {
	for _, kind := range databases {
		t.Run(string(kind), func(t *testing.T) {
			s := openSQL(t, kind, fence.Wait(time.Second))
			gid := fencetest.GID(5000)
			err := s.Send(t.Context(), gid, fencetest.Work{Counter: "n", N: 1, During: func() {
				if done, err := s.Committed(t.Context(), gid); done || !errors.Is(err, fence.ErrOngoing) {
					t.Errorf("the check-back answers %v, %v", done, err)
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			call := fence.Call{GID: gid, Operation: fence.CheckBack, Mode: "message"}
			if err := s.f.CheckBack(t.Context(), s.db, call); err != nil {
				t.Error(err)
			}
			call.GID = fencetest.GID(5000)
			if err := s.f.CheckBack(t.Context(), s.db, call); !errors.Is(err, fence.ErrRefused) {
				t.Errorf("of a message never prepared: %v", err)
			}
			ask := map[fence.Database]string{fence.MySQL: "SELECT @@innodb_lock_wait_timeout", fence.SQLite: "PRAGMA busy_timeout", fence.Postgres: "SHOW lock_timeout"}[kind]
			want := map[fence.Database]string{fence.MySQL: "50", fence.SQLite: "3000", fence.Postgres: "0"}[kind]
			s.db.SetMaxIdleConns(1)
			var got string
			if err := s.db.QueryRowContext(t.Context(), ask).Scan(&got); err != nil || got != want {
				t.Errorf("%s: %q (%v), want %q", ask, got, err, want)
			}
		})
	}
}

// TestWhatTheDatabaseLacksIsSaid: no table, half a table, a name that is none.
func TestWhatTheDatabaseLacksIsSaid(t *testing.T) {
	eachDatabase(t, func(t *testing.T, s *sqlStore) {
		c := fence.Call{GID: fencetest.GID(5000), Branch: "1", Operation: fence.Action}
		other, err := fence.New(s.kind, fence.Table(`x"; DROP TABLE counters; --`))
		if err != nil {
			t.Fatal(err)
		}
		err = other.Do(t.Context(), s.db, c, func(*sql.Tx) error { return errors.New("it ran") })
		if !errors.Is(err, fence.ErrNoTable) || !strings.Contains(err.Error(), "quorate fence init") {
			t.Errorf("without a table: %v", err)
		}
		var made sync.WaitGroup
		for range 4 { // at the same time
			made.Go(func() {
				if err := other.Init(t.Context(), s.db); err != nil {
					t.Error(err)
				}
			})
		}
		made.Wait()
		if err := other.Do(t.Context(), s.db, c, func(tx *sql.Tx) error {
			return s.business(t.Context(), tx, fencetest.Work{Counter: "n", N: 1})
		}); err != nil {
			t.Errorf("with a table of that name: %v", err)
		}
		if n, err := s.Value(t.Context(), "n"); err != nil || n != 1 {
			t.Errorf("the counter is %d (%v), want 1", n, err)
		}
		s.exec(t, "DELETE FROM quorate_fence")
		if err := s.f.Do(t.Context(), s.db, c, nil); !errors.Is(err, fence.ErrNoTable) {
			t.Errorf("without the floor's row: %v", err)
		}
	})
	for _, name := range []string{"", ".", "a.", "a.b.c", strings.Repeat("x", 60), "a\x00b", "\xff"} {
		if _, err := fence.New(fence.Postgres, fence.Table(name)); err == nil {
			t.Errorf("a table named %q is taken", name)
		}
	}
}
