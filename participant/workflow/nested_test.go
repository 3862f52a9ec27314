package workflow_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/internal/modetest"
	"github.com/quorate/quorate/participant/workflow"
)

// A workflow that is another's step, and that is not finished because one of its endings
// says no, has not failed: its steps are done. So the outer one does not record a failure,
// nor undo what stands beside it; it is resumed, and the inner one with it.
func TestWorkflow_AnUnfinishedOneIsNoFailedStep(t *testing.T) {
	w, d := modetest.New(t), new(diary)
	refuses := true
	var e *workflow.Engine
	e = engine(t, w, "outer", func(wf *workflow.Workflow, _ []byte) ([]byte, error) {
		if _, err := wf.Do("pay", d.does("pay"), workflow.OnRollback(d.ends("-pay"))); err != nil {
			return nil, err
		}
		return wf.Do("ship", func(ctx context.Context) ([]byte, error) {
			return e.Execute(ctx, "inner", "i", nil)
		}, workflow.OnRollback(d.ends("-ship")))
	}, workflow.ResumeAfter(time.Hour))
	e.Register("inner", func(wf *workflow.Workflow, _ []byte) ([]byte, error) {
		return wf.Do("pack", d.does("pack"), workflow.OnCommit(func(context.Context) error {
			if refuses {
				return fmt.Errorf("%w: not now", participant.ErrRefused)
			}
			return nil
		}))
	})
	if _, err := e.Execute(within(t), "outer", "o", nil); !errors.Is(err, participant.ErrUnknown) {
		t.Errorf("%v, want unknown", err)
	}
	if want := "pay, pack"; d.String() != want {
		t.Errorf("did %q, want %q", d, want)
	}
	refuses = false
	if _, err := e.Execute(within(t), "outer", "o", nil); err != nil {
		t.Error(err)
	}
	if want := "pay, pack"; d.String() != want {
		t.Errorf("did %q, want %q", d, want)
	}
}
