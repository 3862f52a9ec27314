package coordinator

import (
	"context"
	"errors"
	"fmt"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// urgency says how far beyond the limit of pending proposals a command may go.
type urgency uint8

const (
	// ordinary commands start work or add to it.
	ordinary urgency = iota
	// ending commands bring work to its end: refusing them would keep it.
	ending
)

// proposeOne appends one caller's command and returns its result. Refusals of
// the state machine are *Refusal.
func (c *Coordinator) proposeOne(ctx context.Context, gid fsm.GID, u urgency, command *logpb.Command) (fsm.Result, error) {
	if err := c.leads(); err != nil {
		return fsm.Result{}, err
	}
	if err := c.admit(u); err != nil {
		return fsm.Result{}, err
	}
	defer c.pending.Add(-1)
	result, err := c.appendOne(ctx, command)
	if err != nil {
		return fsm.Result{}, c.proposeError(gid, err)
	}
	return result, nil
}

// admit takes a place among the pending proposals, to be given back by
// pending.Add(-1), or refuses before anything is appended.
func (c *Coordinator) admit(u urgency) error {
	limit := c.settings.ProposalsPendingMax
	if u == ending {
		limit += limit / 2
	}
	if n := c.pending.Add(1); n > int64(limit) {
		c.pending.Add(-1)
		return &OverloadError{Limit: "ProposalsPendingMax", Max: limit}
	}
	return nil
}

// leads fails where this node cannot take a command.
func (c *Coordinator) leads() error {
	select {
	case <-c.closing:
		return ErrClosed
	default:
	}
	if c.lead.Load() != nil {
		return nil
	}
	return c.notLeader()
}

// notLeader says who leads instead, if anybody does. While this node itself is
// only about to lead there is nobody to send a caller to.
func (c *Coordinator) notLeader() error {
	leader, ok := c.replog.Leader()
	if !ok || leader.ID != "" && leader.ID == c.nodeID {
		return ErrNoLeader
	}
	return &NotLeaderError{Leader: leader}
}

// notAppended says that nothing of a proposal that failed so is in the log, nor will be.
func notAppended(err error) bool {
	return !errors.Is(err, ErrUnknown) &&
		(errors.Is(err, ErrNotLeader) || errors.Is(err, ErrNoLeader) || errors.Is(err, ErrOverload) || errors.Is(err, ErrTooLarge))
}

// proposeError sorts the log's errors: what was not appended keeps its own
// error, all else is unknown.
func (c *Coordinator) proposeError(gid fsm.GID, err error) error {
	switch {
	case errors.Is(err, ErrNotLeader):
		return c.notLeader()
	case errors.Is(err, ErrNoLeader), errors.Is(err, ErrOverload), errors.Is(err, ErrTooLarge):
		return err
	case errors.Is(err, ErrUnknown):
		var unknown *UnknownError
		if errors.As(err, &unknown) && unknown.Cause != nil {
			err = unknown.Cause
		}
	}
	return &UnknownError{GID: gid, Cause: err}
}

// readError is as proposeError for reads, which have no effect: never unknown.
func (c *Coordinator) readError(err error) error {
	if errors.Is(err, ErrNotLeader) {
		return c.notLeader()
	}
	return err
}

// refusal turns a result that is not OK into its error.
func refusal(r fsm.Result, key, branch string) error {
	if r.Code == fsm.OK {
		return nil
	}
	return &Refusal{
		Code: r.Code, GID: r.GID, Key: key, Branch: branch, Decision: r.Decision, State: r.State,
		Reason: r.Reason, Index: r.Index, Verdict: r.Verdict, Detail: r.Detail,
	}
}

func statusOfResult(r fsm.Result) Status {
	return Status{
		GID: r.GID, Created: r.Created, Decision: r.Decision, State: r.State, Reason: r.Reason,
		Index: r.Index, Verdict: r.Verdict, Detail: r.Detail,
	}
}

// invalid refuses a request before it is appended.
func invalid(gid fsm.GID, format string, args ...any) error {
	return &Refusal{Code: fsm.Invalid, GID: gid, Detail: fmt.Sprintf(format, args...)}
}

// find turns a reference into a GID. A key's GID never changes while it stands,
// so what is applied here may answer; that a key stands for nothing is said only
// by a linearizable read.
func (c *Coordinator) find(ctx context.Context, ref Ref) (fsm.GID, error) {
	if ref.Key == "" {
		if ref.GID.IsZero() {
			return fsm.GID{}, invalid(ref.GID, "no transaction is named: give a gid, or key:K")
		}
		return ref.GID, nil
	}
	if gid, ok := c.lookup(ref); ok {
		return gid, nil
	}
	if _, err := c.replog.ReadIndex(ctx); err != nil {
		return fsm.GID{}, c.readError(err)
	}
	if gid, ok := c.lookup(ref); ok {
		return gid, nil
	}
	return fsm.GID{}, noSuchKey(ref)
}

func noSuchKey(ref Ref) error {
	return &Refusal{Code: fsm.NotFound, Key: ref.Key, Detail: fmt.Sprintf("no transaction has the key %q in namespace %q", ref.Key, ref.namespace())}
}

func (c *Coordinator) lookup(ref Ref) (gid fsm.GID, ok bool) {
	c.replog.View(func(s *fsm.State) { gid, ok = s.Lookup(ref.namespace(), ref.Key) })
	return gid, ok
}

// DefaultNamespace is every caller's until identity exists.
const DefaultNamespace = "default"

func (r Ref) namespace() string {
	if r.Namespace == "" {
		return DefaultNamespace
	}
	return r.Namespace
}
