package coordinator

import (
	"context"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// Inquire asks for the verdict on one branch. A decision, being immutable, is
// answered from what is applied here; everything else by a linearizable read.
//
// A participant that holds a prepared branch of a GID nobody has seen is told to
// wait, because on the fast path every live GID is unseen until its commit. Once
// no initiator can commit it in time any more, a rollback of it is put into the
// log, and then answered.
func (c *Coordinator) Inquire(ctx context.Context, r InquireRequest) (Inquired, error) {
	q, _ := c.inquiry(r)
	if q.Code == fsm.OK && q.Decision != fsm.DecisionNone {
		return Inquired{Verdict: q.Verdict, Unseen: q.Unseen}, nil
	}
	if _, err := c.replog.ReadIndex(ctx); err != nil {
		return Inquired{}, c.readError(err)
	}
	q, over := c.inquiry(r)
	if q.Code == fsm.OK && q.Unseen && q.Verdict == fsm.VerdictWait && over {
		if err := c.presume(ctx, r); err != nil {
			return Inquired{}, err
		}
		q, _ = c.inquiry(r) // the log knows it now, by its tombstone
	}
	if q.Code != fsm.OK {
		return Inquired{}, &Refusal{
			Code: q.Code, GID: r.GID, Branch: r.Branch, Decision: q.Decision, State: q.State, Verdict: q.Verdict, Detail: q.Detail,
		}
	}
	return Inquired{Verdict: q.Verdict, Unseen: q.Unseen}, nil
}

// inquiry reads the verdict, and whether the time of an unseen GID is over: the
// cluster clock has passed born + ClockStaleMax + timeout.
func (c *Coordinator) inquiry(r InquireRequest) (q fsm.Inquiry, over bool) {
	c.replog.View(func(s *fsm.State) {
		q = s.InquireFor(r.GID, r.Branch, r.Resource)
		timeout := uint64(r.Timeout.Milliseconds())
		if r.Timeout <= 0 {
			timeout = s.Limits().GetTransactionTimeoutMaxMs()
		}
		over = s.ClockMS() > r.GID.BornMS()+uint64(ClockStaleMax.Milliseconds())+timeout
	})
	return q, over
}

// presume decides rollback for an unseen GID. If it was decided meanwhile, that
// stands.
func (c *Coordinator) presume(ctx context.Context, r InquireRequest) error {
	d := &logpb.Decide{
		Gid: r.GID.Bytes(), Decision: fsm.DecisionRollback, Origin: logpb.Origin_ORIGIN_PARTICIPANT,
		Reason: logpb.Reason_REASON_PRESUMED, Detail: "a prepared branch asked, and nobody had asked for a commit in time",
		Branches: []*logpb.BranchSpec{{Id: r.Branch, Resource: r.Resource, Holder: r.Holder}},
	}
	_, err := c.proposeOne(ctx, r.GID, ending, &logpb.Command{Kind: &logpb.Command_Decide{Decide: d}})
	return err
}

// Get reads one transaction.
func (c *Coordinator) Get(ctx context.Context, r GetRequest) (View, error) {
	if err := c.freshen(ctx, r.Consistency, r.MinIndex); err != nil {
		return View{}, err
	}
	gid := r.Transaction.GID
	if r.Transaction.Key != "" {
		var ok bool
		if gid, ok = c.lookup(r.Transaction); !ok {
			return View{}, noSuchKey(r.Transaction)
		}
	}
	var v View
	expired := false
	c.replog.View(func(s *fsm.State) {
		v.Transaction, _ = s.Get(gid)
		v.At = headerOf(s)
		expired = gid.BornMS() <= s.Clock().HorizonMS
	})
	if v.Transaction == nil {
		return View{}, neverSeen(gid, expired)
	}
	views := []View{v}
	c.addDeliveries(ctx, views)
	return views[0], nil
}

func neverSeen(gid fsm.GID, expired bool) error {
	if expired {
		return &Refusal{Code: fsm.Expired, GID: gid, Detail: "born at or below the horizon: it may have been decided and dropped"}
	}
	return &Refusal{Code: fsm.NotFound, GID: gid, Detail: "no such transaction"}
}

// freshen returns once what is applied here is as fresh as the read asks for.
func (c *Coordinator) freshen(ctx context.Context, consistency Consistency, minIndex uint64) error {
	if consistency == Linearizable {
		if _, err := c.replog.ReadIndex(ctx); err != nil {
			return c.readError(err)
		}
	}
	if minIndex == 0 {
		return nil
	}
	return c.replog.WaitApplied(ctx, minIndex)
}
