package workflow

import (
	"context"
	"errors"
	"fmt"
	"slices"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/fence"
)

// confirm runs the OnCommit functions, in the order of the steps.
func (wf *Workflow) confirm() error {
	for _, s := range wf.started() {
		r := wf.look(s.name, did)
		if s.confirm == nil || r == nil || r.failed {
			continue
		}
		if err := wf.end(s.name, finished, s.confirm); err != nil {
			return err
		}
	}
	return nil
}

// undo runs the OnRollback functions, the last step's first, of steps that were or may
// have been done. Steps without an answer are given one first: "may have been done".
// Otherwise they would run again, after their undoing, if this run ends in the middle.
func (wf *Workflow) undo(why error) error {
	steps := wf.started()
	slices.Reverse(steps)
	for _, s := range steps {
		if wf.look(s.name, did) != nil {
			continue
		}
		unanswered := &record{failed: true, result: []byte(maybe), detail: participant.Clip("no answer; given up: " + why.Error())}
		if _, err := wf.record(s.name, did, unanswered); err != nil {
			return err
		}
	}
	for _, s := range steps {
		r := wf.look(s.name, did)
		if s.undo == nil || r.failed && string(r.result) != maybe {
			continue
		}
		if err := wf.end(s.name, undid, s.undo); err != nil {
			return err
		}
	}
	return nil
}

// end runs an ending once. It is never refused: it is asked for until it is done.
func (wf *Workflow) end(name, operation string, f func(ctx context.Context) error) error {
	if wf.look(name, operation) != nil {
		return nil
	}
	if err := f(wf.context(name, fence.Operation(operation))); err != nil {
		return fmt.Errorf("%s of step %q: %w", operation, name, err)
	}
	_, err := wf.record(name, operation, &record{})
	return err
}

func (wf *Workflow) started() []*step {
	wf.mu.Lock()
	defer wf.mu.Unlock()
	return slices.Clone(wf.steps)
}

func (wf *Workflow) look(name, operation string) *record {
	wf.mu.Lock()
	defer wf.mu.Unlock()
	return wf.recorded[word{name, operation}]
}

// record writes a word and returns the one that stands: another process that runs the
// same execution may have been first.
func (wf *Workflow) record(name, operation string, r *record) (*record, error) {
	_, err := wf.engine.client.Service().Record(wf.ctx, &quoratev1.RecordRequest{
		Gid: string(wf.gid), Branch: name, Operation: operation, Failed: r.failed, Result: r.result, Detail: r.detail,
	})
	var refused *participant.RefusedError
	if errors.As(err, &refused) && refused.Reason == reasonConflict {
		if r, err = wf.standing(name, operation); err == nil && r == nil {
			err = refused
		}
	}
	wf.mu.Lock()
	defer wf.mu.Unlock()
	if err != nil {
		return nil, wf.fails(fmt.Errorf("record step %q: %w", name, err))
	}
	wf.recorded[word{name, operation}] = r
	return r, nil
}

// reasonConflict is the refusal of a word that another one stands for.
const reasonConflict = "VOTE_CONFLICT"

func (wf *Workflow) standing(name, operation string) (*record, error) {
	t, err := wf.engine.client.Get(wf.ctx, string(wf.gid))
	if err != nil {
		return nil, err
	}
	return read(t)[word{name, operation}], nil
}

// fails makes this run decide nothing, whatever the code makes of the error. wf.mu is held.
func (wf *Workflow) fails(err error) error {
	if wf.failure == nil {
		wf.failure = err
	}
	return err
}

// broken is why this run must not decide.
func (wf *Workflow) broken() error {
	wf.mu.Lock()
	defer wf.mu.Unlock()
	if wf.failure == nil {
		return wf.ctx.Err()
	}
	return wf.failure
}

// context is that of a step: it carries the branch call that the step is.
func (wf *Workflow) context(name string, operation fence.Operation) context.Context {
	return withCall(wf.ctx, wf, name, operation)
}
