package api

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Error is a typed refusal of the API. It becomes a google.rpc.Status with
// exactly one ErrorInfo, and the details that its reason's row in the error
// table asks for.
type Error struct {
	Reason Reason
	// Message says what failed, on which object and why. Empty: the table's words.
	Message string
	// Next says what to type or do; empty: the table's words.
	Next string
	// Metadata is ErrorInfo's. Values must hold no secrets.
	Metadata map[string]string
	// Violations name malformed fields, for INVALID.
	Violations []Violation
	// RetryAfter overrides the table's delay where it is positive; negative is none.
	RetryAfter time.Duration
}

// Violation says what is wrong with one field, named by its path in the request.
type Violation struct {
	Field, Description string
}

// Errorf returns an Error whose message is formatted.
func Errorf(reason Reason, format string, args ...any) *Error {
	return &Error{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// With adds one entry of metadata and returns e. Empty values are left out.
func (e *Error) With(name, value string) *Error {
	e.add(name, value)
	return e
}

func (e *Error) add(name, value string) {
	if value == "" {
		return
	}
	if e.Metadata == nil {
		e.Metadata = make(map[string]string)
	}
	e.Metadata[name] = value
}

// Error is the text for people: what, which object, why, what to do next.
func (e *Error) Error() string {
	known := table[e.Reason]
	message, next := e.Message, e.Next
	if message == "" {
		message = known.what
	}
	if next == "" {
		next = known.next
	}
	if strings.Contains(next, "{gid}") {
		gid := e.Metadata["gid"]
		if gid == "" {
			gid = "GID"
		}
		next = strings.ReplaceAll(next, "{gid}", gid)
	}
	if len(e.Violations) > 0 {
		fields := make([]string, len(e.Violations))
		for i, violation := range e.Violations {
			if fields[i] = violation.Description; violation.Field != "" {
				fields[i] = violation.Field + " " + violation.Description
			}
		}
		message += ": " + strings.Join(fields, "; ")
	}
	if next == "" {
		return message
	}
	return message + " (" + next + ")"
}

// GRPCStatus makes e a status for grpc-go.
func (e *Error) GRPCStatus() *status.Status {
	known, ok := table[e.Reason]
	if !ok {
		// A reason without a row is a bug of ours; it must not pass for anything known.
		known = table[ReasonInternal]
	}
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{
		Reason: string(e.Reason), Domain: Domain, Metadata: e.Metadata,
	}}
	retryAfter := known.retryAfter
	if e.RetryAfter != 0 {
		retryAfter = e.RetryAfter
	}
	if retryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(retryAfter)})
	}
	if len(e.Violations) > 0 {
		bad := new(errdetails.BadRequest)
		for _, violation := range e.Violations {
			bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{
				Field: violation.Field, Description: violation.Description,
			})
		}
		details = append(details, bad)
	}
	if known.precondition {
		details = append(details, &errdetails.PreconditionFailure{
			Violations: []*errdetails.PreconditionFailure_Violation{{
				Type: string(e.Reason), Subject: e.subject(), Description: e.Error(),
			}},
		})
	}
	st, err := status.New(known.code, e.Error()).WithDetails(details...)
	if err != nil {
		// Details of our own types always marshal; without them the code still tells.
		return status.New(known.code, e.Error())
	}
	return st
}

// subject names the object that a precondition failed on.
func (e *Error) subject() string {
	for _, name := range []string{"gid", "key", "node_id"} {
		if value := e.Metadata[name]; value != "" {
			return name + ":" + value
		}
	}
	return Domain
}

// ReasonOf returns the reason of an error that came over the wire, or "" when
// it carries none of ours: then its outcome is unknown, whatever its code.
func ReasonOf(err error) Reason {
	info := infoOf(err)
	if info == nil {
		return ""
	}
	return Reason(info.Reason)
}

// infoOf returns err's ErrorInfo of our domain, or nil.
func infoOf(err error) *errdetails.ErrorInfo {
	st, ok := status.FromError(err)
	if !ok || st.Code() == codes.OK {
		return nil
	}
	for _, detail := range st.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.Domain == Domain {
			return info
		}
	}
	return nil
}
