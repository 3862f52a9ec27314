package linearizability

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestWhatIsWrittenIsReadAgain: a history put together afterwards is the one that
// its reader finds.
func TestWhatIsWrittenIsReadAgain(t *testing.T) {
	h := &History{
		Header: Header{Format: Format, Seed: 7, Partial: true, Note: "afterwards"},
		Operations: []Operation{
			{Client: 1, Call: 1, Return: 5, Kind: KindBegin, GID: "g", Status: StatusOK, Output: Output{GID: "g", Created: true}},
			{Client: 2, Call: 6, Kind: KindCommit, GID: "g", Status: StatusUnknown, Error: "deadline exceeded"},
		},
		Observations: []Observation{
			{Sight: SightDelivery, At: 7, GID: "g", Branch: "1", Verdict: VerdictCommit, Epoch: Epoch{1, 2}, Accepted: true, Process: "p"},
			{Sight: SightEvidence, GID: "g", Branch: "1", Resource: "bank", Done: true},
		},
	}
	var file bytes.Buffer
	if err := Write(&file, h); err != nil {
		t.Fatal(err)
	}
	got, err := Read(&file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(h, got, cmpopts.IgnoreFields(Operation{}, "Line"), cmpopts.IgnoreFields(Observation{}, "Line")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
