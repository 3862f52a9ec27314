package workflow

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/internal/plan"
)

// Func is a workflow's code; see the package's rules for it.
type Func func(wf *Workflow, data []byte) ([]byte, error)

// Engine executes workflows, and resumes those of processes that have died. It is safe
// for concurrent use; Close it.
type Engine struct {
	client   *participant.Client
	settings plan.Settings

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup // executions

	mu      sync.Mutex
	funcs   map[string]Func
	running map[participant.GID]*execution
}

// execution is one run of a workflow's code in this process.
type execution struct {
	done   chan struct{} // closed at its end
	result []byte
	err    error
}

// New makes an engine. The coordinator asks the callback to go on with a workflow that
// nobody has finished: serve the engine itself there, or its [Engine.Resume].
func New(client *participant.Client, callback string, opts ...Option) *Engine {
	e := &Engine{client: client, funcs: make(map[string]Func), running: make(map[participant.GID]*execution)}
	e.settings.Callback = callback
	for _, set := range opts {
		set(&e.settings)
	}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	return e
}

// Close ends the executions of this process and waits for them; others, or a later
// process, will resume them.
func (e *Engine) Close() {
	e.mu.Lock()
	e.cancel() // under the lock: no execution starts after it
	e.mu.Unlock()
	e.work.Wait()
}

// Register names a workflow's code. Every process that serves the callback must know it.
func (e *Engine) Register(name string, f Func) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if name == "" || e.funcs[name] != nil {
		panic(fmt.Sprintf("workflow: Register(%q): want a name that is not taken", name))
	}
	e.funcs[name] = f
}

// Execute runs the workflow of that name under the caller's own id, at most 128 bytes of
// printable text, and returns what its code returned. One id is one execution: a second
// Execute goes on where the first was left, or returns the result that was kept. One of
// another workflow, or with other data while the first runs, is refused.
//
// *[participant.RolledBackError] means that the workflow failed and has been undone.
// When the context ends first, or the code's error decides nothing, the error is
// [participant.ErrUnknown]: the workflow goes on, and Execute may be called again.
func (e *Engine) Execute(ctx context.Context, name, id string, data []byte) ([]byte, error) {
	if e.code(name) == nil {
		return nil, fmt.Errorf("workflow: %q is not registered here", name)
	}
	gid, err := e.client.NewGID(ctx)
	if err != nil {
		return nil, err
	}
	s := e.settings
	s.GID, s.Key, s.Script, s.CallbackPayload = string(gid), id, name, data
	got, err := e.client.Service().Begin(ctx, s.Begin(quoratev1.Mode_MODE_WORKFLOW))
	if err != nil {
		if gid, err = e.standing(ctx, gid, s, participant.Decided(gid, err)); err != nil {
			return nil, err
		}
		return e.wait(ctx, gid, e.start(gid))
	}
	gid = participant.GID(got.GetGid())
	return e.wait(ctx, gid, e.start(gid))
}

// reasonOther is the refusal of a begin under an id that stands with other content.
const reasonOther = "GID_CONFLICT"

// standing finds the execution that stands under the id, where it differs from ours in
// the engine's settings alone: another process, or an earlier release of the program, has
// another callback. The data are compared as long as the cluster has them.
func (e *Engine) standing(ctx context.Context, gid participant.GID, ours plan.Settings, refusal error) (participant.GID, error) {
	var refused *participant.RefusedError
	if !errors.As(refusal, &refused) || refused.Reason != reasonOther || ours.Key == "" {
		return gid, refusal
	}
	t, err := e.client.Get(ctx, "key:"+ours.Key)
	switch {
	case err != nil:
		return gid, unfinished(gid, err)
	case t.GetMode() != quoratev1.Mode_MODE_WORKFLOW || t.GetPlan().GetWorkflow() != ours.Script,
		!participant.Finished(t) && !bytes.Equal(t.GetPlan().GetCallbackPayload(), ours.CallbackPayload):
		return gid, refusal
	}
	return participant.GID(t.GetGid()), nil
}

// Resume goes on with an execution and waits for its end as long as the context does.
func (e *Engine) Resume(ctx context.Context, gid participant.GID) error {
	_, err := e.wait(ctx, gid, e.start(gid))
	return err
}

func (e *Engine) code(name string) Func {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.funcs[name]
}

// start runs the execution, unless it is running already. It outlives the caller's
// context: half an execution is worth less than a whole one that nobody waits for.
func (e *Engine) start(gid participant.GID) *execution {
	e.mu.Lock()
	defer e.mu.Unlock()
	if x := e.running[gid]; x != nil {
		return x
	}
	x := &execution{done: make(chan struct{})}
	if e.ctx.Err() != nil {
		x.err = unfinished(gid, participant.ErrClosed)
		close(x.done)
		return x
	}
	e.running[gid] = x
	e.work.Go(func() { e.run(x, gid) })
	return x
}

// run runs the execution. A panic of the code is an error that decides nothing: the
// coordinator asks again, and would end one process after the other otherwise.
func (e *Engine) run(x *execution, gid participant.GID) {
	x.err = unfinished(gid, errors.New("the workflow's code ended its goroutine"))
	defer func() {
		if p := recover(); p != nil {
			x.err = unfinished(gid, &PanicError{Value: p, Stack: debug.Stack()})
		}
		e.mu.Lock()
		delete(e.running, gid)
		e.mu.Unlock()
		close(x.done)
	}()
	x.result, x.err = e.execute(e.ctx, gid)
}

// PanicError is a panic of a workflow's code, wrapped in what Execute returns.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("the workflow's code panicked: %v", e.Value) }

func (e *Engine) wait(ctx context.Context, gid participant.GID, x *execution) ([]byte, error) {
	select {
	case <-x.done:
		return x.result, x.err
	case <-ctx.Done():
		return nil, unfinished(gid, context.Cause(ctx))
	}
}

// execute reads what is recorded, runs the code, and decides by what it returns.
func (e *Engine) execute(ctx context.Context, gid participant.GID) ([]byte, error) {
	t, err := e.client.Get(ctx, string(gid))
	if err != nil {
		return nil, unfinished(gid, err)
	}
	if participant.Decision(t.GetDecision()) != participant.DecisionNone {
		return kept(t)
	}
	name := t.GetPlan().GetWorkflow()
	f := e.code(name)
	if f == nil {
		return nil, fmt.Errorf("workflow: transaction %s is of %q, which is not registered here", gid, name)
	}
	wf := newWorkflow(ctx, e, gid, t)
	result, err := f(wf, t.GetPlan().GetCallbackPayload())
	if broken := wf.broken(); broken != nil { // whatever the code made of it
		return e.settle(ctx, gid, broken)
	}
	if err == nil || errors.Is(err, participant.ErrRefused) {
		if missed := wf.missed(); missed != nil {
			return e.settle(ctx, gid, missed)
		}
	}
	switch {
	case err == nil:
		err = wf.confirm()
	case errors.Is(err, participant.ErrRefused):
		return e.fail(ctx, wf, err)
	}
	if err != nil {
		return nil, unfinished(gid, err)
	}
	return e.commit(ctx, gid, result)
}

// commit keeps the result. Another process may have been first: its word stands.
func (e *Engine) commit(ctx context.Context, gid participant.GID, result []byte) ([]byte, error) {
	_, err := e.client.Service().Commit(ctx, &quoratev1.CommitRequest{
		Transaction: string(gid), Wait: quoratev1.Wait_WAIT_DECISION, Result: result,
	})
	return e.decided(ctx, gid, err)
}

// fail undoes what was or may have been done, and then says so.
func (e *Engine) fail(ctx context.Context, wf *Workflow, why error) ([]byte, error) {
	if err := wf.undo(why); err != nil {
		return nil, unfinished(wf.gid, err)
	}
	_, err := e.client.Service().Rollback(ctx, &quoratev1.RollbackRequest{
		Transaction: string(wf.gid), Detail: participant.Clip(why.Error()), Wait: quoratev1.Wait_WAIT_DECISION,
	})
	return e.decided(ctx, wf.gid, err)
}

// decided tells what stands.
func (e *Engine) decided(ctx context.Context, gid participant.GID, err error) ([]byte, error) {
	var rolledBack *participant.RolledBackError
	var committed *participant.CommittedError
	err = participant.Decided(gid, err)
	if err != nil && !errors.As(err, &rolledBack) && !errors.As(err, &committed) {
		return nil, unfinished(gid, err)
	}
	t, err := e.client.Get(ctx, string(gid))
	if err != nil {
		return nil, unfinished(gid, err)
	}
	return kept(t)
}

// settle tells what became of an execution whose run was cut off: another process may
// have finished it.
func (e *Engine) settle(ctx context.Context, gid participant.GID, why error) ([]byte, error) {
	t, err := e.client.Get(ctx, string(gid))
	if err != nil || participant.Decision(t.GetDecision()) == participant.DecisionNone {
		return nil, unfinished(gid, why)
	}
	return kept(t)
}

// kept is a decided workflow as what Execute returns.
func kept(t *quoratev1.Transaction) ([]byte, error) {
	gid := participant.GID(t.GetGid())
	switch participant.Decision(t.GetDecision()) {
	case participant.DecisionCommit:
		return t.GetResult(), nil
	case participant.DecisionRollback:
		return nil, participant.RolledBack(gid, t.GetReason(), t.GetDetail())
	}
	return nil, unfinished(gid, errors.New("nothing is decided yet"))
}

// unfinished is any error that leaves the workflow to be resumed.
func unfinished(gid participant.GID, err error) error {
	var unknown *participant.OutcomeUnknownError
	if errors.As(err, &unknown) {
		return err
	}
	return &participant.OutcomeUnknownError{GID: gid, Err: err}
}
