package handlers

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/quorate/quorate/participant"
)

// Operations, as they stand in Quorate-Operation.
const (
	// OperationTry is an initiator's own call of a TCC branch, all others are the
	// coordinator's.
	OperationTry        = "try"
	OperationAction     = "action"
	OperationCompensate = "compensate"
	OperationConfirm    = "confirm"
	OperationCancel     = "cancel"
	OperationCheckBack  = "check-back"
	OperationResume     = "resume"
)

// Call says which branch of which transaction is called, and to do what. It may come
// more than once: GID, Branch and Operation together name what must happen once.
type Call struct {
	GID participant.GID
	// Key is the caller's own id of the transaction, if it gave one.
	Key string
	// Branch is the branch's call path; empty for a check-back and a resume.
	Branch string
	// Operation is one of the words above.
	Operation string
	// Mode is `saga`, `tcc`, `message`, `workflow` or `notify`.
	Mode string
	// Topic is the topic that the branch was made of, if any.
	Topic string
	// Attempt counts from 1.
	Attempt uint64
	// Incarnation and Term are the epoch: the leader in whose name the call is made.
	Incarnation, Term uint64
	// FloorMS: evidence of GIDs born at or below it may be swept.
	FloorMS uint64
	// ClockMS is the cluster's clock.
	ClockMS uint64
}

type callKey struct{}

// FromContext is the call that the running handler serves.
func FromContext(ctx context.Context) (Call, bool) {
	c, ok := ctx.Value(callKey{}).(Call)
	return c, ok
}

// WithCall returns a context that carries the call: for tests, and for transports of
// your own.
func WithCall(ctx context.Context, c Call) context.Context {
	return context.WithValue(ctx, callKey{}, c)
}

// Names on the wire: gRPC metadata as they stand, HTTP headers in canonical form.
const (
	headerGID       = "quorate-gid"
	headerKey       = "quorate-key"
	headerBranch    = "quorate-branch"
	headerOperation = "quorate-operation"
	headerMode      = "quorate-mode"
	headerAttempt   = "quorate-attempt"
	headerEpoch     = "quorate-epoch"
	headerFloor     = "quorate-floor"
	headerClock     = "quorate-clock"
	headerTopic     = "quorate-topic"
)

// Parse reads a call from headers or metadata, by names in lower case.
func Parse(get func(name string) string) (Call, error) {
	c := Call{
		Key: get(headerKey), Branch: get(headerBranch), Operation: get(headerOperation),
		Mode: get(headerMode), Topic: get(headerTopic),
	}
	var err error
	if c.GID, err = participant.ParseGID(get(headerGID)); err != nil {
		return Call{}, fmt.Errorf("%s: %w", headerGID, err)
	}
	if c.Operation == "" {
		return Call{}, fmt.Errorf("handlers: %s is missing: no branch call", headerOperation)
	}
	incarnation, term, _ := strings.Cut(get(headerEpoch), ".")
	for _, n := range []struct {
		to          *uint64
		name, value string
	}{
		{&c.Attempt, headerAttempt, get(headerAttempt)},
		{&c.Incarnation, headerEpoch, incarnation}, {&c.Term, headerEpoch, term},
		{&c.FloorMS, headerFloor, get(headerFloor)}, {&c.ClockMS, headerClock, get(headerClock)},
	} {
		if n.value == "" {
			continue
		}
		if *n.to, err = strconv.ParseUint(n.value, 10, 64); err != nil {
			return Call{}, fmt.Errorf("handlers: %s is %q, want a number", n.name, n.value)
		}
	}
	return c, nil
}

// Headers are the names and values that Parse reads.
func (c Call) Headers() map[string]string {
	h := map[string]string{headerGID: string(c.GID), headerOperation: c.Operation}
	for name, value := range map[string]string{headerKey: c.Key, headerBranch: c.Branch, headerMode: c.Mode, headerTopic: c.Topic} {
		if value != "" {
			h[name] = value
		}
	}
	for name, n := range map[string]uint64{headerAttempt: c.Attempt, headerFloor: c.FloorMS, headerClock: c.ClockMS} {
		if n != 0 {
			h[name] = strconv.FormatUint(n, 10)
		}
	}
	if c.Incarnation != 0 || c.Term != 0 {
		h[headerEpoch] = fmt.Sprintf("%d.%d", c.Incarnation, c.Term)
	}
	return h
}
