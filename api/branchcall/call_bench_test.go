package branchcall

import (
	"testing"

	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// TestAllocationsOfACall: what it carries is put together for each call.
func TestAllocationsOfACall(t *testing.T) {
	d := coordinator.Delivery{
		GID: testGID, Branch: "1", Operation: fsm.OperationAction, Mode: logpb.Mode_MODE_SAGA, Attempt: 1,
		Epoch: coordinator.Epoch{Incarnation: 1, Term: 7}, FloorMS: 1000, ClockMS: 2000,
	}
	ctx := t.Context()
	// The GID's text, and metadata's own: what is added, twice, and the context.
	if got := testing.AllocsPerRun(100, func() { outgoing(ctx, d, "CLUSTER") }); got != 5 {
		t.Errorf("what a call carries allocates %v times, and it was 5: spare what was added, or change the number here and say why", got)
	}
}
