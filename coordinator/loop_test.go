package coordinator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/testkit"
)

// The core is woken as often as it asks for it, for the same moment too: a timer that
// fired is not one that is set.
func TestAWakeUpThatFiredIsSetAnew(t *testing.T) {
	woken := make(chan struct{}, 1)
	w := newWakeUp(func() { woken <- struct{}{} })
	defer w.timer.Stop()
	at := time.Now()
	for i := range 3 {
		w.set(at, at, true)
		select {
		case <-woken:
		case <-time.After(10 * time.Second):
			t.Fatalf("not woken the %dth time", i+1)
		}
	}
	w.set(at, at.Add(time.Hour), true)
	w.set(at, time.Time{}, false)
	w.set(at, at, true) // after it was not wanted
	<-woken
}

// What was told before the coordinator closed is answered, and calls end with it.
func TestClosingAnswersWhatWasTold(t *testing.T) {
	called, ended := make(chan struct{}), make(chan error, 1)
	n := newNode(t, func(c *Config) {
		c.Caller = callerFunc(func(ctx context.Context, _ Delivery) (Answered, error) {
			close(called)
			select {
			case <-ctx.Done():
				ended <- context.Cause(ctx)
			case <-time.After(10 * time.Second):
				ended <- errors.New("it goes on")
			}
			return Answered{}, ctx.Err()
		})
	})
	_, err := n.Submit(n.ctx, SubmitRequest{Wait: WaitDecision, Submit: &logpb.Submit{
		Begin: &logpb.Begin{Mode: logpb.Mode_MODE_MESSAGE}, Set: []*logpb.BranchSpec{actionOf("01")}}})
	n.must(err)
	gid := n.begin("", branchA)
	<-called
	atWork, goOn := make(chan struct{}), make(chan struct{})
	n.step(func(*Core, time.Time) { close(atWork); <-goOn })
	<-atWork
	heard := make(chan error, 1)
	n.ReportAsync(ReportRequest{GID: gid, Branch: "1", Outcome: committed}, func(_ Status, err error) { heard <- err })
	closed := make(chan struct{})
	go func() { _ = n.Close(); close(closed) }()
	<-n.closing
	close(goOn)
	select {
	case <-heard:
	case <-time.After(10 * time.Second):
		t.Error("a report was never answered")
	}
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Errorf("the call ended with %v", err)
	}
	<-closed
}

// A participant that takes one delivery a message hears of each.
func TestEachDeliveryComesByItself(t *testing.T) {
	for _, several := range []bool{true, false} {
		n := newNode(t)
		s, err := n.Attach(n.ctx, AttachRequest{Holder: holderN(1), Resources: []string{"a"}, Several: several})
		n.must(err)
		var set []*logpb.BranchSpec
		for i := range 5 {
			set = append(set, branchOf(fmt.Sprintf("%d", i+1), "a", holderN(1)))
		}
		gid := n.begin("", set...)
		n.prepare(gid, set...)
		_, err = n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid)})
		n.must(err)
		var told []string
		for len(told) < len(set) {
			m := n.next(s)
			if d := m.Deliver; d != nil {
				told = append(told, d.Branch)
			}
			for _, d := range m.Deliveries {
				told = append(told, d.Branch)
			}
			if several != (m.Deliver == nil) {
				t.Errorf("several %v: the message is %+v", several, m)
			}
		}
		if !slices.Equal(told, []string{"1", "2", "3", "4", "5"}) {
			t.Errorf("several %v: told %v", several, told)
		}
	}
}

// A report that a step lets wait does not wait where the same step learns that somebody
// waits for the end.
func TestAReportIsHurriedWithinItsStep(t *testing.T) {
	n := newRidingNode(t, time.Minute)
	gid := n.told()
	heard := make(chan error, 1)
	n.step(func(core *Core, _ time.Time) {
		core.ask(Propose{Command: cmdReport(gid, "1", committed), Rides: true, Replies: []Reply{func(_ fsm.Result, err error) { heard <- err }}})
		core.ask(HurryReports{})
	})
	if err := n.hears(heard); err != nil {
		t.Error(err)
	}
}

// A call has the time that its step gives it, or the plan, or the node; not less, but for
// what passed before it began, and hardly more.
func TestACallHasItsTime(t *testing.T) {
	left := make(chan time.Duration, 1)
	n := newNode(t, func(c *Config) {
		c.Settings.DeliveryTimeout = 40 * time.Second
		c.Caller = callerFunc(func(ctx context.Context, d Delivery) (Answered, error) {
			deadline, _ := ctx.Deadline()
			left <- time.Until(deadline)
			return Answered{}, nil
		})
	})
	for step, want := range map[time.Duration]time.Duration{0: 40 * time.Second, 20 * time.Second: 20 * time.Second, 5 * time.Minute: 5 * time.Minute} {
		b := actionOf("01")
		b.CallTimeoutMs = uint64(step.Milliseconds())
		_, err := n.Submit(n.ctx, SubmitRequest{Wait: WaitDecision, Submit: &logpb.Submit{
			Begin: &logpb.Begin{Mode: logpb.Mode_MODE_MESSAGE}, Set: []*logpb.BranchSpec{b}}})
		n.must(err)
		if got := <-left; got > want+time.Second || got < want*3/4 {
			t.Errorf("a step that asks for %v has %v left as it begins, want %v", step, got, want)
		}
	}
}

// A goroutine that has made a call under one leadership makes one under the next: it ends
// with that one only.
func TestARestingGoroutineCallsForTheNextLeader(t *testing.T) {
	var calls atomic.Int64
	n := newNode(t, func(c *Config) {
		c.Caller = callerFunc(func(ctx context.Context, _ Delivery) (Answered, error) {
			calls.Add(1)
			return Answered{}, context.Cause(ctx)
		})
	})
	for i := range 4 {
		s, err := n.Submit(n.ctx, SubmitRequest{Wait: WaitFinish, Submit: &logpb.Submit{
			Begin: &logpb.Begin{Mode: logpb.Mode_MODE_MESSAGE}, Set: []*logpb.BranchSpec{actionOf("01")}}})
		n.must(err)
		if s.State != fsm.StateCommitted || calls.Load() != int64(i+1) {
			t.Fatalf("under leadership %d: %+v after %d calls", i+1, s, calls.Load())
		}
		testkit.Eventually(t, 5*time.Second, func() bool { return n.calls.resting.Load() > 0 }, "its goroutine rests")
		n.follow("other")
		n.lead()
	}
}
