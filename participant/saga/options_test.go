package saga_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/participant/internal/modetest"
	"github.com/quorate/quorate/participant/saga"
)

// Every option is what the cluster holds of the saga.
func TestSaga_EveryOptionArrives(t *testing.T) {
	w := modetest.New(t)
	gid, err := w.Client.NewGID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := saga.New(w.Client, saga.GID(gid), saga.Name("order"), saga.Key("k"), saga.Timeout(9*time.Minute), saga.Retry(3*time.Second, 5*time.Second),
		saga.Attempts(7), saga.CallTimeout(11*time.Second), saga.Concurrency(13), saga.Delay(8*time.Minute), saga.Header("Tenant", "acme"), saga.Header("Shop", "b")).
		Step(w.URL("take"), w.URL("give"), []byte("1"), saga.ID("stock"), saga.Resource("stock-db")).
		Step(w.URL("pay"), w.URL("refund"), []byte("2"), saga.ID("money"), saga.StepAttempts(17), saga.StepTimeout(19*time.Second)).
		Step(w.URL("mail"), "", nil).
		Step(w.URL("ship"), w.URL("fetch"), []byte("4"), saga.ID("ship"), saga.After("money", "stock"))
	if err := s.Submit(within(t)); err != nil {
		t.Fatal(err)
	}
	got, err := w.Client.Get(t.Context(), string(gid))
	if err != nil {
		t.Fatal(err)
	}
	plan := &quoratev1.Plan{
		Retry: &quoratev1.Retry{
			Interval: durationpb.New(3 * time.Second), IntervalMax: durationpb.New(5 * time.Second), AttemptsMax: 7, CallTimeout: durationpb.New(11 * time.Second),
		},
		ConcurrencyMax: 13, Delay: durationpb.New(8 * time.Minute), Headers: map[string]string{"Tenant": "acme", "Shop": "b"},
	}
	if !proto.Equal(got.GetPlan(), plan) {
		t.Errorf("the plan is %v,\nwant %v", got.GetPlan(), plan)
	}
	if got.GetKey() != "k" || got.GetLabels()["name"] != "order" || got.GetTimeout().AsDuration() != 9*time.Minute || got.GetMode() != quoratev1.Mode_MODE_SAGA {
		t.Errorf("key %q, labels %v, timeout %v, mode %v", got.GetKey(), got.GetLabels(), got.GetTimeout(), got.GetMode())
	}
	steps := []*quoratev1.BranchSpec{
		{Id: "stock", Endpoint: w.URL("take"), Undo: w.URL("give"), Payload: []byte("1"), Resource: "stock-db"},
		{Id: "money", Endpoint: w.URL("pay"), Undo: w.URL("refund"), Payload: []byte("2"), After: []string{"stock"}, AttemptsMax: 17, CallTimeout: durationpb.New(19 * time.Second)},
		{Id: "03", Endpoint: w.URL("mail"), After: []string{"money"}},
		{Id: "ship", Endpoint: w.URL("ship"), Undo: w.URL("fetch"), Payload: []byte("4"), After: []string{"money", "stock"}},
	}
	if len(got.GetBranches()) != len(steps) {
		t.Fatalf("%d steps, want %d", len(got.GetBranches()), len(steps))
	}
	have := make(map[string]*quoratev1.BranchSpec)
	for _, b := range got.GetBranches() {
		have[b.GetSpec().GetId()] = b.GetSpec()
	}
	for _, want := range steps {
		if !proto.Equal(have[want.GetId()], want) {
			t.Errorf("the step is %v,\nwant %v", have[want.GetId()], want)
		}
	}
}
