package api

import (
	"testing"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/fsm"
)

// TestAnswersToWritesSayWhatStoodThen: they share their header for as long as nothing is
// applied, and no longer. None is older than what it answers, nor of a term that is over.
func TestAnswersToWritesSayWhatStoodThen(t *testing.T) {
	nodes := realCluster(t, 2)
	ctx := within(t)
	var before *quoratev1.ResponseHeader
	for round := range 3 {
		nodes[0].log.elect(nodes[1])
		nodes[0].log.elect(nodes[0])
		for i := range 3 {
			req := streamed(1, 1).Submits[0].Submit
			req.Begin.Gid = fsm.NewGID(nodes[0].coordinator.Header().ClockMS, [10]byte{3, byte(round), byte(i)}).String()
			got, err := nodes[0].transactions().Submit(ctx, req)
			if err != nil {
				t.Fatal(err)
			}
			h, now := got.GetHeader(), nodes[0].coordinator.Header()
			if h.GetAppliedIndex() < got.GetIndex() || h.GetAppliedIndex() > now.AppliedIndex || h.GetClockMs() > now.ClockMS || h.GetClockMs() < before.GetClockMs() {
				t.Errorf("%v of index %d, after %v and before %+v", h, got.GetIndex(), before, now)
			}
			if h.GetEpoch().GetTerm() != now.Epoch.Term || h.GetClusterId() != testCluster.String() || h.GetNodeId() != "n1" {
				t.Errorf("%v is of another term or node: %+v", h, now)
			}
			before = h
		}
	}
}
