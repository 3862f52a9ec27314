package saga

import (
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/internal/plan"
)

// Option is a setting of a whole saga.
type Option func(*plan.Settings)

// Name is shown to people, by `quorate tx ls`; it needs not be unique.
func Name(name string) Option { return func(s *plan.Settings) { s.Name = name } }

// Key gives the saga the caller's own id, at most 128 bytes of printable text. The
// first saga with a key is the only one: Run of the same again waits for the first, and one
// with other steps or settings is refused (GID_CONFLICT).
func Key(key string) Option { return func(s *plan.Settings) { s.Key = key } }

// GID sets the transaction's id, made by [participant.Client.NewGID]: whoever repeats
// the saga with it, in whatever process, gets the same saga.
func GID(gid participant.GID) Option { return func(s *plan.Settings) { s.GID = string(gid) } }

// Timeout is the time, by the cluster's clock, after which an unfinished saga is
// compensated. Without it there is none.
func Timeout(d time.Duration) Option { return func(s *plan.Settings) { s.Timeout = d } }

// Retry sets the first delay between the attempts at a call, which doubles up to the
// longest.
func Retry(first, longest time.Duration) Option {
	return func(s *plan.Settings) { s.Retry.Interval, s.Retry.IntervalMax = first, longest }
}

// Attempts bounds the attempts at each action; after the last one the saga rolls back.
// Without it an action is called until it answers. Compensations are never given up.
func Attempts(n uint32) Option { return func(s *plan.Settings) { s.Retry.Attempts = n } }

// CallTimeout bounds one call of every step.
func CallTimeout(d time.Duration) Option { return func(s *plan.Settings) { s.Retry.CallTimeout = d } }

// Concurrency bounds the actions that are called at once.
func Concurrency(n uint32) Option { return func(s *plan.Settings) { s.Concurrency = n } }

// Delay is the time from the submit to the first action.
func Delay(d time.Duration) Option { return func(s *plan.Settings) { s.Delay = d } }

// Header is carried to every step, as an HTTP header or gRPC metadata.
func Header(name, value string) Option {
	return func(s *plan.Settings) { s.SetHeader(name, value) }
}

// StepOption is a setting of one step.
type StepOption func(*quoratev1.BranchSpec)

// ID names the step, for After and for people; the default is its number, `01`.
func ID(id string) StepOption { return func(b *quoratev1.BranchSpec) { b.Id = id } }

// After names the steps that must be done before this one is called, instead of the one
// written before it. After() with no name makes it a step that waits for none.
func After(ids ...string) StepOption {
	return func(b *quoratev1.BranchSpec) { b.After = append([]string{}, ids...) }
}

// StepAttempts is [Attempts] of one step.
func StepAttempts(n uint32) StepOption {
	return func(b *quoratev1.BranchSpec) { b.AttemptsMax = n }
}

// StepTimeout is [CallTimeout] of one step.
func StepTimeout(d time.Duration) StepOption {
	return func(b *quoratev1.BranchSpec) { b.CallTimeout = plan.Duration(d) }
}

// Resource is what the step's service guards, such as `stock-db`: shown to people.
func Resource(name string) StepOption {
	return func(b *quoratev1.BranchSpec) { b.Resource = name }
}
