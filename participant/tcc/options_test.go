package tcc_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/internal/modetest"
	"github.com/quorate/quorate/participant/tcc"
)

// Every option is what the cluster holds of the transaction, and what a branch is called
// with is the same whoever calls: the initiator its try, the coordinator its confirm.
func TestTCC_EveryOptionArrives(t *testing.T) {
	w := modetest.New(t)
	gid, err := w.Client.NewGID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = tcc.Run(within(t), w.Client, func(ctx context.Context, tx *tcc.Transaction) error {
		b := branch(w, "hold")
		b.Resource = "bank-a"
		_, err := tx.Call(ctx, b, []byte("30"))
		return err
	}, tcc.GID(gid), tcc.Name("transfer"), tcc.Key("k 1"), tcc.Timeout(5*time.Minute), tcc.Retry(3*time.Second, 5*time.Second),
		tcc.CallTimeout(7*time.Second), tcc.Header("Tenant", "acme"), tcc.WaitFinish())
	if err != nil {
		t.Fatal(err)
	}
	got, err := w.Client.Get(t.Context(), string(gid))
	if err != nil {
		t.Fatal(err)
	}
	plan := &quoratev1.Plan{
		Retry:   &quoratev1.Retry{Interval: durationpb.New(3 * time.Second), IntervalMax: durationpb.New(5 * time.Second), CallTimeout: durationpb.New(7 * time.Second)},
		Headers: map[string]string{"Tenant": "acme"},
	}
	spec := &quoratev1.BranchSpec{Id: "1", Resource: "bank-a", Endpoint: w.URL("confirm"), Undo: w.URL("cancel")} // its payload goes with its end
	if !proto.Equal(got.GetPlan(), plan) || len(got.GetBranches()) != 1 || !proto.Equal(got.GetBranches()[0].GetSpec(), spec) {
		t.Errorf("plan %v,\nwant %v;\nbranches %v,\nwant %v", got.GetPlan(), plan, got.GetBranches(), spec)
	}
	if got.GetKey() != "k 1" || got.GetLabels()["name"] != "transfer" || got.GetTimeout().AsDuration() != 5*time.Minute {
		t.Errorf("key %q, labels %v, timeout %v", got.GetKey(), got.GetLabels(), got.GetTimeout())
	}
	calls := w.Calls()
	if len(calls) != 2 {
		t.Fatalf("called:\n%s", w.Told())
	}
	try, confirm := calls[0].Call, calls[1].Call
	if try.ClockMS == 0 || try.FloorMS > try.ClockMS || try.ClockMS > confirm.ClockMS || try.Cluster == "" {
		t.Errorf("the try is %#v,\nthe confirm %#v", try, confirm)
	}
	for i := range calls {
		c := &calls[i]
		c.Operation, c.FloorMS, c.ClockMS = "", 0, 0 // these may differ
		if c.Header.Get("Tenant") != "acme" || c.Payload != "30" {
			t.Errorf("%s has header %q and payload %q", c, c.Header.Get("Tenant"), c.Payload)
		}
	}
	if calls[0].Call != calls[1].Call {
		t.Errorf("the try is %#v,\nthe confirm %#v", try, confirm)
	}
}

func TestTCC_CallTimeoutBoundsATry(t *testing.T) {
	w := modetest.New(t)
	w.On("hold", func(ctx context.Context, _ []byte) ([]byte, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	ctx := within(t)
	err := tcc.Run(ctx, w.Client, func(ctx context.Context, tx *tcc.Transaction) error {
		_, err := tx.Call(ctx, branch(w, "hold"), nil)
		return err
	}, tcc.CallTimeout(200*time.Millisecond))
	if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
		t.Fatalf("%v, the caller's context: %v", err, ctx.Err())
	}
	eventually(t, w, "try 1 hold", "cancel 1 cancel")
}

// A GID that has been decided is told, and its function is not run again: nothing that it
// would call could still be confirmed.
func TestTCC_ADecidedGIDRunsNothing(t *testing.T) {
	w := modetest.New(t)
	gid, err := w.Client.NewGID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	no, runs := errors.New("changed my mind"), 0
	run := func() error {
		return tcc.Run(within(t), w.Client, func(context.Context, *tcc.Transaction) error { runs++; return no }, tcc.GID(gid))
	}
	if err := run(); !errors.Is(err, no) {
		t.Fatal(err)
	}
	var rolledBack *participant.RolledBackError
	if err := run(); !errors.As(err, &rolledBack) || runs != 1 {
		t.Errorf("%v after %d runs, want the first one's end", err, runs)
	}
}

// A caller who has gone leaves nothing to the deadline: what he began is cancelled at once.
func TestTCC_ACallerWhoHasGoneCancelsAtOnce(t *testing.T) {
	w := modetest.New(t)
	ctx, gone := context.WithCancel(within(t))
	defer gone()
	err := tcc.Run(ctx, w.Client, func(ctx context.Context, tx *tcc.Transaction) error {
		if _, err := tx.Call(ctx, branch(w, "hold"), nil); err != nil {
			return err
		}
		gone()
		return ctx.Err()
	}, tcc.Timeout(participant.TransactionTimeoutMax))
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	eventually(t, w, "try 1 hold", "cancel 1 cancel")
}

// Time is up before the commit is asked: Run says so, though it waits for the decision alone.
func TestTCC_ACommitThatComesTooLateSaysSo(t *testing.T) {
	w := modetest.New(t)
	err := tcc.Run(within(t), w.Client, func(ctx context.Context, tx *tcc.Transaction) error {
		if _, err := tx.Call(ctx, branch(w, "hold"), nil); err != nil {
			return err
		}
		_, err := w.Client.Service().Rollback(ctx, &quoratev1.RollbackRequest{Transaction: string(tx.GID()), Detail: "by hand", Wait: quoratev1.Wait_WAIT_DECISION})
		return err
	})
	var rolledBack *participant.RolledBackError
	if !errors.As(err, &rolledBack) {
		t.Errorf("%v, want the rollback and its reason", err)
	}
	eventually(t, w, "try 1 hold", "cancel 1 cancel")
}

// Branches below a nested one keep the whole path.
func TestTCC_BranchesNestTwice(t *testing.T) {
	w := modetest.New(t)
	nest := func(ctx context.Context, try string) error {
		tx, err := tcc.Join(ctx, w.Client)
		if err == nil {
			_, err = tx.Call(ctx, branch(w, try), nil)
		}
		return err
	}
	w.On("outer", func(ctx context.Context, _ []byte) ([]byte, error) { return nil, nest(ctx, "middle") })
	w.On("middle", func(ctx context.Context, _ []byte) ([]byte, error) { return nil, nest(ctx, "inner") })
	err := tcc.Run(within(t), w.Client, func(ctx context.Context, tx *tcc.Transaction) error {
		_, err := tx.Call(ctx, branch(w, "outer"), nil)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, w, "try 1 outer", "try 1.1 middle", "try 1.1.1 inner", "confirm 1 confirm", "confirm 1.1 confirm", "confirm 1.1.1 confirm")
}
