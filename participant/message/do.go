package message

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/fence"
)

// endTimeout bounds what is said after a local transaction has ended, although the
// caller's context may have ended too: the check-back does it otherwise.
const endTimeout = 5 * time.Second

// Do runs fn in a local transaction of db and sends the message if, and only if, it
// commits. guard marks the local transaction; its table must be in db, and the callback
// must answer from it ([handlers.CheckBack]).
//
//	nil                          the local transaction has committed, and the message stands
//	an error of fn's             neither has happened
//	*participant.RolledBackError neither has happened: a check-back came first
//	participant.ErrUnknown       the check-back will tell; both happen, or neither does
//
// With a key, or a GID, that stands for a message before, fn is not run: Do tells what
// became of that one.
func (m *Message) Do(ctx context.Context, guard *fence.Fence, db fence.DB, fn func(tx *sql.Tx) error) error {
	fresh, err := m.Begin(ctx)
	if err != nil {
		return err
	}
	if !fresh {
		if err := m.client.AwaitDecision(ctx, m.GID()); err != nil {
			return err
		}
		return m.await(ctx)
	}
	committed, err := m.local(ctx, guard, db, fn)
	switch {
	case committed:
		return m.Submit(ctx)
	case errors.Is(err, participant.ErrUnknown):
		return err // the check-back decides
	case errors.Is(err, fence.ErrLate): // it has answered for us
		return cmp.Or(m.client.AwaitDecision(ctx, m.GID()), err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	_ = m.Drop(ctx, err.Error()) // the check-back does it otherwise
	return err
}

// local runs the local transaction. The error tells why it did not commit, or that
// nobody knows.
func (m *Message) local(ctx context.Context, guard *fence.Fence, db fence.DB, fn func(tx *sql.Tx) error) (committed bool, err error) {
	// The local transaction is its own: no branch of one that the context may carry.
	ctx = participant.Outside(ctx)
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return false, fmt.Errorf("message: begin the local transaction: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // no effect after the commit
	switch err := guard.Of(m.client.ClusterID()).Prepare(ctx, tx, string(m.GID())); {
	case errors.Is(err, fence.ErrDone): // an earlier Do with this GID
		return true, nil
	case err != nil:
		return false, err
	}
	if err := fn(tx); err != nil {
		return false, err
	}
	if err := tx.Commit(); err != nil {
		return m.askedBack(ctx, guard, db, err)
	}
	return true, nil
}

// askedBack finds out what became of a commit that failed: its answer may have been lost.
// It asks as the check-back would, after which a late commit has no effect any more.
func (m *Message) askedBack(ctx context.Context, guard *fence.Fence, db fence.DB, failed error) (bool, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	committed, err := guard.Of(m.client.ClusterID()).Committed(ctx, db, string(m.GID()))
	if err != nil {
		return false, &participant.OutcomeUnknownError{GID: m.GID(), Err: errors.Join(failed, err)}
	}
	if committed {
		return true, nil
	}
	return false, fmt.Errorf("message: commit the local transaction: %w", failed)
}
