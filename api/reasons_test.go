package api

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"

	"github.com/quorate/quorate/fsm"
)

// errorTable is UX.md's table of errors, written down a second time: what a
// reason is answered as must not change by accident.
var errorTable = []struct {
	reason  Reason
	code    codes.Code
	http    int
	details string // besides ErrorInfo
}{
	{ReasonNotLeader, codes.Unavailable, 503, ""},
	{ReasonNoLeader, codes.Unavailable, 503, "RetryInfo"},
	{ReasonOutcomeUnknown, codes.DeadlineExceeded, 504, ""},
	{ReasonQuota, codes.ResourceExhausted, 429, "RetryInfo"},
	{ReasonLagging, codes.Unavailable, 503, "RetryInfo"},
	{ReasonDeadline, codes.DeadlineExceeded, 504, ""},
	{ReasonCompacted, codes.OutOfRange, 410, ""},
	{ReasonSessionLost, codes.Aborted, 409, ""},
	{ReasonUnimplemented, codes.Unimplemented, 501, ""},
	{ReasonInternal, codes.Internal, 500, ""},
	{ReasonInvalid, codes.InvalidArgument, 400, "BadRequest"},
	{ReasonDenied, codes.PermissionDenied, 403, ""},
	{ReasonNotFound, codes.NotFound, 404, ""},
	{ReasonAlreadyDecided, codes.FailedPrecondition, 409, "PreconditionFailure"},
	{ReasonExpired, codes.FailedPrecondition, 409, "PreconditionFailure"},
	{ReasonNotEnlisted, codes.FailedPrecondition, 409, "PreconditionFailure"},
	{ReasonSealed, codes.FailedPrecondition, 409, "PreconditionFailure"},
	{ReasonSetMismatch, codes.FailedPrecondition, 409, "PreconditionFailure"},
	{ReasonSetRequired, codes.FailedPrecondition, 409, "PreconditionFailure"},
	{ReasonUndecided, codes.FailedPrecondition, 409, "PreconditionFailure"},
	{ReasonAlreadyReported, codes.FailedPrecondition, 409, "PreconditionFailure"},
	{ReasonWithheld, codes.FailedPrecondition, 409, "PreconditionFailure"},
	{ReasonQuarantined, codes.FailedPrecondition, 409, "PreconditionFailure"},
	{ReasonStale, codes.FailedPrecondition, 409, "PreconditionFailure"},
	{ReasonGIDConflict, codes.AlreadyExists, 409, ""},
	{ReasonKeyConflict, codes.AlreadyExists, 409, ""},
	{ReasonBranchConflict, codes.AlreadyExists, 409, ""},
	{ReasonVoteConflict, codes.AlreadyExists, 409, ""},
	{ReasonCommitConflict, codes.AlreadyExists, 409, ""},
	{ReasonForeignCluster, codes.FailedPrecondition, 409, "PreconditionFailure"},
	{ReasonNodeConflict, codes.AlreadyExists, 409, ""},
	{ReasonNotCaughtUp, codes.FailedPrecondition, 409, "PreconditionFailure RetryInfo"},
	{ReasonQuorumAtRisk, codes.FailedPrecondition, 409, "PreconditionFailure"},
}

func TestErrorTable(t *testing.T) {
	if got, want := len(Reasons()), len(errorTable); got != want {
		t.Errorf("the code's table has %d reasons, the documented one %d", got, want)
	}
	for _, want := range errorTable {
		t.Run(string(want.reason), func(t *testing.T) {
			e := (&Error{Reason: want.reason}).With("gid", testGID.String())
			if want.reason == ReasonInvalid {
				e.Violations = []Violation{{"gid", "is missing"}}
			}
			st := e.GRPCStatus()
			if st.Code() != want.code || table[want.reason].http != want.http {
				t.Errorf("answered as %v and %d, want %v and %d", st.Code(), table[want.reason].http, want.code, want.http)
			}
			var infos int
			var others []string
			for _, detail := range st.Details() {
				switch d := detail.(type) {
				case *errdetails.ErrorInfo:
					infos++
					if d.Domain != "quorate" || d.Reason != string(want.reason) || d.Metadata["gid"] != testGID.String() {
						t.Errorf("ErrorInfo is %v", d)
					}
				case *errdetails.RetryInfo:
					others = append(others, "RetryInfo")
					if d.GetRetryDelay().AsDuration() <= 0 {
						t.Errorf("RetryInfo says %v", d.GetRetryDelay().AsDuration())
					}
				case *errdetails.BadRequest:
					others = append(others, "BadRequest")
				case *errdetails.PreconditionFailure:
					others = append(others, "PreconditionFailure")
					if v := d.Violations[0]; v.Type != string(want.reason) || v.Subject != "gid:"+testGID.String() {
						t.Errorf("PreconditionFailure is %v", v)
					}
				default:
					t.Errorf("unexpected detail %T", d)
				}
			}
			slices.Sort(others)
			if infos != 1 {
				t.Errorf("%d ErrorInfos, want exactly one", infos)
			}
			if diff := cmp.Diff(want.details, strings.Join(others, " ")); diff != "" {
				t.Error(diff)
			}
			if len(want.reason) > 63 || strings.ToUpper(string(want.reason)) != string(want.reason) {
				t.Errorf("%q is no UPPER_SNAKE of at most 63 characters", want.reason)
			}
			if strings.Contains(st.Message(), "{gid}") || st.Message() == "" {
				t.Errorf("message %q", st.Message())
			}
		})
	}
}

// TestEveryRefusalHasARow: a code of the state machine without a row in the
// table would be answered as an internal error.
func TestEveryRefusalHasARow(t *testing.T) {
	internal := []fsm.Code{fsm.OK, fsm.AlreadyFounded, fsm.NotFounded}
	for _, code := range fsm.Codes() {
		if _, ok := table[Reason(code.String())]; !ok && !slices.Contains(internal, code) {
			t.Errorf("%v has no row", code)
		}
	}
}

// TestOutcomeUnknownIsNeverDefinite: the code must be one that clients take for
// ambiguous, and HTTP's must be a gateway's timeout.
func TestOutcomeUnknownIsNeverDefinite(t *testing.T) {
	for reason, r := range table {
		ambiguous := r.code == codes.DeadlineExceeded && r.http == http.StatusGatewayTimeout
		if reason == ReasonOutcomeUnknown && !ambiguous {
			t.Errorf("OUTCOME_UNKNOWN is answered as %v and %d", r.code, r.http)
		}
	}
}

func TestErrorText(t *testing.T) {
	e := Errorf(ReasonUndecided, "branch 2 of transaction %s is not decided", testGID).With("gid", testGID.String()).With("key", "")
	want := "branch 2 of transaction " + testGID.String() + " is not decided (quorate tx rollback " + testGID.String() + ")"
	if e.Error() != want {
		t.Errorf("got %q, want %q", e.Error(), want)
	}
	if _, ok := e.Metadata["key"]; ok {
		t.Error("empty metadata was kept")
	}
	e = &Error{Reason: ReasonUndecided}
	if !strings.Contains(e.Error(), "quorate tx rollback GID") {
		t.Errorf("without a gid: %q", e)
	}
	e = &Error{Reason: ReasonNoLeader, RetryAfter: 3 * time.Second}
	for _, detail := range e.GRPCStatus().Details() {
		if r, ok := detail.(*errdetails.RetryInfo); ok && r.RetryDelay.AsDuration() != 3*time.Second {
			t.Errorf("RetryAfter is not used: %v", r)
		}
	}
	if got := (&Error{Reason: "SOMETHING_NEW"}).GRPCStatus().Code(); got != codes.Internal {
		t.Errorf("a reason without a row is answered as %v", got)
	}
}
