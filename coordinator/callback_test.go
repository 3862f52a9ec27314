package coordinator

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

func checkedBackAfter(d time.Duration) *logpb.Plan {
	return &logpb.Plan{Callback: "http://i:1/back", CallbackPayload: []byte("who"), CallbackAfterMs: uint64(d.Milliseconds())}
}

func actionOf(id string, after ...string) *logpb.BranchSpec {
	return &logpb.BranchSpec{Id: id, Endpoint: "http://h:1/" + id, Payload: []byte("p" + id), After: after}
}

func TestMessageIsCheckedBackAndObeysTheAnswer(t *testing.T) {
	for _, committed := range []bool{true, false} {
		w := newWorld(t)
		gid := w.prepare(work{mode: logpb.Mode_MODE_MESSAGE, key: "m", plan: checkedBackAfter(5 * time.Second), set: []*logpb.BranchSpec{actionOf("01"), actionOf("02", "01")}})
		w.advance(4900 * time.Millisecond)
		w.nothing()
		if d := w.core.Deliveries(w.now, gid); len(d) != 1 || d[0].Operation != fsm.OperationCheckBack || d[0].Branch != "" ||
			d[0].DueFor != 0 || !d[0].NextAttempt.After(w.now) {
			t.Errorf("status %+v", d)
		}
		w.advance(200 * time.Millisecond)
		d := w.one("check-back #1")
		if d.Endpoint != "http://i:1/back" || string(d.Payload) != "who" || d.Key != "m" || d.Verdict != fsm.VerdictWait {
			t.Errorf("the check-back is %+v", d)
		}
		w.called(d, Answered{}, errBroken)
		w.advance(100 * time.Millisecond)
		w.called(w.one("check-back #2"), busyAnswer, nil)
		w.advance(100 * time.Millisecond)
		last := w.one("check-back #3")
		if !committed {
			w.called(last, Answered{Refused: true, Detail: "rolled back"}, nil)
			w.wantState(gid, fsm.StateRolledBack)
			if r := w.record(gid); r.GetReason() != logpb.Reason_REASON_CHECKED_BACK || !strings.Contains(r.GetDetail(), "rolled back") {
				t.Errorf("why: %v %q", r.GetReason(), r.GetDetail())
			}
			w.nothing()
			continue
		}
		w.called(last, doneAnswer, nil)
		w.wantState(gid, fsm.StateCommitting)
		w.called(w.one("action 01 #1"), refusedAnswer, nil) // which a message cannot be
		w.advance(100 * time.Millisecond)
		w.called(w.one("action 01 #2"), doneAnswer, nil)
		w.called(w.one("action 02 #1"), doneAnswer, nil)
		w.wantState(gid, fsm.StateCommitted)
	}
}

// Its local transaction may have committed, however long it takes to hear of it.
func TestMessageIsNeverGivenUpNorForgotten(t *testing.T) {
	w := newWorld(t)
	gid := w.prepare(work{mode: logpb.Mode_MODE_MESSAGE, plan: checkedBackAfter(time.Second), set: []*logpb.BranchSpec{actionOf("01")}})
	checks := 0
	for w.now.Sub(w.start) < 30*time.Minute {
		w.advance(time.Second)
		for _, d := range w.takeCalls() {
			checks++
			w.called(d, Answered{}, errBroken)
		}
	}
	w.wantState(gid, fsm.StateActive)
	if checks < 100 {
		t.Errorf("%d check-backs in 30 minutes, the cap of their delay is %v", checks, w.core.cfg.BackoffMax)
	}
	if len(w.warned) != 1 || !strings.Contains(w.warned[0].Message, "check-back is stuck") || w.core.Stats(w.now).Stuck[logpb.Mode_MODE_MESSAGE] != 1 {
		t.Errorf("people were told: %+v", w.warned)
	}
	w.ok(cmdCommit(gid)) // its own late word
	w.called(w.one("action 01 #1"), doneAnswer, nil)
	w.wantState(gid, fsm.StateCommitted)
}

func TestMessageOfALostInitiatorIsCheckedBackAtOnce(t *testing.T) {
	begin := func(w *world) fsm.GID {
		return w.prepare(work{mode: logpb.Mode_MODE_MESSAGE, plan: checkedBackAfter(time.Hour), holder: holderN(1), set: []*logpb.BranchSpec{actionOf("01")}})
	}
	t.Run("goodbye", func(t *testing.T) {
		w := newWorld(t)
		w.attach(1, holderN(1), "x")
		begin(w)
		w.advanceBeating(time.Minute, 1)
		w.nothing()
		w.core.Detach(w.now, 1, true, nil)
		w.settle()
		w.one("check-back #1")
	})
	t.Run("silence", func(t *testing.T) {
		w := newWorld(t)
		w.attach(1, holderN(1), "x")
		begin(w)
		w.advance(w.core.cfg.SessionGrace - 100*time.Millisecond)
		w.nothing()
		w.advance(200 * time.Millisecond)
		w.one("check-back #1")
	})
	t.Run("a new leader, to whom it never attached", func(t *testing.T) {
		w := newWorld(t)
		w.attach(1, holderN(1), "x")
		gid := begin(w)
		w.lead()
		w.advance(w.core.cfg.SessionGrace + 100*time.Millisecond)
		w.called(w.one("check-back #1"), Answered{Refused: true}, nil)
		w.wantState(gid, fsm.StateRolledBack)
		if len(w.core.holders) != 0 {
			t.Error("a holder that nobody asks about is kept")
		}
	})
}

func TestRetryMeansNowForWhatIsDelayed(t *testing.T) {
	w := newWorld(t)
	gid := w.prepare(work{mode: logpb.Mode_MODE_MESSAGE, plan: checkedBackAfter(time.Hour), set: []*logpb.BranchSpec{actionOf("01")}})
	w.nothing()
	if n := w.core.Retry(w.now, gid, ""); n != 1 {
		t.Errorf("retry: %d", n)
	}
	w.settle()
	w.called(w.one("check-back #1"), doneAnswer, nil)
	w.called(w.one("action 01 #1"), doneAnswer, nil)
	w.wantState(gid, fsm.StateCommitted)

	plan := &logpb.Plan{DelayMs: 60_000}
	gid = w.submit(work{mode: logpb.Mode_MODE_MESSAGE, plan: plan, set: []*logpb.BranchSpec{actionOf("01")}})
	w.advance(59 * time.Second)
	w.nothing()
	if s := w.core.Stats(w.now); s.Due != 0 {
		t.Errorf("a delayed branch counts as due: %+v", s)
	}
	w.advance(1100 * time.Millisecond)
	w.called(w.one("action 01 #1"), doneAnswer, nil)
	w.wantState(gid, fsm.StateCommitted)
}

// The delay runs by the cluster's clock, over leaders.
func TestDelayOutlivesItsLeader(t *testing.T) {
	w := newWorld(t)
	gid := w.submit(work{mode: logpb.Mode_MODE_MESSAGE, plan: &logpb.Plan{DelayMs: 20_000}, set: []*logpb.BranchSpec{actionOf("01")}})
	w.advance(15 * time.Second)
	w.follow()
	w.now = w.now.Add(3 * time.Second)
	w.lead()
	w.advance(1800 * time.Millisecond)
	w.nothing()
	w.advance(400 * time.Millisecond)
	w.called(w.one("action 01 #1"), doneAnswer, nil)
	w.wantState(gid, fsm.StateCommitted)
}

func TestTopicsMessageGoesToEverySubscriber(t *testing.T) {
	w := newWorld(t)
	for i := range 3 {
		w.ok(&logpb.Command{Kind: &logpb.Command_PutTopic{PutTopic: &logpb.PutTopic{Namespace: DefaultNamespace, Name: "orders",
			Change: logpb.PutTopic_CHANGE_SUBSCRIBE, Subscriber: &logpb.Subscriber{Endpoint: fmt.Sprintf("http://s%d/x", i)}}}})
	}
	gid := w.submit(work{mode: logpb.Mode_MODE_MESSAGE, set: []*logpb.BranchSpec{{Id: "01", Endpoint: "topic://orders", Payload: []byte("p")}}})
	ds := w.takeCalls()
	wantList(t, asked(ds), "action 01-01 #1", "action 01-02 #1", "action 01-03 #1")
	for i, d := range ds {
		if d.Topic != "orders" || d.Endpoint != fmt.Sprintf("http://s%d/x", i) || string(d.Payload) != "p" {
			t.Errorf("%+v", d)
		}
		w.called(d, doneAnswer, nil)
	}
	w.wantState(gid, fsm.StateCommitted)
}

func TestBestEffortGivesUpAfterItsAttempts(t *testing.T) {
	for _, most := range []int{0, 3} {
		w := newWorld(t)
		plan := &logpb.Plan{Retry: &logpb.Retry{AttemptsMax: uint32(most)}}
		gid := w.submit(work{mode: logpb.Mode_MODE_NOTIFY, plan: plan, set: []*logpb.BranchSpec{actionOf("01"), actionOf("02")}})
		if most == 0 {
			most = w.core.cfg.NotifyAttemptsMax
		}
		attempts := 0
		for w.record(gid).GetState() != fsm.StateCommitted && w.now.Sub(w.start) < time.Hour {
			for _, d := range w.takeCalls() {
				if d.Branch == "01" {
					w.called(d, doneAnswer, nil)
					continue
				}
				attempts++
				w.called(d, Answered{}, errBroken)
			}
			w.advance(time.Second)
		}
		b := w.record(gid).GetBranches()
		if attempts != most || b[0].GetOutcome() != committed || b[1].GetOutcome() != logpb.Outcome_OUTCOME_GAVE_UP {
			t.Errorf("%d attempts, want %d; outcomes %v %v", attempts, most, b[0].GetOutcome(), b[1].GetOutcome())
		}
	}
}

func TestWorkflowIsResumedUntilItsCodeHasSpoken(t *testing.T) {
	w := newWorld(t)
	plan := checkedBackAfter(3 * time.Second)
	plan.Workflow, plan.Retry = "order", &logpb.Retry{IntervalMs: 2000, IntervalMaxMs: 2000}
	gid := w.prepare(work{mode: logpb.Mode_MODE_WORKFLOW, key: "w", plan: plan})
	w.advance(2900 * time.Millisecond)
	w.nothing()
	w.advance(200 * time.Millisecond)
	for i, a := range []Answered{doneAnswer, busyAnswer, refusedAnswer} {
		d := w.one(fmt.Sprintf("resume #%d", i+1))
		if d.Plan.GetWorkflow() != "order" || string(d.Payload) != "who" {
			t.Errorf("%+v", d)
		}
		w.called(d, a, nil)
		w.advance(900 * time.Millisecond)
		w.nothing()
		w.advance(1200 * time.Millisecond)
	}
	w.called(w.one("resume #4"), Answered{}, errBroken)
	w.advance(2 * time.Second)
	last := w.one("resume #5")
	w.ok(cmdCommit(gid))
	w.wantState(gid, fsm.StateCommitted)
	w.called(last, doneAnswer, nil)
	w.advance(time.Minute)
	w.nothing()
}

// A plan that does not say when to call back leaves it to the node.
func TestCallbackAfterTheNodesOwnTime(t *testing.T) {
	w := newWorld(t, func(s *Settings) { s.CallbackAfter = 7 * time.Second })
	w.prepare(work{mode: logpb.Mode_MODE_MESSAGE, plan: checkedBackAfter(0), set: []*logpb.BranchSpec{actionOf("01")}})
	w.advance(6900 * time.Millisecond)
	w.nothing()
	w.advance(200 * time.Millisecond)
	w.one("check-back #1")
}
