package api

import (
	"testing"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

func TestStatusTellsTheDigestAtAnIndex(t *testing.T) {
	n := serve(t, Config{}, newFake(), newFakeCluster())
	answer, err := n.cluster().Status(within(t), &quoratev1.StatusRequest{DigestAt: 7})
	if err != nil {
		t.Fatal(err)
	}
	if answer.GetDigest() != "digest at 7" || answer.GetDigestAt() != 7 {
		t.Errorf("digest %q at %d", answer.GetDigest(), answer.GetDigestAt())
	}
	answer, err = n.cluster().Status(within(t), &quoratev1.StatusRequest{})
	if err != nil || answer.GetDigestAt() != 0 {
		t.Errorf("nobody asked for an index: %v, %v", answer.GetDigestAt(), err)
	}
}

// Entries that change the nodes' set do not reach the state machine; an idle
// node must not seem to lag behind by them.
func TestStatusCountsWhatTheStateMachineDoesNotSee(t *testing.T) {
	cluster := newFakeCluster()
	cluster.set(func(s *ClusterStatus) { s.AppliedIndex = s.CommitIndex })
	n := serve(t, Config{}, newFake(), cluster)
	answer, err := n.cluster().Status(within(t), &quoratev1.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got := answer.GetHeader().GetAppliedIndex(); got != answer.GetCommitIndex() {
		t.Errorf("applied %d of %d committed entries", got, answer.GetCommitIndex())
	}
}
