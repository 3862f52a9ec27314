package fence

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/quorate/quorate/participant"
)

// mark is the call that stands for the local transaction of a message's sender. No
// branch has an empty id, so its row is its own.
func mark(gid, cluster string, o Operation) (Call, error) {
	c := Call{GID: gid, Cluster: cluster, Operation: o, Mode: modeMessage}
	if _, err := participant.ParseGID(gid); err != nil {
		c.Dialect, c.Cluster = DTM, "" // a key
	}
	named := c
	named.Branch = "0"
	return c, named.check()
}

// Prepare marks the local transaction of the sender of a message: it commits if and only
// if the message is to be delivered. Call it first in the transaction. [ErrDone]: the
// work has been committed before, and must not run again. [ErrLate]: the message has been
// rolled back, by a check-back that came first.
func (f *Fence) Prepare(ctx context.Context, tx Tx, gid string) error {
	c, err := mark(gid, f.cluster, Action)
	if err != nil {
		return err
	}
	s, err := f.enter(ctx, tx, c, true)
	switch {
	case err != nil:
		return err
	case !s.run:
		return c.failed(ErrDone)
	}
	return f.put(ctx, tx, c, s.next)
}

// Committed tells whether the local transaction that Prepare marked with gid has
// committed. False is for ever: the mark is inserted here first, so that a local
// transaction that has not committed yet no longer can. While one still runs the answer
// is [ErrOngoing].
func (f *Fence) Committed(ctx context.Context, db DB, gid string) (bool, error) {
	c, err := mark(gid, f.cluster, Cancel)
	if err != nil {
		return false, err
	}
	ctx = participant.Outside(ctx)
	committed := false
	err = f.bounded(ctx, db, f.wait, func(tx *sql.Tx) error {
		standing, err := f.sql.upsert(ctx, tx, f.table, f.key(c), Record{State: StateFenced})
		switch {
		case err != nil:
			return f.judge(ctx, ctx, err)
		case standing == nil:
			return f.checkFloor(ctx, tx, c, true)
		case standing.State == StateOpen: // a sender committed in spite of an error
			standing.State = StateFenced
			return f.put(ctx, tx, c, *standing)
		}
		committed = standing.State == StateDone
		return nil
	})
	if err != nil {
		return false, c.failed(err)
	}
	return committed, nil
}

// CheckBack answers a message's check-back by [Fence.Committed]: nil, the message is to
// be delivered; [ErrRefused], it is rolled back; [ErrOngoing], ask again.
func (f *Fence) CheckBack(ctx context.Context, db DB, c Call) error {
	if c.Operation != CheckBack {
		return badCall("%s is no check-back", c)
	}
	if c.Cluster != "" {
		f = f.Of(c.Cluster)
	}
	done, err := f.Committed(ctx, db, c.GID)
	if err == nil && !done {
		return fmt.Errorf("fence: %w: the local transaction of %s did not commit, and can no longer", ErrRefused, c.GID)
	}
	return err
}
