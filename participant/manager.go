package participant

import (
	"context"
)

// Manager guards one resource: it ends the branches that were prepared in it.
// How a branch is worked on and prepared is the manager's own business; see
// [Client.StartBranch].
//
// The methods are called from several goroutines at once, though never twice at
// once for one branch by one attachment. They must be idempotent: a delivery is
// repeated until its report has arrived.
type Manager interface {
	// Resource names what is guarded, such as `orders-db`. It never changes.
	Resource() string

	// Commit makes the branch's work durable and visible, and says what the branch did.
	// A branch committed before is OutcomeCommitted again. OutcomeRolledBack is a
	// heuristic outcome: it is said only with proof that the work is gone for good.
	// [ErrBusy], or any other error, means: not yet, ask again.
	Commit(ctx context.Context, b BranchRef) (Outcome, error)

	// Rollback undoes the branch's work, also where it is still being done. A branch
	// that is unknown is fenced first, durably: it must be unable to prepare later.
	// OutcomeCommitted is a heuristic outcome. Errors are as for Commit.
	Rollback(ctx context.Context, b BranchRef) (Outcome, error)

	// Recover lists the branches that are prepared in the resource now, of every
	// process and every cluster that the resource serves.
	Recover(ctx context.Context) ([]Prepared, error)
}

// Sweeper is a [Manager] that keeps evidence rows. Sweep is called now and then
// with the cluster's floor: rows of GIDs born at or below floorMS may be dropped,
// and a GID born at or below the floor once swept to must be refused for ever.
type Sweeper interface {
	Sweep(ctx context.Context, floorMS uint64) error
}

// ExpiryKeeper is a [Manager] whose resource may bring back, as prepared, what it
// had acknowledged as committed: a database that fails over asynchronously, or that
// does not flush. Recovery asks before it rolls back a branch that the cluster has
// forgotten; with a reason, the branch is kept, and an operator alarmed.
type ExpiryKeeper interface {
	KeepExpired(ctx context.Context) (why string)
}
