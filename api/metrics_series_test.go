package api

import (
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// counters are the values of a counter by its labels' values, in the order of their
// names.
func counters(t *testing.T, m *Metrics, name string) map[string]float64 {
	t.Helper()
	families, err := m.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range families {
		for _, c := range f.GetMetric() {
			if f.GetName() != name {
				continue
			}
			var labels []string
			for _, l := range c.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			values[strings.Join(labels, " ")] = c.GetCounter().GetValue()
		}
	}
	return values
}

// Every attempt at a branch is counted under its own labels, known or not, and no two
// kinds of attempts share a place.
func TestEverySeriesIsItsOwn(t *testing.T) {
	m := NewMetrics("v", "c")
	type attempt struct {
		mode             fsm.Mode
		op               fsm.Operation
		protocol, result string
	}
	var all []attempt
	for mode := range logpb.Mode_name {
		for op := range logpb.Operation_name {
			for _, protocol := range append(protocols[:], "pigeon") {
				for _, result := range append(results[:], "eaten") {
					if op != 0 && mode != 0 {
						all = append(all, attempt{fsm.Mode(mode), fsm.Operation(op), protocol, result})
					}
				}
			}
		}
	}
	for round := 1; round <= 2; round++ {
		for i, a := range all {
			for range i%3 + 1 {
				m.BranchCall(a.mode, a.op, a.protocol, a.result, time.Millisecond)
			}
		}
		values := counters(t, m, "quorate_branch_calls_total")
		for i, a := range all {
			got := values[strings.Join([]string{modeText(a.mode), operationText(a.op), a.protocol, a.result}, " ")]
			if want := float64(round * (i%3 + 1)); got != want {
				t.Fatalf("%+v was counted %v times, want %v", a, got, want)
			}
		}
	}
	m.TransactionStarted(logpb.Mode_MODE_SAGA)
	m.TransactionStarted(fsm.Mode(modesMax + 3))
	m.TransactionFinished(logpb.Mode_MODE_SAGA, fsm.DecisionCommit, time.Second)
	m.TransactionFinished(logpb.Mode_MODE_SAGA, fsm.DecisionRollback, time.Second)
	m.TransactionFinished(logpb.Mode_MODE_SAGA, fsm.DecisionCommit, time.Second)
	if n := counters(t, m, "quorate_transactions_started_total")["saga"]; n != 1 {
		t.Errorf("%v sagas were started", n)
	}
	if n := counters(t, m, "quorate_transactions_finished_total")["saga "+decisionText(fsm.DecisionCommit)]; n != 2 {
		t.Errorf("%v sagas were committed", n)
	}
}

func TestCountingAllocatesNothing(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates itself: a plain `go test ./api` counts")
	}
	m := NewMetrics("v", "c")
	if n := testing.AllocsPerRun(100, func() {
		m.TransactionStarted(logpb.Mode_MODE_SAGA)
		m.TransactionDecided(logpb.Mode_MODE_SAGA, fsm.DecisionCommit, time.Millisecond)
		m.TransactionFinished(logpb.Mode_MODE_SAGA, fsm.DecisionCommit, time.Millisecond)
		m.BranchCall(logpb.Mode_MODE_SAGA, fsm.OperationAction, coordinator.ProtocolGRPC, coordinator.ResultDone, time.Millisecond)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
