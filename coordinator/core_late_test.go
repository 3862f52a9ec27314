package coordinator

import (
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// calledOps are transactions that have a call in flight, and are not ended by its answer, of each operation that a
// branch is called for.
var calledOps = map[string]func(w *world) fsm.GID{
	"action of a saga": func(w *world) fsm.GID {
		return w.submit(work{mode: logpb.Mode_MODE_SAGA, set: chain(2)})
	},
	"compensation": func(w *world) fsm.GID {
		gid := w.submit(work{mode: logpb.Mode_MODE_SAGA, set: chain(3)})
		w.called(w.one("action 01 #1"), doneAnswer, nil)
		w.called(w.one("action 02 #1"), doneAnswer, nil)
		w.called(w.one("action 03 #1"), refusedAnswer, nil)
		return gid
	},
	"confirm": func(w *world) fsm.GID {
		gid := w.tried()
		w.ok(cmdCommit(gid))
		return gid
	},
	"cancel": func(w *world) fsm.GID {
		gid := w.tried()
		w.ok(cmdRollback(gid))
		return gid
	},
	"action of a message": func(w *world) fsm.GID {
		return w.submit(work{mode: logpb.Mode_MODE_MESSAGE, set: []*logpb.BranchSpec{actionOf("01"), actionOf("02", "01")}})
	},
	"best effort": func(w *world) fsm.GID {
		return w.submit(work{mode: logpb.Mode_MODE_NOTIFY, set: []*logpb.BranchSpec{actionOf("01"), actionOf("02", "01")}})
	},
}

// tried is a TCC transaction with two tries.
func (w *world) tried() fsm.GID {
	w.t.Helper()
	gid := w.prepare(work{mode: logpb.Mode_MODE_TCC, after: 5 * time.Minute})
	for _, id := range []string{"01", "02"} {
		w.ok(cmdEnlist(gid, &logpb.BranchSpec{Id: id, Endpoint: "http://h:1/confirm", Undo: "http://h:1/cancel"}))
	}
	return gid
}

// spoken: the log holds an answer of the branch's own to what it was asked.
func (w *world) spoken(gid fsm.GID, branch string, op fsm.Operation) bool {
	for _, b := range w.record(gid).GetBranches() {
		if b.GetSpec().GetId() != branch {
			continue
		}
		if op == fsm.OperationAction && modeOf(w.record(gid)) == logpb.Mode_MODE_SAGA {
			return b.GetVote() != logpb.VoteKind_VOTE_KIND_UNSPECIFIED
		}
		return b.GetOwn() != logpb.Own_OWN_UNSPECIFIED
	}
	w.t.Fatalf("%s has no branch %q", gid, branch)
	return false
}

// Only what a branch says that it did is told the log: in time, or after the core has
// given up on the call, or under another leader, or when an operator has ended the
// branch meanwhile. That it is busy, or that the call failed, never is; a refusal only
// where one is possible, and only in time: a fence refuses what comes late.
func TestWhichAnswersReachTheLog(t *testing.T) {
	answers := map[string]struct {
		a   Answered
		err error
	}{"done": {}, "busy": {a: busyAnswer}, "refused": {a: refusedAnswer}, "failed": {err: errBroken}, "failed, with an answer": {a: doneAnswer, err: errBroken}}
	// Each lets time pass over the call; it tells whether that is still the one in flight.
	meanwhile := map[string]func(w *world, d Delivery) bool{
		"in time": func(*world, Delivery) bool { return true },
		"late": func(w *world, d Delivery) bool {
			w.advance(2*d.Timeout + 3*time.Second)
			return false
		},
		"under the next leader": func(w *world, _ Delivery) bool { w.lead(); return false },
		"when resolved": func(w *world, d Delivery) bool {
			commit := d.Operation == fsm.OperationConfirm || d.Operation == fsm.OperationAction
			outcome := map[bool]fsm.Outcome{true: committed, false: rolledBack}[commit]
			w.do(&logpb.Command{Kind: &logpb.Command_Resolve{Resolve: &logpb.Resolve{
				Gid: d.GID.Bytes(), Branch: d.Branch, Outcome: outcome, Operator: "ann", Reason: "seen by hand"}}})
			return true
		},
	}
	for op, begin := range calledOps {
		for when, pass := range meanwhile {
			for how, answer := range answers {
				t.Run(op+" "+when+" "+how, func(t *testing.T) {
					w := newWorld(t, func(s *Settings) { s.NotifyAttemptsMax = 10 })
					begin(w)
					d := w.takeCalls()[0]
					inTime := pass(w, d)
					again := w.takeCalls()
					if !inTime && len(again) == 0 {
						t.Fatal("it is not called again")
					}
					w.called(d, answer.a, answer.err)
					w.advance(w.core.cfg.ReportHoldMax) // for it may go along with others
					want := how == "done" || how == "refused" && inTime && op == "action of a saga"
					if got := w.spoken(d.GID, d.Branch, d.Operation); got != want {
						t.Fatalf("the log was told: %v, want %v", got, want)
					}
					if k := w.core.under[ref(d)]; !want && !inTime && (k == nil || k.attempt != again[len(again)-1].Attempt) {
						t.Errorf("the call that is in flight is taken for ended")
					}
				})
			}
		}
	}
}

// What a step did is not what its compensation has done, however alike the calls are.
func TestALateActionIsNoCompensation(t *testing.T) {
	for how, a := range map[string]Answered{"done": doneAnswer, "refused": refusedAnswer} {
		for _, lost := range []bool{true, false} {
			w := newWorld(t)
			gid := w.submit(work{mode: logpb.Mode_MODE_SAGA, set: chain(2)})
			action := w.one("action 01 #1")
			if lost { // the core gave up on it
				w.advance(2*action.Timeout + time.Millisecond)
				w.ok(cmdRollback(gid))
			} else { // it is an earlier leader's
				w.ok(cmdRollback(gid))
				w.lead()
			}
			compensation := w.one("compensate 01 #1")
			w.called(action, a, nil)
			if w.spoken(gid, "01", fsm.OperationCompensate) {
				t.Errorf("lost %v: an action that was %s late is taken for its compensation", lost, how)
			}
			w.called(compensation, doneAnswer, nil)
			w.wantState(gid, fsm.StateRolledBack)
		}
	}
}

// A step whose call the core gave up on while the saga rolled back is compensated.
func TestCompensationFollowsAnActionThatNeverEnds(t *testing.T) {
	w := newWorld(t)
	gid := w.submit(work{mode: logpb.Mode_MODE_SAGA, set: chain(1)})
	action := w.one("action 01 #1")
	w.ok(cmdRollback(gid))
	w.nothing()
	w.advance(2*action.Timeout + time.Millisecond)
	w.called(w.one("compensate 01 #1"), doneAnswer, nil)
	w.wantState(gid, fsm.StateRolledBack)
	if s := w.core.Stats(w.now); s.Calls != 0 || len(w.core.under) != 0 || len(w.core.resources) != 0 {
		t.Errorf("left: %+v, %d under way, %d resources", s, len(w.core.under), len(w.core.resources))
	}
}

// A call that the core had to give up on is a failure of its resource as any other, which
// gets fewer places then; an answer gives them back.
func TestALostCallIsAFailure(t *testing.T) {
	w := newWorld(t)
	w.submit(work{mode: logpb.Mode_MODE_SAGA, set: chain(1)})
	d := w.one("action 01 #1")
	r := w.core.under[ref(d)].r
	for i := range 3 {
		limit := r.limit
		w.advance(2*d.Timeout + time.Millisecond)
		if r.failures != i+1 || r.limit != max(1, limit/2) || r.calls != 0 || r.hanging != 0 || r.newcomers != 0 {
			t.Errorf("after %d lost calls: %+v", i+1, r)
		}
		for len(w.calls) == 0 {
			w.advance(100 * time.Millisecond)
		}
		d = w.takeCalls()[0]
	}
	limit := r.limit
	w.called(d, busyAnswer, nil)
	if r.failures != 0 || r.limit != 2*limit {
		t.Errorf("after an answer: %+v", r)
	}
}
