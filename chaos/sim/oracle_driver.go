package sim

import (
	"bytes"
	"time"

	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// What the leader's driver may do of itself: PROTOCOL.md section 5, by the
// oracle's own account of who is attached and what they said.

// vouches notes that a session's participant still holds these branches.
func (c *conn) vouches(refs []ref) {
	c.vouched = append(c.vouched, refs...)
}

// proposes judges a decision of the driver's before it is appended.
func (o *oracle) proposes(n *node, c *logpb.Command) {
	d := c.GetDecide()
	if d == nil {
		return
	}
	gid := fsm.GID(d.GetGid())
	rec, ok := n.state.Get(gid)
	if !ok {
		return
	}
	if d.GetDecision() == fsm.DecisionRollback && o.of(gid).called == nil {
		o.proposesLoss(n, gid, rec)
		return
	}
	for _, b := range rec.GetBranches() {
		if b.GetSpec().GetHeld() && b.GetVote() == prepared && !n.isVouched(ref{GID: gid, Branch: b.GetSpec().GetId()}, b.GetSpec().GetHolder()) {
			o.violate("S11", gid.String(), "%s proposes the commit, and the holder of held branch %s has not vouched in term %d", n.name, b.GetSpec().GetId(), n.hard.term)
		}
	}
}

// isVouched: a session of the holder, attached to this leader, has said so.
func (n *node) isVouched(at ref, holder []byte) bool {
	for _, c := range n.sessionList() {
		if bytes.Equal(c.holder, holder) {
			for _, v := range c.vouched {
				if v == at {
					return true
				}
			}
		}
	}
	return false
}

// proposesLoss: a participant may be given up when it was away for the grace, which
// runs anew from each leadership, or when a newer instance of it proves its death.
func (o *oracle) proposesLoss(n *node, gid fsm.GID, rec *logpb.Transaction) {
	if n.passed()-n.leadsSince >= o.w.plan.Settings.SessionGrace-time.Millisecond {
		return
	}
	for _, b := range rec.GetBranches() {
		if p := o.w.processOfHolder(b.GetSpec().GetHolder()); p == nil || o.w.plan.Named {
			return // it is no more, or was replaced
		}
	}
	o.violate("S4", gid.String(), "%s gives a participant up %v after it began to lead, before the grace is over", n.name, n.passed()-n.leadsSince)
}

// processOfHolder is the process that lives under an instance id.
func (w *World) processOfHolder(holder []byte) *process {
	for _, p := range w.procs {
		if p.up && bytes.Equal(p.holder, holder) {
			return p
		}
	}
	return nil
}

// delivery judges what the driver tells a branch, and over which session; nil for
// a call to its endpoint.
func (o *oracle) delivery(n *node, over *conn, d coordinator.Delivery) {
	if d.Verdict == fsm.VerdictCommit {
		o.saw(d.GID, fsm.DecisionCommit, n.name+" by a delivery")
	}
	if d.Epoch.Term != n.hard.term {
		o.violate("S12", d.GID.String(), "%s delivers for epoch %v in term %d", n.name, d.Epoch, n.hard.term)
	}
	o.floorHolds(d.FloorMS)
	o.calledNow(n, d)
	if over != nil {
		o.goesToHolder(n, over, d)
	}
}

// watch looks every second whether somebody delivers what is due: recovery would
// hide a driver that gave up.
func (o *oracle) watch() {
	o.w.after(time.Second, o.watch)
	n, cfg := o.w.leader(), o.w.plan.Settings
	if n == nil || n.paused > 0 || n.clock()-n.leadsSince < 4*cfg.SessionGrace {
		o.idleSince = nil
		return
	}
	idle := make(map[ref]time.Duration)
	for d := range n.state.Due() {
		at := ref{GID: d.GID, Branch: d.Branch.GetId()}
		if !o.nobodyDelivers(n, d) {
			continue
		}
		since, before := o.idleSince[at]
		if !before {
			since = o.w.now
		}
		idle[at] = since
		// The due ones of a resource that does not answer are tried one by one.
		if turn := 2*cfg.DeliveryTimeout + cfg.BackoffMax; o.w.now-since > time.Duration(n.core.Stats(n.time()).Due+1)*turn+n.setBack {
			o.violate("S11", at.GID.String(), "branch %s is due, its participant can be told, and %s does not try any more", at.Branch, n.name)
			return
		}
	}
	o.idleSince = idle
}

// nobodyDelivers: no attempt is under way, and none is planned, though the branch
// has an endpoint, or its resource a session that may be told.
func (o *oracle) nobodyDelivers(n *node, d fsm.DueBranch) bool {
	for _, s := range n.core.Deliveries(n.time(), d.GID) {
		if s.Branch != d.Branch.GetId() {
			continue
		}
		planned := !s.NextAttempt.IsZero() && s.NextAttempt.After(n.time().Add(-time.Second))
		if s.InFlight || planned {
			return false
		}
		return d.Branch.GetEndpoint() != "" || s.Attached && n.mayTellOthers(d.Branch.GetHolder())
	}
	return true
}

// mayTellOthers: the holder is attached, or was away for far longer than the grace.
func (n *node) mayTellOthers(holder []byte) bool {
	for _, c := range n.sessionList() {
		if bytes.Equal(c.holder, holder) {
			return true
		}
	}
	return n.clock()-n.missedSince(holder) > 2*n.w.plan.Settings.SessionGrace
}

// goesToHolder: an outcome goes to the process that holds the branch, and to
// another one of its resource only after that was lost: its database may answer
// another session "not found" about what its own session still holds.
func (o *oracle) goesToHolder(n *node, over *conn, d coordinator.Delivery) {
	rec, ok := n.state.Get(d.GID)
	if !ok {
		return
	}
	for _, b := range rec.GetBranches() {
		holder := b.GetSpec().GetHolder()
		if b.GetSpec().GetId() != d.Branch || len(holder) == 0 || bytes.Equal(holder, over.holder) {
			continue
		}
		for _, c := range n.sessionList() {
			// What was queued elsewhere while it was away may go there still.
			if bytes.Equal(c.holder, holder) && c.since < o.of(d.GID).appliedAt {
				o.violate("S11", d.GID.String(), "the outcome of branch %s goes to another process while its holder is attached", d.Branch)
			}
		}
		away := n.awayFor(holder)
		queued := n.cameBackAt[string(holder)] > o.of(d.GID).appliedAt // elsewhere, while it counted as lost
		if !queued && away < o.w.plan.Settings.SessionGrace-time.Millisecond && !o.w.plan.Named {
			o.violate("S11", d.GID.String(), "the outcome of branch %s goes to another process %v after its holder left, before the grace is over", d.Branch, away)
		}
	}
}

// awayFor is how long this leader has missed a holder.
func (n *node) awayFor(holder []byte) time.Duration {
	return n.passed() - n.missedSince(holder)
}

// missedSince is when a holder's session ended, or when this leader began to lead
// without one: by a clock that jumped back, that is before zero.
func (n *node) missedSince(holder []byte) time.Duration {
	if left, ok := n.leftAt[string(holder)]; ok {
		return max(n.leadsSince, left)
	}
	return n.leadsSince
}

// floorHolds: fence rows may be swept at or below the floor, so nothing that is as
// old may still be undone.
func (o *oracle) floorHolds(floorMS uint64) {
	if floorMS == 0 || floorMS == o.floorMS {
		return
	}
	o.floorMS = floorMS
	for _, gid := range o.order {
		if a := o.txs[gid]; a.standing && !a.finished && gid.BornMS() <= floorMS {
			o.violate("S12", gid.String(), "the floor is %d, and a transaction as old has not ended", floorMS)
		}
	}
}
