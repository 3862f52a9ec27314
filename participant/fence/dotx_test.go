package fence_test

import (
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/quorate/quorate/participant/fence"
	"github.com/quorate/quorate/participant/fence/fencetest"
)

// notInTx are the checks that DoTx cannot keep: what it records of a failed call is rolled
// back with the caller's transaction, as its comment says.
var notInTx = []string{
	"a refusal stands", "an older leader's action never runs", "random orders follow the rules",
}

// TestDoTxKeepsTheRulesInAnyIsolation runs the suite in transactions that the caller
// begins, with a snapshot that is older than the fence's row.
func TestDoTxKeepsTheRulesInAnyIsolation(t *testing.T) {
	t.Parallel()
	levels := map[fence.Database][]sql.IsolationLevel{
		fence.Postgres: {sql.LevelDefault, sql.LevelRepeatableRead, sql.LevelSerializable},
		fence.MySQL:    {sql.LevelDefault, sql.LevelReadCommitted},
		fence.SQLite:   {sql.LevelDefault},
	}
	for _, kind := range databases {
		for _, level := range levels[kind] {
			t.Run(string(kind)+", "+level.String(), func(t *testing.T) {
				s := openSQL(t, kind)
				s.inTx, s.options, s.readFirst = true, &sql.TxOptions{Isolation: level}, true
				for _, check := range fencetest.Checks() {
					if slices.Contains(notInTx, check.Name) {
						continue
					}
					if err := check.Run(t.Context(), s); err != nil {
						t.Errorf("%s: %v", check.Name, err)
					}
				}
			})
		}
	}
}

// TestDoTxThatIsCommittedInSpiteOfAnErrorIsNotDone: the caller's mistake must not leave a
// row that says done.
func TestDoTxThatIsCommittedInSpiteOfAnErrorIsNotDone(t *testing.T) {
	eachDatabase(t, func(t *testing.T, s *sqlStore) {
		ctx := t.Context()
		c := fence.Call{GID: fencetest.GID(2000), Branch: "1", Operation: fence.Action, Mode: "saga"}
		broken := errors.New("broken")
		tx, err := s.db.BeginTx(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.f.DoTx(ctx, tx, c, func() error { return broken }); !errors.Is(err, broken) {
			t.Fatalf("DoTx answered %v", err)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		if err := s.Do(ctx, c, fencetest.Work{Counter: "x", N: 1}); err != nil {
			t.Fatal(err)
		}
		if n, err := s.Value(ctx, "x"); err != nil || n != 1 {
			t.Fatalf("the counter is %d (%v), want 1", n, err)
		}
	})
}

// TestASweepUnderAnOldSnapshotIsSeen: a transaction that has looked at the database
// before a sweep must not insert, after it, the row that the sweep has dropped.
func TestASweepUnderAnOldSnapshotIsSeen(t *testing.T) {
	for _, kind := range []fence.Database{fence.Postgres, fence.MySQL} {
		t.Run(string(kind), func(t *testing.T) {
			s := openSQL(t, kind)
			ctx := t.Context()
			for i, level := range []sql.IsolationLevel{sql.LevelReadCommitted, sql.LevelRepeatableRead} {
				born := uint64(3000 + i)
				c := fence.Call{GID: fencetest.GID(born), Branch: "1", Operation: fence.Compensate, Mode: "saga", Cluster: "C"}
				if err := s.Do(ctx, c, fencetest.Work{Counter: "undone", N: 1}); err != nil {
					t.Fatal(err)
				}
				s.options, s.readFirst = &sql.TxOptions{Isolation: level}, true
				err := s.within(ctx, func(tx *sql.Tx) error {
					if n, err := s.f.Of("C").Sweep(ctx, s.db, born); err != nil || n != 1 {
						return fmt.Errorf("swept %d rows: %w", n, err)
					}
					late := c
					late.Operation = fence.Action
					return s.f.DoTx(ctx, tx, late, func() error {
						return s.business(ctx, tx, fencetest.Work{Counter: "done", N: 1})
					})
				})
				if !errors.Is(err, fence.ErrSwept) && !errors.Is(err, fence.ErrOngoing) {
					t.Errorf("%v: the late action was answered %v", level, err)
				}
			}
		})
	}
}

// TestAPanicRollsBack: nothing of the call is left, and its connection is free.
func TestAPanicRollsBack(t *testing.T) {
	s := openSQL(t, fence.SQLite)
	s.db.SetMaxOpenConns(1)
	ctx := t.Context()
	c := fence.Call{GID: fencetest.GID(2000), Branch: "1", Operation: fence.Action, Mode: "saga"}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic did not come through")
			}
		}()
		_ = s.Do(ctx, c, fencetest.Work{Counter: "x", N: 1, During: func() { panic("business") }})
	}()
	if err := s.Do(ctx, c, fencetest.Work{Counter: "x", N: 1}); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Value(ctx, "x"); err != nil || n != 1 {
		t.Fatalf("the counter is %d (%v), want 1", n, err)
	}
}
