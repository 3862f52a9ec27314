package tcc

import (
	"context"
	"errors"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/participant"
)

// rollbackTimeout bounds the rollback after a failed function: the deadline does it
// otherwise.
const rollbackTimeout = 5 * time.Second

// begin creates the transaction. It reports false when another's stands under the key,
// or when this one is decided already: its function must not run.
func (t *Transaction) begin(ctx context.Context) (fresh bool, err error) {
	if t.settings.Settings.GID == "" {
		gid, err := t.client.NewGID(ctx)
		if err != nil {
			return false, err
		}
		t.settings.Settings.GID = string(gid)
	}
	t.gid = participant.GID(t.settings.Settings.GID)
	got, err := t.client.Service().Begin(ctx, t.settings.Begin(quoratev1.Mode_MODE_TCC))
	if err != nil {
		return false, participant.Decided(t.gid, err)
	}
	// A repeated Begin of ours is answered created=false too: the GID tells.
	fresh = got.GetGid() == string(t.gid) && got.GetDecision() == quoratev1.Decision_DECISION_UNSPECIFIED
	t.gid = participant.GID(got.GetGid())
	return fresh, nil
}

// run runs fn and rolls back unless it returns nil.
func (t *Transaction) run(ctx context.Context, fn func(ctx context.Context, t *Transaction) error) (err error) {
	finished := false
	defer func() {
		switch {
		case !finished: // a panic, or runtime.Goexit; it goes on with its own stack
			t.rollback(ctx, "the initiator's function panicked")
		case err != nil:
			t.rollback(ctx, err.Error())
		}
	}()
	err = fn(ctx, t)
	finished = true
	return err
}

// commit asks for the commit. An outcome that is not known is left to be told later.
func (t *Transaction) commit(ctx context.Context) error {
	got, err := t.client.Service().Commit(ctx, &quoratev1.CommitRequest{
		Transaction: string(t.gid), Wait: quoratev1.Wait_WAIT_DECISION,
	})
	err = participant.Decided(t.gid, err)
	if got.GetDecision() == quoratev1.Decision_DECISION_ROLLBACK {
		err = participant.RolledBack(t.gid, got.GetReason(), got.GetDetail())
	}
	var refused *participant.RefusedError
	if errors.As(err, &refused) { // nothing was decided, and nothing will be by asking again
		t.rollback(ctx, err.Error())
	}
	var rolledBack *participant.RolledBackError
	if err != nil && !errors.As(err, &rolledBack) {
		return err
	}
	pending := err == nil && got.GetDecision() == quoratev1.Decision_DECISION_UNSPECIFIED
	if pending || t.settings.WaitsForTheEnd {
		return t.await(ctx)
	}
	return err
}

// rollback cancels every branch, although the caller's context may have ended.
func (t *Transaction) rollback(ctx context.Context, why string) {
	quick, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	_, err := t.client.Service().Rollback(quick, &quoratev1.RollbackRequest{
		Transaction: string(t.gid), Detail: participant.Clip(why), Wait: quoratev1.Wait_WAIT_DECISION,
	})
	if err == nil && t.settings.WaitsForTheEnd {
		_ = t.client.AwaitFinish(ctx, t.gid) // the function's own error is what is handed on
	}
}

// await waits for what was decided, or for the end where that was asked for.
func (t *Transaction) await(ctx context.Context) error {
	if t.settings.WaitsForTheEnd {
		return t.client.AwaitFinish(ctx, t.gid)
	}
	return t.client.AwaitDecision(ctx, t.gid)
}
