package participant

import (
	"errors"
	"fmt"
	"time"
)

// Sentinel errors. Those that name a transaction are wrapped with it.
var (
	// ErrBusy is what a [Manager] answers when the branch cannot be ended just now.
	ErrBusy = errors.New("participant: the branch is busy, ask again")
	// ErrNoTransaction means that the context carries no GID.
	ErrNoTransaction = errors.New("participant: the context carries no transaction; use the context that Client.Run or the interceptors gave")
	// ErrClosed means that the client was closed.
	ErrClosed = errors.New("participant: the client is closed")
	// ErrNotAttached means that no manager of that resource is attached to the client.
	ErrNotAttached = errors.New("participant: no manager of this resource is attached; call Client.Attach first")
	// ErrAttached means that a manager of that resource is attached already.
	ErrAttached = errors.New("participant: a manager of this resource is attached already")
	// ErrOtherCluster means that a call came from a transaction of another cluster.
	ErrOtherCluster = errors.New("participant: the transaction belongs to another cluster")
	// ErrWaitsForItself means that a commit would wait for a decision that the initiator
	// asks for only after this very call has returned.
	ErrWaitsForItself = errors.New("participant: CommitWaits inside a call that the initiator waits for would wait for itself; commit without waiting, or wait after the call has returned")
	// ErrBranchActive means that a branch with the same call path is being worked on: the
	// caller repeated a call whose first run has not ended.
	ErrBranchActive = errors.New("participant: the branch is being worked on by an earlier run of the same call")
	// ErrVoted means that the branch has voted before: a repeated call must not do its work
	// again. The first vote was sent again.
	ErrVoted = errors.New("participant: the branch has voted already")
	// ErrIncomplete means that a commit by named entry was not sent, because a call ended
	// without saying that all of its branches have voted. Roll back.
	ErrIncomplete = errors.New("participant: a call ended without saying that its branches have all voted; only rollback remains")
	// ErrAnswered means that the call has told its caller that all of its branches have
	// voted: work that goes on after the answer cannot join the transaction any more.
	ErrAnswered = errors.New("participant: the call has been answered as complete; start branches before the handler returns")
	// ErrOneShot means that a branch cannot be a part of a one-shot transaction: it is held,
	// or it was called over a transport that brings no votes back.
	ErrOneShot = errors.New("participant: not in a one-shot transaction; run it without participant.OneShot()")
	// ErrUnknown is what every *[OutcomeUnknownError] is: nobody can tell yet what became of
	// the transaction. It is neither success nor failure; ask again with the same GID or key.
	ErrUnknown = errors.New("participant: the outcome is unknown")
	// ErrRefused is a participant's plain no: nothing was done, and asking again does not
	// help. Handlers return it, wrapped, and calls answer it.
	ErrRefused = errors.New("refused")
	// ErrOngoing is a participant's "still at work": it is asked again, and no attempt is counted.
	ErrOngoing = errors.New("still at work")
	// ErrTransactionControl means that SQL text would begin or end a branch's transaction.
	ErrTransactionControl = errors.New("participant: transaction control by SQL inside a branch; use BeginTx, Commit and Rollback of database/sql")
	// ErrOutsideTransaction means that a statement was to run with a GID in its context but
	// outside the branch's transaction: it would stand although the transaction rolls back.
	ErrOutsideTransaction = errors.New("participant: the context carries a transaction, but the statement is outside of one; begin with BeginTx(ctx), or say so with participant.Outside(ctx)")
	// ErrStrict means that work without a GID came to a strict resource.
	ErrStrict = errors.New("participant: the resource is strict and the context carries no transaction; use the context that Client.Run or the interceptors gave, or participant.Outside(ctx)")
	// ErrPinned means that too many connections are pinned by branches.
	ErrPinned = errors.New("participant: too many connections are pinned by branches")
	// ErrHeuristic means that a branch did otherwise than was decided.
	ErrHeuristic = errors.New("participant: the branch differs from the decision")
	// ErrPathTooLong means that a call path would not fit into a branch id of 32 bytes.
	ErrPathTooLong = errors.New("participant: the call path is longer than a branch id may be (32 bytes); nest fewer calls")
)

// RolledBackError says that a transaction was decided: rollback.
type RolledBackError struct {
	GID GID
	// Reason is UPPER_SNAKE: REQUESTED, TIMEOUT, PARTICIPANT_LOST, REFUSED, ...
	Reason string
	// Detail is for people.
	Detail string
}

// Is makes errors.Is(err, ErrRefused) true: to whoever ran the transaction as a part of
// something larger, it is a plain no.
func (e *RolledBackError) Is(target error) bool { return target == ErrRefused }

func (e *RolledBackError) Error() string {
	s := fmt.Sprintf("transaction %s rolled back", e.GID)
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

// CommittedError says that a rollback came too late: the transaction was decided commit.
type CommittedError struct{ GID GID }

func (e *CommittedError) Error() string {
	return fmt.Sprintf("transaction %s cannot roll back: it was decided commit", e.GID)
}

// OutcomeUnknownError says that a request may or may not have taken effect.
// Repeating it with the same GID is safe; `quorate tx show GID` tells.
type OutcomeUnknownError struct {
	GID GID
	// Err is the latest of what went wrong; it says nothing of the tries before it.
	Err error
}

func (e *OutcomeUnknownError) Error() string {
	return fmt.Sprintf("outcome of transaction %s unknown: %v; ask again, or see: quorate tx show %s", e.GID, e.Err, e.GID)
}

// Is makes errors.Is(err, ErrUnknown) true, and finds what went wrong last. [ErrRefused] it
// is never: an error that says what became of a transaction is hidden in here, because it
// is the word on one try, or on a part of the whole (and there is no Unwrap).
func (e *OutcomeUnknownError) Is(target error) bool {
	return target == ErrUnknown || target != ErrRefused && errors.Is(e.Err, target)
}

// As finds what went wrong last, unless it would say what became of the transaction.
func (e *OutcomeUnknownError) As(target any) bool {
	switch target.(type) {
	case **RefusedError, **UnavailableError, **RolledBackError, **CommittedError:
		return false
	}
	return errors.As(e.Err, target)
}

// RefusedError is a typed refusal of the cluster: nothing has changed.
type RefusedError struct {
	GID GID
	// Reason is UPPER_SNAKE: GID_CONFLICT, SEALED, NOT_ENLISTED, QUOTA, ...
	Reason string
	// Detail is for people.
	Detail string
	// RetryAfter says when to try again; 0: repeating does not help.
	RetryAfter time.Duration
	// Metadata is what stands: `gid`, `decision`, ...
	Metadata map[string]string
}

func (e *RefusedError) Error() string {
	s := "refused: " + e.Reason
	if e.GID != "" {
		s = fmt.Sprintf("transaction %s: refused: %s", e.GID, e.Reason)
	}
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

// UnavailableError says that no leader could be reached in time; nothing was done.
type UnavailableError struct{ Err error }

func (e *UnavailableError) Error() string {
	return fmt.Sprintf("no leader of the cluster could be reached: %v; see: quorate cluster status", e.Err)
}

func (e *UnavailableError) Unwrap() error { return e.Err }
