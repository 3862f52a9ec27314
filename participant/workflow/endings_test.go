package workflow_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/testkit"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/fence"
	"github.com/quorate/quorate/participant/internal/modetest"
	"github.com/quorate/quorate/participant/workflow"
)

// Every option is what the cluster holds of the execution.
func TestWorkflow_EveryOptionArrives(t *testing.T) {
	w := modetest.New(t)
	e := engine(t, w, "order", func(*workflow.Workflow, []byte) ([]byte, error) { return nil, errors.New("later") },
		workflow.ResumeAfter(time.Hour), workflow.CallTimeout(7*time.Second), workflow.Header("Tenant", "acme"))
	if _, err := e.Execute(within(t), "order", "o", []byte("lamp")); !errors.Is(err, participant.ErrUnknown) {
		t.Fatal(err)
	}
	got, err := w.Client.Get(t.Context(), "key:o")
	if err != nil {
		t.Fatal(err)
	}
	hour := durationpb.New(time.Hour)
	plan := &quoratev1.Plan{
		Retry:    &quoratev1.Retry{Interval: hour, IntervalMax: hour, CallTimeout: durationpb.New(7 * time.Second)},
		Callback: w.URL("resume"), CallbackPayload: []byte("lamp"), CallbackAfter: hour, Headers: map[string]string{"Tenant": "acme"}, Workflow: "order",
	}
	if !proto.Equal(got.GetPlan(), plan) {
		t.Errorf("the plan is %v,\nwant %v", got.GetPlan(), plan)
	}
}

// The context of a step and of its endings carries the call that each is: a fence in an
// OnRollback undoes, and one in an OnCommit confirms.
func TestWorkflow_EveryFunctionIsACallOfItsOwn(t *testing.T) {
	for _, fails := range []bool{false, true} {
		w, d := modetest.New(t), new(diary)
		e := engine(t, w, "order", func(wf *workflow.Workflow, _ []byte) ([]byte, error) {
			note := func(ctx context.Context) error {
				c := fence.FromContext(ctx)
				d.note(fmt.Sprint(c.Operation, " ", c.Branch))
				if c.GID != string(wf.GID()) || c.Key != "o" || c.Mode != "workflow" || c.Cluster != w.Client.ClusterID() || c.Part != "" || c.FloorMS > c.ClockMS {
					t.Errorf("the call is %#v", c)
				}
				if c.ClockMS == 0 || c.FloorMS != w.Client.FloorMS() {
					t.Errorf("clock %d and floor %d, the client's is %d", c.ClockMS, c.FloorMS, w.Client.FloorMS())
				}
				return nil
			}
			_, err := wf.Do("stock", func(ctx context.Context) ([]byte, error) { return nil, note(ctx) }, workflow.OnRollback(note), workflow.OnCommit(note))
			if err == nil && fails {
				err = participant.ErrRefused
			}
			return nil, err
		})
		_, err := e.Execute(within(t), "order", "o", nil)
		want := "action stock, confirm stock"
		if fails {
			want = "action stock, compensate stock"
		}
		if errors.Is(err, participant.ErrUnknown) || d.String() != want {
			t.Errorf("%v, the calls were %q, want %q", err, d, want)
		}
	}
}

// Success is not decided before every OnCommit has succeeded; those that have are not run
// again.
func TestWorkflow_ConfirmingGoesOnWhereItWasLeft(t *testing.T) {
	w, d := modetest.New(t), new(diary)
	fails := true
	e := engine(t, w, "order", func(wf *workflow.Workflow, _ []byte) ([]byte, error) {
		_, _ = wf.Do("stock", d.does("stock"), workflow.OnCommit(d.ends("+stock")))
		// A step that has failed is not confirmed, though the code goes on without it.
		_, err := wf.Do("gift", func(context.Context) ([]byte, error) {
			d.note("gift")
			return nil, fmt.Errorf("%w: none left", participant.ErrRefused)
		}, workflow.OnCommit(d.ends("+gift")), workflow.OnRollback(d.ends("-gift")))
		var failed *workflow.StepError
		if !errors.As(err, &failed) || failed.Step != "gift" || !strings.Contains(failed.Detail, "none left") || failed.Maybe {
			t.Errorf("the step's failure is %v", err)
		}
		_, _ = wf.Do("pay", d.does("pay"), workflow.OnCommit(func(context.Context) error {
			d.note("+pay")
			if fails {
				fails = false
				return errors.New("try me again")
			}
			return nil
		}))
		return []byte("fine"), nil
	}, workflow.ResumeAfter(time.Hour))
	if _, err := e.Execute(within(t), "order", "o", nil); !errors.Is(err, participant.ErrUnknown) || !strings.Contains(err.Error(), "try me again") {
		t.Fatalf("%v, want unknown", err)
	}
	tx, err := w.Client.Get(t.Context(), "key:o")
	if err != nil || participant.Decision(tx.GetDecision()) != participant.DecisionNone {
		t.Fatalf("decided %v, %v", tx.GetDecision(), err)
	}
	if got, err := e.Execute(within(t), "order", "o", nil); err != nil || string(got) != "fine" {
		t.Fatalf("%q, %v", got, err)
	}
	if want := "stock, gift, pay, +stock, +pay, +pay"; d.String() != want {
		t.Errorf("did %q, want %q", d, want)
	}
}

// In a later run a step's failure is the one that was recorded, word for word, and a step
// that was given up is missed as one that was done is.
func TestWorkflow_AFailureIsReadBack(t *testing.T) {
	w, d := modetest.New(t), new(diary)
	var told []workflow.StepError
	stuck, skips := true, false
	e := engine(t, w, "order", func(wf *workflow.Workflow, _ []byte) ([]byte, error) {
		_, err := wf.Do("ship", func(context.Context) ([]byte, error) {
			d.note("ship")
			return nil, fmt.Errorf("%w: no ship today", participant.ErrRefused)
		})
		var failed *workflow.StepError
		if !errors.As(err, &failed) {
			t.Errorf("the step that has failed: %v", err)
			return nil, err
		}
		told = append(told, *failed)
		if skips {
			return nil, err
		}
		_, payErr := wf.Do("pay", func(context.Context) ([]byte, error) { d.note("pay"); return nil, errors.New("no answer") }, workflow.OnRollback(func(context.Context) error {
			if stuck {
				return errors.New("stuck")
			}
			return d.ends("-pay")(context.Background())
		}))
		if payErr == nil {
			t.Error("the step without an answer was done")
		}
		return nil, err
	}, workflow.ResumeAfter(time.Hour))
	execute := func() error {
		_, err := e.Execute(within(t), "order", "o", nil)
		return err
	}
	if err := execute(); !errors.Is(err, participant.ErrUnknown) {
		t.Fatalf("%v, want unknown", err)
	}
	skips = true // the code has changed
	if err := execute(); !errors.Is(err, participant.ErrUnknown) || !strings.Contains(err.Error(), `step "pay"`) {
		t.Errorf("without the step that was given up: %v", err)
	}
	stuck, skips = false, false
	if err := execute(); !errors.Is(err, participant.ErrRefused) {
		t.Errorf("%v, want rolled back", err)
	}
	if want := "ship, pay, -pay"; d.String() != want {
		t.Errorf("did %q, want %q", d, want)
	}
	for _, f := range told {
		if f != told[0] || !strings.Contains(f.Detail, "no ship today") {
			t.Errorf("the failure is %+v, and at first was %+v", f, told[0])
		}
	}
}

// A run whose word comes too late tells what another one has decided.
func TestWorkflow_ACutOffRunTellsWhatStands(t *testing.T) {
	w, d := modetest.New(t), new(diary)
	entered, free := make(chan struct{}), make(chan struct{})
	slow := engine(t, w, "order", func(wf *workflow.Workflow, _ []byte) ([]byte, error) {
		return wf.Do("one", func(context.Context) ([]byte, error) {
			close(entered)
			<-free
			return []byte("late"), nil
		})
	}, workflow.ResumeAfter(time.Hour))
	type answer struct {
		got []byte
		err error
	}
	late := make(chan answer, 1)
	go func() {
		got, err := slow.Execute(within(t), "order", "o", nil)
		late <- answer{got, err}
	}()
	<-entered
	quick := engine(t, w, "order", func(wf *workflow.Workflow, _ []byte) ([]byte, error) { return wf.Do("one", d.does("first")) }, workflow.ResumeAfter(time.Hour))
	if got, err := quick.Execute(within(t), "order", "o", nil); err != nil || string(got) != "first" {
		t.Errorf("the quick one: %q, %v", got, err)
	}
	close(free)
	if a := <-late; a.err != nil || string(a.got) != "first" {
		t.Errorf("the slow one: %q, %v, want what was decided meanwhile", a.got, a.err)
	}
}

// A run that finds the transaction rolled back by somebody else's word, in its next step,
// says that, and not that nobody knows.
func TestWorkflow_ARunThatWasStoppedSaysSo(t *testing.T) {
	w := modetest.New(t)
	e := engine(t, w, "order", func(wf *workflow.Workflow, _ []byte) ([]byte, error) {
		return wf.Do("one", func(ctx context.Context) ([]byte, error) {
			_, err := w.Client.Service().Rollback(ctx, &quoratev1.RollbackRequest{
				Transaction: string(wf.GID()), Detail: "by hand", Wait: quoratev1.Wait_WAIT_DECISION,
			})
			return []byte("done"), err
		})
	}, workflow.ResumeAfter(time.Hour))
	var rolledBack *participant.RolledBackError
	if _, err := e.Execute(within(t), "order", "o", nil); !errors.As(err, &rolledBack) || !strings.Contains(rolledBack.Detail, "by hand") {
		t.Errorf("%v, want the rollback and its reason", err)
	}
}

// A resume whose caller waits no longer is answered "at work": the execution goes on.
func TestWorkflow_ALongResumeIsAtWork(t *testing.T) {
	w := modetest.New(t)
	free := make(chan struct{})
	e := engine(t, w, "slow", func(wf *workflow.Workflow, _ []byte) ([]byte, error) {
		return wf.Do("wait", func(ctx context.Context) ([]byte, error) {
			select {
			case <-free:
				return nil, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		})
	}, workflow.ResumeAfter(time.Hour))
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := e.Execute(short, "slow", "s", nil); !errors.Is(err, participant.ErrUnknown) {
		t.Fatal(err)
	}
	tx, err := w.Client.Get(t.Context(), "key:s")
	if err != nil {
		t.Fatal(err)
	}
	resume := fence.Call{GID: tx.GetGid(), Operation: fence.Resume}
	gone, leave := context.WithCancel(fence.NewContext(t.Context(), resume))
	leave()
	if _, err := e.Serve(gone, nil); !errors.Is(err, participant.ErrOngoing) {
		t.Errorf("a resume whose caller has gone: %v, want at work", err)
	}
	close(free)
	if _, err := e.Serve(fence.NewContext(within(t), resume), nil); err != nil {
		t.Error(err)
	}
	testkit.Eventually(t, modetest.Patience, func() bool {
		tx, err := w.Client.Get(t.Context(), "key:s")
		return err == nil && participant.Decision(tx.GetDecision()) == participant.DecisionCommit
	}, "the workflow to end")
}

// Whoever asks for what is running in this process already waits for that: no step runs
// twice at once.
func TestWorkflow_OneRunAProcess(t *testing.T) {
	w, d := modetest.New(t), new(diary)
	free, entered := make(chan struct{}), make(chan struct{}, 4)
	e := engine(t, w, "order", func(wf *workflow.Workflow, _ []byte) ([]byte, error) {
		entered <- struct{}{}
		<-free
		if a, b := wf.Key("a"), wf.Key("b"); a == b || a != wf.Key("a") {
			t.Errorf("the keys of two steps are %q and %q", a, b)
		}
		return wf.Do("one", d.does("one"))
	}, workflow.ResumeAfter(time.Hour))
	done := make(chan error, 2)
	execute := func(ctx context.Context) {
		_, err := e.Execute(ctx, "order", "o", nil)
		done <- err
	}
	go execute(within(t))
	<-entered
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	execute(short)
	if err := <-done; !errors.Is(err, participant.ErrUnknown) {
		t.Errorf("whoever does not wait: %v", err)
	}
	go execute(within(t))
	close(free)
	if err := errors.Join(<-done, <-done); err != nil || len(entered) != 0 || d.String() != "one" {
		t.Errorf("%v, %d runs more, did %q", err, len(entered), d)
	}
}
