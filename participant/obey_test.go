package participant

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// A report says what the manager has said, whatever was decided: of which branch, by whom,
// and to which delivery it is the answer. What is no outcome asks for another delivery.
func TestAReportSaysWhatTheManagerSaid(t *testing.T) {
	no := errors.New("not yet")
	type said struct {
		outcome Outcome
		err     error
	}
	for _, verdict := range []Verdict{VerdictCommit, VerdictRollback} {
		for _, s := range []said{
			{OutcomeCommitted, nil}, {OutcomeRolledBack, nil}, {OutcomeMixed, nil}, {OutcomeHazard, nil},
			{OutcomeNone, nil}, {OutcomeNone, no}, {OutcomeCommitted, no}, {OutcomeRolledBack, no},
		} {
			for _, attempt := range []uint32{0, 7} {
				t.Run(fmt.Sprintf("%v, %v, %v, delivery %d", verdict, s.outcome, s.err, attempt), func(t *testing.T) {
					c := lonely(t)
					c.holder = "me"
					l := scripted(t, c, nil)
					var heard Verdict
					a := attachedTo(c, answering(func(_ BranchRef, v Verdict) (Outcome, error) { heard = v; return s.outcome, s.err }))
					ref := BranchRef{GID: bornGID, ID: "1.2"}
					a.obeyNow(ref, word{verdict: verdict, attempt: attempt})
					last := BranchRef{GID: bornGID, ID: "last"}
					c.sess.tell(&quoratev1.SessionRequest{Frame: &quoratev1.SessionRequest_Report{Report: c.report(last, OutcomeCommitted, "", 1)}})
					want := &quoratev1.ReportRequest{Gid: string(bornGID), Branch: "1.2", Attempt: attempt, Holder: "me", Outcome: quoratev1.Outcome(s.outcome)}
					n := 2
					if s.err != nil || s.outcome == OutcomeNone {
						want.Outcome, want.Busy, want.Detail = 0, true, fmt.Sprint(s.err)
						if attempt == 0 {
							n = 1 // nobody has delivered it: nobody is told
						}
					}
					got := l.wait(t, n)
					if len(got) != n || n == 2 && cmp.Diff(want, got[0], protocmp.Transform()) != "" {
						t.Errorf("reported %v, want %v", got[:len(got)-1], want)
					}
					if heard != verdict {
						t.Errorf("the manager was told %v", heard)
					}
				})
			}
		}
	}
}

// "Never twice at once for one branch": a delivery that comes again while its branch is
// being ended is left to that run; one that comes later is obeyed again.
func TestADeliveryThatComesAgain(t *testing.T) {
	c := lonely(t)
	l := scripted(t, c, nil)
	var running, calls, twice atomic.Int32
	release := make(chan struct{})
	a := attachedTo(c, answering(func(BranchRef, Verdict) (Outcome, error) {
		if running.Add(1) > 1 {
			twice.Add(1)
		}
		defer running.Add(-1)
		calls.Add(1)
		<-release
		return OutcomeCommitted, nil
	}))
	ref := BranchRef{GID: bornGID, ID: "1"}
	for attempt := range uint32(4) {
		a.obey(ref, word{verdict: VerdictCommit, attempt: attempt + 1})
	}
	close(release)
	l.wait(t, 1)
	other := BranchRef{GID: bornGID, ID: "2"}
	a.obey(other, word{verdict: VerdictCommit, attempt: 1})
	l.wait(t, 2)
	if calls.Load() != 2 || twice.Load() != 0 {
		t.Errorf("the manager was called %d times, %d of them at once", calls.Load(), twice.Load())
	}
	for n := 3; n < 5; n++ { // an earlier run may be about to end still
		a.done(ref)
		a.obey(ref, word{verdict: VerdictCommit, attempt: uint32(n)})
		l.wait(t, n)
	}
}

// What comes beyond the window is answered at once, and the session's reader never waits.
func TestDeliveriesBeyondTheWindowAreBusy(t *testing.T) {
	c := lonely(t)
	l := scripted(t, c, nil)
	release := make(chan struct{})
	a := attachedTo(c, answering(func(BranchRef, Verdict) (Outcome, error) { <-release; return OutcomeCommitted, nil }))
	read := make(chan struct{})
	go func() {
		defer close(read)
		for i := range windowMax + 3 {
			a.obey(BranchRef{GID: bornGID, ID: fmt.Sprint(i)}, word{verdict: VerdictCommit, attempt: 1})
		}
	}()
	select {
	case <-read:
	case <-time.After(10 * time.Second):
		t.Error("the reader waits for a manager")
	}
	var busy []string
	for _, r := range l.wait(t, 3) {
		if r.GetBusy() {
			busy = append(busy, r.GetBranch())
		}
	}
	if want := []string{fmt.Sprint(windowMax), fmt.Sprint(windowMax + 1), fmt.Sprint(windowMax + 2)}; !slices.Equal(busy, want) {
		t.Errorf("busy are %v, want %v", busy, want)
	}
	close(release)
	l.wait(t, windowMax+3)
}

// A holder vouches for all that it was asked for and holds, and for nothing else.
func TestVouchesForEachThatIsHeld(t *testing.T) {
	c := lonely(t)
	l := scripted(t, c, nil)
	a := attachedTo(c, answering(nil))
	var asked []*quoratev1.LiveBranch
	for i, held := range []bool{true, false, true, true, true} {
		b := &Branch{
			c: c, ref: BranchRef{GID: bornGID, ID: fmt.Sprint(i)}, resource: "r", held: held, att: a,
			decided: make(chan struct{}), ended: make(chan struct{}),
		}
		c.live.add(b)
		if i == 3 {
			b.hear(VerdictRollback)
		}
		asked = append(asked, b.liveBranch())
	}
	asked = append(asked, &quoratev1.LiveBranch{Gid: string(bornGID), Branch: "gone", Held: true, Resource: "r"})
	l.st.vouch(asked)
	c.sess.tell(&quoratev1.SessionRequest{Frame: &quoratev1.SessionRequest_Report{Report: &quoratev1.ReportRequest{}}})
	l.wait(t, 1)
	if got, want := l.vouched(), []string{"0", "2", "4"}; !slices.Equal(got, want) {
		t.Errorf("vouched for %v, want %v", got, want)
	}
	for i, b := range c.live.list() {
		if x := c.live.get(BranchRef{GID: GID(b.GetGid()), ID: b.GetBranch()}); b.GetHeld() != x.held || b.GetResource() != "r" {
			t.Errorf("branch %d is listed as %v", i, b)
		}
	}
}

// The first final verdict stands.
func TestTheFirstVerdictStands(t *testing.T) {
	for _, first := range []Verdict{VerdictCommit, VerdictRollback} {
		b := &Branch{decided: make(chan struct{}), ended: make(chan struct{})}
		for _, v := range []Verdict{VerdictWait, first, VerdictWait, VerdictCommit, VerdictRollback} {
			b.hear(v)
		}
		if b.Verdict() != first {
			t.Errorf("%v became %v", first, b.Verdict())
		}
	}
}

// A branch that has ended is gone from the list once, and not the one that has come in its
// place since; and a resource's are asked for by that resource alone.
func TestTheListOfLiveBranches(t *testing.T) {
	c := lonely(t)
	make1 := func(id, resource string) *Branch {
		return &Branch{c: c, ref: BranchRef{GID: bornGID, ID: id}, resource: resource, decided: make(chan struct{}), ended: make(chan struct{})}
	}
	first, second := make1("1", "a"), make1("1", "a")
	if c.live.add(first) != nil || c.live.add(second) != first {
		t.Error("two branches of one name")
	}
	first.end(VerdictNone, OutcomeNone)
	if c.live.add(second) != nil {
		t.Error("the place of a branch that ended is taken")
	}
	first.end(VerdictRollback, OutcomeRolledBack)
	if c.live.get(second.ref) != second {
		t.Error("the second end of the first branch took the second one away")
	}
	other := make1("2", "b")
	c.live.add(other)
	now := time.Now()
	for _, b := range []*Branch{second, other} {
		b.asking.since = now.Add(-time.Minute)
	}
	if got := c.live.overdue("a", now, time.Second); len(got) != 1 || got[0] != second {
		t.Errorf("%v is asked for by a", got)
	}
	if got := c.live.overdue("b", now, time.Second); len(got) != 1 || got[0] != other {
		t.Errorf("%v is asked for by b", got)
	}
	if c.live.count("a") != 1 || c.live.count("b") != 1 || c.live.count("c") != 0 {
		t.Error("they are not counted by resource")
	}
}
