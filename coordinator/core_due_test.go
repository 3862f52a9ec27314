package coordinator

import (
	"reflect"
	"testing"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// TestDeliveriesAreUsedAgain: those of a transaction that has ended are the next one's, as
// if new, and nobody's while one of them is due.
func TestDeliveriesAreUsedAgain(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "a")
	w.attach(2, holderN(2), "b")
	begin := func(n byte) *txn {
		gid := fsm.NewGID(w.state.ClockMS(), [10]byte{n})
		specs := []*logpb.BranchSpec{branchOf("1", "a", holderN(1)), branchOf("2", "b", holderN(2))}
		w.do(&logpb.Command{Kind: &logpb.Command_Submit{Submit: &logpb.Submit{
			Begin: &logpb.Begin{Gid: gid.Bytes(), Namespace: DefaultNamespace, Mode: logpb.Mode_MODE_TWO_PHASE,
				Entry: logpb.Entry_ENTRY_NAMED, TimeoutMs: 30_000},
			Set:   specs,
			Votes: []*logpb.Ballot{{Branch: specs[0], Kind: prepared}, {Branch: specs[1], Kind: prepared}},
		}}})
		return w.core.txns[gid]
	}
	report := func(gid fsm.GID, branches ...string) {
		for _, branch := range branches {
			w.apply(&logpb.Command{Kind: &logpb.Command_Report{Report: &logpb.Report{Gid: gid.Bytes(), Branch: branch, Outcome: committed}}})
			w.core.Applied(w.now)
			w.settle()
		}
	}
	first := begin(1)
	pair := first.due[0].pair
	first.due[0].attempts, first.due[1].lastErr = 7, "of before"
	report(first.gid, "1")
	if second := begin(2); second.due[0].pair == pair || second.due[1].pair == pair {
		t.Fatal("it is used again while one of the deliveries is due")
	} else {
		report(second.gid, "1")
	}
	report(first.gid, "2")
	if len(w.core.txns) != 1 || len(w.core.duePairs) != 1 || !reflect.ValueOf(*pair).IsZero() {
		t.Fatalf("%d transactions, %d pairs kept, the first %+v", len(w.core.txns), len(w.core.duePairs), pair)
	}
	third := begin(3)
	d := third.due[1]
	if d.pair != pair || third.due[0].attempts != 1 || d.lastErr != "" || d.gone || d.branch != "2" || d.t != third {
		t.Errorf("the third's %+v", d)
	}
	report(third.gid, "1", "2")

	called := begin(4)
	pair = called.due[0].pair
	called.due[1].word = &word{} // it has answered, and the log has yet to hear it
	report(called.gid, "1", "2")
	if pair.left != 0 || len(w.core.duePairs) != 0 {
		t.Errorf("what a word names is used again: %+v", pair)
	}
}
