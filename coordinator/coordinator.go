// Package coordinator is what happens next: the leader's driver, which delivers
// outcomes, retries and expires, and the calls that initiators, participants
// and operators make.
//
// Its hard part is Core, a single-threaded step machine without goroutines,
// clocks or randomness of its own: a simulator drives it under one seed.
// Coordinator runs a Core in one goroutine and performs the effects it asks for.
package coordinator

import (
	"context"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// Coordinator serves the calls of one node. All methods may be called
// concurrently.
type Coordinator struct{}

// New returns a coordinator that follows until Leadership says otherwise.
func New(cfg Config) (*Coordinator, error) { return nil, ErrClosed }

// Close ends every session and waiter, and joins every goroutine.
func (c *Coordinator) Close() error { return nil }

// Leadership must be told each change, in order: gained once an entry of the
// term is applied. It does not block.
func (c *Coordinator) Leadership(leader bool, term uint64) {}

// Applied must be told that the log has been applied up to index. It does not block.
func (c *Coordinator) Applied(index uint64) {}

// Header returns what every answer carries.
func (c *Coordinator) Header() Header { return Header{} }

// Begin, and what follows, fail with the errors of this package: see errors.go.
func (c *Coordinator) Begin(ctx context.Context, begin *logpb.Begin) (Status, error) {
	return Status{}, ErrClosed
}
func (c *Coordinator) Enlist(ctx context.Context, gid fsm.GID, branch *logpb.BranchSpec) (Status, error) {
	return Status{}, ErrClosed
}
func (c *Coordinator) Vote(ctx context.Context, gid fsm.GID, ballot *logpb.Ballot) (Status, error) {
	return Status{}, ErrClosed
}
func (c *Coordinator) Commit(ctx context.Context, r CommitRequest) (Status, error) {
	return Status{}, ErrClosed
}
func (c *Coordinator) Rollback(ctx context.Context, r RollbackRequest) (Status, error) {
	return Status{}, ErrClosed
}
func (c *Coordinator) Submit(ctx context.Context, r SubmitRequest) (Status, error) {
	return Status{}, ErrClosed
}
func (c *Coordinator) Report(ctx context.Context, r ReportRequest) (Status, error) {
	return Status{}, ErrClosed
}
func (c *Coordinator) Resolve(ctx context.Context, r ResolveRequest) (Status, error) {
	return Status{}, ErrClosed
}
func (c *Coordinator) Retry(ctx context.Context, ref Ref, branch string) (int, error) {
	return 0, ErrClosed
}
func (c *Coordinator) Inquire(ctx context.Context, r InquireRequest) (Inquired, error) {
	return Inquired{}, ErrClosed
}
func (c *Coordinator) Get(ctx context.Context, r GetRequest) (View, error) { return View{}, ErrClosed }
func (c *Coordinator) List(ctx context.Context, r ListRequest) (Page, error) {
	return Page{}, ErrClosed
}
func (c *Coordinator) ListInDoubt(ctx context.Context, r ListInDoubtRequest) (InDoubtPage, error) {
	return InDoubtPage{}, ErrClosed
}

// Watch calls send with the events of one log entry at a time, whole, until ctx
// ends or send fails.
func (c *Coordinator) Watch(ctx context.Context, r WatchRequest, send func(index uint64, events []fsm.Event) error) error {
	return ErrClosed
}

// Attach opens a participant's session with this leader.
func (c *Coordinator) Attach(ctx context.Context, r AttachRequest) (*Session, error) {
	return nil, ErrClosed
}

// Stats is a moment's figures, for metrics.
func (c *Coordinator) Stats() Stats { return Stats{} }

// Stats are figures of one node; those of deliveries are zero off the leader.
type Stats struct {
	Leading  bool
	Counts   fsm.Counts
	Clock    fsm.Clock
	Sessions int
	// Due branches, those of them that are stuck by mode, and calls in flight.
	Due      int
	Stuck    [7]int
	InFlight int
	// OldestInDoubt is the age of the oldest branch in doubt, by the cluster clock.
	OldestInDoubt time.Duration
	// Waiters are callers that wait for a decision; Pending their proposals.
	Waiters, Pending int
}
