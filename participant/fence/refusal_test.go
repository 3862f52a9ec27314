package fence_test

import (
	"context"
	"database/sql"
	"sync/atomic"
	"testing"

	"github.com/quorate/quorate/participant/fence"
	"github.com/quorate/quorate/participant/fence/fencetest"
)

// meeting is a database in which something happens just before the second local
// transaction is begun.
type meeting struct {
	*sql.DB
	begun  atomic.Int32
	before func()
}

func (m *meeting) BeginTx(ctx context.Context, opts *sql.TxOptions) (*sql.Tx, error) {
	if m.begun.Add(1) == 2 {
		m.before()
	}
	return m.DB.BeginTx(ctx, opts)
}

// TestARefusalThatMeetsWorkDone: an attempt is refused by the business, and before
// that is recorded another attempt of the same call has done the work. That stands: a
// refusal on record would say that there is nothing to undo.
func TestARefusalThatMeetsWorkDone(t *testing.T) {
	eachDatabase(t, func(t *testing.T, s *sqlStore) {
		ctx := t.Context()
		c := fence.Call{GID: fencetest.GID(5000), Branch: "1", Operation: fence.Action, Mode: "saga", Epoch: fence.Epoch{Incarnation: 1, Term: 1}}
		db := &meeting{DB: s.db, before: func() {
			if err := s.Do(ctx, c, fencetest.Work{Counter: "done", N: 1}); err != nil {
				t.Errorf("the other attempt: %v", err)
			}
		}}
		err := s.f.Do(ctx, db, c, func(tx *sql.Tx) error {
			return s.business(ctx, tx, fencetest.Work{Counter: "done", N: 1, End: fence.ErrRefused})
		})
		if err != nil || db.begun.Load() != 2 {
			t.Errorf("a refused attempt that found the work done: %v, after %d local transactions", err, db.begun.Load())
		}
		c.Operation = fence.Compensate
		if err := s.Do(ctx, c, fencetest.Work{Counter: "undone", N: 1}); err != nil {
			t.Fatal(err)
		}
		for _, counter := range []string{"done", "undone"} {
			if n, err := s.Value(ctx, counter); err != nil || n != 1 {
				t.Errorf("%s is %d (%v), want 1", counter, n, err)
			}
		}
	})
}
