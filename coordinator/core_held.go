package coordinator

import (
	"fmt"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/failpoint"
)

// vouch: the session said in this term that it still holds the branch.
type vouch struct {
	branch  string
	session *session
}

// plea: the session was asked whether it still holds the transaction's
// branches, and must say so before the time is over.
type plea struct {
	session *session
	until   time.Time
}

// Vouch notes that a session still holds these branches. A holder's own vote,
// sent over its session, is such a word too.
func (c *Core) Vouch(now time.Time, id SessionID, branches []BranchRef) {
	s := c.sessions[id]
	if s == nil {
		return
	}
	c.begin(now)
	c.heard(s)
	c.pull()
	c.noteVouchers(s, branches)
	c.end()
}

func (c *Core) noteVouchers(s *session, branches []BranchRef) {
	for _, ref := range branches {
		t := c.known(ref.GID)
		if t == nil || !t.undecided() || t.vouchedBy(ref.Branch, s) {
			continue
		}
		t.dropVouch(ref.Branch)
		t.vouched = append(t.vouched, vouch{branch: ref.Branch, session: s})
		c.open = append(c.open, t)
	}
}

func (t *txn) vouchedBy(branch string, s *session) bool {
	for _, v := range t.vouched {
		if v.branch == branch && v.session == s {
			return true
		}
	}
	return false
}

// dropVouch takes back an older session's word: a branch has one voucher.
func (t *txn) dropVouch(branch string) {
	left := t.vouched[:0]
	for _, v := range t.vouched {
		if v.branch != branch {
			left = append(left, v)
		}
	}
	t.vouched = left
}

// tryDecide decides commit for a sealed transaction with held branches once
// each of their holders is attached in this term and has vouched for them, and
// asks those that have not. A transaction without held branches was decided by
// its last vote.
func (c *Core) tryDecide(t *txn) {
	if t.rec.GetState() != fsm.StateSealed || t.deciding || t.operators() || t.mode() != logpb.Mode_MODE_TWO_PHASE {
		return
	}
	ready := true
	for b := range t.rec.GetBranches() {
		switch b.GetVote() {
		case logpb.VoteKind_VOTE_KIND_UNSPECIFIED, logpb.VoteKind_VOTE_KIND_REFUSED:
			return // the set is not complete
		case logpb.VoteKind_VOTE_KIND_PREPARED:
			if b.GetSpec().GetHeld() && !c.heldNow(t, b) {
				ready = false
			}
		}
	}
	if !ready {
		return
	}
	if c.points {
		c.hit(failpoint.BeforeDecision, t)
	}
	c.decide(t, &logpb.Decide{
		Gid: t.gid.Bytes(), Decision: fsm.DecisionCommit, Origin: logpb.Origin_ORIGIN_DRIVER, Epoch: c.logEpoch(),
	})
}

// heldNow reports whether a held branch's holder is attached and has vouched
// for it; if it is attached and was not asked yet, it is asked.
func (c *Core) heldNow(t *txn, b fsm.BranchRecord) bool {
	id, ok := holderOf(b.GetSpec())
	if !ok {
		return false // nobody can vouch; the deadline ends it
	}
	h := c.holder(id)
	if h.session == nil {
		return false // its grace runs
	}
	if t.vouchedBy(b.GetSpec().GetId(), h.session) {
		return true
	}
	c.askVouch(t, h)
	return false
}

// askVouch asks a holder once for all that it holds of a transaction. One that
// is attached and does not vouch within the grace has lost the branch.
func (c *Core) askVouch(t *txn, h *holder) {
	for _, p := range t.asked {
		if p.session != h.session {
			continue
		}
		if !c.now.Before(p.until) {
			c.driverRollback(t, fmt.Sprintf("participant %s did not vouch for what it holds within %v", h.id, c.cfg.SessionGrace))
		}
		return
	}
	var refs []BranchRef
	for b := range t.rec.GetBranches() {
		id, ok := holderOf(b.GetSpec())
		if ok && id == h.id && b.GetSpec().GetHeld() && b.GetVote() == logpb.VoteKind_VOTE_KIND_PREPARED {
			refs = append(refs, BranchRef{GID: t.gid, Branch: b.GetSpec().GetId()})
		}
	}
	until := c.now.Add(c.cfg.SessionGrace)
	t.asked = append(t.asked, plea{session: h.session, until: until})
	c.ask(SendVouchFor{Session: h.session.id, Branches: refs})
	c.timers.arm(&t.again, until, func() { c.reconsider(t) })
}
