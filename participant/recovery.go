package participant

import (
	"context"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
)

// recoverLoop ends what was left prepared in the resource: at start, after each
// attach, when a vote was not taken, when the resource is idle, and at the latest
// every scan interval.
func (a *Attachment) recoverLoop() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var last time.Time
	waiting := false // the last scan left a branch undecided
	for {
		kicked := false
		select {
		case <-a.ctx.Done():
			return
		case <-a.kicked:
			kicked = true
		case <-timer.C:
		}
		a.askOverdue()
		idle := a.c.live.count(a.m.Resource()) == 0
		if kicked || idle || waiting || time.Since(last) >= a.c.cfg.scanInterval {
			waiting = a.recoverOnce(a.ctx)
			last = time.Now()
		}
		timer.Reset(min(a.c.cfg.scanIdle, a.c.cfg.scanInterval))
	}
}

// askOverdue asks for the verdicts of votes that were given back with an answer, and
// of which nothing was heard since: the answer may have been lost, or the initiator.
func (a *Attachment) askOverdue() {
	for _, b := range a.c.live.overdue(a.m.Resource(), time.Now(), a.c.cfg.scanIdle) {
		if a.ctx.Err() != nil {
			return
		}
		a.settle(a.ctx, b.Prepared())
	}
}

// kick asks for a scan now.
func (a *Attachment) kick() {
	select {
	case a.kicked <- struct{}{}:
	default: // one is wanted already
	}
}

// recoverOnce is one scan. It reports whether a branch of this cluster stays
// prepared, so that it is asked for again soon.
func (a *Attachment) recoverOnce(ctx context.Context) (waiting bool) {
	found, err := a.m.Recover(ctx)
	if err != nil {
		if ctx.Err() == nil {
			a.c.cfg.logger.Warn("recovery could not list the prepared branches", "resource", a.m.Resource(), "err", err)
		}
		return true
	}
	for _, p := range found {
		if p.Cluster != a.c.ClusterID() || a.c.live.get(p.BranchRef) != nil {
			continue // another cluster's, or in good hands
		}
		if !a.settle(ctx, p) {
			waiting = true
		}
	}
	if s, ok := a.m.(Sweeper); ok && ctx.Err() == nil {
		if err := s.Sweep(ctx, a.c.clock.floor()); err != nil && ctx.Err() == nil {
			a.c.cfg.logger.Warn("evidence could not be swept", "resource", a.m.Resource(), "err", err)
		}
	}
	return waiting
}

// settle asks for the verdict on a prepared branch and has it obeyed. It reports
// whether there was a final one. An unseen GID is ended by the leader, and only
// when the cluster's clock is past born + ClockStaleMax + timeout: until then its
// initiator may still send the one request that begins and commits it.
func (a *Attachment) settle(ctx context.Context, p Prepared) bool {
	verdict, expired, err := a.c.inquire(ctx, p, a.m.Resource())
	if err != nil {
		if ctx.Err() == nil {
			a.c.cfg.logger.Info("recovery could not ask for a verdict", "branch", p.BranchRef, "err", err)
		}
		return false
	}
	if !verdict.Final() {
		return false
	}
	if k, ok := a.m.(ExpiryKeeper); ok && expired {
		if why := k.KeepExpired(ctx); why != "" {
			a.c.cfg.logger.Error("ALARM: a prepared branch is older than the cluster remembers, and is kept for an operator, because its database may have lost a commit",
				"resource", a.m.Resource(), "branch", p.BranchRef, "why", why)
			return false
		}
	}
	a.c.cfg.logger.Info("recovered a prepared branch", "resource", a.m.Resource(), "branch", p.BranchRef, "verdict", verdict.String())
	a.obey(p.BranchRef, word{verdict: verdict})
	return true
}

// settleLater settles a live branch whose vote was refused, in the background,
// until there is a final verdict.
func (a *Attachment) settleLater(ref BranchRef) {
	b := a.c.live.get(ref)
	if b == nil {
		return
	}
	a.c.goDo(func() {
		for !a.settle(a.ctx, b.Prepared()) {
			select {
			case <-b.ended:
				return
			case <-a.ctx.Done():
				return
			default:
				_ = sleep(a.ctx, backoffLast)
			}
		}
	})
}

// inquire asks the leader for the verdict on one branch. "Wait" of a leader that
// is not the newest heard of means nothing. expired says that the verdict, rollback,
// is presumed: nothing is known of the GID any more.
func (c *Client) inquire(ctx context.Context, p Prepared, resource string) (v Verdict, expired bool, err error) {
	req := &quoratev1.InquireRequest{Gid: string(p.GID), Branch: p.ID, Resource: resource, Holder: c.holder}
	if p.Timeout > 0 {
		req.Timeout = durationpb.New(p.Timeout)
	}
	got, err := call(ctx, c, p.GID, func(ctx context.Context, cc grpc.ClientConnInterface) (*quoratev1.InquireResponse, error) {
		return quoratev1.NewParticipantServiceClient(cc).Inquire(ctx, req)
	})
	if err != nil {
		return VerdictNone, false, err
	}
	v = Verdict(got.GetVerdict())
	return v, got.GetUnseen() && v == VerdictRollback, nil
}
