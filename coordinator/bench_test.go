package coordinator

import (
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// BenchmarkTransaction is what one transaction of two branches costs the state
// machine and the driver together: submit, two deliveries, two reports.
func BenchmarkTransaction(b *testing.B) {
	w := newWorld(b)
	w.onEffect = func(Effect) {}
	w.attach(1, holderN(1), "a")
	w.attach(2, holderN(2), "b")
	specs := []*logpb.BranchSpec{branchOf("1", "a", holderN(1)), branchOf("2", "b", holderN(2))}
	ended := 0
	reply := func(r fsm.Result, err error) {
		if r.State == fsm.StateCommitted && err == nil {
			ended++
		}
	}
	b.ReportAllocs()
	i := 0
	for ; b.Loop(); i++ {
		gid := fsm.NewGID(w.state.ClockMS(), [10]byte{byte(i >> 16), byte(i >> 8), byte(i), byte(i >> 24)})
		w.do(&logpb.Command{Kind: &logpb.Command_Submit{Submit: &logpb.Submit{
			Begin: &logpb.Begin{Gid: gid.Bytes(), Namespace: DefaultNamespace, Mode: logpb.Mode_MODE_TWO_PHASE,
				Entry: logpb.Entry_ENTRY_NAMED, TimeoutMs: 30_000},
			Set:   specs,
			Votes: []*logpb.Ballot{{Branch: specs[0], Kind: prepared}, {Branch: specs[1], Kind: prepared}},
		}}})
		if len(w.take(1)) != 1 || len(w.take(2)) != 1 {
			b.Fatal("not told")
		}
		for _, branch := range []string{"1", "2"} {
			w.core.Report(w.now, &logpb.Report{Gid: gid.Bytes(), Branch: branch, Outcome: committed}, reply)
			w.settle()
		}
		w.core.Alive(w.now, 1)
		w.core.Alive(w.now, 2)
		w.advance(20 * time.Microsecond)
	}
	if ended != i {
		b.Fatalf("%d of %d have ended", ended, i)
	}
}

// BenchmarkNewLeader is what the first look costs a leader that finds many
// transactions decided and not told.
func BenchmarkNewLeader(b *testing.B) {
	w := newWorld(b)
	w.onEffect = func(Effect) {}
	const many = 20_000
	for i := range many {
		gid := fsm.NewGID(w.state.ClockMS(), [10]byte{byte(i >> 8), byte(i)})
		w.apply(cmdBegin(gid, "", time.Minute), cmdEnlist(gid, branchOf("1", "a", holderN(1))),
			cmdVote(gid, branchOf("1", "a", holderN(1)), prepared), cmdCommit(gid))
	}
	b.ReportMetric(many, "transactions")
	for b.Loop() {
		w.core.Lead(w.now, w.term)
		for w.core.survey.under {
			w.core.Expire(w.now)
		}
		w.core.Take()
	}
}
