package coordinator

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// The second time, the second of two, and what comes when it is over.

// The words of several transactions wait for as long as each of them may, not only
// those that the first wait ends with.
func TestWordsOfManyTransactionsAreHeldNoLongerThanTheirTime(t *testing.T) {
	w := newWorld(t)
	var heard []*heard
	for i := range 4 {
		gid := w.twoTold(fmt.Sprintf("k%d", i))
		heard = append(heard, w.reports(gid, "1", committed)) // and branch 2 is slow
		w.advance(10 * time.Millisecond)
	}
	heard[0].want(t, 0)
	w.advance(w.core.cfg.ReportHoldMax)
	for _, h := range heard {
		h.want(t, 1)
	}
}

// A transaction whose words went, and that holds others now, answers each of them once
// when the leadership goes.
func TestWordsThatAreHeldAgainEndOnce(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "a")
	var set []*logpb.BranchSpec
	for i := range 4 {
		set = append(set, branchOf(fmt.Sprintf("%d", i+1), "a", holderN(1)))
	}
	gid := w.committedTx("", set...)
	first := w.reports(gid, "1", committed)
	w.advance(time.Millisecond)
	w.reports(gid, "2", rolledBack) // which nobody lets wait: the first goes along
	first.want(t, 1)
	held := w.reports(gid, "3", committed)
	w.advance(time.Millisecond)
	if len(held.errs) != 0 {
		t.Fatal("it was not held")
	}
	w.follow()
	if len(held.errs) != 1 || !errors.Is(held.errs[0], ErrNotLeader) {
		t.Errorf("heard %v", held.errs)
	}
	if len(first.errs) != 1 {
		t.Errorf("the first heard %v", first.errs)
	}
}

// A step's late refusal finds the word of a compensation that waits: both reach the log,
// and what waited for the step's end goes on.
func TestALateRefusalBesideAWordThatWaits(t *testing.T) {
	w := newWorld(t)
	proposed := w.commands()
	gid := w.submit(work{mode: logpb.Mode_MODE_SAGA, set: []*logpb.BranchSpec{stepOf("01"), stepOf("02"), stepOf("03"), stepOf("04")}})
	actions := w.takeCalls()
	w.called(actions[0], doneAnswer, nil)
	w.called(actions[1], doneAnswer, nil)
	w.called(actions[2], refusedAnswer, nil)
	back := w.takeCalls()
	wantList(t, slices.Sorted(slices.Values(asked(back))), "compensate 01 #1", "compensate 02 #1")
	*proposed = nil
	w.called(back[0], doneAnswer, nil)
	w.called(actions[3], refusedAnswer, nil) // whose compensation waits for it
	w.advance(time.Second)
	w.called(back[1], doneAnswer, nil)
	w.advance(time.Second)
	for _, d := range w.takeCalls() {
		w.called(d, doneAnswer, nil)
	}
	w.advance(time.Second)
	w.wantState(gid, fsm.StateRolledBack)
	if !w.spoken(gid, "01", fsm.OperationCompensate) || !w.spoken(gid, "04", fsm.OperationAction) {
		t.Errorf("a word is missing in %v", kinds(*proposed))
	}
}

// A word that could not be appended, of a branch that is due no more, is said no more.
func TestAWordThatNobodyWaitsForIsDropped(t *testing.T) {
	for how, come := range map[string]ProposeResult{"failed": {Err: ErrOverload}, "refused": {Result: fsm.Result{Code: fsm.AlreadyDecided}}} {
		w := newWorld(t)
		gid := w.submit(work{mode: logpb.Mode_MODE_SAGA, set: chain(2)})
		w.hold = true
		w.called(w.one("action 01 #1"), doneAnswer, nil)
		w.do(&logpb.Command{Kind: &logpb.Command_Stop{Stop: &logpb.Stop{Gid: gid.Bytes(), Operator: "op", Reason: "r"}}})
		come.Token = w.held[0].Token
		w.hold, w.held = false, nil
		proposed := w.commands()
		w.core.Proposed(w.now, come)
		w.settle()
		w.advance(time.Minute)
		w.nothing()
		if s := w.core.Stats(w.now); s.Due != 0 || len(*proposed) != 0 || len(w.core.resources) != 0 {
			t.Errorf("%s: left %+v, said %v, %d resources", how, s, kinds(*proposed), len(w.core.resources))
		}
	}
}

// A participant may ask for any window, and gets what the node allows.
func TestNoWindowIsWiderThanTheNodes(t *testing.T) {
	for asked, want := range map[int]int{-1: 8, 0: 8, 1: 1, 7: 7, 8: 8, 9: 8, 1 << 30: 8} {
		w := newWorld(t, func(s *Settings) { s.SessionWindowMax = 8 })
		w.core.Attach(w.now, 1, AttachRequest{Holder: holderN(1), Resources: []string{"a"}, Window: asked})
		w.settle()
		for range 20 {
			w.committedTx("", branchOf("1", "a", holderN(1)))
		}
		if got := len(w.take(1)); got != want {
			t.Errorf("a window of %d: %d are sent, want %d", asked, got, want)
		}
	}
}

// While participants are still finding the new leader nobody is lost: whoever attached
// and fell silent has as much time as who has not come yet.
func TestASilentOneHasTheGraceOfTheLeadershipToo(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "a")
	gid := w.begun("", time.Minute, branchOf("1", "a", holderN(1)))
	w.advance(w.core.cfg.SessionGrace - 100*time.Millisecond)
	w.attach(2, holderN(2), "a") // another comes late
	w.advanceBeating(200*time.Millisecond, 2)
	if _, closed := w.closed[1]; !closed {
		t.Fatal("the silent session goes on")
	}
	w.wantState(gid, fsm.StateActive)
	w.attach(3, holderN(1), "a")
	w.advanceBeating(20*time.Second, 2, 3)
	w.wantState(gid, fsm.StateActive)
}

// A call that goes on for nobody keeps its place at its resource.
func TestWhatIsInFlightForNobodyKeepsItsPlace(t *testing.T) {
	w := newWorld(t, func(s *Settings) { s.CallsPerResourceMax = 2 })
	saga := func() fsm.GID {
		step := actionOf("01")
		step.Endpoint = "http://h/x"
		return w.submit(work{mode: logpb.Mode_MODE_SAGA, set: []*logpb.BranchSpec{step}})
	}
	stop := func(gid fsm.GID) {
		w.ok(&logpb.Command{Kind: &logpb.Command_Stop{Stop: &logpb.Stop{Gid: gid.Bytes(), Operator: "op", Reason: "r"}}})
	}
	a, b := saga(), saga()
	calls := w.takeCalls()
	if len(calls) != 2 {
		t.Fatalf("%d calls", len(calls))
	}
	stop(a)
	stop(b)
	saga()
	saga()
	w.nothing()
	w.called(calls[0], doneAnswer, nil)
	w.one("action 01 #1")
	w.called(calls[1], Answered{}, errBroken)
	w.one("action 01 #1")
}

// The loss of a message's initiator hurries the question about it, and nothing that its
// plan delays once it is committed.
func TestALostInitiatorHurriesNoDelayedStep(t *testing.T) {
	w := newWorld(t)
	open := w.prepare(work{mode: logpb.Mode_MODE_MESSAGE, plan: checkedBackAfter(time.Hour), holder: holderN(1), set: []*logpb.BranchSpec{actionOf("01")}})
	w.lose = nil
	plan := checkedBackAfter(time.Hour)
	plan.DelayMs = 60_000
	gid := w.prepare(work{mode: logpb.Mode_MODE_MESSAGE, plan: plan, holder: holderN(1), set: []*logpb.BranchSpec{actionOf("01")}})
	w.ok(cmdCommit(gid))
	w.advance(10 * time.Second) // the initiator is lost
	w.one("check-back #1")      // of the open one, and it never ends
	w.advance(40 * time.Second)
	for _, d := range w.takeCalls() {
		if d.GID != open {
			t.Fatalf("%s is called before its time", asked([]Delivery{d}))
		}
	}
	w.core.Retry(w.now, open, "")
	late := w.submit(work{mode: logpb.Mode_MODE_MESSAGE, plan: plan, holder: holderN(1), set: []*logpb.BranchSpec{actionOf("01")}})
	for _, d := range w.takeCalls() {
		if d.GID == late {
			t.Fatal("a delayed step of who is lost is called at once")
		}
	}
}

// Busy is a word of life, as any other is.
func TestWhoIsBusyIsNotSilent(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "a")
	gid := w.committedTx("", branchOf("1", "a", holderN(1)))
	for range 10 {
		w.advance(w.core.cfg.SessionGrace - time.Second)
		w.core.Busy(w.now, 1, BranchRef{gid, "1"}, "locked")
		w.settle()
	}
	if err, closed := w.closed[1]; closed {
		t.Errorf("the session of one that is busy ended: %v", err)
	}
}

// Who is asked about a branch that another session was told of says nothing about it.
func TestBusyOfAnotherSessionEndsNoAttempt(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "a")
	w.attach(2, holderN(2), "a")
	gid := w.committedTx("", branchOf("1", "a", holderN(1)))
	w.core.Busy(w.now, 2, BranchRef{gid, "1"}, "locked")
	w.settle()
	if st := w.core.Deliveries(w.now, gid); len(st) != 1 || !st[0].InFlight || st[0].LastError != "" {
		t.Errorf("status %+v", st)
	}
}

// A step that is told of an earlier time than the one before ends nothing early.
func TestTimeNeverGoesBack(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "a")
	w.advanceBeating(20*time.Second, 1)
	w.core.Alive(w.now.Add(-time.Hour), 1)
	w.core.Applied(w.now.Add(-time.Hour))
	gid := w.committedTx("", branchOf("1", "a", holderN(1)))
	w.advance(2 * time.Second)
	if err, closed := w.closed[1]; closed {
		t.Errorf("the session ended: %v", err)
	}
	wantList(t, branchesOf(w.take(1)), "1 COMMIT #1")
	if st := w.core.Deliveries(w.now, gid); len(st) != 1 || st[0].DueFor > 3*time.Second {
		t.Errorf("status %+v", st)
	}
}

// Who says goodbye is lost with all that it has just begun.
func TestAGoodbyeReachesWhatWasJustBegun(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "a")
	w.advanceBeating(20*time.Second, 1)
	gid := w.gid()
	for _, r := range w.apply(cmdBegin(gid, "", time.Minute), cmdEnlist(gid, branchOf("1", "a", holderN(1)))) {
		if r.Code != fsm.OK {
			t.Fatalf("%v %s", r.Code, r.Detail)
		}
	}
	w.core.Detach(w.now, 1, true, ErrDetached)
	w.settle()
	w.wantLost(gid)
}

// Of what is withheld nothing is asked, and nothing proposed, until an operator decides:
// its initiator's answer, or its participant's loss, would decide it.
func TestNothingIsAskedOfWhatIsWithheld(t *testing.T) {
	w := newWorld(t)
	message := w.prepare(work{mode: logpb.Mode_MODE_MESSAGE, plan: checkedBackAfter(time.Second), holder: holderN(1), set: []*logpb.BranchSpec{actionOf("01")}})
	saga := w.submit(work{mode: logpb.Mode_MODE_SAGA, set: chain(2)})
	workflow := w.prepare(work{mode: logpb.Mode_MODE_WORKFLOW, plan: checkedBackAfter(time.Second)})
	b := heldBranch("1", "a", holderN(2))
	w.attach(1, holderN(2), "a")
	held := w.heldTx(b)
	w.vouch(1, held, "1")
	w.ok(cmdVote(held, b, prepared))
	w.hold = true
	w.do(cmdCommit(held))
	w.hold, w.held = false, nil
	w.takeCalls()
	w.ok(&logpb.Command{Kind: &logpb.Command_Recover{Recover: &logpb.Recover{Incarnation: 2, HoldBeforeMs: w.state.ClockMS() + 1000}}})
	w.lead()
	proposed := w.commands()
	w.core.Attach(w.now, 2, AttachRequest{Holder: holderN(2), Resources: []string{"a"},
		Live: []LiveBranch{{BranchRef: BranchRef{held, "1"}, Held: true, Resource: "a"}}})
	w.settle()
	w.advance(10 * time.Minute)
	w.nothing()
	if len(*proposed) != 0 {
		t.Errorf("proposed %v", kinds(*proposed))
	}
	for _, gid := range []fsm.GID{message, saga, workflow, held} {
		if d := w.core.Deliveries(w.now, gid); len(d) != 0 || w.record(gid).GetDecision() != fsm.DecisionNone {
			t.Errorf("%v: %+v", modeOf(w.record(gid)), d)
		}
	}
	w.ok(&logpb.Command{Kind: &logpb.Command_Decide{Decide: &logpb.Decide{
		Gid: message.Bytes(), Decision: fsm.DecisionCommit, Origin: logpb.Origin_ORIGIN_OPERATOR, Operator: "ann", Detail: "it was committed",
	}}})
	w.one("action 01 #1")
}

// Of several who wait for one transaction each hears, whoever else gives up, and whether
// it is decided or the leadership goes.
func TestEachWhoWaitsHears(t *testing.T) {
	for gone := range 5 {
		for _, decided := range []bool{true, false} {
			w := newWorld(t)
			gid := w.begun("", time.Minute, branchOf("1", "a", nil))
			for id := range uint64(5) {
				w.core.Wait(w.now, id+1, gid, id%2 == 1)
			}
			w.core.Unwait(uint64(gone + 1))
			w.settle()
			if decided {
				w.ok(cmdRollback(gid))
				w.ok(cmdReport(gid, "1", rolledBack))
			} else {
				w.follow()
			}
			for id := range uint64(5) {
				a, ok := w.answers[id+1]
				if ok == (int(id) == gone) || ok && a.Lost == decided {
					t.Errorf("%d has gone, decided %v: %d heard %+v, %v", gone+1, decided, id+1, a, ok)
				}
			}
			if n := len(w.core.waiters); n != 0 {
				t.Errorf("%d are kept", n)
			}
		}
	}
}
