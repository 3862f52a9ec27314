package coordinator

import (
	"context"
	"errors"
	"time"

	"github.com/quorate/quorate/internal/failpoint"
)

// inputsMax bounds the steps that wait for the core.
const inputsMax = 1024

// leadership is one term of leading; calls to endpoints end with its context.
type leadership struct {
	term uint64
	ctx  context.Context
	end  context.CancelCauseFunc
}

// step runs f on the core, in its goroutine. It returns false when the
// coordinator closes first.
func (c *Coordinator) step(f func(core *Core, now time.Time)) bool {
	select {
	case c.inputs <- f:
		return true
	case <-c.closing:
		return false
	}
}

// query runs f on the core and waits for it; it returns false when the context
// ends or the coordinator closes first. f may then still run.
func (c *Coordinator) query(ctx context.Context, f func(core *Core, now time.Time)) bool {
	done := make(chan struct{})
	in := func(core *Core, now time.Time) {
		f(core, now)
		close(done)
	}
	select {
	case c.inputs <- in:
	case <-ctx.Done():
		return false
	case <-c.closing:
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

// run is the core's goroutine.
func (c *Coordinator) run() {
	defer close(c.closed)
	wake := time.NewTimer(time.Hour)
	defer wake.Stop()
	for {
		select {
		case f := <-c.inputs:
			f(c.core, c.now())
		case <-c.applied:
			c.takeInputs() // a vouch must be heard before the vote that it came with
			c.core.Applied(c.now())
		case <-wake.C:
			c.core.Expire(c.now())
		case <-c.closing:
			c.core.Follow(c.now())
			c.perform(c.core.Take())
			c.setLeadership(nil, ErrClosed)
			return
		}
		c.perform(c.core.Take())
		c.setWake(wake)
	}
}

// takeInputs takes the steps that wait already.
func (c *Coordinator) takeInputs() {
	for range len(c.inputs) {
		f := <-c.inputs
		f(c.core, c.now())
		c.perform(c.core.Take())
	}
}

// setWake sets the timer to when the core wants to be woken.
func (c *Coordinator) setWake(wake *time.Timer) {
	at, ok := c.core.Wake()
	if !ok {
		wake.Stop()
		return
	}
	wake.Reset(max(0, at.Sub(c.now())))
}

// perform does what the core asked for, in order.
func (c *Coordinator) perform(effects []Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case SendDelivery:
			c.send(e.Session, Message{Deliver: &e.Delivery})
		case SendVouchFor:
			c.send(e.Session, Message{VouchFor: e.Branches})
		case CloseSession:
			c.closeSession(e.Session, e.Cause)
		case StartCall:
			c.startCall(e.Delivery)
		case Propose:
			c.proposeForCore(e)
		case AnswerWaiter:
			c.answer(e)
		case HitFailpoint:
			if err := failpoint.Hit(e.Name, e.Key); err != nil {
				c.log.Warn("failpoint in the driver: it goes on", "name", e.Name, "key", e.Key)
			}
		case Warn:
			c.log.Warn(e.Message, "gid", e.GID, "branch", e.Branch, "detail", e.Detail)
		}
	}
}

// send puts a message on a session's queue. The core keeps within the window,
// so a queue that is full belongs to a stream that nobody reads.
func (c *Coordinator) send(id SessionID, m Message) {
	s := c.sessions[id]
	if s == nil {
		return
	}
	select {
	case s.out <- m:
	default:
		c.core.Detach(c.now(), id, false, errors.New("the session's queue is full: its stream is not read"))
		c.perform(c.core.Take())
	}
}

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

// startCall calls an endpoint in a goroutine of its own; the core bounds them.
func (c *Coordinator) startCall(d Delivery) {
	lead := c.lead.Load()
	if c.caller == nil || lead == nil {
		c.later(func(core *Core, now time.Time) { core.Called(now, d, Answered{}, errNoCaller) })
		return
	}
	c.goroutines.Go(func() {
		ctx, cancel := context.WithTimeout(lead.ctx, d.Timeout)
		defer cancel()
		a, err := c.caller.Call(ctx, d)
		c.step(func(core *Core, now time.Time) { core.Called(now, d, a, err) })
	})
}

var errNoCaller = errors.New("this node delivers to no endpoints")

// later runs f as a step of its own, from the core's goroutine, which must not
// wait for itself.
func (c *Coordinator) later(f func(core *Core, now time.Time)) {
	c.goroutines.Go(func() { c.step(f) })
}

// proposeForCore hands a command of the core's to the batcher.
func (c *Coordinator) proposeForCore(e Propose) {
	c.batcher.add(e.Command, func(r result) {
		c.step(func(core *Core, now time.Time) { core.Proposed(now, e.Token, r.result, r.err) })
	})
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
