package coordinator

import (
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// transactionAllocations are what the state machine and the driver allocate together
// for a transaction of two branches, in a test's world: submit, two deliveries, two
// reports. Exact, but for what grows now and then and is rounded away.
const transactionAllocations = 50

// TestAllocationsOfATransaction: the leader pays them for every transaction.
func TestAllocationsOfATransaction(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates itself: a plain `go test ./coordinator` counts")
	}
	w := newWorld(t)
	w.onEffect = func(Effect) {}
	w.attach(1, holderN(1), "a")
	w.attach(2, holderN(2), "b")
	specs := []*logpb.BranchSpec{branchOf("1", "a", holderN(1)), branchOf("2", "b", holderN(2))}
	begun := fsm.NewGID(w.state.ClockMS(), [10]byte{}).BornMS()
	heard := func(fsm.Result, error) {}
	i := 0
	got := testing.AllocsPerRun(8192, func() {
		i++
		gid := fsm.NewGID(begun, [10]byte{byte(i >> 8), byte(i)})
		w.do(&logpb.Command{Kind: &logpb.Command_Submit{Submit: &logpb.Submit{
			Begin: &logpb.Begin{Gid: gid.Bytes(), Namespace: DefaultNamespace, Mode: logpb.Mode_MODE_TWO_PHASE,
				Entry: logpb.Entry_ENTRY_NAMED, TimeoutMs: 30_000},
			Set:   specs,
			Votes: []*logpb.Ballot{{Branch: specs[0], Kind: prepared}, {Branch: specs[1], Kind: prepared}},
		}}})
		if len(w.take(1)) != 1 || len(w.take(2)) != 1 {
			t.Fatal("not told")
		}
		for _, branch := range []string{"1", "2"} {
			w.core.Report(w.now, &logpb.Report{Gid: gid.Bytes(), Branch: branch, Outcome: committed}, heard)
			w.settle()
		}
		w.core.Alive(w.now, 1)
		w.core.Alive(w.now, 2)
		w.advance(20 * time.Microsecond)
	})
	if got != transactionAllocations {
		t.Errorf("a transaction allocates %v times, and it was %v. If it is more, find what allocates (go test ./coordinator -bench Transaction -benchmem "+
			"-memprofile m.out -memprofilerate 1) and spare it, or change the number here and say why; if less, write it here, so that it stays", got, transactionAllocations)
	}
}
