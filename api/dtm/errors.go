package dtm

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// kind is what a reply means to DTM's clients.
type kind uint8

const (
	// kindError says nothing about the transaction: the call was malformed, or
	// could not be served.
	kindError kind = iota
	// kindUnavailable is an error that repeating may mend.
	kindUnavailable
	// kindFailure: the transaction failed, or stands so that the call is refused.
	kindFailure
	// kindOngoing: the transaction is still running.
	kindOngoing
)

// kinds is what each kind is over the wire. 409, 425, Aborted and
// FailedPrecondition appear nowhere else on this surface.
var kinds = map[kind]struct {
	http   int
	grpc   codes.Code
	jrpc   int
	result string // dtm_result
}{
	kindError:       {http.StatusInternalServerError, codes.Internal, -32603, ""},
	kindUnavailable: {http.StatusServiceUnavailable, codes.Unavailable, -32603, ""},
	kindFailure:     {http.StatusConflict, codes.Aborted, -32901, wordFailure},
	kindOngoing:     {http.StatusTooEarly, codes.FailedPrecondition, -32902, wordOngoing},
}

// replyError is what a call is answered with when it is not a success.
type replyError struct {
	kind kind
	text string
}

func (e *replyError) Error() string { return sealText(e.kind, e.text) }

// GRPCStatus lets gRPC take the error as it is.
func (e *replyError) GRPCStatus() *status.Status { return status.New(kinds[e.kind].grpc, e.Error()) }

func bad(format string, args ...any) error {
	return &replyError{kind: kindError, text: fmt.Sprintf(format, args...)}
}

// failed ends the text with DTM's word, once.
func failed(format string, args ...any) error {
	text := strings.TrimRight(strings.TrimSuffix(fmt.Sprintf(format, args...), wordFailure), " ")
	return &replyError{kind: kindFailure, text: strings.TrimLeft(text+" "+wordFailure, " ")}
}

func ongoing(format string, args ...any) error {
	return &replyError{kind: kindOngoing, text: fmt.Sprintf(format, args...) + " " + wordOngoing}
}

// asReply turns whatever a call failed with into a reply. Nothing of ours is a
// failure of the transaction unless a handler said so.
func asReply(err error) *replyError {
	var typed *replyError
	if errors.As(err, &typed) {
		return typed
	}
	st := status.Convert(err)
	switch reasonOf(err) {
	case reasonNoLeader, reasonNotLeader, reasonUnknown, reasonQuota, reasonLagging, reasonDeadline:
		return &replyError{kind: kindUnavailable, text: st.Message()}
	}
	switch st.Code() {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.ResourceExhausted:
		return &replyError{kind: kindUnavailable, text: st.Message()}
	default:
		return &replyError{kind: kindError, text: st.Message()}
	}
}

// Reasons of our own services that are told apart here; they are never renamed.
const (
	reasonNotLeader      = "NOT_LEADER"
	reasonNoLeader       = "NO_LEADER"
	reasonUnknown        = "OUTCOME_UNKNOWN"
	reasonQuota          = "QUOTA"
	reasonLagging        = "LAGGING"
	reasonDeadline       = "DEADLINE"
	reasonNotFound       = "NOT_FOUND"
	reasonAlreadyDecided = "ALREADY_DECIDED"
	reasonSealed         = "SEALED"
	reasonExpired        = "EXPIRED"
	reasonGIDConflict    = "GID_CONFLICT"
	reasonKeyConflict    = "KEY_CONFLICT"
	reasonBranchConflict = "BRANCH_CONFLICT"
	reasonVoteConflict   = "VOTE_CONFLICT"
)

// reasonOf is the typed reason of an error of our own services, "" for none.
func reasonOf(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

// conflicts tells of a gid that stands with other content.
func conflicts(err error) bool {
	reason := reasonOf(err)
	return reason == reasonGIDConflict || reason == reasonKeyConflict
}

// repeatable tells of an error after which the same request may be made again:
// every request of this package is idempotent by its key and content.
func repeatable(err error) bool {
	switch reasonOf(err) {
	case reasonNoLeader, reasonNotLeader, reasonUnknown, reasonLagging:
		return true
	case "":
		return status.Code(err) == codes.Unavailable
	default:
		return false
	}
}
