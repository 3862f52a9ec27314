package coordinator

import (
	"slices"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/failpoint"
)

// txn is what Core has noted of a transaction that has not ended.
type txn struct {
	gid fsm.GID
	// rec is the record as last looked at: it never changes.
	rec fsm.Record
	// unheard is how many branches the record has yet to hear of.
	unheard int
	// due branches, in the order of their ids; what calls back comes first.
	due []*delivery
	// guards tie it to the holders of its branches while it is undecided.
	guards []*guard
	// vouched: held branches, and the sessions that said they still hold them.
	vouched []vouch
	// asked: sessions that were asked to vouch, and when to stop hoping.
	asked []plea
	// deciding: a decision of the driver's is on its way.
	deciding bool
	// again tries once more what the driver could not propose.
	again timer
	// waiters are callers that wait for its decision, or its end.
	waiters []waiter
	// said is what its branches have said and the log was not told yet, until when
	// at the latest.
	said      []said
	saidUntil time.Time
	// partly: the failpoint of that name was passed.
	partly bool
	// surveyed is the last survey in which it was looked at.
	surveyed uint64
	// look is the round of lookAt in which it was looked at last.
	look uint64
}

func (t *txn) mode() fsm.Mode { return modeOf(t.rec) }

// modeOf is the mode of a record, however it was read.
func modeOf[R interface{ GetBegin() *logpb.Begin }](rec R) fsm.Mode {
	if m := rec.GetBegin().GetMode(); m != logpb.Mode_MODE_UNSPECIFIED {
		return m
	}
	return logpb.Mode_MODE_TWO_PHASE // a tombstone knows no mode
}

func (t *txn) undecided() bool {
	return t.rec.GetState() == fsm.StateActive || t.rec.GetState() == fsm.StateSealed
}

func (t *txn) finished() bool {
	return t.rec.GetState() == fsm.StateCommitted || t.rec.GetState() == fsm.StateRolledBack
}

// operators: only an operator may decide it.
func (t *txn) operators() bool { return t.rec.GetWithheld() || t.rec.GetQuarantined() }

// noted lists the transactions noted, in a stable order.
func (c *Core) noted() []fsm.GID {
	gids := make([]fsm.GID, 0, len(c.txns))
	for gid := range c.txns {
		gids = append(gids, gid)
	}
	slices.SortFunc(gids, func(a, b fsm.GID) int { return slices.Compare(a[:], b[:]) })
	return gids
}

// compare sets what was noted of a transaction against what stands now, and
// does what follows. What happened after the index since happened just now.
func (c *Core) compare(l *look, since uint64) {
	t := l.t
	if !l.rec.Stands() {
		c.dropTxn(t)
		return
	}
	t.rec, t.unheard = l.rec, l.rec.Unheard()
	due := c.dues[l.due:l.dueEnd]
	c.observe(t, since)
	if t.undecided() {
		c.guardTxn(t)
		c.open = append(c.open, t)
		if t.operators() {
			due = nil
		}
		c.setDue(t, due)
		return
	}
	c.passDecision(t, since)
	c.setDue(t, due)
	c.unguardTxn(t)
	if t.finished() {
		c.answerWaiters(t)
		c.dropTxn(t)
	}
}

// passDecision passes the places of the protocol around the decision, and
// answers who waits for it, in between.
func (c *Core) passDecision(t *txn, since uint64) {
	commit := c.points && t.rec.GetDecision() == fsm.DecisionCommit
	decided := commit && t.rec.GetDecided().GetIndex() > since
	if decided {
		c.hit(failpoint.AtDecision, t)
	}
	if commit && t.finished() && t.rec.GetFinished().GetIndex() > since {
		c.hit(failpoint.AllReported, t)
	} else if commit && !t.partly && partlyReported(t.rec, since) {
		t.partly = true
		c.hit(failpoint.PartlyDone, t)
	}
	c.answerWaiters(t)
	if decided && !t.finished() {
		c.hit(failpoint.AfterDecision, t)
	}
}

func (c *Core) hit(name string, t *txn) {
	c.ask(HitFailpoint{Name: name, Key: t.rec.GetBegin().GetKey()})
}

// partlyReported: of several prepared branches, one or more has just reported
// and another has yet to.
func partlyReported(rec fsm.Record, since uint64) bool {
	reported, open, justNow := 0, 0, false
	for b := range rec.GetBranches() {
		switch {
		case b.GetVote() != logpb.VoteKind_VOTE_KIND_PREPARED:
		case b.GetReported().GetIndex() == 0:
			open++
		default:
			reported++
			justNow = justNow || b.GetReported().GetIndex() > since
		}
	}
	return reported > 0 && open > 0 && justNow
}

// observe tells the observer what happened after the index since.
func (c *Core) observe(t *txn, since uint64) {
	if !t.rec.GetTombstone() && t.rec.GetBegan().GetIndex() > since {
		c.obs.TransactionStarted(t.mode())
	}
	if f := t.rec.GetFinished(); t.finished() && f.GetIndex() > since {
		var took time.Duration
		if began := t.rec.GetBegan(); began.GetIndex() != 0 {
			took = milliseconds(f.GetClockMs() - began.GetClockMs())
		}
		c.obs.TransactionFinished(t.mode(), t.rec.GetDecision(), took)
	}
}

// dropTxn forgets a transaction: it has ended, or is no more.
func (c *Core) dropTxn(t *txn) {
	for _, d := range t.due {
		c.removeDelivery(d)
	}
	t.due = nil
	c.unguardTxn(t)
	c.timers.stop(&t.again)
	for _, w := range t.waiters {
		delete(c.waiters, w.id)
		c.ask(AnswerWaiter{Waiter: w.id, Status: t.status(), Lost: true})
	}
	t.waiters = nil
	delete(c.txns, t.gid)
}

func milliseconds(ms uint64) time.Duration { return time.Duration(ms) * time.Millisecond }
