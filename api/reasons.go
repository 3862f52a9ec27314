package api

import (
	"net/http"
	"time"

	"google.golang.org/grpc/codes"
)

// Reason is the machine's word for why a call was not answered as asked. It is
// ErrorInfo's reason: clients branch on it, so a reason is never renamed.
type Reason string

// Domain is ErrorInfo's domain in every error of ours.
const Domain = "quorate"

// The reasons. Those of the state machine are PROTOCOL.md's refusals by their
// names there.
const (
	// Of the node that was asked.
	ReasonNotLeader      Reason = "NOT_LEADER"
	ReasonNoLeader       Reason = "NO_LEADER"
	ReasonOutcomeUnknown Reason = "OUTCOME_UNKNOWN"
	ReasonQuota          Reason = "QUOTA"
	ReasonLagging        Reason = "LAGGING"
	ReasonDeadline       Reason = "DEADLINE"
	ReasonCompacted      Reason = "COMPACTED"
	ReasonSessionLost    Reason = "SESSION_LOST"
	ReasonUnimplemented  Reason = "UNIMPLEMENTED"
	ReasonInternal       Reason = "INTERNAL"

	// Of the request.
	ReasonInvalid  Reason = "INVALID"
	ReasonNotFound Reason = "NOT_FOUND"
	ReasonDenied   Reason = "DENIED"

	// Of the transaction's state.
	ReasonAlreadyDecided  Reason = "ALREADY_DECIDED"
	ReasonExpired         Reason = "EXPIRED"
	ReasonNotEnlisted     Reason = "NOT_ENLISTED"
	ReasonSealed          Reason = "SEALED"
	ReasonSetMismatch     Reason = "SET_MISMATCH"
	ReasonSetRequired     Reason = "SET_REQUIRED"
	ReasonUndecided       Reason = "UNDECIDED"
	ReasonAlreadyReported Reason = "ALREADY_REPORTED"
	ReasonWithheld        Reason = "WITHHELD"
	ReasonQuarantined     Reason = "QUARANTINED"
	ReasonStale           Reason = "STALE"

	// Of content that differs from what stands.
	ReasonGIDConflict    Reason = "GID_CONFLICT"
	ReasonKeyConflict    Reason = "KEY_CONFLICT"
	ReasonBranchConflict Reason = "BRANCH_CONFLICT"
	ReasonVoteConflict   Reason = "VOTE_CONFLICT"
	ReasonCommitConflict Reason = "COMMIT_CONFLICT"

	// Of the cluster's membership.
	ReasonForeignCluster Reason = "FOREIGN_CLUSTER"
	ReasonNodeConflict   Reason = "NODE_CONFLICT"
	ReasonNotCaughtUp    Reason = "NOT_CAUGHT_UP"
	ReasonQuorumAtRisk   Reason = "QUORUM_AT_RISK"
)

// row says how one reason is answered.
type row struct {
	code codes.Code
	// http is the status of the same answer over the gateway. A refusal by the
	// transaction's state is 409, so that 400 means "malformed" and nothing else.
	http int
	// retryAfter is RetryInfo's delay; 0 where repeating does not help by itself.
	retryAfter time.Duration
	// precondition adds a PreconditionFailure whose type is the reason.
	precondition bool
	// what is said when the refusal brings no words of its own, and what to
	// type or do next. {gid} stands for the transaction.
	what, next string
}

// table is the error table: every reason, once.
var table = map[Reason]row{
	ReasonNotLeader: {
		code: codes.Unavailable, http: http.StatusServiceUnavailable,
		what: "this node does not lead", next: "ask the node named in leader_grpc",
	},
	ReasonNoLeader: {
		code: codes.Unavailable, http: http.StatusServiceUnavailable, retryAfter: 500 * time.Millisecond,
		what: "no leader is known, so nothing was done", next: "try again; where it lasts, see: quorate cluster status",
	},
	ReasonOutcomeUnknown: {
		code: codes.DeadlineExceeded, http: http.StatusGatewayTimeout,
		what: "the request may or may not have taken effect", next: "repeating it with the same gid, or key, is safe; or look: quorate tx show {gid}",
	},
	ReasonQuota: {
		code: codes.ResourceExhausted, http: http.StatusTooManyRequests, retryAfter: time.Second,
		what: "a limit is reached, so nothing was done", next: "try again later; limits: quorate config show",
	},
	ReasonLagging: {
		code: codes.Unavailable, http: http.StatusServiceUnavailable, retryAfter: 200 * time.Millisecond,
		what: "this node has not yet applied what min_index asks for", next: "try again, or ask the leader",
	},
	ReasonDeadline: {
		code: codes.DeadlineExceeded, http: http.StatusGatewayTimeout,
		what: "the call's time was up before there was an answer", next: "nothing was changed by it; try again with more time",
	},
	ReasonCompacted: {
		code: codes.OutOfRange, http: http.StatusGone,
		what: "events after that index are no longer kept", next: "list anew, and watch from the list's index",
	},
	ReasonSessionLost: {
		code: codes.Aborted, http: http.StatusConflict,
		what: "the session was ended", next: "attach again",
	},
	ReasonUnimplemented: {
		code: codes.Unimplemented, http: http.StatusNotImplemented,
		what: "this node does not know the method", next: "compare versions: quorate version",
	},
	ReasonInternal: {
		code: codes.Internal, http: http.StatusInternalServerError,
		what: "the node failed at the call", next: "see the node's log",
	},
	ReasonInvalid: {
		code: codes.InvalidArgument, http: http.StatusBadRequest,
		what: "the request is malformed", next: "correct the fields named",
	},
	ReasonNotFound: {
		code: codes.NotFound, http: http.StatusNotFound,
		what: "it was never seen here, or was dropped after its retention", next: "list what there is: quorate tx ls --all",
	},
	ReasonDenied: {
		code: codes.PermissionDenied, http: http.StatusForbidden,
		what: "the caller may not do this", next: "call as somebody who may",
	},
	ReasonAlreadyDecided: {
		code: codes.FailedPrecondition, http: http.StatusConflict, precondition: true,
		what: "it is decided the other way", next: "a decision never changes; see: quorate tx show {gid}",
	},
	ReasonExpired: {
		code: codes.FailedPrecondition, http: http.StatusConflict, precondition: true,
		what: "its gid was born before the horizon, so whatever it was has been dropped", next: "after Begin: make a new gid from a fresh clock; after Submit: the outcome is unknown",
	},
	ReasonNotEnlisted: {
		code: codes.FailedPrecondition, http: http.StatusConflict, precondition: true,
		what: "the branch is not a member", next: "enlist it before it votes",
	},
	ReasonSealed: {
		code: codes.FailedPrecondition, http: http.StatusConflict, precondition: true,
		what: "the commit was asked for without this branch", next: "roll the branch's local work back",
	},
	ReasonSetMismatch: {
		code: codes.FailedPrecondition, http: http.StatusConflict, precondition: true,
		what: "the commit's set leaves a member out", next: "name every member, or roll back; members: quorate tx show {gid}",
	},
	ReasonSetRequired: {
		code: codes.FailedPrecondition, http: http.StatusConflict, precondition: true,
		what: "branches enter this transaction by voting, so its commit must name the exact set", next: "repeat the commit with the set",
	},
	ReasonUndecided: {
		code: codes.FailedPrecondition, http: http.StatusConflict, precondition: true,
		what: "nothing is decided yet, so there is nothing to resolve", next: "quorate tx rollback {gid}",
	},
	ReasonAlreadyReported: {
		code: codes.FailedPrecondition, http: http.StatusConflict, precondition: true,
		what: "the branch has reported its own outcome", next: "see it: quorate tx show {gid}",
	},
	ReasonWithheld: {
		code: codes.FailedPrecondition, http: http.StatusConflict, precondition: true,
		what: "the cluster was restored, and what was decided in the gap is not known", next: "an operator must decide: quorate tx commit|rollback {gid} --reason ...",
	},
	ReasonQuarantined: {
		code: codes.FailedPrecondition, http: http.StatusConflict, precondition: true,
		what: "an invariant of this transaction broke, and it was set aside", next: "an operator must end it; see: quorate tx show {gid}",
	},
	ReasonStale: {
		code: codes.FailedPrecondition, http: http.StatusConflict, precondition: true,
		what: "a newer leader has taken over since", next: "try again",
	},
	ReasonGIDConflict: {
		code: codes.AlreadyExists, http: http.StatusConflict,
		what: "the gid stands for a transaction of other content", next: "make a new gid; what stands: quorate tx show {gid}",
	},
	ReasonKeyConflict: {
		code: codes.AlreadyExists, http: http.StatusConflict,
		what: "the key stands for another transaction", next: "roll your own branches back and wait for that one's outcome: quorate tx wait {gid}",
	},
	ReasonBranchConflict: {
		code: codes.AlreadyExists, http: http.StatusConflict,
		what: "the branch is enlisted with another resource, endpoint or holder", next: "give each branch an id of its own; what stands: quorate tx show {gid}",
	},
	ReasonVoteConflict: {
		code: codes.AlreadyExists, http: http.StatusConflict,
		what: "the branch has voted otherwise, and a first vote never changes", next: "what stands: quorate tx show {gid}",
	},
	ReasonCommitConflict: {
		code: codes.AlreadyExists, http: http.StatusConflict,
		what: "the commit was asked for with another set", next: "what stands: quorate tx show {gid}",
	},
	ReasonForeignCluster: {
		code: codes.FailedPrecondition, http: http.StatusConflict, precondition: true,
		what: "it belongs to another cluster", next: "start it with an empty data directory, or point it at its own cluster",
	},
	ReasonNodeConflict: {
		code: codes.AlreadyExists, http: http.StatusConflict,
		what: "another node stands under that id, name or address", next: "see: quorate cluster status",
	},
	ReasonNotCaughtUp: {
		code: codes.FailedPrecondition, http: http.StatusConflict, precondition: true, retryAfter: time.Second,
		what: "the node's log is not close enough to the leader's", next: "wait for its lag to fall: quorate cluster status",
	},
	ReasonQuorumAtRisk: {
		code: codes.FailedPrecondition, http: http.StatusConflict, precondition: true,
		what: "the quorum would be left without a spare node", next: "add a node first, or say --force",
	},
}

// Reasons lists every reason that an error of this API can carry.
func Reasons() []Reason {
	reasons := make([]Reason, 0, len(table))
	for reason := range table {
		reasons = append(reasons, reason)
	}
	return reasons
}
