package coordinator

import (
	"fmt"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// holderID is the instance id of a participant's process.
type holderID [16]byte

func (id holderID) String() string { return fsm.GID(id).String() }

// holderOf reads the holder of a branch; false where it has none.
func holderOf(spec *logpb.BranchSpec) (holderID, bool) { return instanceOf(spec.GetHolder()) }

// instanceOf reads an instance id; false where there is none.
func instanceOf(b []byte) (holderID, bool) {
	if len(b) != len(holderID{}) {
		return holderID{}, false
	}
	return holderID(b), true
}

// holder is a participant's process, attached or not, as long as a session, an
// undecided transaction or a due branch names it.
//
// While it is away, its grace runs: from the end of its session, from the first
// word of it where it never attached, and in any case from the leadership. Then
// it is lost. Proof makes it lost at once: it said goodbye, or a newer instance
// of its process attached. It is found again when it attaches, or speaks.
type holder struct {
	id      holderID
	session *session // nil while away
	process string
	lost    bool
	why     string // of the loss, for people
	away    string // the same of those who wait for it; "" while nobody has
	grace   timer
	guards  []*guard
	waits   list // deliveries that wait for it to come back
	users   int  // due branches that name it
}

// guard ties an undecided transaction to a holder of one of its branches.
type guard struct {
	h    *holder
	t    *txn
	slot int // in h.guards
}

// holder finds a holder, or notes it: away, its grace running.
func (c *Core) holder(id holderID) *holder {
	h, ok := c.holders[id]
	if !ok {
		h = &holder{id: id}
		c.holders[id] = h
		c.startGrace(h)
	}
	return h
}

// startGrace gives an absent holder until the end of its grace to come back.
func (c *Core) startGrace(h *holder) {
	at := c.now.Add(c.cfg.SessionGrace)
	if at.Before(c.graceEnd) {
		at = c.graceEnd
	}
	c.timers.arm(&h.grace, at, func() { c.graceOver(h) })
}

func (c *Core) graceOver(h *holder) {
	if c.now.Before(c.graceEnd) { // extended meanwhile: attaches are still coming in
		c.timers.arm(&h.grace, c.graceEnd, func() { c.graceOver(h) })
		return
	}
	c.lose(h, fmt.Sprintf("was away for longer than the grace of %v", c.cfg.SessionGrace))
}

// lose declares a holder lost. What it alone could have brought to an end rolls
// back; what others of its resource can finish, they get.
func (c *Core) lose(h *holder, why string) {
	c.timers.stop(&h.grace)
	h.lost, h.why = true, why
	for _, g := range append([]*guard(nil), h.guards...) {
		c.rollbackIfLost(g.t)
		c.checkBackIfLost(g.t)
	}
	c.waited(h)
	c.idle = append(c.idle, h)
}

// found takes back that a holder is away: it attached.
func (c *Core) found(h *holder, s *session) {
	c.timers.stop(&h.grace)
	h.session, h.lost, h.why = s, false, ""
}

// waited routes what has waited for the holder, each once: of a million that wait
// for a thousand holders, none may be looked at for another holder's sake.
func (c *Core) waited(h *holder) {
	for _, d := range h.waits.all() {
		c.route(d)
	}
}

// guardTxn ties an undecided transaction to the holders of its branches, and a
// message to its initiator's.
func (c *Core) guardTxn(t *txn) {
	switch t.mode() {
	case logpb.Mode_MODE_TWO_PHASE:
		for b := range t.rec.GetBranches() {
			if id, ok := holderOf(b.GetSpec()); ok && !b.GetHint() {
				c.guard(t, id)
			}
		}
	case logpb.Mode_MODE_MESSAGE:
		if id, ok := instanceOf(t.rec.GetBegin().GetHolder()); ok {
			c.guard(t, id)
		}
	}
}

func (c *Core) guard(t *txn, id holderID) {
	if t.guardedBy(id) {
		return
	}
	h := c.holder(id)
	if h.lost && h.session == nil {
		// It spoke after it was lost, so it lives, without a session yet. A
		// transaction of before the loss is guarded already, unless a survey
		// comes to it only now: then the loss is told a grace later.
		h.lost, h.why = false, ""
		c.startGrace(h)
	}
	g := &guard{h: h, t: t, slot: len(h.guards)}
	h.guards = append(h.guards, g)
	t.guards = append(t.guards, g)
}

func (t *txn) guardedBy(id holderID) bool {
	for _, g := range t.guards {
		if g.h.id == id {
			return true
		}
	}
	return false
}

func (c *Core) unguardTxn(t *txn) {
	for _, g := range t.guards {
		h := g.h
		last := h.guards[len(h.guards)-1]
		h.guards[g.slot], last.slot = last, g.slot
		h.guards[len(h.guards)-1] = nil
		h.guards = h.guards[:len(h.guards)-1]
		c.idle = append(c.idle, h)
	}
	t.guards = nil
}

// sweepHolders forgets the holders that nobody asks about any more.
func (c *Core) sweepHolders() {
	for _, h := range c.idle {
		if h.session == nil && len(h.guards) == 0 && h.users == 0 && c.holders[h.id] == h {
			c.timers.stop(&h.grace)
			delete(c.holders, h.id)
			if c.processes[h.process] == h.id {
				delete(c.processes, h.process)
			}
		}
	}
	c.idle = c.idle[:0]
}

// rollbackIfLost decides rollback where a lost holder's branch can never vote,
// or is held and so has no durable vote. A branch that is prepared stays so:
// any process of its resource can finish it.
func (c *Core) rollbackIfLost(t *txn) {
	if !t.undecided() || t.operators() || t.mode() != logpb.Mode_MODE_TWO_PHASE {
		return
	}
	for b := range t.rec.GetBranches() {
		id, ok := holderOf(b.GetSpec())
		if !ok || b.GetHint() || !needsHolder(b) {
			continue
		}
		if h := c.holders[id]; h != nil && h.lost {
			c.driverRollback(t, fmt.Sprintf("branch %s (%s): its participant %s %s",
				b.GetSpec().GetId(), b.GetSpec().GetResource(), id, h.why))
			return
		}
	}
}

// needsHolder: without its holder the branch cannot take part in a commit.
func needsHolder(b fsm.BranchRecord) bool {
	switch b.GetVote() {
	case logpb.VoteKind_VOTE_KIND_UNSPECIFIED:
		return true
	case logpb.VoteKind_VOTE_KIND_PREPARED:
		return b.GetSpec().GetHeld()
	default:
		return false
	}
}

// driverRollback decides rollback for a participant that is lost.
func (c *Core) driverRollback(t *txn, detail string) {
	c.decide(t, &logpb.Decide{
		Gid: t.gid.Bytes(), Decision: fsm.DecisionRollback, Origin: logpb.Origin_ORIGIN_DRIVER,
		Epoch: c.logEpoch(), Reason: logpb.Reason_REASON_PARTICIPANT_LOST, Detail: detail,
	})
}

func (c *Core) logEpoch() *logpb.Epoch {
	return &logpb.Epoch{Incarnation: c.clock.Incarnation, Term: c.term}
}

// decide proposes a decision of the driver's, one at a time, until the
// transaction is decided.
func (c *Core) decide(t *txn, d *logpb.Decide) {
	if t.deciding {
		return
	}
	t.deciding = true
	c.timers.stop(&t.again)
	c.propose(&logpb.Command{Kind: &logpb.Command_Decide{Decide: d}}, func(r fsm.Result, err error) {
		t.deciding = false
		if c.txns[t.gid] != t || !t.undecided() {
			return
		}
		// Not taken, or not known to be: look again after a while. A refusal such as
		// WITHHELD lasts until an operator speaks, which the state will tell.
		delay := c.cfg.BackoffMin
		if err == nil {
			delay = c.cfg.BackoffMax
		}
		c.timers.arm(&t.again, c.now.Add(delay), func() { c.reconsider(t) })
	})
}

// reconsider looks again, at the end of the step, whether the driver should
// decide the transaction.
func (c *Core) reconsider(t *txn) { c.open = append(c.open, t) }

// decideOpen decides what the step made ready. It comes last in a step, so that
// a vouch which arrived behind its vote is heard before it would be asked for.
func (c *Core) decideOpen() {
	open := c.open
	c.open = nil
	for _, t := range open {
		if c.txns[t.gid] == t && t.undecided() {
			c.rollbackIfLost(t)
			c.tryDecide(t)
		}
	}
}
