package tcc_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/testkit"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/fence"
	"github.com/quorate/quorate/participant/internal/modetest"
	"github.com/quorate/quorate/participant/tcc"
)

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), modetest.Patience)
	t.Cleanup(cancel)
	return ctx
}

func branch(w *modetest.World, try string) tcc.Branch {
	return tcc.Branch{Try: w.URL(try), Confirm: w.URL("confirm"), Cancel: w.URL("cancel")}
}

// eventually waits until the service was told what is wanted, in any order.
func eventually(t *testing.T, w *modetest.World, want ...string) {
	t.Helper()
	testkit.EventuallyNoError(t, modetest.Patience, func() error {
		told := "\n" + w.Told() + "\n"
		for _, line := range want {
			if n := strings.Count(told, "\n"+line+"\n"); n != 1 {
				return errors.New("want once: " + line + ", told:" + told)
			}
		}
		if len(w.Calls()) != len(want) {
			return errors.New("too much was told:" + told)
		}
		return nil
	})
}

func TestTCC_AllTriesAndThenAllConfirms(t *testing.T) {
	w := modetest.New(t)
	w.On("hold", func(context.Context, []byte) ([]byte, error) { return []byte("held"), nil })
	err := tcc.Run(within(t), w.Client, func(ctx context.Context, tx *tcc.Transaction) error {
		said, err := tx.Call(ctx, branch(w, "hold"), 30)
		if err == nil && string(said) != "held" {
			t.Errorf("the try said %q", said)
		}
		if err != nil {
			return err
		}
		_, err = tx.Call(ctx, tcc.Branch{Try: w.Method("try"), Confirm: w.Method("confirm"), Cancel: w.Method("cancel")}, 30)
		return err
	}, tcc.WaitFinish(), tcc.Header("Tenant", "acme"))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, w, "try 1 hold", "try 2 try", "confirm 1 confirm", "confirm 2 confirm")
	for _, c := range w.Calls() {
		if c.Payload != "30" || c.Mode != "tcc" || c.Attempt != 1 || c.Epoch.Term == 0 {
			t.Errorf("%s: %+v with %q", c, c.Call, c.Payload)
		}
		if c.Header != nil && c.Header.Get("Tenant") != "acme" {
			t.Errorf("%s carries no header of ours", c)
		}
	}
}

func TestTCC_ARefusedTryCancelsAll(t *testing.T) {
	w := modetest.New(t)
	w.Refuse("poor")
	err := tcc.Run(within(t), w.Client, func(ctx context.Context, tx *tcc.Transaction) error {
		if _, err := tx.Call(ctx, branch(w, "hold"), nil); err != nil {
			return err
		}
		_, err := tx.Call(ctx, branch(w, "poor"), nil)
		return err
	})
	if !errors.Is(err, participant.ErrRefused) {
		t.Fatalf("%v, want the refusal of the try", err)
	}
	eventually(t, w, "try 1 hold", "try 2 poor", "cancel 1 cancel", "cancel 2 cancel")
}

func TestTCC_APanicCancels(t *testing.T) {
	w := modetest.New(t)
	func() {
		defer func() {
			if recover() != "lost my head" {
				t.Error("the panic did not go on")
			}
		}()
		_ = tcc.Run(within(t), w.Client, func(ctx context.Context, tx *tcc.Transaction) error {
			if _, err := tx.Call(ctx, branch(w, "hold"), nil); err != nil {
				t.Error(err)
			}
			panic("lost my head")
		})
	}()
	eventually(t, w, "try 1 hold", "cancel 1 cancel")
}

// A try whose handler calls branches of its own nests them below its own.
func TestTCC_BranchesNest(t *testing.T) {
	w := modetest.New(t)
	w.On("outer", func(ctx context.Context, _ []byte) ([]byte, error) {
		tx, err := tcc.Join(ctx, w.Client)
		if err != nil {
			return nil, err
		}
		for range 2 {
			if _, err := tx.Call(ctx, branch(w, "inner"), nil); err != nil {
				return nil, err
			}
		}
		return nil, nil
	})
	err := tcc.Run(within(t), w.Client, func(ctx context.Context, tx *tcc.Transaction) error {
		_, err := tx.Call(ctx, branch(w, "outer"), nil)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, w, "try 1 outer", "try 1.1 inner", "try 1.2 inner", "confirm 1 confirm", "confirm 1.1 confirm", "confirm 1.2 confirm")
}

func TestTCC_JoinNeedsATry(t *testing.T) {
	if _, err := tcc.Join(t.Context(), nil); err == nil {
		t.Error("joined nothing")
	}
}

func TestTCC_AKeyRunsItsFunctionOnce(t *testing.T) {
	w := modetest.New(t)
	runs := 0
	transfer := func(fail error) error {
		return tcc.Run(within(t), w.Client, func(ctx context.Context, tx *tcc.Transaction) error {
			runs++
			if _, err := tx.Call(ctx, branch(w, "hold"), nil); err != nil {
				return err
			}
			return fail
		}, tcc.Key("transfer-7"))
	}
	first := errors.New("changed my mind")
	if err := transfer(first); !errors.Is(err, first) {
		t.Fatal(err)
	}
	var rolledBack *participant.RolledBackError
	if err := transfer(nil); !errors.As(err, &rolledBack) || runs != 1 {
		t.Errorf("%v after %d runs, want the first run's end", err, runs)
	}
}

func TestTCC_TimeIsUp(t *testing.T) {
	w := modetest.New(t)
	err := tcc.Run(within(t), w.Client, func(ctx context.Context, tx *tcc.Transaction) error {
		if _, err := tx.Call(ctx, branch(w, "hold"), nil); err != nil {
			return err
		}
		w.Cluster.Advance(2 * time.Second)
		return nil
	}, tcc.Timeout(time.Second), tcc.WaitFinish())
	var rolledBack *participant.RolledBackError
	if !errors.As(err, &rolledBack) || rolledBack.Reason != "TIMEOUT" {
		t.Fatalf("%v, want a rollback for TIMEOUT", err)
	}
	eventually(t, w, "try 1 hold", "cancel 1 cancel")
}

// A try that is still at work is asked again, in either tongue, and each time is counted.
func TestTCC_AnOngoingTryIsAskedAgain(t *testing.T) {
	w := modetest.New(t)
	for _, endpoint := range []string{w.URL("try"), w.Method("try")} {
		var asked atomic.Int32
		w.On("try", func(ctx context.Context, _ []byte) ([]byte, error) {
			n := asked.Add(1)
			if got := fence.FromContext(ctx).Attempt; got != uint64(n) {
				t.Errorf("%s: try %d is called attempt %d", endpoint, n, got)
			}
			if n < 3 {
				return nil, participant.ErrOngoing
			}
			return nil, nil
		})
		err := tcc.Run(within(t), w.Client, func(ctx context.Context, tx *tcc.Transaction) error {
			_, err := tx.Call(ctx, tcc.Branch{Try: endpoint, Confirm: w.URL("confirm"), Cancel: w.URL("cancel")}, nil)
			return err
		}, tcc.WaitFinish())
		if err != nil || asked.Load() != 3 {
			t.Fatalf("%s: %v after %d tries", endpoint, err, asked.Load())
		}
	}
}

// A try that never answers holds its initiator no longer than the transaction lasts, and is
// cancelled: it may have been done.
func TestTCC_ASilentTryIsCancelled(t *testing.T) {
	w := modetest.New(t)
	w.On("hold", func(ctx context.Context, _ []byte) ([]byte, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	err := tcc.Run(t.Context(), w.Client, func(ctx context.Context, tx *tcc.Transaction) error {
		_, err := tx.Call(ctx, branch(w, "hold"), nil)
		return err
	}, tcc.Timeout(300*time.Millisecond))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v, want a deadline exceeded", err)
	}
	eventually(t, w, "try 1 hold", "cancel 1 cancel")
}

// A redirect is no answer: what it leads to is not the try, and would be asked by GET.
func TestTCC_ARedirectIsNotFollowed(t *testing.T) {
	w := modetest.New(t)
	var elsewhere atomic.Bool
	gate := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/login" {
			elsewhere.Store(true) // 200, as login pages are
			return
		}
		http.Redirect(rw, r, "/login", http.StatusFound)
	}))
	defer gate.Close()
	err := tcc.Run(within(t), w.Client, func(ctx context.Context, tx *tcc.Transaction) error {
		_, err := tx.Call(ctx, tcc.Branch{Try: gate.URL + "/try", Confirm: w.URL("confirm"), Cancel: w.URL("cancel")}, nil)
		return err
	}, tcc.WaitFinish())
	if err == nil || !strings.Contains(err.Error(), "302") || elsewhere.Load() {
		t.Errorf("%v, followed: %v", err, elsewhere.Load())
	}
	eventually(t, w, "cancel 1 cancel")
}

func TestTCC_EndpointsAreChecked(t *testing.T) {
	w := modetest.New(t)
	for name, b := range map[string]tcc.Branch{
		"no scheme":  {Try: "localhost/try"},
		"no method":  {Try: "grpc://localhost:1"},
		"no cancel":  {Try: w.URL("try"), Confirm: w.URL("confirm")},
		"no confirm": {Try: w.URL("try"), Cancel: w.URL("cancel")},
		"forbidden":  {Try: w.URL("try"), Confirm: "http://192.0.2.1/confirm"},
	} {
		err := tcc.Run(within(t), w.Client, func(ctx context.Context, tx *tcc.Transaction) error {
			_, err := tx.Call(ctx, b, nil)
			return err
		})
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if told := w.Told(); told != "" {
		t.Errorf("called:\n%s", told)
	}
}
