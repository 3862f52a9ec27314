package coordinator

import (
	"fmt"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// PROTOCOL.md section 1: "a Tick comes at least every TickIdleMax (10 s), also
// when nothing is active".
func TestTickComesWhenNothingIsActive(t *testing.T) {
	w := newWorld(t)
	before, clock := w.index, w.state.ClockMS()
	w.advance(time.Minute)
	if n := w.index - before; n < 6 || n > 13 {
		t.Errorf("%d entries in an idle minute", n)
	}
	if moved := w.state.ClockMS() - clock; moved < 50_000 {
		t.Errorf("the clock moved %d ms in a minute", moved)
	}
	w.follow()
	before = w.index
	w.advance(time.Minute)
	if w.index != before {
		t.Error("a follower ticks")
	}
}

func TestDeadlineIsKept(t *testing.T) {
	w := newWorld(t)
	gid := w.begun("", 7*time.Second, branchOf("1", "a", nil))
	before := w.index
	w.advance(6990 * time.Millisecond)
	w.wantState(gid, fsm.StateActive)
	w.advance(20 * time.Millisecond)
	if rec := w.record(gid); rec.GetReason() != logpb.Reason_REASON_TIMEOUT {
		t.Fatalf("state %v, reason %v", rec.GetState(), rec.GetReason())
	}
	if n := w.index - before; n > 4 {
		t.Errorf("%d entries for one deadline", n)
	}
}

func TestTickIsRepeatedWhenItIsNotAppended(t *testing.T) {
	w := newWorld(t)
	gid := w.begun("", time.Second, branchOf("1", "a", nil))
	w.lose = ErrOverload
	w.advance(2 * time.Second)
	w.wantState(gid, fsm.StateActive)
	w.lose = nil
	w.advance(10 * time.Millisecond)
	if w.record(gid).GetDecision() != fsm.DecisionRollback {
		t.Error("nobody ticked again")
	}
}

func TestRetentionIsTickedForAndNotTooOften(t *testing.T) {
	w := newWorld(t)
	var gids []fsm.GID
	for range 50 {
		gid := w.begun("", time.Second)
		w.ok(cmdCommit(gid))
		gids = append(gids, gid)
		w.advance(20 * time.Millisecond)
	}
	retention := milliseconds(w.state.Limits().GetRetentionMs())
	w.advance(retention - 5*time.Second)
	before := w.index
	w.advance(20 * time.Second)
	if n := w.index - before; n > 25 {
		t.Errorf("%d entries while 50 transactions were dropped within a second of each other", n)
	}
	for _, gid := range gids {
		if _, ok := w.state.Get(gid); ok {
			t.Fatalf("%s still stands", gid)
		}
	}
}

func TestMissedEventsAreMadeUpForByLookingAtEverything(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "a")
	open := w.begun("", 10*time.Minute, branchOf("1", "a", holderN(1)))
	told := w.committedTx("", branchOf("1", "a", holderN(1)))
	w.take(1)
	w.core.Wait(w.now, 77, open, false)
	// More happens than the ring of events holds, without a word to the core.
	late := w.gid()
	w.apply(cmdBegin(late, "late", time.Minute))
	w.apply(cmdEnlist(late, branchOf("1", "a", holderN(1))))
	w.apply(cmdVote(late, branchOf("1", "a", holderN(1)), prepared))
	w.apply(cmdCommit(late))
	w.apply(cmdReport(told, "1", committed))
	w.apply(cmdRollback(open))
	w.overflow()
	w.core.Applied(w.now)
	w.settle()
	got := w.take(1)
	if len(got) != 2 {
		t.Fatalf("told %v, want the commit of one and the rollback of the other", branchesOf(got))
	}
	if a, ok := w.answers[77]; !ok || a.Status.Decision != fsm.DecisionRollback {
		t.Errorf("the waiter heard %+v", a)
	}
	if n := w.core.Stats(w.now).Due; n != 2 {
		t.Errorf("%d due, want 2", n)
	}
}

// overflow makes more happen than the ring of events keeps.
func (w *world) overflow() {
	for told := 0; told < fsm.EventsKept; told += eventsOfCrowd {
		var random [10]byte
		random[0], random[1], random[2] = 0xFF, byte(told>>16), byte(told>>8)
		w.apply(cmdCrowd(fsm.NewGID(w.state.ClockMS(), random)))
	}
}

// cmdCrowd is a transaction of as many branches as there may be, all of which only
// read: it begins and ends in one entry, with an event or more for each.
func cmdCrowd(gid fsm.GID) *logpb.Command {
	submit := &logpb.Submit{Begin: &logpb.Begin{
		Gid: gid.Bytes(), Namespace: DefaultNamespace, Mode: logpb.Mode_MODE_TWO_PHASE, Entry: logpb.Entry_ENTRY_NAMED, TimeoutMs: 1000,
	}}
	for i := range eventsOfCrowd / 2 {
		spec := &logpb.BranchSpec{Id: fmt.Sprintf("%03d", i), Resource: "crowd"}
		submit.Set = append(submit.Set, spec)
		submit.Votes = append(submit.Votes, &logpb.Ballot{Branch: spec, Kind: readOnly})
	}
	return &logpb.Command{Kind: &logpb.Command_Submit{Submit: submit}}
}

// eventsOfCrowd is how many events a crowd makes at the least.
const eventsOfCrowd = 512

func TestWaitersAreAnswered(t *testing.T) {
	w := newWorld(t)
	b := branchOf("1", "a", nil)
	gid := w.begun("", time.Minute, b)
	w.core.Wait(w.now, 1, gid, false)
	w.core.Wait(w.now, 2, gid, true)
	w.core.Wait(w.now, 3, gid, true)
	w.core.Unwait(3)
	w.core.Unwait(3)
	w.settle()
	w.ok(cmdVote(gid, b, prepared))
	w.ok(cmdCommit(gid))
	if a, ok := w.answers[1]; !ok || a.Lost || a.Status.Decision != fsm.DecisionCommit || a.Status.State != fsm.StateCommitting || a.Status.Index == 0 {
		t.Errorf("waiter 1: %+v", a)
	}
	if _, ok := w.answers[2]; ok {
		t.Error("waiter 2 heard before the end")
	}
	// The decision may have fallen between a caller's request and its wait.
	w.core.Wait(w.now, 6, gid, false)
	w.settle()
	if a, ok := w.answers[6]; !ok || a.Lost || a.Status.Decision != fsm.DecisionCommit {
		t.Errorf("waiter 6 came after the decision and before the end: %+v", a)
	}
	w.ok(cmdReport(gid, "1", committed))
	if a := w.answers[2]; a.Status.State != fsm.StateCommitted {
		t.Errorf("waiter 2: %+v", a)
	}
	if _, ok := w.answers[3]; ok {
		t.Error("waiter 3 had gone")
	}
	// What has ended is answered at once, what never stood is lost.
	w.core.Wait(w.now, 4, gid, true)
	w.core.Wait(w.now, 5, w.gid(), false)
	w.settle()
	if a := w.answers[4]; a.Lost || a.Status.State != fsm.StateCommitted {
		t.Errorf("waiter 4: %+v", a)
	}
	if !w.answers[5].Lost {
		t.Error("waiter 5 was told something")
	}
	if n := w.core.Stats(w.now).Waiters; n != 0 {
		t.Errorf("%d waiters left", n)
	}
}

func TestWaitersAcrossTheLossOfLeadership(t *testing.T) {
	w := newWorld(t)
	b := branchOf("1", "a", nil)
	open := w.begun("", time.Minute, b)
	ready := w.begun("", time.Minute, b)
	w.ok(cmdVote(ready, b, prepared))
	w.core.Wait(w.now, 1, open, false)
	w.core.Wait(w.now, 2, ready, false)
	w.settle()
	w.apply(cmdCommit(ready)) // applied, and leadership goes before the core looks
	w.follow()
	if !w.answers[1].Lost {
		t.Errorf("waiter 1: %+v, want unknown", w.answers[1])
	}
	if a := w.answers[2]; a.Lost || a.Status.Decision != fsm.DecisionCommit {
		t.Errorf("waiter 2: %+v: what is decided is known", a)
	}
	w.core.Wait(w.now, 3, open, false)
	w.core.Attach(w.now, 8, AttachRequest{Holder: holderN(1), Resources: []string{"a"}})
	w.core.Applied(w.now)
	w.settle()
	if !w.answers[3].Lost || w.closed[8] == nil {
		t.Errorf("a follower lets callers wait (%+v) or attach (%v)", w.answers[3], w.closed[8])
	}
}

// The same steps under the same seed ask for the same effects, byte for byte.
func TestCoreIsDeterministic(t *testing.T) {
	run := func() []string {
		w := newWorld(t, func(s *Settings) { s.CallsMax = 3 })
		for i := range byte(12) {
			w.attach(SessionID(i+1), holderN(i), fmt.Sprintf("r%d", i%3))
		}
		for i := range byte(40) {
			w.committedTx("", branchOf("1", fmt.Sprintf("r%d", i%3), holderN(i%12)),
				&logpb.BranchSpec{Id: "2", Resource: fmt.Sprintf("e%d", i%5), Endpoint: "http://e/x"})
		}
		for i := range 30 {
			w.core.Detach(w.now, SessionID(i%12+1), i%4 == 0, ErrClosed)
			w.settle()
			for j, d := range w.takeCalls() {
				w.called(d, Answered{Outcome: committed, Busy: j%3 == 0}, nil)
			}
			w.advance(700 * time.Millisecond)
			w.attach(SessionID(100+i), holderN(byte(i%12)), fmt.Sprintf("r%d", i%3))
		}
		w.lead()
		w.advance(30 * time.Second)
		return w.trace
	}
	first, second := run(), run()
	if len(first) < 200 {
		t.Fatalf("only %d effects", len(first))
	}
	for i := range first {
		if i >= len(second) || first[i] != second[i] {
			t.Fatalf("effect %d differs:\n%s\n%s", i, first[i], second[i])
		}
	}
}

func TestHoldersAndResourcesAreForgotten(t *testing.T) {
	w := newWorld(t)
	for i := range byte(50) {
		w.attach(SessionID(i+1), holderN(i), fmt.Sprintf("r%d", i))
		gid := w.committedTx("", branchOf("1", fmt.Sprintf("r%d", i), holderN(i)),
			&logpb.BranchSpec{Id: "2", Endpoint: fmt.Sprintf("http://h%d/x", i)}, branchOf("3", fmt.Sprintf("r%d", i), holderN(i+100)))
		w.detach(SessionID(i + 1))
		w.ok(cmdReport(gid, "1", committed))
		w.ok(cmdReport(gid, "2", committed))
		w.ok(cmdReport(gid, "3", committed))
	}
	w.advance(30 * time.Second)
	c := w.core
	if len(c.holders)+len(c.resources)+len(c.processes)+len(c.sessions)+len(c.txns)+len(c.waiters)+len(c.replies) != 0 || c.due.length != 0 || c.calls != 0 {
		t.Errorf("left over: %d holders, %d resources, %d processes, %d sessions, %d transactions, %d due, %d calls",
			len(c.holders), len(c.resources), len(c.processes), len(c.sessions), len(c.txns), c.due.length, c.calls)
	}
	if n := len(c.timers.heap); n != 1 {
		t.Errorf("%d timers armed, want the tick's", n)
	}
}

// A leader that slept through the end and the retention of a transaction finds
// it gone: its caller hears unknown, which is the truth.
func TestTransactionThatIsGoneIsForgotten(t *testing.T) {
	w := newWorld(t)
	gid := w.begun("", time.Minute, branchOf("1", "a", nil))
	due := w.committedTx("", branchOf("1", "a", nil))
	w.core.Wait(w.now, 1, gid, false)
	w.settle()
	w.apply(cmdRollback(gid))
	w.apply(cmdReport(gid, "1", rolledBack))
	w.apply(cmdReport(due, "1", committed))
	for range 400 {
		w.now = w.now.Add(10 * time.Second)
		w.apply(&logpb.Command{Kind: &logpb.Command_Tick{Tick: &logpb.Tick{}}})
	}
	if _, ok := w.state.Get(gid); ok {
		t.Fatal("it still stands")
	}
	w.core.Applied(w.now)
	w.settle()
	if a, ok := w.answers[1]; !ok || !a.Lost {
		t.Errorf("the waiter heard %+v, %v", a, ok)
	}
	if n := w.core.Stats(w.now).Due; n != 0 || len(w.core.txns) != 0 {
		t.Errorf("%d due, %d noted", n, len(w.core.txns))
	}
}

// PROTOCOL.md section 1: what a restored state holds undecided is withheld; "only
// an operator's reasoned decision ends one".
func TestDriverLeavesToTheOperatorWhatIsWithheld(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "a")
	held := heldBranch("1", "a", holderN(1))
	sealed := w.heldTx(held)
	w.ok(cmdVote(sealed, held, prepared))
	w.hold = true // the driver's word of the time before is lost
	w.do(cmdCommit(sealed))
	unvoted := w.begun("", time.Minute, branchOf("1", "a", holderN(1)))
	w.hold, w.held = false, nil
	w.ok(&logpb.Command{Kind: &logpb.Command_Recover{Recover: &logpb.Recover{Incarnation: 2, HoldBeforeMs: w.state.ClockMS() + 1000}}})
	w.lead()
	w.attach(2, holderN(1), "a")
	w.vouch(2, sealed, "1")
	w.core.Detach(w.now, 2, true, ErrDetached)
	w.settle()
	w.advance(5 * time.Minute)
	w.wantState(sealed, fsm.StateSealed)
	w.wantState(unvoted, fsm.StateActive)
	w.ok(&logpb.Command{Kind: &logpb.Command_Decide{Decide: &logpb.Decide{
		Gid: sealed.Bytes(), Decision: fsm.DecisionRollback, Origin: logpb.Origin_ORIGIN_OPERATOR, Operator: "ann", Detail: "it was rolled back",
	}}})
	w.attach(3, holderN(2), "a")
	got := w.take(3)
	wantList(t, branchesOf(got), "1 ROLLBACK #1")
	if got[0].Epoch.Incarnation != 2 {
		t.Errorf("epoch %+v", got[0].Epoch)
	}
}
