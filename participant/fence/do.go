package fence

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/quorate/quorate/participant"
)

// recordWait bounds the local transaction that notes what became of a failed call.
const recordWait = 3 * time.Second

// Do runs fn once for the call, in a local transaction of db that it shares with the
// call's row, and commits it. Nil: the operation is done, now or before, or there is
// nothing left to do. fn must work with the transaction that it is given alone, and must
// neither commit nor roll it back.
//
// When fn fails, the local transaction is rolled back and the error returned: the call
// may come again. When what it returns is [ErrRefused], that is recorded as the call's
// result. A fence's own answers are the errors of this package; after any other error
// the local transaction may have committed (its answer was lost): a repeat finds out.
func (f *Fence) Do(ctx context.Context, db DB, c Call, fn func(*sql.Tx) error) error {
	if err := c.check(); err != nil {
		return err
	}
	// A call is no branch of a two-phase transaction, even if the context carries one.
	ctx = participant.Outside(ctx)
	err := f.do(ctx, db, c, fn)
	if err == nil {
		f.sweepSometimes(ctx, db, c)
	}
	return err
}

func (f *Fence) do(ctx context.Context, db DB, c Call, fn func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return c.failed(fmt.Errorf("begin: %w", err))
	}
	defer func() { _ = tx.Rollback() }() // no effect after a commit; a panic ends here too
	s, err := f.enter(ctx, tx, c, false)
	if err != nil {
		return err
	}
	if s.run {
		if err := fn(tx); err != nil {
			_ = tx.Rollback()
			return f.noted(ctx, db, c, err)
		}
	}
	if err := tx.Commit(); err != nil {
		return c.failed(fmt.Errorf("commit: %w", err))
	}
	return nil
}

// DoTx is Do in a local transaction that the caller began, and commits when DoTx has
// answered nil. After an error it must be rolled back.
//
// A refusal by fn is not recorded, since it would be rolled back with the rest: where an
// earlier attempt may still be on its way, use Do. In MySQL the table's floor stays
// locked against sweeping until the transaction ends.
func (f *Fence) DoTx(ctx context.Context, tx Tx, c Call, fn func() error) error {
	if err := c.check(); err != nil {
		return err
	}
	s, err := f.enter(ctx, tx, c, true)
	if err != nil || !s.run {
		return err
	}
	if err := fn(); err != nil {
		return err
	}
	// Only now: a caller that commits in spite of an error must not leave a row that says
	// that all is done.
	return f.put(ctx, tx, c, s.next)
}

// enter writes the call's row, or locks the one that stands, and decides. After it the
// row holds what step.next says, but with late for operations that run: those the caller
// puts itself.
func (f *Fence) enter(ctx context.Context, tx Tx, c Call, late bool) (step, error) {
	own, cancel := context.WithTimeout(ctx, f.wait)
	defer cancel()
	first := decide(nil, c)
	row := first.next
	if first.err != nil || late && first.run {
		row.State = StateOpen
	}
	standing, err := f.sql.upsert(own, tx, f.table, f.key(c), row)
	if err != nil {
		return step{}, c.failed(f.judge(ctx, own, err))
	}
	if standing == nil { // the row is ours
		if err := f.checkFloor(own, tx, c, late); err != nil {
			return step{}, err
		}
		return first, first.err
	}
	s := decide(standing, c)
	if s.err != nil || s.next == *standing || late && s.run {
		return s, s.err
	}
	return s, f.put(ctx, tx, c, s.next)
}

// checkFloor refuses a GID whose row may have been there and was swept. It must be read
// after the row was inserted: a sweep raises the floor before it drops a row.
func (f *Fence) checkFloor(ctx context.Context, tx Tx, c Call, late bool) error {
	born := c.born()
	if born == 0 {
		return nil
	}
	floor, err := f.sql.floor(ctx, tx, f.table, c.Cluster, late)
	if err != nil {
		return c.failed(fmt.Errorf("read the floor: %w", f.judge(ctx, ctx, err)))
	}
	if born <= floor {
		return c.failed(ErrSwept)
	}
	return nil
}

func (f *Fence) put(ctx context.Context, tx Tx, c Call, r Record) error {
	if err := f.sql.put(ctx, tx, f.table, f.key(c), r); err != nil {
		return c.failed(fmt.Errorf("write the row: %w", err))
	}
	return nil
}

func (f *Fence) key(c Call) key {
	k := key{gid: c.GID, branch: c.Branch, part: c.Part, cluster: c.Cluster, born: c.born(), createdMS: f.now().UnixMilli()}
	if k.born == 0 {
		k.cluster = "" // a key has no clock
	}
	return k
}

// noted records what became of a call whose function failed with err, in a local
// transaction of its own, and is the answer. Of a refusal the row must stand before it is
// told: an earlier attempt that is still on its way would be done otherwise, and nobody
// would undo it. Of other errors it notes the epoch, as well as it can.
func (f *Fence) noted(ctx context.Context, db DB, c Call, err error) error {
	refused := errors.Is(err, ErrRefused)
	if !c.Operation.forward() || !(refused && c.refusals()) && c.Epoch == (Epoch{}) {
		return err
	}
	// The caller may have gone meanwhile.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordWait)
	defer cancel()
	if !refused || !c.refusals() {
		_ = f.record(ctx, db, c, func(r Record) Record { return r })
		return err
	}
	answer := err
	recordErr := f.record(ctx, db, c, func(r Record) Record {
		// Another attempt may have come in between: what it did stands.
		if s := decide(&r, c); !s.run {
			answer = s.err
			return r
		}
		r.State, r.Detail = StateRefused, clip(err.Error())
		return r
	})
	if recordErr != nil {
		return fmt.Errorf("%v; but that could not be recorded: %w", err, recordErr) //nolint:errorlint // no refusal yet
	}
	return answer
}

// record changes the call's row, made where there is none, in a transaction of its own.
func (f *Fence) record(ctx context.Context, db DB, c Call, change func(Record) Record) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return c.failed(fmt.Errorf("begin: %w", err))
	}
	defer func() { _ = tx.Rollback() }()
	fresh := Record{State: StateOpen, Epoch: c.Epoch}
	standing, err := f.sql.upsert(ctx, tx, f.table, f.key(c), fresh)
	if err != nil {
		return c.failed(f.judge(ctx, ctx, err))
	}
	if standing == nil {
		if err := f.checkFloor(ctx, tx, c, false); err != nil {
			return err
		}
		standing = &fresh
	}
	next := *standing
	if c.Epoch.Compare(next.Epoch) > 0 {
		next.Epoch = c.Epoch
	}
	if next = change(next); next != *standing {
		if err := f.put(ctx, tx, c, next); err != nil {
			return err
		}
	}
	if err := tx.Commit(); err != nil {
		return c.failed(fmt.Errorf("commit: %w", err))
	}
	return nil
}

// judge tells what a failed statement of the fence's own means. ctx is the caller's, own
// is the fence's bound.
func (f *Fence) judge(ctx, own context.Context, err error) error {
	switch faultOf(err) {
	case faultWait:
		return fmt.Errorf("%w: %w", ErrOngoing, err)
	case faultNoTable:
		return fmt.Errorf("%w %s: run `quorate fence init`: %w", ErrNoTable, f.table, err)
	}
	if own.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: waited %v for an earlier run: %w", ErrOngoing, f.wait, err)
	}
	return err
}

// clip is the beginning of a text, fit for a column of any database: Postgres takes no
// zeros, and only UTF-8. A refusal that could not be recorded would be no refusal.
func clip(s string) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "?"), "\x00", "?")
	if len(s) <= detailBytesMax {
		return s
	}
	s = s[:detailBytesMax]
	for len(s) > 0 && s[len(s)-1]&0xc0 == 0x80 { // not in the middle of a character
		s = s[:len(s)-1]
	}
	return s[:max(0, len(s)-1)]
}
