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
