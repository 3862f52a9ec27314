package coordinator

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// Where there are several of something, each of them counts: whichever of a
// transaction's branches, of a holder's transactions, or of a resource's deliveries
// comes first.

// A lost holder's transactions roll back for whichever branch of theirs is its own, and
// whatever the others are.
func TestALossIsFoundAtAnyBranch(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "a")
	w.attach(2, holderN(2), "b")
	w.advanceBeating(20*time.Second, 1, 2)
	others := []*logpb.BranchSpec{branchOf("1", "b", holderN(2)), branchOf("2", "b", nil), branchOf("3", "b", holderN(2))}
	var gids []fsm.GID
	for place := range 4 {
		set := slices.Insert(slices.Clone(others), place, branchOf("9", "a", holderN(1)))
		for i, b := range set {
			set[i] = branchOf(fmt.Sprintf("%d", i+1), b.GetResource(), b.GetHolder())
		}
		gid := w.begun("", time.Minute, set...)
		for i, b := range set {
			if i != place {
				w.ok(cmdVote(gid, b, []logpb.VoteKind{prepared, readOnly}[i%2]))
			}
		}
		gids = append(gids, gid)
	}
	w.detach(1)
	w.advanceBeating(5100*time.Millisecond, 2)
	for _, gid := range gids {
		w.wantLost(gid)
	}
}

// Of a holder's many transactions those that stand when it is lost roll back, in
// whatever order the others have ended.
func TestALossReachesEveryTransaction(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 30 {
		w := newWorld(t)
		w.attach(1, holderN(1), "a")
		var gids []fsm.GID
		for range 12 {
			gids = append(gids, w.begun("", time.Minute, branchOf("1", "a", holderN(1))))
		}
		random.Shuffle(len(gids), func(i, j int) { gids[i], gids[j] = gids[j], gids[i] })
		for _, gid := range gids[:6] {
			w.ok(cmdRollback(gid))
			w.ok(cmdReport(gid, "1", rolledBack))
		}
		w.core.Detach(w.now, 1, true, ErrDetached)
		w.settle()
		for _, gid := range gids[6:] {
			w.wantLost(gid)
		}
	}
}

// One that was lost and is back is a participant like any other: what it begins to take
// part in now goes on, though something of before still names it.
func TestWhoIsBackIsLostNoMore(t *testing.T) {
	for how, back := range map[string]func(w *world){
		"it attached":        func(w *world) { w.attach(5, holderN(1), "c") },
		"it attached and is": func(w *world) { w.attach(5, holderN(1), "c"); w.advanceBeating(10*time.Second, 5) },
	} {
		w := newWorld(t)
		w.attach(1, holderN(1), "a")
		w.committedTx("", branchOf("1", "nobody's", holderN(1))) // names it for good
		w.advanceBeating(20*time.Second, 1)
		w.detach(1)
		w.advance(time.Minute)
		back(w)
		b := branchOf("1", "c", holderN(1))
		gid := w.begun("", time.Minute, b)
		w.ok(cmdCommit(gid))
		w.wantState(gid, fsm.StateSealed)
		w.ok(cmdVote(gid, b, prepared))
		if w.record(gid).GetDecision() != fsm.DecisionCommit {
			t.Errorf("%s: %v", how, w.record(gid))
		}
	}
}

// One that was lost and speaks, without a session, is lost again after another grace.
func TestWhoSpeaksAndStaysAwayIsLostAgain(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "a")
	w.committedTx("", branchOf("1", "nobody's", holderN(1))) // names it for good
	w.advanceBeating(20*time.Second, 1)
	w.detach(1)
	w.advance(10 * time.Second)
	gid := w.begun("", time.Minute, branchOf("1", "c", holderN(1)))
	w.advance(w.core.cfg.SessionGrace - 100*time.Millisecond)
	w.wantState(gid, fsm.StateActive)
	w.advance(200 * time.Millisecond)
	w.wantLost(gid)
}

// A holder of two held branches is asked for both, and its word for one of them is none
// for the other.
func TestAHolderOfTwoHeldBranchesVouchesForEach(t *testing.T) {
	for _, first := range []string{"1", "2"} {
		w := newWorld(t)
		w.attach(1, holderN(1), "a")
		one, two := heldBranch("1", "a", holderN(1)), heldBranch("2", "a", holderN(1))
		gid := w.heldTx(one, two)
		w.ok(cmdVote(gid, one, prepared))
		w.ok(cmdVote(gid, two, prepared))
		w.ok(cmdCommit(gid))
		if got := w.vouchFor[1]; len(got) != 2 || got[0] != (BranchRef{gid, "1"}) || got[1] != (BranchRef{gid, "2"}) {
			t.Fatalf("asked for %v", got)
		}
		w.vouch(1, gid, first)
		w.wantState(gid, fsm.StateSealed)
		w.vouch(1, gid, map[string]string{"1": "2", "2": "1"}[first])
		w.wantState(gid, fsm.StateCommitting)
	}
}

// Each session of a holder is asked anew, and has its own time to answer.
func TestANewSessionIsAskedToVouchAnew(t *testing.T) {
	w := newWorld(t)
	b := heldBranch("1", "a", holderN(1))
	w.attach(1, holderN(1), "a")
	gid := w.heldTx(b)
	w.ok(cmdVote(gid, b, prepared))
	w.ok(cmdCommit(gid))
	for id := range SessionID(4) {
		if got := w.vouchFor[id+1]; len(got) != 1 || got[0] != (BranchRef{gid, "1"}) {
			t.Fatalf("session %d was asked for %v", id+1, got)
		}
		w.advanceBeating(3*time.Second, id+1) // and does not answer in time, but for the last
		w.wantState(gid, fsm.StateSealed)
		w.attach(id+2, holderN(1), "a")
	}
	w.vouch(5, gid, "1")
	w.wantState(gid, fsm.StateCommitting)
}

// What waits at a resource is found there when there is news of it, however many others
// that waited with it have gone.
func TestWhatWaitsKeepsItsResource(t *testing.T) {
	for name, test := range map[string]struct {
		wait func(w *world) // lets all that is due wait
		news func(w *world) []string
		spec *logpb.BranchSpec
		want string
	}{
		"nobody to tell": {
			spec: branchOf("1", "a", nil), want: "1 COMMIT #1", wait: func(*world) {},
			news: func(w *world) []string { w.attach(1, holderN(1), "a"); return branchesOf(w.take(1)) },
		},
		"a back-off": {
			spec: &logpb.BranchSpec{Id: "1", Resource: "a", Endpoint: "http://h/x"}, want: "1 COMMIT #1",
			wait: func(w *world) {
				for range 8 { // until it is long
					for _, d := range w.takeCalls() {
						w.called(d, Answered{}, errBroken)
					}
					w.advance(20 * time.Second)
				}
				for _, d := range w.takeCalls() {
					w.called(d, Answered{}, errBroken)
				}
			},
			news: func(w *world) []string {
				w.attach(1, holderN(1), "a")
				ds := w.take(1)
				for i := range ds {
					ds[i].Attempt = 1
				}
				return branchesOf(ds)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			var gids []fsm.GID
			for range 4 {
				gids = append(gids, w.committedTx("", test.spec))
			}
			test.wait(w)
			for _, gid := range gids[:3] { // these end by themselves
				w.ok(cmdReport(gid, "1", committed))
			}
			wantList(t, test.news(w), test.want)
		})
	}
}

// Branches that enlisted in another order than that of their ids are told once each,
// whatever ends in between.
func TestTheOrderOfEnlistingTellsNobodyTwice(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "a")
	gid := w.committedTx("", branchOf("3", "a", holderN(1)), branchOf("1", "a", holderN(1)), branchOf("2", "a", holderN(1)))
	wantList(t, branchesOf(w.take(1)), "1 COMMIT #1", "2 COMMIT #1", "3 COMMIT #1")
	for _, id := range []string{"2", "3"} {
		w.ok(cmdReport(gid, id, committed))
		wantList(t, branchesOf(w.take(1)))
	}
	w.ok(cmdReport(gid, "1", committed))
	w.wantState(gid, fsm.StateCommitted)
}

// What has only so many attempts does not use them up because its resource is back.
func TestBoundedAttemptsKeepTheirIntervals(t *testing.T) {
	w := newWorld(t)
	step := actionOf("01")
	step.AttemptsMax = 5
	bounded := w.submit(work{mode: logpb.Mode_MODE_SAGA, plan: &logpb.Plan{Retry: &logpb.Retry{IntervalMs: 60_000, IntervalMaxMs: 60_000}}, set: []*logpb.BranchSpec{step}})
	w.called(w.one("action 01 #1"), Answered{}, errBroken)
	message := actionOf("01")
	w.submit(work{mode: logpb.Mode_MODE_MESSAGE, set: []*logpb.BranchSpec{message}})
	for range failuresDown { // the resource is down
		w.called(w.takeCalls()[0], Answered{}, errBroken)
		w.advance(5 * time.Second)
	}
	w.called(w.one(fmt.Sprintf("action 01 #%d", failuresDown+1)), doneAnswer, nil) // and back
	w.nothing()
	if st := w.core.Deliveries(w.now, bounded); len(st) != 1 || st[0].Attempts != 1 {
		t.Errorf("status %+v", st)
	}
}

// A step that worked for a while and then fails backs off as one that always failed.
func TestAFailureAfterWorkingBacksOff(t *testing.T) {
	w := newWorld(t)
	gid := w.submit(work{mode: logpb.Mode_MODE_SAGA, set: chain(1), plan: &logpb.Plan{Retry: &logpb.Retry{IntervalMs: 1000, IntervalMaxMs: 64_000}}})
	answer := func(a Answered, err error) time.Duration {
		for len(w.calls) == 0 {
			w.advance(100 * time.Millisecond)
		}
		w.called(w.takeCalls()[0], a, err)
		return w.core.Deliveries(w.now, gid)[0].NextAttempt.Sub(w.now)
	}
	for range 3 {
		answer(busyAnswer, nil)
	}
	for i := range 7 {
		full := min(64*time.Second, time.Second<<i)
		if got := answer(Answered{}, errBroken); got < full/2 || got > full {
			t.Errorf("failure %d after it worked: again after %v, want %v to %v", i+1, got, full/2, full)
		}
	}
}

// A workflow's code that is resumed and never says its last word is resumed less and
// less often, where its plan does not say.
func TestResumesBackOff(t *testing.T) {
	w := newWorld(t)
	gid := w.prepare(work{mode: logpb.Mode_MODE_WORKFLOW, plan: checkedBackAfter(time.Second)})
	for i := range 10 {
		for len(w.calls) == 0 {
			w.advance(100 * time.Millisecond)
		}
		w.called(w.takeCalls()[0], doneAnswer, nil)
		full := min(w.core.cfg.BackoffMax, w.core.cfg.BackoffMin<<i)
		if got := w.core.Deliveries(w.now, gid)[0].NextAttempt.Sub(w.now); got < full/2 || got > full {
			t.Errorf("resume %d: again after %v, want %v to %v", i+1, got, full/2, full)
		}
	}
}
