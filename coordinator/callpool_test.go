package coordinator

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/testkit"
)

// countingCaller counts its calls, each of which waits until it may end.
type countingCaller struct {
	called atomic.Int64
	end    chan struct{} // nil: at once
}

func (c *countingCaller) Call(ctx context.Context, _ Delivery) (Answered, error) {
	c.called.Add(1)
	if c.end != nil {
		select {
		case <-c.end:
		case <-ctx.Done():
		}
	}
	return Answered{}, context.Cause(ctx)
}

// Calls one after the other take one goroutine, or two; those at once one each.
func TestCallsShareGoroutines(t *testing.T) {
	submit := func(n *node, wait Wait) {
		action := actionOf("01")
		_, err := n.Submit(n.ctx, SubmitRequest{Wait: wait, Submit: &logpb.Submit{
			Begin: &logpb.Begin{Mode: logpb.Mode_MODE_MESSAGE}, Set: []*logpb.BranchSpec{action}}})
		n.must(err)
	}
	const many = 40
	caller := new(countingCaller)
	n := newNode(t, func(c *Config) { c.Caller = caller })
	for range many {
		submit(n, WaitFinish)
	}
	if got, resting := caller.called.Load(), n.calls.resting.Load(); got != many || resting > many/4 {
		t.Errorf("%d calls, one after the other, took more than %d goroutines", got, resting)
	}
	caller = &countingCaller{end: make(chan struct{})}
	n = newNode(t, func(c *Config) { c.Caller = caller })
	for range many {
		submit(n, WaitDecision)
	}
	testkit.Eventually(t, 5*time.Second, func() bool { return caller.called.Load() == many }, "all are called at once")
	close(caller.end)
	testkit.Eventually(t, 5*time.Second, func() bool { return n.calls.resting.Load() == many }, "they rest")
	submit(n, WaitFinish)
	if resting := n.calls.resting.Load(); resting > many {
		t.Errorf("%d goroutines rest, and %d could have made the call", resting, many)
	}
}

// "DeliveryTimeout is how long one attempt may take": a call that shares its deadline with
// those before it has all of that, and not much more; one with a timeout of its own has
// exactly this.
func TestACallHasItsWholeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &Coordinator{settings: DefaultSettings()}
		lead := &leadership{ctx: t.Context()}
		for range 50 {
			timeout := c.settings.DeliveryTimeout
			ctx, cancel := c.bound(lead, timeout)
			deadline, _ := ctx.Deadline()
			if left := time.Until(deadline); left < timeout || left > timeout+timeout/8 {
				t.Errorf("a call may take %v, want %v", left, timeout)
			}
			cancel()
			ctx, cancel = c.bound(lead, time.Second)
			if deadline, _ := ctx.Deadline(); time.Until(deadline) != time.Second {
				t.Errorf("one with its own time may take %v", time.Until(deadline))
			}
			cancel()
			time.Sleep(70 * time.Millisecond)
		}
	})
}

// What the core was told before the node closed is done all the same, a call among it: it
// begins, and ends with the node.
func TestACallThatBeginsWhileTheNodeCloses(t *testing.T) {
	caller := &countingCaller{end: make(chan struct{})}
	n := newNode(t, func(c *Config) { c.Caller = caller })
	letGo := n.busyCore()
	n.step(func(core *Core, _ time.Time) { core.ask(StartCall{Delivery{Timeout: time.Hour}}) })
	closed := make(chan error, 1)
	go func() { closed <- n.Close() }()
	<-n.closing
	letGo()
	select {
	case err := <-closed:
		n.must(err)
	case <-time.After(5 * time.Second):
		t.Fatal("the node does not close")
	}
	if got := caller.called.Load(); got != 1 {
		t.Errorf("%d calls were made, want the one that the core had asked for", got)
	}
}
