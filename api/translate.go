package api

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
)

// effect says what a call may have done when an error says nothing about it.
type effect uint8

const (
	// reads change nothing.
	reads effect = iota
	// changes may have taken effect.
	changes
)

// translate turns what a call failed with into the API's typed error. An error
// that nobody typed is an unknown outcome where the call changes anything:
// *because* a failure that did take effect, taken for none, is done twice.
func translate(err error, did effect) *Error {
	var (
		typed      *Error
		refusal    *coordinator.Refusal
		notLeader  *coordinator.NotLeaderError
		unknown    *coordinator.UnknownError
		overloaded *coordinator.OverloadError
		compacted  *coordinator.CompactedError
	)
	switch {
	case err == nil:
		return nil
	// Before all else: the cause of an unknown outcome may be an error that alone
	// would say that nothing was done, such as the end of a session.
	case errors.As(err, &unknown):
		return unknownOutcome(unknown.GID, unknown.Cause)
	case errors.As(err, &typed):
		return typed
	case errors.Is(err, coordinator.ErrUnknown):
		return unknownOutcome(fsm.GID{}, err)
	case errors.As(err, &refusal):
		return refused(refusal)
	case errors.As(err, &notLeader):
		return elsewhere(notLeader.Leader)
	case errors.Is(err, coordinator.ErrNotLeader), errors.Is(err, coordinator.ErrNoLeader):
		return &Error{Reason: ReasonNoLeader}
	case errors.As(err, &overloaded):
		return Errorf(ReasonQuota, "%v", overloaded).With("limit", overloaded.Limit).With("max", strconv.Itoa(overloaded.Max))
	case errors.Is(err, coordinator.ErrOverload):
		return Errorf(ReasonQuota, "%v", err).With("limit", "ProposalsPendingMax")
	case errors.As(err, &compacted):
		return Errorf(ReasonCompacted, "events after index %d are no longer kept", compacted.After).
			With("oldest", strconv.FormatUint(compacted.Oldest, 10))
	case errors.Is(err, coordinator.ErrTooLarge):
		return invalidField("", "%v", err)
	case errors.Is(err, coordinator.ErrSuperseded), errors.Is(err, coordinator.ErrSilent), errors.Is(err, coordinator.ErrDetached):
		return Errorf(ReasonSessionLost, "%v", err)
	case errors.Is(err, coordinator.ErrClosed):
		return Errorf(ReasonNoLeader, "this node is stopping, and did nothing")
	case did == changes:
		return unknownOutcome(fsm.GID{}, err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &Error{Reason: ReasonDeadline}
	default:
		return Errorf(ReasonInternal, "%v", err)
	}
}

// refused is the state machine's typed no.
func refused(r *coordinator.Refusal) *Error {
	reason := Reason(r.Code.String())
	switch r.Code {
	case fsm.NotFounded:
		return Errorf(ReasonNoLeader, "%s", r.Detail)
	case fsm.Invalid:
		field, description := splitDetail(r.Detail)
		return invalidField(field, "%s", description).With("gid", gidText(r.GID))
	}
	if _, ok := table[reason]; !ok {
		return Errorf(ReasonInternal, "%v", r)
	}
	e := Errorf(reason, "%s", why(reason, r)).
		With("gid", gidText(r.GID)).With("key", r.Key).With("branch", r.Branch).
		With("decision", decisionText(r.Decision)).With("state", stateText(r.State)).
		With("stands", r.Detail)
	if r.Index != 0 {
		e.add("index", strconv.FormatUint(r.Index, 10))
	}
	if r.Verdict != fsm.VerdictNone {
		e.add("verdict", strings.ToLower(r.Verdict.String()))
	}
	if reason == ReasonNotFound && strings.HasPrefix(r.Detail, "no topic ") {
		e.Next = "who hears what: quorate topic ls; somebody must subscribe first: quorate topic subscribe TOPIC ENDPOINT"
	}
	if reason == ReasonQuota {
		limit, _ := splitDetail(r.Detail)
		e.add("limit", limit)
		if fixed[limit] {
			e.RetryAfter, e.Next = -1, "waiting does not help: make it smaller, or raise the limit, at /v1/cluster/limits"
		}
	}
	return e
}

// fixed are the limits of one transaction, or of topics, which do not pass with time as
// those of the load do.
var fixed = map[string]bool{
	"branches_per_transaction_max": true, "transaction_bytes_max": true, "topics_max": true, "subscribers_per_topic_max": true,
}

// object names what a refusal is about.
func object(r *coordinator.Refusal) string {
	name := "transaction"
	switch {
	case !r.GID.IsZero():
		name += " " + r.GID.String()
	case r.Key != "":
		name += " key:" + r.Key
	}
	if r.Branch != "" {
		name = "branch " + r.Branch + " of " + name
	}
	return name
}

// why says what stands: the state machine's own words, led by the object where
// they do not name it.
func why(reason Reason, r *coordinator.Refusal) string {
	switch {
	case r.Code == fsm.Quota && r.GID.IsZero() && r.Key == "" && r.Detail != "": // of a topic
		return r.Detail
	case r.Detail == "":
		return object(r) + ": " + table[reason].what
	case !r.GID.IsZero() && strings.Contains(r.Detail, r.GID.String()), r.Key != "" && strings.Contains(r.Detail, r.Key):
		return r.Detail
	default:
		return object(r) + ": " + r.Detail
	}
}

// splitDetail takes the state machine's "field says what" apart.
func splitDetail(detail string) (field, description string) {
	field, description, ok := strings.Cut(detail, " ")
	if !ok || strings.ContainsAny(field, ":,") {
		return "", detail
	}
	return field, description
}

// elsewhere sends a caller to the leader.
func elsewhere(leader coordinator.LeaderInfo) *Error {
	if leader.ID == "" {
		return &Error{Reason: ReasonNoLeader}
	}
	name := leader.ID
	if leader.Name != "" {
		name = leader.Name
	}
	return Errorf(ReasonNotLeader, "this node does not lead; node %s at %s does, in term %d", name, leader.GRPCAddress, leader.Term).
		With("leader_id", leader.ID).With("leader_grpc", leader.GRPCAddress).With("leader_http", leader.HTTPAddress).
		With("term", strconv.FormatUint(leader.Term, 10))
}

// unknownOutcome must never be dressed up as a failure.
func unknownOutcome(gid fsm.GID, cause error) *Error {
	what := "the request"
	if !gid.IsZero() {
		what = "the request on transaction " + gid.String()
	}
	message := what + " may or may not have taken effect"
	if cause != nil {
		message = fmt.Sprintf("%s: %v", message, cause)
	}
	return (&Error{Reason: ReasonOutcomeUnknown, Message: message}).With("gid", gidText(gid))
}

// invalidField refuses a request whose field, named by its path, is malformed.
func invalidField(field, format string, args ...any) *Error {
	return &Error{Reason: ReasonInvalid, Violations: []Violation{{Field: field, Description: fmt.Sprintf(format, args...)}}}
}

func gidText(gid fsm.GID) string {
	if gid.IsZero() {
		return ""
	}
	return gid.String()
}

func decisionText(d fsm.Decision) string {
	switch d {
	case fsm.DecisionCommit:
		return "commit"
	case fsm.DecisionRollback:
		return "rollback"
	default:
		return ""
	}
}

// stateText is a state as people say it, "" for unseen.
func stateText(s fsm.TxState) string {
	if s == fsm.StateUnseen {
		return ""
	}
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(s.String(), "STATE_"), "_", "-"))
}
