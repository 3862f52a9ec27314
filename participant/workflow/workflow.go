package workflow

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/participant"
)

// What is recorded of a step.
const (
	did      = "action"
	undid    = "compensate"
	finished = "confirm"
)

// maybe is the result of a failed record that nobody knows the truth of: the step may
// have been done, and is undone.
const maybe = "maybe"

// Workflow is one execution, in the hands of its code. Its methods may be called
// concurrently.
type Workflow struct {
	ctx    context.Context
	engine *Engine
	gid    participant.GID
	key    string

	mu       sync.Mutex
	recorded map[word]*record
	steps    []*step // in the order in which they were started
	failure  error   // why the record cannot be trusted any more in this run
}

// word is what is recorded once.
type word struct{ step, operation string }

// record is what was said.
type record struct {
	failed bool
	result []byte
	detail string
}

// step is one that the code has started in this run.
type step struct {
	name          string
	undo, confirm func(ctx context.Context) error
}

func newWorkflow(ctx context.Context, e *Engine, gid participant.GID, t *quoratev1.Transaction) *Workflow {
	return &Workflow{ctx: ctx, engine: e, gid: gid, key: t.GetKey(), recorded: read(t)}
}

// read takes the progress from a transaction.
func read(t *quoratev1.Transaction) map[word]*record {
	all := make(map[word]*record)
	for _, b := range t.GetBranches() {
		all[word{b.GetSpec().GetId(), b.GetRecorded()}] = &record{
			failed: b.GetVote() == quoratev1.Vote_VOTE_REFUSED, result: b.GetResult(), detail: b.GetDetail(),
		}
	}
	return all
}

// GID names the transaction.
func (wf *Workflow) GID() participant.GID { return wf.gid }

// ID is the caller's own id, as given to [Engine.Execute].
func (wf *Workflow) ID() string { return wf.key }

// Key derives an id for a transaction of its own inside a step: the same one each time.
func (wf *Workflow) Key(step string) string { return string(wf.gid) + "/" + step }

// Context ends when the engine is closed. It carries no transaction.
func (wf *Workflow) Context() context.Context { return wf.ctx }

// StepError is a step that has failed, as it is recorded. It is a
// [participant.ErrRefused]: a code that returns it has failed too.
type StepError struct {
	Step, Detail string
	// Maybe: nobody knows whether the step was done, so it is undone with the others.
	Maybe bool
}

func (e *StepError) Error() string {
	return fmt.Sprintf("step %q failed: %s", e.Step, e.Detail)
}

// Is makes errors.Is(err, participant.ErrRefused) true.
func (e *StepError) Is(target error) bool { return target == participant.ErrRefused }

// Do runs a step once and records what it returned; in a later run it is answered from
// the record, as long as its name, at most 32 bytes, is the same. An error that is
// [participant.ErrRefused] is recorded as the step's answer and returned as *[StepError];
// so is that of a saga, TCC or two-phase transaction that rolled back. Any other error is
// returned as it is, and the step runs again in the next run.
func (wf *Workflow) Do(name string, f func(ctx context.Context) ([]byte, error), opts ...StepOption) ([]byte, error) {
	s := &step{name: name}
	for _, set := range opts {
		set(s)
	}
	if err := wf.enter(s); err != nil {
		return nil, err
	}
	if r := wf.look(name, did); r != nil {
		return r.answer(name)
	}
	result, err := f(wf.context(name, did))
	r := &record{result: result}
	switch {
	case errors.Is(err, participant.ErrRefused):
		r = &record{failed: true, detail: participant.Clip(err.Error())}
	case err != nil:
		return nil, err
	}
	if r, err = wf.record(name, did, r); err != nil {
		return nil, err
	}
	return r.answer(name)
}

// enter notes that the step is about to be called: from here on it may have been done.
func (wf *Workflow) enter(s *step) error {
	wf.mu.Lock()
	defer wf.mu.Unlock()
	// Checked before the step runs: what cannot be recorded would run in each run again.
	if s.name == "" || len(s.name) > participant.BranchIDBytesMax || !utf8.ValidString(s.name) || strings.ContainsFunc(s.name, notPrinted) {
		return wf.fails(fmt.Errorf("workflow: step %q: want a name of 1 to %d bytes of printable text", s.name, participant.BranchIDBytesMax))
	}
	for _, other := range wf.steps {
		if other.name == s.name {
			return wf.fails(fmt.Errorf("workflow: step %q is named twice: its second run would be answered by its first", s.name))
		}
	}
	if wf.failure != nil {
		return wf.failure
	}
	wf.steps = append(wf.steps, s)
	return wf.ctx.Err()
}

func notPrinted(r rune) bool { return !unicode.IsPrint(r) }

// missed refuses to end a run that has not come to a step that was, or may have been,
// done before: its OnCommit or its OnRollback would be left out for ever.
func (wf *Workflow) missed() error {
	wf.mu.Lock()
	defer wf.mu.Unlock()
	var names []string
	for w, r := range wf.recorded {
		started := slices.ContainsFunc(wf.steps, func(s *step) bool { return s.name == w.step })
		if w.operation == did && !started && (!r.failed || string(r.result) == maybe) {
			names = append(names, strconv.Quote(w.step))
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return fmt.Errorf("workflow: done in an earlier run, and this one did not come to it: step %s; "+
		"the code has changed, or is not deterministic: let it do the same steps, or end it by `quorate tx stop %s`",
		strings.Join(names, ", "), wf.gid)
}

func (r *record) answer(name string) ([]byte, error) {
	if r.failed {
		return nil, &StepError{Step: name, Detail: r.detail, Maybe: string(r.result) == maybe}
	}
	return r.result, nil
}
