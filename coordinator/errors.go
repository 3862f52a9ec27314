package coordinator

import (
	"errors"
	"fmt"
	"strings"

	"github.com/quorate/quorate/fsm"
)

// What a call can fail with. Refusals of the state machine are *Refusal; all
// else matches one of these by errors.Is. Only ErrUnknown leaves the caller
// without knowledge: every other error means that the call had no effect.
var (
	// ErrNotLeader: another node leads, or may; *NotLeaderError names it.
	ErrNotLeader = errors.New("this node does not lead the cluster")
	// ErrNoLeader: no node is known to lead, so the call was not tried.
	ErrNoLeader = errors.New("the cluster has no leader")
	// ErrUnknown: the request may or may not have taken effect. Repeating it
	// with the same GID is safe. *UnknownError names the GID.
	ErrUnknown = errors.New("outcome unknown")
	// ErrOverload: refused before anything was appended; *OverloadError names
	// the limit.
	ErrOverload = errors.New("overload")
	// ErrCompacted: the events asked for are no longer kept; *CompactedError
	// tells the oldest index that is.
	ErrCompacted = errors.New("events compacted")
	// ErrTooLarge: the request does not fit a log entry.
	ErrTooLarge = errors.New("request too large")
	// ErrSuperseded ends a session whose holder attached again.
	ErrSuperseded = errors.New("session superseded by a newer one of the same holder")
	// ErrSilent ends a session that was not heard of for the grace.
	ErrSilent = errors.New("session silent for longer than the grace")
	// ErrDetached ends a session whose participant said goodbye.
	ErrDetached = errors.New("session detached")
	// ErrClosed: the coordinator, or the session, is closed.
	ErrClosed = errors.New("coordinator closed")
)

// NotLeaderError says who leads, as far as this node knows.
type NotLeaderError struct{ Leader LeaderInfo }

func (e *NotLeaderError) Error() string {
	if e.Leader.ID == "" {
		return ErrNotLeader.Error() + "; who does is not known"
	}
	return fmt.Sprintf("%v; node %s at %s does, in term %d", ErrNotLeader, e.Leader.ID, e.Leader.GRPCAddress, e.Leader.Term)
}

// Is makes errors.Is(err, ErrNotLeader) hold.
func (e *NotLeaderError) Is(target error) bool { return target == ErrNotLeader }

// UnknownError says whose outcome is unknown, and why. GID is zero where the
// request named a key that was not looked up.
type UnknownError struct {
	GID   fsm.GID
	Cause error
}

func (e *UnknownError) Error() string {
	return fmt.Sprintf("%v for transaction %s: %v; ask again with the same gid", ErrUnknown, e.GID, e.Cause)
}

// Is makes errors.Is(err, ErrUnknown) hold.
func (e *UnknownError) Is(target error) bool { return target == ErrUnknown }

// Unwrap returns the cause: a context's error, or the loss of leadership.
func (e *UnknownError) Unwrap() error { return e.Cause }

// OverloadError names the limit that was reached and its value.
type OverloadError struct {
	Limit string
	Max   int
}

func (e *OverloadError) Error() string {
	return fmt.Sprintf("%v: %s is %d; nothing was appended, try again later", ErrOverload, e.Limit, e.Max)
}

// Is makes errors.Is(err, ErrOverload) hold.
func (e *OverloadError) Is(target error) bool { return target == ErrOverload }

// CompactedError tells which events are still kept: those after Oldest-1.
type CompactedError struct{ After, Oldest uint64 }

func (e *CompactedError) Error() string {
	return fmt.Sprintf("%v: those after index %d are gone, the oldest kept is at %d; list anew and watch from the list's index",
		ErrCompacted, e.After, e.Oldest)
}

// Is makes errors.Is(err, ErrCompacted) hold.
func (e *CompactedError) Is(target error) bool { return target == ErrCompacted }

// Refusal is the state machine's typed no, with what stands. It changed nothing.
type Refusal struct {
	Code fsm.Code
	// GID is the transaction that stands: with KEY_CONFLICT another than asked.
	GID fsm.GID
	// Key and Branch repeat what the request named, where it did.
	Key, Branch string
	// What stands of the transaction.
	Decision fsm.Decision
	State    fsm.TxState
	Reason   fsm.Reason
	// Index of the decision, 0 while there is none.
	Index uint64
	// Verdict is the answer to the branch that asked.
	Verdict fsm.Verdict
	Detail  string
}

func (r *Refusal) Error() string {
	var b strings.Builder
	b.WriteString(r.Code.String())
	switch {
	case r.Branch != "":
		fmt.Fprintf(&b, ": branch %s of transaction %s", r.Branch, r.GID)
	case r.Key != "":
		fmt.Fprintf(&b, ": transaction key:%s", r.Key)
	default:
		fmt.Fprintf(&b, ": transaction %s", r.GID)
	}
	if r.Detail != "" {
		b.WriteString(": " + r.Detail)
	}
	return b.String()
}
