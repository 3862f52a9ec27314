package saga_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/testkit"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/fence"
	"github.com/quorate/quorate/participant/internal/modetest"
	"github.com/quorate/quorate/participant/saga"
)

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), modetest.Patience)
	t.Cleanup(cancel)
	return ctx
}

// two is a saga of two steps.
func two(w *modetest.World, opts ...saga.Option) *saga.Saga {
	return saga.New(w.Client, opts...).
		Step(w.URL("take"), w.URL("give"), map[string]int{"lamps": 2}).
		Step(w.URL("pay"), w.URL("refund"), []byte("40"))
}

func wantCalls(t *testing.T, w *modetest.World, want string) {
	t.Helper()
	want = strings.Join(strings.FieldsFunc(want, func(r rune) bool { return r == '\n' || r == '\t' }), "\n")
	if got := w.Told(); got != want {
		t.Errorf("called:\n%s\nwant:\n%s", got, want)
	}
}

func wantRolledBack(t *testing.T, err error, reason string) {
	t.Helper()
	var rolledBack *participant.RolledBackError
	if !errors.As(err, &rolledBack) || rolledBack.Reason != reason {
		t.Fatalf("%v, want a rollback for %s", err, reason)
	}
}

func TestSaga_StepsAreDoneInOrder(t *testing.T) {
	w := modetest.New(t)
	s := two(w, saga.Name("order"), saga.Key("order-4711"), saga.Header("Tenant", "acme"))
	if err := s.Run(within(t)); err != nil {
		t.Fatal(err)
	}
	wantCalls(t, w, `
		action 01 take
		action 02 pay`)
	c := w.Calls()[0]
	if c.GID != string(s.GID()) || c.Key != "order-4711" || c.Mode != "saga" || c.Attempt != 1 || c.Epoch == (fence.Epoch{}) || c.ClockMS == 0 {
		t.Errorf("the first call is %+v", c.Call)
	}
	if c.Payload != `{"lamps":2}` || c.Header.Get("Tenant") != "acme" || w.Calls()[1].Payload != "40" {
		t.Errorf("payloads %q and %q, header %q", c.Payload, w.Calls()[1].Payload, c.Header.Get("Tenant"))
	}
	got, err := w.Client.Get(t.Context(), "key:order-4711")
	if err != nil || got.GetLabels()["name"] != "order" {
		t.Errorf("labels %v, %v", got.GetLabels(), err)
	}
}

func TestSaga_ARefusalUndoesInReverse(t *testing.T) {
	w := modetest.New(t)
	w.Refuse("ship")
	s := two(w).Step(w.URL("ship"), w.URL("fetch"), nil)
	wantRolledBack(t, s.Run(within(t)), "REFUSED")
	wantCalls(t, w, `
		action 01 take
		action 02 pay
		action 03 ship
		compensate 02 refund
		compensate 01 give`)
	// The same saga again is the same end, and calls nobody.
	wantRolledBack(t, s.Run(within(t)), "REFUSED")
	if n := len(w.Calls()); n != 5 {
		t.Errorf("%d calls after a repeat, want 5", n)
	}
}

// A step whose attempts are used up may have been done, so it is compensated too.
func TestSaga_GivingUpCompensatesTheStepItself(t *testing.T) {
	w := modetest.New(t)
	w.On("pay", func(context.Context, []byte) ([]byte, error) { return nil, errors.New("no answer of sense") })
	s := saga.New(w.Client, saga.Retry(20*time.Millisecond, 40*time.Millisecond)).
		Step(w.URL("take"), w.URL("give"), nil).
		Step(w.URL("pay"), w.URL("refund"), nil, saga.StepAttempts(2))
	wantRolledBack(t, s.Run(within(t)), "GAVE_UP")
	wantCalls(t, w, `
		action 01 take
		action 02 pay
		action 02 pay
		compensate 02 refund
		compensate 01 give`)
}

// Run of a saga that is decided already waits for its end all the same: "undone" is said
// once everything is.
func TestSaga_ARepeatWaitsForTheCompensations(t *testing.T) {
	w := modetest.New(t)
	reached, free := make(chan struct{}), make(chan struct{})
	var undone atomic.Bool
	w.Refuse("pay")
	w.On("give", func(ctx context.Context, _ []byte) ([]byte, error) {
		close(reached)
		select {
		case <-free:
			undone.Store(true)
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	s := two(w)
	if err := s.Submit(within(t)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-reached:
	case <-within(t).Done():
		t.Fatal("nothing is compensated")
	}
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.Run(short); !errors.Is(err, participant.ErrUnknown) {
		t.Errorf("while a compensation is at work: %v, want unknown", err)
	}
	close(free)
	wantRolledBack(t, s.Run(within(t)), "REFUSED")
	if !undone.Load() {
		t.Error("Run said undone before everything was")
	}
}

func TestSaga_AGraphRunsWhatItCan(t *testing.T) {
	w := modetest.New(t)
	var together atomic.Int32
	both := make(chan struct{})
	meet := func(ctx context.Context, _ []byte) ([]byte, error) {
		if together.Add(1) == 2 {
			close(both)
		}
		select {
		case <-both:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	w.On("take", meet)
	w.On("pay", meet)
	err := saga.New(w.Client).
		Step(w.URL("take"), "", nil, saga.ID("stock")).
		Step(w.URL("pay"), "", nil, saga.ID("money"), saga.After()).
		Step(w.URL("ship"), "", nil, saga.ID("ship"), saga.After("stock", "money")).
		Run(within(t))
	if err != nil {
		t.Fatal(err)
	}
	calls := w.Calls()
	if last := calls[len(calls)-1].String(); len(calls) != 3 || last != "action ship ship" {
		t.Errorf("called:\n%s\nwant take and pay at once, and then ship", w.Told())
	}
}

// Nobody is told a failure that is none: the saga goes on, and Run again waits for it.
func TestSaga_ALateAnswerIsUnknown(t *testing.T) {
	w := modetest.New(t)
	free := make(chan struct{})
	w.On("pay", func(ctx context.Context, _ []byte) ([]byte, error) {
		select {
		case <-free:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	s := two(w)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := s.Run(ctx); !errors.Is(err, participant.ErrUnknown) {
		t.Fatalf("a saga at work, after the context has ended: %v", err)
	}
	close(free)
	if err := s.Run(within(t)); err != nil {
		t.Fatal(err)
	}
	got, err := w.Client.Get(t.Context(), string(s.GID()))
	if err != nil || len(got.GetBranches()) != 2 {
		t.Errorf("%d branches, %v", len(got.GetBranches()), err)
	}
}

// One key is one saga, whoever runs it.
func TestSaga_AKeyStandsForTheFirst(t *testing.T) {
	w := modetest.New(t)
	first, second := two(w, saga.Key("order-1")), two(w, saga.Key("order-1"))
	if err := errors.Join(first.Run(within(t)), second.Run(within(t))); err != nil {
		t.Fatal(err)
	}
	if first.GID() != second.GID() || len(w.Calls()) != 2 {
		t.Errorf("gids %s and %s, calls:\n%s", first.GID(), second.GID(), w.Told())
	}
}

func TestSaga_StepsOverGRPC(t *testing.T) {
	w := modetest.New(t)
	var ongoing atomic.Bool
	w.On("pay", func(context.Context, []byte) ([]byte, error) {
		if !ongoing.Swap(true) {
			return nil, participant.ErrOngoing
		}
		return nil, participant.ErrRefused
	})
	err := saga.New(w.Client, saga.Retry(20*time.Millisecond, 20*time.Millisecond)).
		Step(w.Method("take"), w.Method("give"), "raw").
		Step(w.Method("pay"), w.Method("refund"), nil, saga.StepAttempts(1)).
		Run(within(t))
	wantRolledBack(t, err, "REFUSED")
	wantCalls(t, w, `
		action 01 take
		action 02 pay
		action 02 pay
		compensate 01 give`)
	if got := w.Calls()[0].Payload; got != `"raw"` {
		t.Errorf("payload %q", got)
	}
}

// The next leader carries on where the last one stood.
func TestSaga_ALeaderIsLost(t *testing.T) {
	w := modetest.New(t)
	reached := make(chan struct{})
	var once atomic.Bool
	w.On("pay", func(ctx context.Context, _ []byte) ([]byte, error) {
		if !once.Swap(true) {
			close(reached)
			<-ctx.Done() // the leader dies with the call in the air
		}
		return nil, nil
	})
	s := two(w, saga.Retry(20*time.Millisecond, 100*time.Millisecond))
	done := make(chan error, 1)
	go func() { done <- s.Run(within(t)) }()
	select {
	case <-reached:
	case err := <-done:
		t.Fatalf("the saga ended with %v", err)
	}
	w.Cluster.Down(0)
	w.Cluster.Lead(1)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	wantCalls(t, w, `
		action 01 take
		action 02 pay
		action 02 pay`)
	calls := w.Calls()
	if calls[2].Epoch.Compare(calls[1].Epoch) <= 0 {
		t.Errorf("epochs %v and then %v", calls[1].Epoch, calls[2].Epoch)
	}
}

func TestSaga_MistakesAreRefusedBeforeAnythingIsCalled(t *testing.T) {
	w := modetest.New(t)
	for name, s := range map[string]*saga.Saga{
		"dangling":  saga.New(w.Client).Step(w.URL("take"), "", nil, saga.After("nobody")),
		"cyclic":    saga.New(w.Client).Step(w.URL("take"), "", nil, saga.After("02")).Step(w.URL("pay"), "", nil),
		"forbidden": saga.New(w.Client).Step("http://192.0.2.1/take", "", nil),
		"payload":   saga.New(w.Client).Step(w.URL("take"), "", make(chan int)),
		"empty":     saga.New(w.Client),
		"no action": saga.New(w.Client).Step("", w.URL("give"), nil),
	} {
		err := s.Run(within(t))
		var refused *participant.RefusedError
		if name == "payload" {
			if err == nil || !strings.Contains(err.Error(), "chan int") {
				t.Errorf("%s: %v", name, err)
			}
		} else if !errors.As(err, &refused) || refused.Detail == "" {
			t.Errorf("%s: %v, want a refusal that says why", name, err)
		}
	}
	if told := w.Told(); told != "" {
		t.Errorf("called:\n%s", told)
	}
}

// A text that is not UTF-8 fits into no request: that is said at once, and is no unknown
// outcome after the last try.
func TestSaga_WhatCannotBeWrittenIsRefused(t *testing.T) {
	w := modetest.New(t)
	for name, s := range map[string]*saga.Saga{
		"key":  two(w, saga.Key("\xff")),
		"step": saga.New(w.Client).Step(w.URL("take"), "", nil, saga.ID("\xff")),
	} {
		ctx := within(t)
		var refused *participant.RefusedError
		if err := s.Run(ctx); !errors.As(err, &refused) || refused.Reason != "INVALID" || !strings.Contains(err.Error(), "UTF-8") || ctx.Err() != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSaga_ATimeoutCompensates(t *testing.T) {
	w := modetest.New(t)
	w.On("pay", func(context.Context, []byte) ([]byte, error) { return nil, participant.ErrOngoing })
	s := two(w, saga.Timeout(time.Second), saga.Retry(20*time.Millisecond, 50*time.Millisecond))
	if err := s.Submit(within(t)); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, modetest.Patience, func() bool { return len(w.Calls()) > 2 }, "the second step to be asked again")
	wantRolledBack(t, s.Run(within(t)), "TIMEOUT")
	if told := w.Told(); !strings.HasSuffix(told, "compensate 02 refund\ncompensate 01 give") {
		t.Errorf("called:\n%s", told)
	}
}
