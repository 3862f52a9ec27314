package coordinator

import (
	"time"

	"github.com/quorate/quorate/fsm"
)

// waiter is a caller that waits for a transaction's decision, or for its end.
type waiter struct {
	id     uint64
	finish bool
}

// Wait registers a caller: AnswerWaiter comes once the transaction is decided
// (or, with finish, ended), or leadership goes. The id is the runner's; it must
// not be in use. The transaction must stand in the log.
func (c *Core) Wait(now time.Time, id uint64, gid fsm.GID, finish bool) {
	if !c.leading {
		c.ask(AnswerWaiter{Waiter: id, Status: Status{GID: gid}, Lost: true})
		return
	}
	c.begin(now)
	c.pull()
	t := c.known(gid)
	if t == nil {
		c.answerFromState(waiter{id: id, finish: finish}, gid)
		c.end()
		return
	}
	t.waiters = append(t.waiters, waiter{id: id, finish: finish})
	c.waiters[id] = t
	c.answerWaiters(t)
	if t.endAwaited() {
		c.ask(HurryReports{})
	}
	c.end()
}

// endAwaited: somebody waits until every branch has ended.
func (t *txn) endAwaited() bool {
	for _, w := range t.waiters {
		if w.finish {
			return true
		}
	}
	return false
}

// answerFromState answers by what stands, and does not let wait.
func (c *Core) answerFromState(w waiter, gid fsm.GID) {
	answer := AnswerWaiter{Waiter: w.id, Status: Status{GID: gid}, Lost: true}
	c.view(func(s *fsm.State) {
		if rec, ok := s.Read(gid); ok {
			answer.Status = statusOf(gid, rec)
			answer.Lost = answer.Status.Decision == fsm.DecisionNone || w.finish && !ended(answer.Status.State)
		}
	})
	c.ask(answer)
}

// Unwait drops a caller that has gone. It gets no answer any more.
func (c *Core) Unwait(id uint64) {
	t, ok := c.waiters[id]
	if !ok {
		return
	}
	delete(c.waiters, id)
	for i, w := range t.waiters {
		if w.id == id {
			t.waiters = append(t.waiters[:i], t.waiters[i+1:]...)
			return
		}
	}
}

// answerWaiters answers those who wait for what the transaction has reached.
func (c *Core) answerWaiters(t *txn) {
	if len(t.waiters) == 0 || t.undecided() {
		return
	}
	left := t.waiters[:0]
	for _, w := range t.waiters {
		if w.finish && !t.finished() {
			left = append(left, w)
			continue
		}
		delete(c.waiters, w.id)
		c.ask(AnswerWaiter{Waiter: w.id, Status: t.status()})
	}
	t.waiters = left
}

// loseWaiters tells all who still wait that leadership went; what is decided by
// now is an answer all the same. Nothing else follows from it any more.
func (c *Core) loseWaiters() {
	for _, gid := range c.noted() {
		for _, w := range c.txns[gid].waiters {
			c.answerFromState(w, gid)
		}
	}
	clear(c.waiters)
}

func (t *txn) status() Status { return statusOf(t.gid, t.rec) }

func statusOf(gid fsm.GID, rec fsm.Record) Status {
	return Status{
		GID: gid, Decision: rec.GetDecision(), State: rec.GetState(), Reason: rec.GetReason(),
		Index: rec.GetDecided().GetIndex(), Detail: rec.GetDetail(),
	}
}
