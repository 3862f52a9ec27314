package coordinator

import (
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// A busy cluster, as the benchmark's decide with 256 callers has it: each millisecond ten
// transactions of two participants are decided, and a participant reports 30 ms after it
// was told. One of them says nothing for 100 ms. With the default window both are in step
// again in as long: what is open is what is under way. A window that is too small keeps
// each one's words waiting for deliveries that have no room at the other, and it stays so.
func TestSessionsOfABusyClusterComeIntoStepAgain(t *testing.T) {
	const decidedPerMS, underWay, silence = 10, 30, 100 // the times are in milliseconds
	w := newWorld(t)
	w.onEffect = func(Effect) {} // keep no trace
	type told struct {
		Delivery
		ms int
	}
	holders := map[SessionID][]byte{1: holderN(1), 2: holderN(2)}
	w.attach(1, holders[1], "a")
	w.attach(2, holders[2], "b")
	specs := []*logpb.BranchSpec{branchOf("1", "a", holders[1]), branchOf("2", "b", holders[2])}
	obeying := map[SessionID][]told{}
	step := func(ms int, silent SessionID) {
		for range decidedPerMS {
			gid := w.gid()
			w.ok(&logpb.Command{Kind: &logpb.Command_Submit{Submit: &logpb.Submit{
				Begin: &logpb.Begin{Gid: gid.Bytes(), Namespace: DefaultNamespace, Mode: logpb.Mode_MODE_TWO_PHASE,
					Entry: logpb.Entry_ENTRY_NAMED, TimeoutMs: 30_000},
				Set:   specs,
				Votes: []*logpb.Ballot{{Branch: specs[0], Kind: prepared}, {Branch: specs[1], Kind: prepared}},
			}}})
		}
		w.advance(time.Millisecond)
		for _, id := range []SessionID{1, 2} {
			w.core.Alive(w.now, id)
			for _, d := range w.take(id) {
				obeying[id] = append(obeying[id], told{d, ms})
			}
			for id != silent && len(obeying[id]) > 0 && obeying[id][0].ms <= ms-underWay {
				d := obeying[id][0]
				obeying[id] = obeying[id][1:]
				w.core.Report(w.now, &logpb.Report{Gid: d.GID.Bytes(), Branch: d.Branch, Outcome: committed}, func(fsm.Result, error) {})
				w.settle()
			}
		}
	}
	const silentFrom, silentUntil = 2 * underWay, 2*underWay + silence
	for ms := range silentUntil + silence {
		silent := SessionID(0)
		if ms >= silentFrom && ms < silentUntil {
			silent = 2
		}
		step(ms, silent)
	}
	if open, want := w.obs.started-w.obs.finished, decidedPerMS*underWay; open > want {
		t.Errorf("%d transactions are open %d ms after both spoke again, want the %d under way", open, silence, want)
	}
}
