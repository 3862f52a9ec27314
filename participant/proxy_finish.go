package participant

import (
	"context"
	"fmt"
	"time"
)

// Commit commits a prepared branch, and says what it did.
func (p *Proxy) Commit(ctx context.Context, ref BranchRef) (Outcome, error) {
	return p.finish(ctx, ref, VerdictCommit)
}

// Rollback rolls a branch back, whatever it is doing, and says what it did.
func (p *Proxy) Rollback(ctx context.Context, ref BranchRef) (Outcome, error) {
	return p.finish(ctx, ref, VerdictRollback)
}

// finish ends a branch: by the connection that prepared it while this process has
// that, by its xid elsewhere, and by the fence where there is no xid.
func (p *Proxy) finish(ctx context.Context, ref BranchRef, v Verdict) (Outcome, error) {
	ctx = p.ends.Get(ctx, commandTimeout)
	xid := ""
	if t := p.pins.get(ref); t != nil {
		done, outcome, err := t.finish(ctx, v)
		if done {
			return outcome, err
		}
		xid = t.knownXid()
	}
	var outcome Outcome
	err := p.managed(ctx, func(s rawSession) (err error) {
		if xid == "" {
			if xid, err = p.find(ctx, s, ref); err != nil {
				return err
			}
		}
		outcome, err = p.finishFound(ctx, s, ref, xid, v)
		return err
	})
	if t := p.pins.get(ref); t != nil && err == nil {
		t.ended()
	}
	return outcome, err
}

// finish ends a branch that is live in this process. done is false where its
// connection cannot end it, so that others must.
func (t *branchTx) finish(ctx context.Context, v Verdict) (done bool, _ Outcome, _ error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case !t.prepared && v == VerdictCommit:
		return true, OutcomeNone, fmt.Errorf("%w: branch %s is still being prepared", ErrBusy, t.ref)
	case !t.prepared:
		// Its own goroutine owns the connection; it is told, and the fence keeps it
		// from preparing meanwhile.
		t.doomed.Store(true)
		return false, OutcomeNone, nil
	case t.raw == nil:
		return false, OutcomeNone, nil // by its xid, then
	}
	err := t.p.engine.finish(ctx, rawSession{raw: t.raw, state: t.c.state}, t.xid, v)
	if err != nil && faultOf(err) == faultLockTimeout {
		return true, OutcomeNone, fmt.Errorf("%w: %w", ErrBusy, err) // SQLite: readers stand in the way
	}
	raw := t.raw
	t.raw = nil
	t.forgetPrepared()
	if err != nil {
		// What it did is for the xid, or the fence, to say; the session must be gone first.
		_ = raw.Close()
		return false, OutcomeNone, nil
	}
	if t.reusable && t.p.dialect.settings(ctx, rawSession{raw: raw, state: t.c.state}, t.mark) == nil {
		t.p.pins.give(raw, t.c.state)
	} else {
		_ = raw.Close()
	}
	if v == VerdictCommit {
		return true, OutcomeCommitted, nil
	}
	return true, OutcomeRolledBack, nil
}

// forgetPrepared takes a prepared branch out. The caller must hold mu.
func (t *branchTx) forgetPrepared() {
	if t.p.pins.get(t.ref) != t {
		return
	}
	t.forget()
}

// knownXid is the xid under which the branch was prepared, or "".
func (t *branchTx) knownXid() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.prepared {
		return ""
	}
	return t.xid
}

// ended takes a prepared branch out that was ended by its xid.
func (t *branchTx) ended() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.prepared {
		t.forgetPrepared()
	}
}

// drop closes the connection that the branch keeps.
func (t *branchTx) drop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.raw != nil {
		_ = t.raw.Close()
		t.raw = nil
	}
}

// finishFound ends a branch by its xid; "" means that none is listed. "Not found" is
// believed only when the xid is not listed and the fence settles it.
func (p *Proxy) finishFound(ctx context.Context, s rawSession, ref BranchRef, xid string, v Verdict) (Outcome, error) {
	if xid != "" {
		err := p.engine.finish(ctx, s, xid, v)
		switch faultOf(err) {
		case faultNone:
			if v == VerdictCommit {
				return OutcomeCommitted, nil
			}
			return OutcomeRolledBack, nil
		case faultInUse, faultLockTimeout, faultDeadlock:
			return OutcomeNone, fmt.Errorf("%w: %w", ErrBusy, err)
		case faultNotFound:
			// MariaDB says so, too, while the session that prepared it lives.
			again, listErr := p.find(ctx, s, ref)
			if listErr != nil {
				return OutcomeNone, listErr
			}
			if again != "" {
				return OutcomeNone, fmt.Errorf("%w: the session that prepared branch %s is still there: %w", ErrBusy, ref, err)
			}
		default:
			return OutcomeNone, err
		}
	}
	found, err := settle(ctx, p.dialect, s, ref)
	if err != nil {
		if faultOf(err) == faultNoTable {
			// Somebody dropped the table: no row can ever tell.
			p.logger.Error("the evidence table is gone", "branch", ref, "verdict", v.String(), "err", err)
			return OutcomeHazard, nil
		}
		return OutcomeNone, err
	}
	outcome := found.outcome(v)
	if (v == VerdictCommit) != (outcome == OutcomeCommitted) {
		p.logger.Error("a branch differs from its decision", "branch", ref, "verdict", v.String(), "outcome", outcome.String())
	}
	return outcome, nil
}

// find returns the xid under which the branch is listed, or "".
func (p *Proxy) find(ctx context.Context, s rawSession, ref BranchRef) (string, error) {
	listed, err := p.engine.list(ctx, s)
	if err != nil {
		return "", err
	}
	for xid, prepared := range listed {
		if prepared.BranchRef == ref && prepared.Cluster == p.client.ClusterID() {
			return xid, nil
		}
	}
	return "", nil
}

// Recover lists what is prepared in the database now. Branches that this process
// still has in hand are told by their own connection when they are ended.
func (p *Proxy) Recover(ctx context.Context) ([]Prepared, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	var out []Prepared
	err := p.managed(ctx, func(s rawSession) error {
		listed, err := p.engine.list(ctx, s)
		for _, prepared := range listed {
			out = append(out, prepared)
		}
		return err
	})
	return out, err
}

// Sweep drops evidence of transactions born at or below floorMS.
func (p *Proxy) Sweep(ctx context.Context, floorMS uint64) error {
	for standing := p.swept.Load(); floorMS > standing && !p.swept.CompareAndSwap(standing, floorMS); {
		standing = p.swept.Load()
	}
	return p.managed(ctx, func(s rawSession) error { return sweep(ctx, p.dialect, s, floorMS) })
}

// KeepExpired gives the reason for which a branch must not be rolled back merely
// because the cluster has forgotten it (PROTOCOL.md, section 5, the last rule).
func (p *Proxy) KeepExpired(ctx context.Context) (why string) {
	if p.cfg.unsafe {
		return "participant.AllowUnsafe() is set"
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	err := p.managed(ctx, func(s rawSession) (err error) {
		why, err = p.engine.failedOver(ctx, s)
		return err
	})
	if err != nil {
		return fmt.Sprintf("whether the database failed over is not known: %v", err)
	}
	return why
}

// heldCheckInterval is how often held branches' connections are looked at.
const heldCheckInterval = time.Second

// watchHeld looks after the connections of held branches. One that broke has
// lost its work: the cluster hears it at once, and need not wait for a commit that
// can only become a heuristic outcome.
func (p *Proxy) watchHeld() {
	for sleep(p.ctx, heldCheckInterval) == nil {
		for _, t := range p.pins.list() {
			if t.lost(p.ctx) {
				p.work.Go(func() {
					ctx, cancel := context.WithTimeout(p.ctx, commandTimeout)
					defer cancel()
					if err := t.branch.Done(ctx, OutcomeRolledBack, "the connection that held it broke"); err != nil {
						p.logger.Warn("a lost held branch could not be reported", "branch", t.ref, "err", err)
					}
				})
			}
		}
	}
}

// lost reports, once, that the connection of a held branch broke before it was
// told to commit; the server has rolled it back, or will.
func (t *branchTx) lost(ctx context.Context) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.raw == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	if _, err := (rawSession{raw: t.raw, state: t.c.state}).row(ctx, "SELECT 1"); err == nil || ctx.Err() != nil {
		return false
	}
	_ = t.raw.Close()
	t.raw = nil
	t.forgetPrepared()
	return true
}
