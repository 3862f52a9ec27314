package api

import (
	"encoding/binary"
	"sync/atomic"
	"testing"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/frames"
	"github.com/quorate/quorate/internal/testkit"
)

// BenchmarkDecide is a transaction of two branches, submitted whole, told over two
// sessions and acknowledged, by the real driver and state machine. Nothing is
// replicated, and the clients' part is in it.
func BenchmarkDecide(b *testing.B) {
	n := realCluster(b, 1)[0]
	holders := [...]string{"01JZZZZZZZZZZZZZZZZZZZZZZ1", "01JZZZZZZZZZZZZZZZZZZZZZZ2"}
	resources := [...]string{"orders-db", "stock-db"}
	var reported atomic.Int64
	for i := range holders {
		stream, err := n.participants().Session(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		attach := attachFrame(func(a *quoratev1.Attach) {
			a.Holder, a.Resources, a.BatchMax = holders[i], resources[i:i+1], frames.SessionFramesMax
		})
		if err := stream.Send(attach); err != nil {
			b.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			b.Fatal(err)
		}
		go func() {
			for {
				message, err := stream.Recv()
				if err != nil {
					return
				}
				var reports []*quoratev1.SessionRequest
				for _, frame := range frames.Responses(message) {
					if d := frame.GetDeliver(); d != nil {
						reports = append(reports, &quoratev1.SessionRequest{Frame: &quoratev1.SessionRequest_Report{Report: &quoratev1.ReportRequest{
							Gid: d.GetGid(), Branch: d.GetBranch(), Outcome: quoratev1.Outcome_OUTCOME_COMMITTED, Attempt: d.GetAttempt(), Holder: holders[i],
						}}})
					}
				}
				reported.Add(int64(len(reports)))
				if len(reports) > 0 && stream.Send(frames.PackRequests(reports)) != nil {
					return
				}
			}
		}()
	}
	var count atomic.Uint64
	client := n.transactions()
	b.ReportAllocs()
	b.SetParallelism(64)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			var random [10]byte
			binary.BigEndian.PutUint64(random[2:], count.Add(1))
			req := &quoratev1.SubmitRequest{Begin: &quoratev1.BeginRequest{Gid: fsm.NewGID(n.coordinator.HeaderOfWrites().ClockMS, random).String()}}
			for i, id := range [...]string{"1", "2"} {
				spec := &quoratev1.BranchSpec{Id: id, Resource: resources[i], Holder: holders[i]}
				req.Set = append(req.Set, spec)
				req.Votes = append(req.Votes, &quoratev1.Ballot{Branch: spec, Vote: quoratev1.Vote_VOTE_PREPARED})
			}
			answer, err := client.Submit(b.Context(), req)
			if err != nil || answer.GetDecision() != quoratev1.Decision_DECISION_COMMIT {
				b.Errorf("%v %v", answer, err)
				return
			}
		}
	})
	testkit.Eventually(b, 20*time.Second, func() bool { return reported.Load() >= 2*int64(b.N) })
}
