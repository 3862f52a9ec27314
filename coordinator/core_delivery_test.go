package coordinator

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

func TestOutcomeGoesToTheHoldersSessionUntilItIsReported(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "bank-a")
	w.attach(2, holderN(2), "bank-b")
	w.attach(3, holderN(3), "bank-a") // serves a, holds nothing
	gid := w.committedTx("k", branchOf("1", "bank-a", holderN(1)), branchOf("2", "bank-b", holderN(2)))

	a, b := w.take(1), w.take(2)
	wantList(t, branchesOf(a), "1 COMMIT #1")
	wantList(t, branchesOf(b), "2 COMMIT #1")
	d := a[0]
	if d.GID != gid || d.Resource != "bank-a" || d.Endpoint != "" || d.Epoch != (Epoch{Incarnation: w.state.Clock().Incarnation, Term: 1}) || d.ClockMS == 0 {
		t.Errorf("the delivery lacks what a participant must know: %+v", d)
	}
	if got := w.take(3); len(got) != 0 {
		t.Errorf("another process was told: %v", got)
	}
	w.ok(cmdReport(gid, "1", committed))
	w.wantState(gid, fsm.StateCommitting)
	w.ok(cmdReport(gid, "2", committed))
	w.wantState(gid, fsm.StateCommitted)
	if s := w.core.Stats(w.now); s.Due != 0 || s.Sessions != 3 {
		t.Errorf("stats %+v", s)
	}
	if w.obs.started != 1 || w.obs.finished != 1 || w.obs.calls["COMMIT session done"] != 2 {
		t.Errorf("observed %+v", w.obs)
	}
	want := []string{"at-decision@k", "after-decision@k", "partly-delivered@k", "all-reported@k"}
	wantList(t, w.hits, want...)
}

func TestUnansweredDeliveryIsRepeatedWithBackoff(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "bank-a")
	w.committedTx("", branchOf("1", "bank-a", holderN(1)))
	var at []time.Duration
	for range 12 {
		for end := w.now.Add(2 * w.core.cfg.BackoffMax); len(w.sent[1]) == 0; {
			if w.now.After(end) {
				t.Fatalf("not told again after %d attempts", len(at))
			}
			w.core.Alive(w.now, 1)
			w.advance(100 * time.Millisecond)
		}
		w.take(1)
		at = append(at, w.now.Sub(w.start))
	}
	for i := 1; i < len(at); i++ {
		gap := at[i] - at[i-1] - w.core.cfg.DeliveryTimeout
		full := min(w.core.cfg.BackoffMax, w.core.cfg.BackoffMin<<(i-1))
		if gap < full/2-100*time.Millisecond || gap > full+200*time.Millisecond {
			t.Errorf("attempt %d came %v after the one before gave up, want %v to %v", i+1, gap, full/2, full)
		}
	}
}

func TestBusyIsAskedAgainSoonAndRetryMeansNow(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "bank-a")
	gid := w.committedTx("", branchOf("1", "bank-a", holderN(1)))
	w.take(1)
	busy := func() {
		w.core.Busy(w.now, 1, BranchRef{gid, "1"}, "55000: is busy")
		w.settle()
	}
	busy()
	if d := w.core.Deliveries(w.now, gid); len(d) != 1 || d[0].LastError != "55000: is busy" || d[0].Attempts != 1 ||
		d[0].NextAttempt.Before(w.now) || !d[0].Attached || d[0].InFlight || d[0].Stuck {
		t.Errorf("status %+v", d)
	}
	w.advance(100 * time.Millisecond)
	wantList(t, branchesOf(w.take(1)), "1 COMMIT #2")
	busy()
	if n := w.core.Retry(w.now, gid, "2"); n != 0 {
		t.Errorf("retry of a branch that is not due: %d", n)
	}
	if n := w.core.Retry(w.now, gid, ""); n != 1 {
		t.Errorf("retry: %d branches", n)
	}
	w.settle()
	wantList(t, branchesOf(w.take(1)), "1 COMMIT #3")
	if n := w.core.Retry(w.now, w.gid(), ""); n != 0 {
		t.Errorf("retry of an unknown transaction: %d", n)
	}
}

func TestOtherProcessesAreToldOnceTheHolderIsGone(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "bank-a")
	w.attach(2, holderN(2), "bank-a")
	w.advanceBeating(20*time.Second, 1, 2) // the grace of the leadership is over
	gid := w.committedTx("", branchOf("1", "bank-a", holderN(1)))
	wantList(t, branchesOf(w.take(1)), "1 COMMIT #1")
	w.detach(1)
	w.advanceBeating(4900*time.Millisecond, 2)
	if got := w.take(2); len(got) != 0 {
		t.Fatalf("told another process within the holder's grace: %v", got)
	}
	if d := w.core.Deliveries(w.now, gid)[0]; !strings.Contains(d.LastError, "is away") {
		t.Errorf("why it waits: %q", d.LastError)
	}
	w.advanceBeating(200*time.Millisecond, 2)
	wantList(t, branchesOf(w.take(2)), "1 COMMIT #2")
}

// A process may serve several resources: its loss frees what waits at each of them.
func TestLossOfAHolderOfTwoResourcesFreesBoth(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "bank-a", "bank-b")
	w.attach(2, holderN(2), "bank-a")
	w.attach(3, holderN(3), "bank-b")
	w.advanceBeating(20*time.Second, 1, 2, 3) // the grace of the leadership is over
	w.committedTx("", branchOf("1", "bank-a", holderN(1)), branchOf("2", "bank-b", holderN(1)))
	w.take(1)
	w.detach(1)
	w.advanceBeating(5100*time.Millisecond, 2, 3)
	wantList(t, branchesOf(w.take(2)), "1 COMMIT #2")
	wantList(t, branchesOf(w.take(3)), "2 COMMIT #2")
}

func TestHolderThatComesBackIsToldAtOnce(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "bank-a")
	w.committedTx("", branchOf("1", "bank-a", holderN(1)))
	w.take(1)
	w.detach(1)
	w.advance(time.Second)
	w.attach(5, holderN(1), "bank-a")
	wantList(t, branchesOf(w.take(5)), "1 COMMIT #2")
}

func TestHolderThatComesBackWithoutTheResourceLeavesItToOthers(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "bank-a")
	w.attach(2, holderN(2), "bank-a")
	gid := w.begun("", time.Minute, branchOf("1", "bank-a", holderN(1)))
	w.ok(cmdVote(gid, branchOf("1", "bank-a", holderN(1)), prepared))
	w.detach(1)
	w.ok(cmdCommit(gid))
	if got := w.take(2); len(got) != 0 {
		t.Fatalf("told another process within the holder's grace: %v", got)
	}
	w.attach(3, holderN(1), "bank-b")
	wantList(t, branchesOf(w.take(2)), "1 COMMIT #1")
}

func TestNobodyToTellIsVisibleAndEndsWithTheNextAttach(t *testing.T) {
	w := newWorld(t)
	gid := w.committedTx("", branchOf("1", "bank-a", nil))
	w.advance(6 * time.Minute)
	d := w.core.Deliveries(w.now, gid)
	if len(d) != 1 || !strings.Contains(d[0].LastError, "no participant") || !d[0].Stuck || d[0].Attached || d[0].Attempts != 0 {
		t.Errorf("status %+v", d)
	}
	if got := w.core.Stuck(w.now); !slices.Equal(got, []fsm.GID{gid}) {
		t.Errorf("stuck: %v", got)
	}
	if s := w.core.Stats(w.now); s.Stuck[logpb.Mode_MODE_TWO_PHASE] != 1 || s.Due != 1 {
		t.Errorf("stats %+v", s)
	}
	w.attach(1, holderN(1), "bank-a")
	wantList(t, branchesOf(w.take(1)), "1 COMMIT #1")
	w.ok(cmdReport(gid, "1", committed))
	if got := w.core.Stuck(w.now); len(got) != 0 {
		t.Errorf("still stuck: %v", got)
	}
}

func TestStuckBranchIsWarnedAboutOnceAndNeverGivenUp(t *testing.T) {
	w := newWorld(t)
	gid := w.committedTx("", &logpb.BranchSpec{Id: "1", Resource: "r", Endpoint: "http://h/x"})
	calls := 0
	for w.now.Sub(w.start) < time.Hour {
		for _, d := range w.takeCalls() {
			calls++
			w.called(d, Answered{}, errors.New("503"))
		}
		w.advance(time.Second)
	}
	if calls < 200 {
		t.Errorf("%d attempts in an hour: it gave up", calls)
	}
	if len(w.warned) != 1 || w.warned[0].GID != gid || !strings.Contains(w.warned[0].Detail, "tx retry") {
		t.Errorf("warned %v", w.warned)
	}
	w.core.Retry(w.now, gid, "1")
	w.settle()
	ds := w.takeCalls()
	if len(ds) != 1 {
		t.Fatalf("retry now: %v", ds)
	}
	w.called(ds[0], Answered{Outcome: committed}, nil)
	w.wantState(gid, fsm.StateCommitted)
}

func TestEndpointIsCalledAndItsAnswerReported(t *testing.T) {
	w := newWorld(t)
	a := &logpb.BranchSpec{Id: "1", Resource: "a", Endpoint: "http://a:1/x"}
	b := &logpb.BranchSpec{Id: "2", Endpoint: "grpc://b:2"}
	gid := w.committedTx("", a, b)
	ds := w.takeCalls()
	wantList(t, branchesOf(ds), "1 COMMIT #1", "2 COMMIT #1")
	if ds[0].Endpoint != "http://a:1/x" || ds[1].Endpoint != "grpc://b:2" {
		t.Errorf("endpoints %q %q", ds[0].Endpoint, ds[1].Endpoint)
	}
	w.called(ds[0], Answered{Busy: true, Detail: "202"}, nil)
	w.called(ds[1], Answered{Outcome: committed, Detail: "done"}, nil)
	w.wantState(gid, fsm.StateCommitting)
	w.advance(100 * time.Millisecond)
	ds = w.takeCalls()
	wantList(t, branchesOf(ds), "1 COMMIT #2")
	w.called(ds[0], Answered{Outcome: rolledBack}, nil)
	w.wantState(gid, fsm.StateCommitted)
	if own := w.record(gid).GetBranches()[0].GetOwn(); own != logpb.Own_OWN_CONTRARY {
		t.Errorf("a contrary answer was recorded as %v", own)
	}
	want := map[string]int{"COMMIT http busy": 1, "COMMIT http done": 1, "COMMIT grpc done": 1}
	if fmt.Sprint(w.obs.calls) != fmt.Sprint(want) {
		t.Errorf("observed %v, want %v", w.obs.calls, want)
	}
}

// A branch that has answered is not called again: its word is appended until it is taken.
func TestAnswerThatIsNotAppendedIsAppendedAgain(t *testing.T) {
	w := newWorld(t)
	gid := w.committedTx("", &logpb.BranchSpec{Id: "1", Resource: "a", Endpoint: "http://a:1/x"})
	w.lose = ErrOverload
	w.called(w.takeCalls()[0], Answered{Outcome: committed}, nil)
	w.wantState(gid, fsm.StateCommitting)
	if d := w.core.Deliveries(w.now, gid)[0]; !strings.Contains(d.LastError, "could not be appended") {
		t.Errorf("status %+v", d)
	}
	w.lose = nil
	w.advance(time.Second)
	w.wantState(gid, fsm.StateCommitted)
	if again := w.takeCalls(); len(again) != 0 {
		t.Errorf("called again: %v", again)
	}
}

func TestLateAnswerOfAnEndpointStillCounts(t *testing.T) {
	w := newWorld(t)
	gid := w.committedTx("", &logpb.BranchSpec{Id: "1", Resource: "a", Endpoint: "http://a:1/x"})
	late := w.takeCalls()[0]
	w.advance(21 * time.Second) // the core's own limit
	if d := w.core.Deliveries(w.now, gid)[0]; d.Attempts != 2 || !strings.Contains(d.LastError, "no answer") {
		t.Errorf("status %+v", d)
	}
	second := w.takeCalls()[0]
	w.called(late, Answered{}, errors.New("too late to matter"))
	w.called(late, Answered{Outcome: committed}, nil)
	w.wantState(gid, fsm.StateCommitted)
	if s := w.core.Stats(w.now); s.Calls != 1 {
		t.Errorf("%d calls counted while the second one is in flight", s.Calls)
	}
	w.called(second, Answered{}, errors.New("for nobody"))
	if s := w.core.Stats(w.now); s.Calls != 0 {
		t.Errorf("%d calls still counted", s.Calls)
	}
}

// DESIGN.md section 5: "Bounded in flight in total and per resource, so one dead
// participant starves no other."
func TestOneDeadResourceDelaysNoOther(t *testing.T) {
	w := newWorld(t, func(s *Settings) { s.CallsMax, s.CallsPerResourceMax = 8, 4 })
	dead := func(i int) *logpb.BranchSpec {
		return &logpb.BranchSpec{Id: "1", Resource: fmt.Sprintf("dead-%d", i%3), Endpoint: "http://dead/x"}
	}
	for i := range 60 {
		w.committedTx("", dead(i))
	}
	deadline := w.now.Add(2 * time.Minute)
	var worst time.Duration
	alive := 0
	for w.now.Before(deadline) {
		// Calls to the dead hang until their time limit; the living answer at once.
		if w.now.Sub(w.start) > time.Minute && alive < 20 {
			alive++
			gid := w.committedTx("", &logpb.BranchSpec{Id: "1", Resource: "alive", Endpoint: "http://alive/x"})
			began := w.now
			for w.record(gid).GetState() != fsm.StateCommitted && w.now.Before(deadline) {
				w.answerAlive()
				w.advance(10 * time.Millisecond)
			}
			worst = max(worst, w.now.Sub(began))
		}
		w.answerAlive()
		if got := w.core.Stats(w.now).Calls; got > 8 {
			t.Fatalf("%d calls in flight, at most 8", got)
		}
		w.advance(50 * time.Millisecond)
	}
	if alive < 20 || worst > 20*time.Millisecond {
		t.Errorf("%d transactions of the living resource, the slowest took %v", alive, worst)
	}
}

// answerAlive answers the calls of the living resource, and lets those of the
// dead fail once they have taken DeliveryTimeout.
func (w *world) answerAlive() {
	for _, d := range w.takeCalls() {
		if d.Resource == "alive" {
			w.called(d, Answered{Outcome: committed}, nil)
			continue
		}
		status := w.core.Deliveries(w.now, d.GID)[0]
		if w.now.Sub(status.LastAttempt) >= w.core.cfg.DeliveryTimeout {
			w.called(d, Answered{}, errors.New("connection timed out"))
			continue
		}
		w.calls = append(w.calls, d)
	}
}

func TestResourceThatComesBackIsServedAtOnceAndInFull(t *testing.T) {
	w := newWorld(t)
	const n = 50
	for range n {
		w.committedTx("", &logpb.BranchSpec{Id: "1", Resource: "r", Endpoint: "http://h/x"})
	}
	for w.now.Sub(w.start) < 3*time.Minute {
		for _, d := range w.takeCalls() {
			w.called(d, Answered{}, errors.New("refused"))
		}
		w.advance(20 * time.Millisecond)
	}
	back := w.now
	for w.state.Counts().Due > 0 && w.now.Sub(back) < time.Minute {
		for len(w.calls) > 0 {
			for _, d := range w.takeCalls() {
				w.called(d, Answered{Outcome: committed}, nil)
			}
		}
		w.advance(100 * time.Millisecond)
	}
	// Some branch is asked soon; its answer must wake the others, whose back-off is
	// between a half and the whole of BackoffMax.
	if took := w.now.Sub(back); took > w.core.cfg.BackoffMax/4 {
		t.Errorf("all %d were told %v after the resource was back", n, took)
	}
}

func TestParticipantThatAttachesIsToldWithoutWaitingForABackoff(t *testing.T) {
	w := newWorld(t)
	w.committedTx("", &logpb.BranchSpec{Id: "1", Resource: "r", Endpoint: "http://h/x"})
	for w.now.Sub(w.start) < 3*time.Minute {
		for _, d := range w.takeCalls() {
			w.called(d, Answered{}, errors.New("refused"))
		}
		w.advance(time.Second)
	}
	if len(w.takeCalls()) != 0 {
		t.Fatal("it is being called: nothing backs off")
	}
	w.attach(1, holderN(1), "r")
	if got := w.take(1); len(got) != 1 {
		t.Errorf("told %v", branchesOf(got))
	}
}

func TestWindowBoundsWhatIsOutstandingOnASession(t *testing.T) {
	w := newWorld(t)
	w.core.Attach(w.now, 1, AttachRequest{Holder: holderN(1), Resources: []string{"r"}, Window: 3})
	w.settle()
	var gids []fsm.GID
	for range 10 {
		gids = append(gids, w.committedTx("", branchOf("1", "r", holderN(1))))
	}
	if got := w.take(1); len(got) != 3 {
		t.Fatalf("%d outstanding, the window is 3", len(got))
	}
	w.ok(cmdReport(gids[1], "1", committed))
	if got := w.take(1); len(got) != 1 || got[0].GID != gids[3] {
		t.Errorf("after a report: %v", branchesOf(got))
	}
	// When the session goes, the next one of the holder gets all of them.
	w.attach(2, holderN(1), "r")
	if got := w.take(2); len(got) != 9 {
		t.Errorf("the next session was told %d, want 9", len(got))
	}
	if !errors.Is(w.closed[1], ErrSuperseded) {
		t.Errorf("the older session ended with %v", w.closed[1])
	}
}

// A new leader looks at what stands page by page, and the log goes on meanwhile: a
// decision that came between two pages is delivered like any other.
func TestNewLeaderMissesNothingThatComesWhileItLooks(t *testing.T) {
	w := newWorld(t)
	spec := &logpb.BranchSpec{Id: "1", Resource: "a", Endpoint: "http://e/1"}
	gid := w.begun("k", time.Minute, spec)
	w.ok(cmdVote(gid, spec, prepared))
	w.follow()
	looks := 0
	w.core = NewCore(DefaultSettings(), func(f func(*fsm.State)) {
		f(w.state)
		if looks++; looks == 2 { // after the page that shows the transaction
			w.apply(cmdCommit(gid))
		}
	}, testSeed, w.obs, true)
	w.lead()
	if looks < 2 {
		t.Fatalf("the core has looked %d times", looks)
	}
	wantList(t, branchesOf(w.takeCalls()), "1 COMMIT #1")
}

// DESIGN.md section 5: "A leader change aborts nothing."
func TestNewLeaderGoesOnWhereTheOldOneStood(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "a")
	w.attach(2, holderN(2), "b")
	gid := w.committedTx("k", branchOf("1", "a", holderN(1)), branchOf("2", "b", holderN(2)))
	open := w.begun("", 10*time.Minute, branchOf("1", "a", holderN(1)))
	w.ok(cmdReport(gid, "1", committed))
	w.take(1)
	w.take(2)
	w.hits = nil

	w.follow()
	if !errors.Is(w.closed[1], ErrNotLeader) || !errors.Is(w.closed[2], ErrNotLeader) {
		t.Errorf("sessions ended with %v, %v", w.closed[1], w.closed[2])
	}
	if at, ok := w.core.Wake(); ok {
		t.Errorf("a follower wants to be woken at %v", at)
	}
	w.lead()
	w.attach(11, holderN(1), "a")
	w.attach(12, holderN(2), "b")
	if got := w.take(11); len(got) != 0 {
		t.Errorf("a branch that has reported is told again: %v", got)
	}
	got := w.take(12)
	wantList(t, branchesOf(got), "2 COMMIT #1")
	if got[0].Epoch.Term != 2 {
		t.Errorf("epoch %+v, want term 2", got[0].Epoch)
	}
	if len(w.hits) != 0 {
		t.Errorf("what the old leader passed was passed again: %v", w.hits)
	}
	w.wantState(open, fsm.StateActive)
	w.ok(cmdReport(gid, "2", committed))
	w.wantState(gid, fsm.StateCommitted)
	wantList(t, w.hits, "all-reported@k")
}

// TestEachAttemptHasItsOwnTime: one timer serves all that is in flight on a session, and
// still each is waited for as long; what was answered, or the session's end, takes nothing
// from the others.
func TestEachAttemptHasItsOwnTime(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "bank-a")
	w.attach(2, holderN(2), "bank-b")
	timeout, gap := w.core.cfg.DeliveryTimeout, w.core.cfg.DeliveryTimeout/4
	var gids []fsm.GID
	sentAt := make(map[fsm.GID]time.Time)
	for range 4 {
		gid := w.committedTx("", branchOf("1", "bank-a", holderN(1)))
		gids, sentAt[gid] = append(gids, gid), w.now
		w.advanceBeating(gap, 1, 2)
	}
	other := w.committedTx("", branchOf("1", "bank-b", holderN(2))) // on another session
	sentAt[other] = w.now
	w.take(1)
	w.take(2)
	w.ok(cmdReport(gids[0], "1", committed)) // the longest in flight is answered
	w.ok(cmdReport(gids[2], "1", committed))
	failedAt := make(map[fsm.GID]time.Time)
	step := gap / 50
	for end := w.now.Add(2 * timeout); w.now.Before(end); w.advanceBeating(step, 1, 2) {
		for _, gid := range []fsm.GID{gids[1], gids[3], other} {
			d := w.core.Deliveries(w.now, gid)
			if _, noted := failedAt[gid]; !noted && len(d) == 1 && !d[0].InFlight {
				failedAt[gid] = w.now
			}
		}
	}
	for _, gid := range []fsm.GID{gids[1], gids[3], other} {
		if took := failedAt[gid].Sub(sentAt[gid]); took < timeout || took > timeout+2*step {
			t.Errorf("an attempt was given up after %v, want %v", took, timeout)
		}
	}
}

// TestASessionThatEndedGivesNothingUp: its timer ends with it.
func TestASessionThatEndedGivesNothingUp(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "bank-a")
	gid := w.committedTx("", branchOf("1", "bank-a", holderN(1)))
	w.detach(1)
	w.attach(2, holderN(1), "bank-a")
	w.take(2)
	second := w.now
	w.advanceBeating(w.core.cfg.DeliveryTimeout/2, 2)
	if d := w.core.Deliveries(w.now, gid); len(d) != 1 || !d[0].InFlight || d[0].Attempts != 2 || !d[0].LastAttempt.Equal(second) {
		t.Errorf("%+v", d)
	}
	if w.core.sessions[2].overdue.at != second.Add(w.core.cfg.DeliveryTimeout) {
		t.Errorf("it is waited for until %v, was sent at %v", w.core.sessions[2].overdue.at, second)
	}
}
