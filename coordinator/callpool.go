package coordinator

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// callersRestingMax bounds the goroutines that rest between two calls to endpoints.
const callersRestingMax = 256

// callPool runs the calls to endpoints, as many at once as the core starts. A goroutine
// that has ended one takes the next: a new one would grow its stack anew for each call,
// which is a good part of what a call costs.
type callPool struct {
	next    chan *startedCall
	resting atomic.Int64
	used    sync.Pool // of startedCalls
}

// startedCall is a call, the leadership whose end ends it, and what it came to. Its memory
// is used again once the core has heard of that.
type startedCall struct {
	d    Delivery
	lead *leadership
	a    Answered
	err  error
	hear step // tells the core
}

func newCallPool() *callPool {
	p := &callPool{next: make(chan *startedCall)}
	p.used.New = func() any {
		k := new(startedCall)
		k.hear = func(core *Core, now time.Time) {
			core.Called(now, k.d, k.a, k.err)
			k.d, k.lead, k.a, k.err = Delivery{}, nil, Answered{}, nil
			p.used.Put(k)
		}
		return k
	}
	return p
}

// startCall calls an endpoint beside the core, which bounds the calls.
func (c *Coordinator) startCall(d Delivery) {
	lead := c.lead.Load()
	if c.caller == nil || lead == nil {
		c.later(func(core *Core, now time.Time) { core.Called(now, d, Answered{}, errNoCaller) })
		return
	}
	call := c.calls.used.Get().(*startedCall)
	call.d, call.lead = d, lead
	select {
	case c.calls.next <- call:
	default:
		c.goroutines.Go(func() { c.callOn(call) })
	}
}

// callOn makes a call, and those that come while its goroutine rests.
func (c *Coordinator) callOn(call *startedCall) {
	for {
		c.makeCall(call)
		if c.calls.resting.Add(1) > callersRestingMax {
			c.calls.resting.Add(-1)
			return
		}
		next, more := <-c.calls.next
		c.calls.resting.Add(-1)
		if !more {
			return
		}
		call = next
	}
}

func (c *Coordinator) makeCall(call *startedCall) {
	ctx, cancel := c.bound(call.lead, call.d.Timeout)
	defer cancel()
	call.a, call.err = c.caller.Call(ctx, call.d)
	c.step(call.hear)
}

// bound is the context of a call, which its timeout ends, or the leadership. Most calls
// have the node's own timeout: those that begin shortly after each other share a context
// and its timer, which may give them an eighth more, a second at the most.
func (c *Coordinator) bound(lead *leadership, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout == c.settings.DeliveryTimeout {
		return lead.calls.Get(lead.ctx, timeout), func() {}
	}
	return context.WithTimeout(lead.ctx, timeout)
}
