package branchcall

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/metadata"

	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// TestMetadataIsTheSameEitherWay: a call without headers of its own carries what one with
// them does, but for those.
func TestMetadataIsTheSameEitherWay(t *testing.T) {
	for name, d := range map[string]coordinator.Delivery{
		"all": {
			GID: testGID, Key: "order 1", Branch: "1.2", Operation: fsm.OperationAction, Mode: logpb.Mode_MODE_SAGA, Attempt: 3,
			Epoch: coordinator.Epoch{Incarnation: 1, Term: 7}, FloorMS: 11, ClockMS: 12, Topic: "orders", Traceparent: "00-trace",
			Plan: &logpb.Plan{Workflow: "w"},
		},
		"little": {GID: testGID, Operation: fsm.OperationCheckBack, Mode: logpb.Mode_MODE_MESSAGE},
	} {
		t.Run(name, func(t *testing.T) {
			for _, cluster := range []string{"", "CLUSTER"} {
				got, _ := metadata.FromOutgoingContext(outgoing(t.Context(), d, cluster))
				with := d
				with.Plan = &logpb.Plan{Workflow: d.Plan.GetWorkflow(), Headers: []*logpb.Label{{Name: "X-Own", Value: "own"}}}
				other, _ := metadata.FromOutgoingContext(outgoing(t.Context(), with, cluster))
				if own := other.Get("x-own"); !slices.Equal(own, []string{"own"}) {
					t.Errorf("its own header: %v", own)
				}
				delete(other, "x-own")
				if !maps.EqualFunc(got, other, slices.Equal) {
					t.Errorf("without headers: %v\nwith one: %v", got, other)
				}
				all := everything(&d, cluster)
				want := present(all[:])
				for _, one := range want {
					if values := got[strings.ToLower(one.name)]; !slices.Equal(values, []string{one.value}) {
						t.Errorf("%s is %v, want %q once", one.name, values, one.value)
					}
				}
				if len(got) != len(want) {
					t.Errorf("carries %v, want no more than %v", got, want)
				}
			}
		})
	}
}
