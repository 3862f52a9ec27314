package participant

import (
	"context"
	"errors"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// errorDomain marks the ErrorInfo of answers that are the cluster's own.
const errorDomain = "quorate"

// Reasons that the client itself acts on; the others go to the caller.
const (
	reasonNotLeader      = "NOT_LEADER"
	reasonNoLeader       = "NO_LEADER"
	reasonOutcomeUnknown = "OUTCOME_UNKNOWN"
	reasonDeadline       = "DEADLINE"
	reasonLagging        = "LAGGING"
	reasonSessionLost    = "SESSION_LOST"
	reasonQuota          = "QUOTA"
	reasonNotFound       = "NOT_FOUND"
	reasonExpired        = "EXPIRED"
	reasonWithheld       = "WITHHELD"
	reasonQuarantined    = "QUARANTINED"
	reasonAlreadyDecided = "ALREADY_DECIDED"
	reasonSealed         = "SEALED"
	reasonDenied         = "DENIED"
	reasonUnimplemented  = "UNIMPLEMENTED"
	reasonInternal       = "INTERNAL"
)

// failure is an error of one try, taken apart.
type failure struct {
	err        error
	code       codes.Code
	reason     string // empty: not one of the cluster's own answers
	detail     string
	metadata   map[string]string
	retryAfter time.Duration
}

// failureOf takes an error of gRPC's, or a status sent within a session, apart.
func failureOf(err error) failure {
	s, _ := status.FromError(err)
	f := failure{err: err, code: s.Code(), detail: s.Message()}
	if errors.Is(err, context.DeadlineExceeded) {
		f.code = codes.DeadlineExceeded
	}
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() == errorDomain {
				f.reason, f.metadata = d.GetReason(), d.GetMetadata()
			}
		case *errdetails.RetryInfo:
			f.retryAfter = d.GetRetryDelay().AsDuration()
		}
	}
	return f
}

// certain reports that the try did nothing: it is one of the cluster's own
// refusals. Everything else may have taken effect (GUARANTEES.md, section 2).
func (f failure) certain() bool {
	return f.reason != "" && f.reason != reasonOutcomeUnknown
}

// quotaTriesMax is how often a request is sent again that a limit refused. After
// that the caller is told: overload does not pass by being waited for in silence.
const quotaTriesMax = 3

// final reports that repeating the same request elsewhere, for the tries-th time,
// cannot help.
func (f failure) final(tries int) bool {
	switch f.reason {
	case reasonNotLeader, reasonNoLeader, reasonOutcomeUnknown, reasonDeadline, reasonLagging, reasonSessionLost:
		return false
	case reasonQuota:
		return f.retryAfter == 0 || tries > quotaTriesMax
	case "":
		return f.code == codes.InvalidArgument || f.code == codes.Unimplemented ||
			f.code == codes.PermissionDenied || f.code == codes.Unauthenticated
	}
	return true
}

// blind reports that whoever refused looked at nothing that stands: a full queue, a proxy
// on the way. An earlier try of the same request may have been done all the same.
func (f failure) blind() bool {
	switch f.reason {
	case "", reasonQuota, reasonDenied, reasonUnimplemented, reasonInternal:
		return true
	}
	return false
}

// told is the final failure of a request, of whose earlier tries one may have taken effect.
func (f failure) told(gid GID, unknown bool) error {
	if unknown && f.blind() {
		return &OutcomeUnknownError{GID: gid, Err: f.typed(gid)}
	}
	return f.typed(gid)
}

// pause is how long to wait before the next try. An election is over sooner than
// a node without a leader can know, so its advice is not waited for.
func (f failure) pause(b *backoff) time.Duration {
	if f.reason == reasonNoLeader {
		return b.next()
	}
	return max(f.retryAfter, b.next())
}

// typed is the failure as the caller sees it.
func (f failure) typed(gid GID) error {
	if g, err := ParseGID(f.metadata["gid"]); err == nil && gid == "" {
		gid = g
	}
	if f.reason == "" {
		return &RefusedError{GID: gid, Reason: f.code.String(), Detail: f.detail}
	}
	return &RefusedError{GID: gid, Reason: f.reason, Detail: f.detail, RetryAfter: f.retryAfter, Metadata: f.metadata}
}

// refusedWith returns the reason of a refusal, or "".
func refusedWith(err error) string {
	var r *RefusedError
	if errors.As(err, &r) {
		return r.Reason
	}
	return ""
}
