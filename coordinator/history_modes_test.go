package coordinator

import (
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// RocketMQ counted a check-back before it was sent: with no producer connected, the
// fifteen that a message had were burned without anybody having been asked, and the
// message was dropped though its local transaction had committed. Here a check-back
// that nobody heard counts for nothing: it is asked again under this leader and the
// next, for as long as it takes, and shown meanwhile.
func TestHistory_RocketMQ8311_CheckBacksBurnedUnsent(t *testing.T) {
	w := newWorld(t)
	gid := w.prepare(work{mode: logpb.Mode_MODE_MESSAGE, plan: checkedBackAfter(time.Second), set: []*logpb.BranchSpec{actionOf("01")}})
	unheard := 0
	for leader := range 3 {
		for range 60 {
			for len(w.calls) == 0 {
				w.advance(time.Second)
			}
			w.called(w.takeCalls()[0], Answered{}, errBroken)
			unheard++
		}
		if d := w.core.Deliveries(w.now, gid); len(d) != 1 || d[0].Operation != fsm.OperationCheckBack || d[0].Attempts == 0 {
			t.Fatalf("leader %d: %d check-backs were not heard, and nothing shows it: %+v", leader, unheard, d)
		}
		w.wantState(gid, fsm.StateActive)
		w.follow()
		w.calls = nil
		w.lead()
	}
	for len(w.calls) == 0 {
		w.advance(time.Second)
	}
	w.called(w.takeCalls()[0], doneAnswer, nil) // the producer is back: it had committed
	w.called(w.one("action 01 #1"), doneAnswer, nil)
	w.wantState(gid, fsm.StateCommitted)
}

// RocketMQ took a commit from the producer and a rollback from a check-back of the same
// message, whichever came last. Here the first word in the log is the decision, and the
// other one changes nothing.
func TestHistory_RocketMQ2694_ContradictingOutcomes(t *testing.T) {
	for _, first := range []logpb.Decision{fsm.DecisionCommit, fsm.DecisionRollback} {
		w := newWorld(t)
		gid := w.prepare(work{mode: logpb.Mode_MODE_MESSAGE, plan: checkedBackAfter(time.Second), set: []*logpb.BranchSpec{actionOf("01")}})
		w.advance(1100 * time.Millisecond)
		asked := w.one("check-back #1") // on its way while the producer speaks
		w.ok(&logpb.Command{Kind: &logpb.Command_Decide{Decide: &logpb.Decide{
			Gid: gid.Bytes(), Decision: first, Origin: logpb.Origin_ORIGIN_CLIENT, Reason: reasonFor(first),
		}}})
		w.settle()
		actions := w.takeCalls()
		if first == fsm.DecisionCommit {
			w.called(asked, Answered{Refused: true}, nil)
		} else {
			w.called(asked, doneAnswer, nil)
		}
		if got := w.record(gid).GetDecision(); got != first {
			t.Fatalf("the producer said %v, the check-back otherwise, and it is %v", first, got)
		}
		actions = append(actions, w.takeCalls()...)
		if want := map[logpb.Decision]int{fsm.DecisionCommit: 1}[first]; len(actions) != want {
			t.Fatalf("%v: %d deliveries, want %d", first, len(actions), want)
		}
		for _, d := range actions {
			w.called(d, doneAnswer, nil)
		}
		end := map[logpb.Decision]fsm.TxState{fsm.DecisionCommit: fsm.StateCommitted, fsm.DecisionRollback: fsm.StateRolledBack}[first]
		w.wantState(gid, end)
	}
}

func reasonFor(d logpb.Decision) logpb.Reason {
	if d == fsm.DecisionRollback {
		return logpb.Reason_REASON_REQUESTED
	}
	return logpb.Reason_REASON_UNSPECIFIED
}

// DTM's executor ran ten transactions at a time: ten sagas whose branch hung delayed a
// healthy message by 35 s. Here it goes out at once, at every time of a long hang.
func TestHistory_DTM_TenHangingSagasDelayAHealthyMessage(t *testing.T) {
	w := newWorld(t)
	var dead []fsm.GID
	for range 10 {
		dead = append(dead, w.sagaAt("http://dead:1/hangs"))
	}
	hangs := func(d Delivery) bool { return slices.Contains(dead, d.GID) }
	for range 100 {
		if took := w.hang(w.messageAt("http://well:1/order"), hangs); took > 0 {
			t.Fatalf("a healthy message took %v", took)
		}
		w.advance(700 * time.Millisecond)
		w.hangOnce(hangs)
	}
	for _, gid := range dead {
		w.wantState(gid, fsm.StateSealed)
	}
}
