package api

import (
	"testing"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// TestAReadsIndexIsThatOfWhatItShows: "list anew, and watch from the list's index"
// misses nothing only if the index is that of the state which was looked at. An
// answer that carried a newer one would hide what was applied between the two.
func TestAReadsIndexIsThatOfWhatItShows(t *testing.T) {
	f := newFake()
	f.ahead = 3
	n := serve(t, Config{}, f, newFakeCluster())
	got, err := n.transactions().Get(t.Context(), &quoratev1.GetRequest{Transaction: testGID.String()})
	if err != nil {
		t.Fatal(err)
	}
	list, err := n.transactions().List(t.Context(), &quoratev1.ListRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for what, h := range map[string]*quoratev1.ResponseHeader{"Get": got.GetHeader(), "List": list.GetHeader()} {
		if h.GetAppliedIndex() != testHeader.AppliedIndex {
			t.Errorf("%s shows the state at index %d and carries %d", what, testHeader.AppliedIndex, h.GetAppliedIndex())
		}
	}
}
