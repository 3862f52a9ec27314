package coordinator

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/failpoint"
	"github.com/quorate/quorate/internal/timebox"
)

// leadership is one term of leading; calls to endpoints end with its context.
type leadership struct {
	term  uint64
	ctx   context.Context
	end   context.CancelCauseFunc
	calls timebox.Contexts // of the calls that have the node's own timeout
}

// step runs f on the core, in its goroutine. It returns false when the
// coordinator closes first.
func (c *Coordinator) step(f step) bool { return c.inbox.put(context.Background(), f) }

// query runs f on the core and waits for it; it returns false when the context
// ends or the coordinator closes first. f may then still run.
func (c *Coordinator) query(ctx context.Context, f step) bool {
	done := make(chan struct{})
	asked := c.inbox.put(ctx, func(core *Core, now time.Time) {
		f(core, now)
		close(done)
	})
	if !asked {
		return false
	}
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	case <-c.closed:
		return false
	}
}

// run is the core's goroutine. All that it waits for wakes its inbox.
func (c *Coordinator) run() {
	defer close(c.closed)
	wake := newWakeUp(c.inbox.wake)
	defer wake.timer.Stop()
	var spare []step
	for range c.inbox.woken {
		select {
		case <-c.closing:
			c.finish()
			return
		default:
		}
		// What was put before the log was applied is heard before that: a vouch, before
		// the vote that it came with.
		steps, applied := c.inbox.take(spare)
		now := c.now()
		for _, f := range steps {
			f(c.core, now)
		}
		spare = steps
		if applied {
			c.core.Applied(now)
		}
		if at, ok := c.core.Wake(); ok && !at.After(now) {
			c.core.Expire(now)
		}
		c.perform(c.core.Take())
		at, ok := c.core.Wake()
		wake.set(c.now(), at, ok)
	}
}

// finish ends the core's work, after all that it was told.
func (c *Coordinator) finish() {
	for _, f := range c.inbox.close() {
		f(c.core, c.now())
	}
	c.core.Follow(c.now())
	c.perform(c.core.Take())
	close(c.calls.next) // nobody is called any more
	c.setLeadership(nil, ErrClosed)
}

// wakeUp is the timer that wakes the core. It is set anew only where the time differs.
type wakeUp struct {
	timer *time.Timer
	fired atomic.Bool
	at    time.Time // zero: not set
}

func newWakeUp(wake func()) *wakeUp {
	w := new(wakeUp)
	w.timer = time.AfterFunc(time.Hour, func() {
		w.fired.Store(true)
		wake()
	})
	return w
}

// set lets the timer fire when the core wants to be woken.
func (w *wakeUp) set(now time.Time, at time.Time, ok bool) {
	if w.fired.Swap(false) {
		w.at = time.Time{}
	}
	switch {
	case !ok:
		w.timer.Stop()
		w.at = time.Time{}
	case !w.at.Equal(at):
		w.timer.Reset(max(0, at.Sub(now)))
		w.at = at
	}
}

// perform does what the core asked for, in order; what it proposes, together.
func (c *Coordinator) perform(effects []Effect) {
	proposals, riding := c.proposals[:0], c.riding[:0]
	for _, e := range effects {
		switch e := e.(type) {
		case SendDeliveries:
			c.send(e.Session, e.Deliveries)
		case SendVouchFor:
			c.push(e.Session, Message{VouchFor: e.Branches})
		case CloseSession:
			c.closeSession(e.Session, e.Cause)
		case StartCall:
			c.startCall(e.Delivery)
		case Propose:
			if e.Rides {
				riding = append(riding, batched{Propose: e})
			} else {
				proposals = append(proposals, batched{Propose: e})
			}
		case HurryReports:
			proposals, riding = append(proposals, riding...), riding[:0]
			c.riders.hurry()
		case AnswerWaiter:
			c.answer(e)
		case AnswerReport:
			e.Reply(fsm.Result{}, e.Err)
		case HitFailpoint:
			if err := failpoint.Hit(e.Name, e.Key); err != nil {
				c.log.Warn("failpoint in the driver: it goes on", "name", e.Name, "key", e.Key)
			}
		case Warn:
			c.log.Warn(e.Message, "gid", e.GID, "branch", e.Branch, "detail", e.Detail)
		}
	}
	c.core.Performed(effects)
	if len(riding) > 0 && c.watchers.any() {
		proposals, riding = append(proposals, riding...), riding[:0] // they wait for every end
	}
	c.batcher.add(proposals...)
	c.riders.wait(riding...)
	clear(proposals)
	clear(riding[:cap(riding)])
	c.proposals, c.riding = proposals, riding
}

// send puts deliveries on a session's queue: in one message, where it takes that.
func (c *Coordinator) send(id SessionID, deliveries []Delivery) {
	s := c.sessions[id]
	if s != nil && s.several {
		c.push(id, Message{Deliveries: deliveries})
		return
	}
	for i := range deliveries {
		c.push(id, Message{Deliver: &deliveries[i]})
	}
}

// push puts a message on a session's queue. The core keeps within the window,
// so a queue that is full belongs to a stream that nobody reads.
func (c *Coordinator) push(id SessionID, m Message) {
	s := c.sessions[id]
	if s == nil {
		return
	}
	select {
	case s.out <- m:
	default:
		c.closeSession(id, errUnread)
		c.later(func(core *Core, now time.Time) { core.Detach(now, id, false, errUnread) })
	}
}

var errUnread = errors.New("the session's queue is full: its stream is not read")

func (c *Coordinator) closeSession(id SessionID, cause error) {
	s := c.sessions[id]
	if s == nil {
		return
	}
	delete(c.sessions, id)
	if errors.Is(cause, ErrNotLeader) {
		cause = c.notLeader()
	}
	s.finish(cause)
}

var errNoCaller = errors.New("this node delivers to no endpoints")

// later runs f as a step of its own, from the core's goroutine, which must not
// wait for itself.
func (c *Coordinator) later(f func(core *Core, now time.Time)) {
	c.goroutines.Go(func() { c.step(f) })
}

// proposed brings the core what came of its commands.
func (c *Coordinator) proposed(results []ProposeResult) {
	c.step(func(core *Core, now time.Time) { core.Proposed(now, results...) })
}

// answer ends a caller's wait.
func (c *Coordinator) answer(e AnswerWaiter) {
	if ch, ok := c.waiters[e.Waiter]; ok {
		delete(c.waiters, e.Waiter)
		ch <- e // has room for one
	}
}

// setLeadership notes a new leadership, or none, and ends the one before.
func (c *Coordinator) setLeadership(next *leadership, cause error) {
	if before := c.lead.Swap(next); before != nil {
		before.end(cause)
	}
}
