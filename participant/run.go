package participant

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode/utf8"
)

// rollbackTimeout bounds the rollback after a failed function: it is a courtesy,
// the deadline does it otherwise.
const rollbackTimeout = 5 * time.Second

// Run begins a transaction, runs fn with a context that carries it, and commits;
// nil means committed. An error or a panic of fn rolls back and is handed on as
// it is. The error of a commit is that of [Transaction.Commit].
//
// With [WithKey], when the key stands already, fn is not run: Run waits for the
// outcome of the transaction that has it and returns that.
func (c *Client) Run(ctx context.Context, fn func(ctx context.Context) error, opts ...TxOption) error {
	tx, err := c.Begin(ctx, opts...)
	if err != nil {
		return err
	}
	if !tx.Created() {
		return tx.Outcome(ctx)
	}
	if err := tx.run(ctx, fn); err != nil {
		return err
	}
	err = tx.Commit(ctx)
	if err != nil && !settled(err) {
		tx.abandon(ctx, err.Error())
	}
	return err
}

// run runs fn as the initiator's code and rolls back unless it returns nil.
func (t *Transaction) run(ctx context.Context, fn func(ctx context.Context) error) (err error) {
	t.root.setWaited(true)
	finished := false
	defer func() {
		t.root.setWaited(false)
		switch {
		case !finished: // a panic, or runtime.Goexit; not recovered, so it goes on with its own stack
			t.abandon(ctx, "the initiator's function panicked")
		case err != nil:
			t.abandon(ctx, err.Error())
		}
	}()
	err = fn(t.Context(ctx))
	finished = true
	return err
}

// abandon rolls back although the caller's context may have ended.
func (t *Transaction) abandon(ctx context.Context, why string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	if err := t.Rollback(ctx, clip(why)); err != nil {
		t.c.cfg.logger.Warn("rollback was not answered; the deadline will do it", "gid", t.gid, "err", err)
	}
}

// settled reports that a rollback after a failed commit would be wrong or in vain.
func settled(err error) bool {
	var rolledBack *RolledBackError
	var unknown *OutcomeUnknownError
	var unavailable *UnavailableError
	return errors.As(err, &rolledBack) || errors.As(err, &unknown) || errors.As(err, &unavailable)
}

// detailBytesMax is what is sent of a text for people; the cluster takes more.
const detailBytesMax = 256

// Clip shortens a text for people to what the cluster takes, whole characters only.
func Clip(s string) string { return clip(s) }

// clip makes s fit, whole characters only.
func clip(s string) string {
	s = strings.ToValidUTF8(s, "?")
	for len(s) > detailBytesMax {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}
