package workflow_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/testkit"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/fence"
	"github.com/quorate/quorate/participant/internal/modetest"
	"github.com/quorate/quorate/participant/saga"
	"github.com/quorate/quorate/participant/tcc"
	"github.com/quorate/quorate/participant/workflow"
)

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), modetest.Patience)
	t.Cleanup(cancel)
	return ctx
}

// diary notes what steps do, in order.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) note(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, line)
}

func (d *diary) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.lines, ", ")
}

// does is a step that notes its name and returns it.
func (d *diary) does(name string) func(context.Context) ([]byte, error) {
	return func(context.Context) ([]byte, error) {
		d.note(name)
		return []byte(name), nil
	}
}

func (d *diary) ends(name string) func(context.Context) error {
	return func(context.Context) error {
		d.note(name)
		return nil
	}
}

// engine is one process: an engine that the coordinator reaches.
func engine(t *testing.T, w *modetest.World, name string, f workflow.Func, opts ...workflow.Option) *workflow.Engine {
	t.Helper()
	e := workflow.New(w.Client, w.URL("resume"), opts...)
	e.Register(name, f)
	w.On("resume", e.Serve)
	t.Cleanup(e.Close)
	return e
}

func TestWorkflow_StepsRunAndTheResultIsKept(t *testing.T) {
	w, d := modetest.New(t), new(diary)
	e := engine(t, w, "order", func(wf *workflow.Workflow, data []byte) ([]byte, error) {
		stock, err := wf.Do("stock", func(ctx context.Context) ([]byte, error) {
			if c := fence.FromContext(ctx); c.GID != string(wf.GID()) || c.Branch != "stock" || c.Operation != fence.Action ||
				c.Cluster == "" || c.Cluster != w.Client.ClusterID() {
				t.Errorf("the step's call is %+v", c)
			}
			return d.does("stock")(ctx)
		}, workflow.OnRollback(d.ends("-stock")), workflow.OnCommit(d.ends("+stock")))
		if err != nil {
			return nil, err
		}
		pay, err := wf.Do("pay", d.does("pay"), workflow.OnCommit(d.ends("+pay")))
		return fmt.Appendf(nil, "%s %s %s for %s", data, stock, pay, wf.ID()), err
	})
	for range 2 {
		got, err := e.Execute(within(t), "order", "order-1", []byte("lamp"))
		if err != nil || string(got) != "lamp stock pay for order-1" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if want := "stock, pay, +stock, +pay"; d.String() != want {
		t.Errorf("did %q, want %q", d, want)
	}
}

func TestWorkflow_AFailureUndoesInReverse(t *testing.T) {
	w, d := modetest.New(t), new(diary)
	unclear := errors.New("the bank's line is dead")
	e := engine(t, w, "order", func(wf *workflow.Workflow, _ []byte) ([]byte, error) {
		_, _ = wf.Do("stock", d.does("stock"), workflow.OnRollback(d.ends("-stock")))
		_, _ = wf.Do("note", d.does("note"))
		if _, err := wf.Do("pay", func(context.Context) ([]byte, error) { d.note("pay"); return nil, unclear }, workflow.OnRollback(d.ends("-pay"))); !errors.Is(err, unclear) {
			t.Errorf("the step's own error became %v", err)
		}
		_, err := wf.Do("ship", func(context.Context) ([]byte, error) {
			d.note("ship")
			return nil, fmt.Errorf("%w: no ship today", participant.ErrRefused)
		}, workflow.OnRollback(d.ends("-ship")))
		return nil, err
	})
	for range 2 {
		_, err := e.Execute(within(t), "order", "order-1", nil)
		var rolledBack *participant.RolledBackError
		if !errors.As(err, &rolledBack) || !strings.Contains(rolledBack.Detail, "no ship today") {
			t.Fatalf("%v, want a rollback that says why", err)
		}
	}
	if want := "stock, note, pay, ship, -pay, -stock"; d.String() != want {
		t.Errorf("did %q, want %q", d, want)
	}
}

// A process that dies between two steps: another one goes on, and repeats none that was
// recorded.
func TestWorkflow_AnotherProcessGoesOn(t *testing.T) {
	w, d := modetest.New(t), new(diary)
	code := func(crash bool) workflow.Func {
		return func(wf *workflow.Workflow, _ []byte) ([]byte, error) {
			first, err := wf.Do("one", d.does("one"))
			if err != nil {
				return nil, err
			}
			if crash {
				return nil, errors.New("the process dies here")
			}
			second, err := wf.Do("two", d.does("two"))
			return append(first, second...), err
		}
	}
	dying := engine(t, w, "count", code(true), workflow.ResumeAfter(200*time.Millisecond))
	w.On("resume", func(context.Context, []byte) ([]byte, error) { return nil, errors.New("nobody is home") })
	if _, err := dying.Execute(within(t), "count", "c", nil); !errors.Is(err, participant.ErrUnknown) {
		t.Fatalf("%v, want unknown", err)
	}
	engine(t, w, "count", code(false))
	tx, err := w.Client.Get(t.Context(), "key:c")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Client.AwaitFinish(within(t), participant.GID(tx.GetGid())); err != nil {
		t.Fatal(err)
	}
	if want := "one, two"; d.String() != want {
		t.Errorf("did %q, want %q", d, want)
	}
	if got, err := dying.Execute(within(t), "count", "c", nil); err != nil || string(got) != "onetwo" {
		t.Errorf("the kept result is %q, %v", got, err)
	}
}

// A run that ends in the middle of undoing: a step without an answer was recorded as
// such, and does not run again after its undoing.
func TestWorkflow_UndoingGoesOnWhereItWasLeft(t *testing.T) {
	w, d := modetest.New(t), new(diary)
	fails := true
	e := engine(t, w, "order", func(wf *workflow.Workflow, _ []byte) ([]byte, error) {
		_, _ = wf.Do("stock", d.does("stock"), workflow.OnRollback(func(context.Context) error {
			d.note("-stock")
			if fails {
				fails = false
				return errors.New("try me again")
			}
			return nil
		}))
		_, err := wf.Do("pay", func(context.Context) ([]byte, error) { d.note("pay"); return nil, errors.New("no answer") }, workflow.OnRollback(d.ends("-pay")))
		if err != nil {
			return nil, fmt.Errorf("%w: cannot pay", participant.ErrRefused)
		}
		return nil, nil
	}, workflow.ResumeAfter(time.Hour))
	if _, err := e.Execute(within(t), "order", "o", nil); !errors.Is(err, participant.ErrUnknown) {
		t.Fatalf("%v, want unknown", err)
	}
	if _, err := e.Execute(within(t), "order", "o", nil); !errors.Is(err, participant.ErrRefused) {
		t.Fatalf("%v, want rolled back", err)
	}
	if want := "stock, pay, -pay, -stock, -stock"; d.String() != want {
		t.Errorf("did %q, want %q", d, want)
	}
}

// Two processes run one execution at once: the first word on a step stands for both.
func TestWorkflow_TheFirstWordStands(t *testing.T) {
	w := modetest.New(t)
	var mu sync.Mutex
	runs := 0
	both := make(chan struct{})
	var heard []string // by each run, whichever of them its own answer was
	code := func(wf *workflow.Workflow, _ []byte) ([]byte, error) {
		got, err := wf.Do("dice", func(context.Context) ([]byte, error) {
			mu.Lock()
			runs++
			mine := runs
			if runs == 2 {
				close(both)
			}
			mu.Unlock()
			<-both
			return fmt.Append(nil, mine), nil
		})
		mu.Lock()
		defer mu.Unlock()
		heard = append(heard, string(got))
		return got, err
	}
	one, two := engine(t, w, "dice", code), engine(t, w, "dice", code)
	type answer struct {
		got []byte
		err error
	}
	answers := make(chan answer, 2)
	for _, e := range []*workflow.Engine{one, two} {
		go func() {
			got, err := e.Execute(within(t), "dice", "d", nil)
			answers <- answer{got, err}
		}()
	}
	a, b := <-answers, <-answers
	if a.err != nil || b.err != nil || string(a.got) != string(b.got) || len(a.got) == 0 {
		t.Errorf("%q, %v and %q, %v", a.got, a.err, b.got, b.err)
	}
	if len(heard) != 2 || heard[0] != heard[1] {
		t.Errorf("the two runs went on with %q", heard)
	}
}

// Transactions of other modes are steps, repeatable by their keys.
func TestWorkflow_OtherModesAreSteps(t *testing.T) {
	w := modetest.New(t)
	w.Refuse("poor")
	e := engine(t, w, "mixed", func(wf *workflow.Workflow, _ []byte) ([]byte, error) {
		_, err := wf.Do("ship", func(ctx context.Context) ([]byte, error) {
			return nil, saga.New(w.Client, saga.Key(wf.Key("ship"))).Step(w.URL("take"), w.URL("give"), nil).Run(ctx)
		})
		if err != nil {
			return nil, err
		}
		_, err = wf.Do("pay", func(ctx context.Context) ([]byte, error) {
			return nil, tcc.Run(ctx, w.Client, func(ctx context.Context, tx *tcc.Transaction) error {
				_, err := tx.Call(ctx, tcc.Branch{Try: w.URL("poor"), Confirm: w.URL("confirm"), Cancel: w.URL("cancel")}, nil)
				return err
			}, tcc.Key(wf.Key("pay")), tcc.WaitFinish())
		})
		return nil, err
	})
	_, err := e.Execute(within(t), "mixed", "m", nil)
	var step *workflow.StepError
	if !errors.Is(err, participant.ErrRefused) || errors.As(err, &step) {
		t.Fatalf("%v, want rolled back", err)
	}
	if want := "action 01 take\ntry 1 poor\ncancel 1 cancel"; w.Told() != want {
		t.Errorf("told:\n%s", w.Told())
	}
}

func TestWorkflow_MistakesDecideNothing(t *testing.T) {
	w, d := modetest.New(t), new(diary)
	e := engine(t, w, "twice", func(wf *workflow.Workflow, _ []byte) ([]byte, error) {
		_, _ = wf.Do("same", d.does("same"))
		_, _ = wf.Do("same", d.does("same"))
		return []byte("fine"), nil // the code looks away
	})
	if _, err := e.Execute(within(t), "twice", "t", nil); !errors.Is(err, participant.ErrUnknown) || !strings.Contains(err.Error(), "named twice") {
		t.Errorf("a step named twice: %v", err)
	}
	if _, err := e.Execute(within(t), "nobody", "n", nil); err == nil {
		t.Error("executed what is not registered")
	}
	if d.String() != "same" {
		t.Errorf("did %q", d)
	}
	tx, err := w.Client.Get(t.Context(), "key:t")
	if err != nil || participant.Decision(tx.GetDecision()) != participant.DecisionNone {
		t.Errorf("decided %v, %v", tx.GetDecision(), err)
	}
}

// Another process, or the next release, has another callback and other settings: the id
// stands for the same execution, running or ended. Another workflow, or other data, are
// refused.
func TestWorkflow_AnIDStandsForOneExecutionWhoeverAsks(t *testing.T) {
	w, d := modetest.New(t), new(diary)
	free := make(chan struct{})
	code := func(wf *workflow.Workflow, data []byte) ([]byte, error) {
		return wf.Do("one", func(ctx context.Context) ([]byte, error) {
			select {
			case <-free:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			return d.does("one")(ctx)
		})
	}
	first := engine(t, w, "order", code)
	done := make(chan error, 1)
	go func() {
		_, err := first.Execute(within(t), "order", "o", []byte("lamp"))
		done <- err
	}()
	testkit.Eventually(t, modetest.Patience, func() bool {
		_, err := w.Client.Get(t.Context(), "key:o")
		return err == nil
	})
	next := workflow.New(w.Client, w.URL("elsewhere"), workflow.ResumeAfter(time.Hour), workflow.Header("Release", "2"))
	next.Register("order", func(*workflow.Workflow, []byte) ([]byte, error) { return nil, errors.New("this process is not asked") })
	next.Register("other", code)
	t.Cleanup(next.Close)
	conflict := func(name, data string) {
		t.Helper()
		var refused *participant.RefusedError
		if _, err := next.Execute(within(t), name, "o", []byte(data)); !errors.As(err, &refused) || refused.Reason != "GID_CONFLICT" {
			t.Errorf("%s with %q: %v, want GID_CONFLICT", name, data, err)
		}
	}
	conflict("order", "table")
	conflict("other", "lamp")
	if _, err := next.Execute(within(t), "order", "o", []byte("lamp")); !errors.Is(err, participant.ErrUnknown) || !strings.Contains(err.Error(), "not asked") {
		t.Errorf("the running one, by the next release: %v", err)
	}
	close(free)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got, err := next.Execute(within(t), "order", "o", []byte("lamp")); err != nil || string(got) != "one" {
		t.Errorf("the ended one, by the next release: %q, %v", got, err)
	}
	conflict("other", "lamp")
}

// A step whose name the cluster would not take must not run: it could not be recorded,
// and would run again in each run.
func TestWorkflow_AStepThatCannotBeRecordedDoesNotRun(t *testing.T) {
	for _, name := range []string{"", "two\r\nlines", "a\x00b", "turned \u202e", "\xff", strings.Repeat("x", participant.BranchIDBytesMax+1)} {
		w, d := modetest.New(t), new(diary)
		e := engine(t, w, "odd", func(wf *workflow.Workflow, _ []byte) ([]byte, error) { return wf.Do(name, d.does("ran")) })
		if _, err := e.Execute(within(t), "odd", "o", nil); !errors.Is(err, participant.ErrUnknown) || !strings.Contains(err.Error(), "want a name") || d.String() != "" {
			t.Errorf("step %q: %v, did %q", name, err, d)
		}
	}
}

// Code that has changed between two runs, so that a step which was done is missing: the
// new code neither succeeds without the step's OnCommit nor fails without its OnRollback.
func TestWorkflow_ChangedCodeForgetsNoStep(t *testing.T) {
	for _, fails := range []bool{false, true} {
		w, d := modetest.New(t), new(diary)
		stock := func(wf *workflow.Workflow) error {
			_, err := wf.Do("stock", d.does("stock"), workflow.OnCommit(d.ends("+stock")), workflow.OnRollback(d.ends("-stock")))
			return err
		}
		pay := func(wf *workflow.Workflow) ([]byte, error) {
			if fails {
				return nil, fmt.Errorf("no money: %w", participant.ErrRefused)
			}
			return wf.Do("pay", d.does("pay"))
		}
		old := engine(t, w, "order", func(wf *workflow.Workflow, _ []byte) ([]byte, error) {
			return nil, errors.Join(stock(wf), errors.New("the process dies here"))
		})
		if _, err := old.Execute(within(t), "order", "o", nil); !errors.Is(err, participant.ErrUnknown) {
			t.Fatal(err)
		}
		changed := engine(t, w, "order", func(wf *workflow.Workflow, _ []byte) ([]byte, error) { return pay(wf) })
		if _, err := changed.Execute(within(t), "order", "o", nil); !errors.Is(err, participant.ErrUnknown) || !strings.Contains(err.Error(), `step "stock"`) {
			t.Errorf("without the step that was done (fails: %v): %v", fails, err)
		}
		mended := engine(t, w, "order", func(wf *workflow.Workflow, _ []byte) ([]byte, error) {
			if err := stock(wf); err != nil {
				return nil, err
			}
			return pay(wf)
		})
		_, err := mended.Execute(within(t), "order", "o", nil)
		want := "stock, pay, +stock"
		if fails {
			want = "stock, -stock"
		}
		if fails == (err == nil) || errors.Is(err, participant.ErrUnknown) || d.String() != want {
			t.Errorf("mended (fails: %v): %v, did %q, want %q", fails, err, d, want)
		}
	}
}

// A panic decides nothing, and does not end the process: the next run may do better.
func TestWorkflow_APanicIsRunAgain(t *testing.T) {
	w, d := modetest.New(t), new(diary)
	shaky := true
	e := engine(t, w, "shaky", func(wf *workflow.Workflow, _ []byte) ([]byte, error) {
		_, err := wf.Do("one", d.does("one"))
		if shaky {
			shaky = false
			panic("lost my head")
		}
		return []byte("fine"), err
	})
	_, err := e.Execute(within(t), "shaky", "s", nil)
	var panicked *workflow.PanicError
	if !errors.Is(err, participant.ErrUnknown) || !errors.As(err, &panicked) || len(panicked.Stack) == 0 {
		t.Fatalf("%v, want unknown, and the panic", err)
	}
	if got, err := e.Execute(within(t), "shaky", "s", nil); err != nil || string(got) != "fine" || d.String() != "one" {
		t.Errorf("%q, %v, did %q", got, err, d)
	}
}

// A long execution outlives the resume that asked for it, and a closed engine starts none.
func TestWorkflow_Close(t *testing.T) {
	w := modetest.New(t)
	entered := make(chan struct{})
	e := engine(t, w, "slow", func(wf *workflow.Workflow, _ []byte) ([]byte, error) {
		return wf.Do("wait", func(ctx context.Context) ([]byte, error) {
			close(entered)
			<-ctx.Done()
			return nil, ctx.Err()
		})
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := e.Execute(ctx, "slow", "s", nil)
		done <- err
	}()
	<-entered
	cancel()
	if err := <-done; !errors.Is(err, participant.ErrUnknown) {
		t.Errorf("the caller has gone: %v", err)
	}
	e.Close()
	if _, err := e.Execute(within(t), "slow", "s", nil); !errors.Is(err, participant.ErrUnknown) {
		t.Errorf("a closed engine: %v", err)
	}
	testkit.Eventually(t, modetest.Patience, func() bool {
		tx, err := w.Client.Get(t.Context(), "key:s")
		return err == nil && participant.Decision(tx.GetDecision()) == participant.DecisionNone
	}, "the workflow to be left open")
}
