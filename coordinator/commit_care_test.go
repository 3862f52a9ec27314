package coordinator

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/testkit"
)

// Who began a transaction and waited for what came of it hears that it began it: with a
// key, only that one goes on with its work.
func TestWhoWaitsHearsWhetherItBegan(t *testing.T) {
	n := nodeWith(t, &services{})
	for _, wait := range []Wait{WaitNone, WaitDecision, WaitFinish} {
		key := string(rune('a' + wait))
		for _, created := range []bool{true, false} {
			s, err := n.Submit(n.ctx, SubmitRequest{Submit: sagaOf(key, chain(2)...), Wait: wait})
			n.must(err)
			if s.Created != created {
				t.Errorf("waiting %d: created is %v, want %v", wait, s.Created, created)
			}
			decided, over := s.Decision == fsm.DecisionCommit, s.State == fsm.StateCommitted
			if wait == WaitDecision && !decided || wait == WaitFinish && !over {
				t.Errorf("waiting %d ended with %+v", wait, s)
			}
		}
	}
}

// Who waits for the end waits until all have ended, of a rollback too.
func TestWhoWaitsForTheEndOfARollbackWaits(t *testing.T) {
	n := newNode(t)
	gid := n.begin("", branchA)
	n.prepare(gid, branchA)
	ended := make(chan Status, 1)
	go func() {
		s, err := n.Rollback(n.ctx, RollbackRequest{Transaction: ByGID(gid), Wait: WaitFinish})
		if err != nil {
			t.Error(err)
		}
		ended <- s
	}()
	testkit.Eventually(t, 5*time.Second, func() bool { return n.Stats().Waiters == 1 || len(ended) > 0 }, "it waits")
	_, err := n.Report(n.ctx, ReportRequest{GID: gid, Branch: "1", Outcome: rolledBack})
	n.must(err)
	if s := <-ended; s.State != fsm.StateRolledBack || s.Decision != fsm.DecisionRollback {
		t.Errorf("ended with %+v", s)
	}
}

// A mode whose work must come to an end has no deadline that nobody asked for, and every
// other mode has the cluster's; what was asked for stays, in all of them.
func TestTheDeadlinesThatNobodyAskedFor(t *testing.T) {
	n := newNode(t)
	var usual uint64
	n.log.View(func(s *fsm.State) { usual = s.Limits().GetTransactionTimeoutDefaultMs() })
	want := map[fsm.Mode]uint64{
		logpb.Mode_MODE_UNSPECIFIED: usual, logpb.Mode_MODE_TWO_PHASE: usual, logpb.Mode_MODE_TCC: usual,
		logpb.Mode_MODE_SAGA: 0, logpb.Mode_MODE_MESSAGE: 0, logpb.Mode_MODE_WORKFLOW: 0, logpb.Mode_MODE_NOTIFY: 0,
	}
	for number := range logpb.Mode_name {
		mode := logpb.Mode(number)
		least, known := want[mode]
		if !known {
			t.Errorf("%v: is there a deadline that nobody asked for?", mode)
		}
		for asked, want := range map[uint64]uint64{0: least, 77: 77} {
			begin := &logpb.Begin{Mode: mode, TimeoutMs: asked}
			_, err := n.complete(begin)
			n.must(err)
			if begin.TimeoutMs != want {
				t.Errorf("%v with a timeout of %d got %d, want %d", mode, asked, begin.TimeoutMs, want)
			}
			if begin.Namespace != DefaultNamespace || begin.Entry != logpb.Entry_ENTRY_EXPLICIT || begin.Mode == logpb.Mode_MODE_UNSPECIFIED || len(begin.Gid) == 0 {
				t.Errorf("%v was completed to %v", mode, begin)
			}
		}
	}
}

// An empty set is a set: it says that nobody took part, and a branch that did is outside.
func TestAnEmptySetIsNoBareCommit(t *testing.T) {
	n := newNode(t)
	gid := n.begin("", branchA)
	n.prepare(gid, branchA)
	_, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid), Set: &logpb.BranchSet{}})
	wantRefusal(t, err, fsm.SetMismatch)
}

// A request is its caller's own, to be repeated as it was.
func TestACommitLeavesItsSetAlone(t *testing.T) {
	n := newNode(t)
	gid := n.begin("", branchA, branchB)
	n.prepare(gid, branchA, branchB)
	set := &logpb.BranchSet{Ids: []string{"2", "1"}}
	_, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid), Set: set})
	n.must(err)
	wantList(t, set.Ids, "2", "1")
}

// Who is told by nobody any more is told that: a call ends with its node.
func TestEveryCallEndsWithTheNode(t *testing.T) {
	n := newNode(t)
	b := branchOf("1", "a", holderN(1))
	gid := n.begin("", b)
	n.prepare(gid, b)
	_, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid)})
	n.must(err)
	n.must(n.Close())
	heard := make(chan error, 1)
	n.pending.Add(1) // the place that ReportAsync takes
	n.report(ReportRequest{GID: gid, Branch: "1", Outcome: committed}, func(_ Status, err error) { heard <- err })
	select {
	case err := <-heard:
		if err == nil {
			t.Error("a closed node has taken a report")
		}
	case <-time.After(5 * time.Second):
		t.Error("a report to a closed node is never answered")
	}
	for name, call := range map[string]func() error{
		"retry": func() error { _, err := n.Retry(n.ctx, ByGID(gid), ""); return err },
		"report": func() error {
			_, err := n.Report(n.ctx, ReportRequest{GID: gid, Branch: "1", Outcome: committed})
			return err
		},
		"attach": func() error {
			_, err := n.Attach(n.ctx, AttachRequest{Holder: holderN(1), Resources: []string{"a"}})
			return err
		},
		"list": func() error { _, err := n.List(n.ctx, ListRequest{Filter: Filter{Stuck: true}}); return err },
	} {
		if err := call(); !errors.Is(err, ErrClosed) {
			t.Errorf("%s of a closed node: %v", name, err)
		}
	}
}

// Who leaves while the core is busy hears why: it left.
func TestWhoLeavesHearsThatItLeft(t *testing.T) {
	n := newNode(t)
	gid := n.begin("", branchA)
	letGo := n.busyCore()
	defer letGo()
	for name, call := range map[string]func(context.Context) error{
		"retry": func(ctx context.Context) error { _, err := n.Retry(ctx, ByGID(gid), ""); return err },
		"list": func(ctx context.Context) error {
			_, err := n.List(ctx, ListRequest{Filter: Filter{Stuck: true}})
			return err
		},
	} {
		ctx, cancel := context.WithCancel(n.ctx)
		cancel()
		if err := call(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Retry is of the branch that is named, and the others keep to their back-off.
func TestRetryIsOfTheBranchThatIsNamed(t *testing.T) {
	n := newNode(t)
	gid := n.begin("", branchA, branchB)
	n.prepare(gid, branchA, branchB)
	_, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid)})
	n.must(err)
	for branch, want := range map[string]int{"": 2, "1": 1, "2": 1, "3": 0} {
		if got, err := n.Retry(n.ctx, ByGID(gid), branch); err != nil || got != want {
			t.Errorf("retry of %q reaches %d branches, want %d; %v", branch, got, want, err)
		}
	}
}

// An operator's word without a name, or without a reason, is none.
func TestAnOperatorsWordHasANameAndAReason(t *testing.T) {
	n := newNode(t)
	gid := n.begin("", branchA)
	n.prepare(gid, branchA)
	_, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid)})
	n.must(err)
	before := n.log.applies()
	for _, who := range [][2]string{{"", ""}, {"ann", ""}, {"", "why"}} {
		_, err := n.Resolve(n.ctx, ResolveRequest{Transaction: ByGID(gid), Branch: "1", Outcome: committed, Operator: who[0], Reason: who[1]})
		wantRefusal(t, err, fsm.Invalid)
		_, err = n.Stop(n.ctx, StopRequest{Transaction: ByGID(gid), Operator: who[0], Reason: who[1]})
		wantRefusal(t, err, fsm.Invalid)
	}
	if after := n.log.applies(); after != before {
		t.Errorf("%d entries were written for it", after-before)
	}
}

// Who waits for the end of a transaction hears that the node closes.
func TestWhoWaitsHearsOfTheClose(t *testing.T) {
	n := newNode(t)
	b := branchOf("1", "a", holderN(1)) // nobody serves it
	gid := n.begin("", b)
	n.prepare(gid, b)
	heard := make(chan error, 1)
	go func() {
		_, err := n.Commit(context.WithoutCancel(n.ctx), CommitRequest{Transaction: ByGID(gid), Wait: WaitFinish})
		heard <- err
	}()
	testkit.Eventually(t, 5*time.Second, func() bool { return n.Stats().Waiters == 1 }, "it waits")
	n.must(n.Close())
	select {
	case err := <-heard:
		if !errors.Is(err, ErrUnknown) || !errors.Is(err, ErrClosed) {
			t.Errorf("it hears %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("it waits for ever")
	}
	// Its command was taken, and the node closed before it waited.
	go func() {
		_, err := n.await(context.WithoutCancel(n.ctx), Status{GID: gid}, true)
		heard <- err
	}()
	select {
	case err := <-heard:
		if !errors.Is(err, ErrUnknown) || !errors.Is(err, ErrClosed) {
			t.Errorf("who comes too late hears %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("who comes too late waits for ever")
	}
}
