package fence

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/participant"
)

const (
	// sweepRowsMax is how many rows one statement of a sweep drops.
	sweepRowsMax = 1000
	// sweepLockWait bounds a sweep's wait for locks: it must not queue before calls.
	sweepLockWait = time.Second
	// sweepBudget bounds a sweep that a call pays for.
	sweepBudget = 2 * time.Second
)

// Sweep drops the rows of GIDs born at or below floorMS, of the cluster that [Fence.Of]
// named, and those of keys older than the retention. The floor is raised first: from then on a call of that age is refused.
// Do sweeps by itself; see [SweepInterval]. It returns how many rows went.
func (f *Fence) Sweep(ctx context.Context, db DB, floorMS uint64) (int64, error) {
	ctx = participant.Outside(ctx)
	var total int64
	for {
		n, err := f.sweepSome(ctx, db, floorMS)
		total += n
		if err != nil || n < sweepRowsMax {
			return total, err
		}
	}
}

// sweepSome raises the floor in one transaction and drops some rows in the next one.
func (f *Fence) sweepSome(ctx context.Context, db DB, floorMS uint64) (dropped int64, err error) {
	o := old{cluster: f.cluster, floorMS: floorMS, keysMS: f.now().Add(-f.keyRetention).UnixMilli()}
	due := false
	err = f.within(ctx, db, func(tx *sql.Tx) (err error) {
		// Where no row can go the floor stays: nobody should meet a writer in vain.
		if due, err = f.sql.due(ctx, tx, f.table, o); err == nil && due {
			err = f.sql.raise(ctx, tx, f.table, o)
		}
		return err
	})
	if err == nil && due {
		err = f.within(ctx, db, func(tx *sql.Tx) (err error) {
			dropped, err = f.sql.drop(ctx, tx, f.table, o, sweepRowsMax)
			return err
		})
	}
	if err != nil {
		return dropped, fmt.Errorf("fence: sweep %s up to %d: %w", f.table, floorMS, err)
	}
	return dropped, nil
}

// bounded runs fn in a transaction whose waits for locks are bounded, and leaves the
// connection as it was: a context that ends ends statements, and not before that.
func (f *Fence) bounded(ctx context.Context, db DB, wait time.Duration, fn func(*sql.Tx) error) error {
	lasting := context.WithoutCancel(ctx)
	if err := ctx.Err(); err != nil {
		return err
	}
	tx, err := db.BeginTx(lasting, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	restore, err := f.sql.bound(lasting, tx, wait)
	if err != nil {
		return err
	}
	if err := errors.Join(fn(tx), restore(lasting)); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// within runs fn in a transaction that waits for locks but shortly.
func (f *Fence) within(ctx context.Context, db DB, fn func(*sql.Tx) error) error {
	return f.bounded(ctx, db, sweepLockWait, fn)
}

// sweepSometimes is Do's own sweep. What it cannot do now it does later, so its error
// is nobody's.
func (f *Fence) sweepSometimes(ctx context.Context, db DB, c Call) {
	if sweepDue(f.sweepAfter, f.sweepEvery, f.now(), c) {
		ctx, cancel := context.WithTimeout(ctx, sweepBudget)
		defer cancel()
		_, _ = f.Of(c.Cluster).Sweep(ctx, db, c.FloorMS)
	}
}

// sweepDue tells whether it is this call that sweeps, up to its floor. One above the clock
// is nonsense.
func sweepDue(after *atomic.Int64, every time.Duration, now time.Time, c Call) bool {
	due := after.Load()
	return every > 0 && c.FloorMS <= c.ClockMS && now.UnixMilli() >= due && after.CompareAndSwap(due, now.Add(every).UnixMilli())
}
