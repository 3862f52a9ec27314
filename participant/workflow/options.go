package workflow

import (
	"context"
	"time"

	"github.com/quorate/quorate/participant/internal/plan"
)

// Option is a setting of every execution of an [Engine].
type Option func(*plan.Settings)

// ResumeAfter is the time from the begin to the first resume, and between two of them,
// while nothing is decided. It should be longer than an execution takes: an execution
// that is resumed while it runs in another process does its step in hand twice.
func ResumeAfter(d time.Duration) Option {
	return func(s *plan.Settings) { s.CallbackAfter, s.Retry.Interval, s.Retry.IntervalMax = d, d, d }
}

// CallTimeout bounds one resume; an execution that takes longer goes on by itself.
func CallTimeout(d time.Duration) Option { return func(s *plan.Settings) { s.Retry.CallTimeout = d } }

// Header is carried to every resume, as an HTTP header or gRPC metadata.
func Header(name, value string) Option { return func(s *plan.Settings) { s.SetHeader(name, value) } }

// StepOption is a setting of [Workflow.Do].
type StepOption func(*step)

// OnRollback undoes the step, if it was or may have been done and the workflow fails. It
// runs until it has succeeded once.
func OnRollback(undo func(ctx context.Context) error) StepOption {
	return func(s *step) { s.undo = undo }
}

// OnCommit completes the step when the workflow has succeeded. It runs until it has
// succeeded once.
func OnCommit(confirm func(ctx context.Context) error) StepOption {
	return func(s *step) { s.confirm = confirm }
}
