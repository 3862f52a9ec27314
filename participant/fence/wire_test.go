package fence_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/fence"
)

const gid = "01JD9S7KQ0ABCDEFGHJKMNPQRS"

var (
	nativeHeaders = map[string]string{
		"Quorate-Gid": gid, "Quorate-Key": "order%201%25", "Quorate-Branch": "1.2", "Quorate-Cluster": "C", "Quorate-Operation": "compensate", "Quorate-Mode": "saga",
		"Quorate-Attempt": "3", "Quorate-Epoch": "2.17", "Quorate-Floor": "1000", "Quorate-Clock": "2000",
	}
	nativeCall = fence.Call{
		GID: gid, Key: "order 1%", Branch: "1.2", Cluster: "C", Operation: fence.Compensate, Mode: "saga", Attempt: 3,
		Epoch: fence.Epoch{Incarnation: 2, Term: 17}, FloorMS: 1000, ClockMS: 2000,
	}
)

func TestNativeCallsAreRead(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	md := metadata.MD{}
	for name, value := range nativeHeaders {
		r.Header.Set(name, value)
		md.Set(name, value)
	}
	got, err := fence.FromHTTP(r)
	if err != nil || got != nativeCall {
		t.Errorf("HTTP: %+v, %v", got, err)
	}
	got, err = fence.FromGRPC(metadata.NewIncomingContext(t.Context(), md))
	if err != nil || got != nativeCall {
		t.Errorf("gRPC: %+v, %v", got, err)
	}
	for _, bad := range []struct{ name, value string }{
		{"Quorate-Gid", ""}, {"Quorate-Gid", "order-1"}, {"Quorate-Branch", ""}, {"Quorate-Branch", "a%0Ab"}, {"Quorate-Branch", "%"}, {"Quorate-Key", "%zz"}, {"Quorate-Cluster", "a\x00"}, {"Quorate-Branch", strings.Repeat("1", 129)},
		{"Quorate-Operation", "destroy"}, {"Quorate-Epoch", "2"}, {"Quorate-Epoch", "2.x"}, {"Quorate-Floor", "-1"}, {"Quorate-Clock", "soon"}, {"Quorate-Attempt", "1e3"},
	} {
		r := r.Clone(t.Context())
		r.Header.Set(bad.name, bad.value)
		if got, err := fence.FromHTTP(r); !errors.Is(err, fence.ErrCall) {
			t.Errorf("%s %q is read as %+v, %v", bad.name, bad.value, got, err)
		}
	}
}

// TestDTMCallsAreRead: every word that DTM's servers and SDKs say.
func TestDTMCallsAreRead(t *testing.T) {
	for _, c := range []struct {
		transType, op, mode string
		want                fence.Operation // "": an error
	}{
		{"saga", "action", "saga", fence.Action}, {"saga", "compensate", "saga", fence.Compensate},
		{"tcc", "try", "tcc", fence.Try}, {"tcc", "confirm", "tcc", fence.Confirm}, {"tcc", "cancel", "tcc", fence.Cancel},
		{"xa", "action", "tcc", fence.Action}, {"xa", "commit", "tcc", fence.Confirm}, {"xa", "rollback", "tcc", fence.Cancel},
		{"msg", "action", "message", fence.Action}, {"msg", "msg", "message", fence.CheckBack},
		{"workflow", "action", "workflow", fence.Action}, {"workflow", "commit", "workflow", fence.Confirm}, {"workflow", "rollback", "workflow", fence.Cancel},
		{"workflow", "my-workflow", "workflow", fence.Resume},
		{"saga", "destroy", "", ""}, {"sagas", "action", "", ""},
	} {
		want := fence.Call{GID: "order-1", Branch: "01", Operation: c.want, Mode: c.mode, Dialect: fence.DTM, Epoch: fence.Epoch{Incarnation: 1, Term: 7}}
		q := url.Values{"gid": {want.GID}, "trans_type": {c.transType}, "branch_id": {"01"}, "op": {c.op}}
		r := httptest.NewRequest(http.MethodPost, "/take?n=1&"+q.Encode(), nil)
		r.Header.Set("Quorate-Epoch", "1.7") // our driver tells it in this dialect too
		got, err := fence.FromHTTP(r)
		md := metadata.Pairs("dtm-gid", want.GID, "dtm-trans_type", c.transType, "dtm-branch_id", "01", "dtm-op", c.op, "dtm-dtm", "", "quorate-epoch", "1.7")
		overGRPC, grpcErr := fence.FromGRPC(metadata.NewIncomingContext(t.Context(), md))
		if c.want == "" {
			if !errors.Is(err, fence.ErrCall) || !errors.Is(grpcErr, fence.ErrCall) {
				t.Errorf("%s %s: %v, %v", c.transType, c.op, err, grpcErr)
			}
			continue
		}
		if err != nil || grpcErr != nil || got != want || overGRPC != want {
			t.Errorf("%s %s: %+v, %v; %+v, %v", c.transType, c.op, got, err, overGRPC, grpcErr)
		}
	}
}

func TestOtherRequestsAreNoCalls(t *testing.T) {
	for _, target := range []string{"/", "/?op=action", "/?gid=1&op="} {
		if c, err := fence.FromHTTP(httptest.NewRequest(http.MethodGet, target, nil)); err != nil || c != (fence.Call{}) {
			t.Errorf("%s: %+v, %v", target, c, err)
		}
	}
	if c, err := fence.FromGRPC(t.Context()); err != nil || c != (fence.Call{}) {
		t.Errorf("gRPC: %+v, %v", c, err)
	}
	f, err := fence.New(fence.SQLite)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Do(t.Context(), nil, fence.FromContext(t.Context()), nil); !errors.Is(err, fence.ErrCall) {
		t.Errorf("Do without a call: %v", err)
	}
}

// answers are what each error is to the coordinator: native, and in DTM's protocol.
var answers = []struct {
	err      error
	http     int
	grpc     codes.Code
	dtmGRPC  codes.Code
	decision string // the word that DTM's clients look for
}{
	{nil, 200, codes.OK, codes.OK, ""},
	{participant.ErrRefused, 409, codes.Aborted, codes.Aborted, "FAILURE"},
	{fence.ErrLate, 409, codes.Aborted, codes.Aborted, "FAILURE"},
	{participant.ErrOngoing, 425, codes.Unavailable, codes.FailedPrecondition, "ONGOING"},
	{fence.ErrStale, 412, codes.FailedPrecondition, codes.Unknown, ""},
	{fence.ErrSwept, 410, codes.FailedPrecondition, codes.Unknown, ""},
	{fence.ErrOrder, 500, codes.Unknown, codes.Unknown, ""},
	{fence.ErrCall, 400, codes.InvalidArgument, codes.InvalidArgument, ""},
	{errors.New("a FAILURE that is ONGOING"), 500, codes.Unknown, codes.Unknown, ""},
}

func TestAnswersOverHTTP(t *testing.T) {
	for _, a := range answers {
		h := fence.Handler(func(http.ResponseWriter, *http.Request) error {
			if a.err == nil {
				return nil
			}
			return fmt.Errorf("of the handler: %w", a.err)
		})
		native := httptest.NewRequest(http.MethodPost, "/", nil)
		for name, value := range nativeHeaders {
			native.Header.Set(name, value)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, native)
		if w.Code != a.http || a.err != nil && !strings.Contains(w.Body.String(), a.err.Error()) {
			t.Errorf("%v: %d %q", a.err, w.Code, w.Body)
		}
		w = httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/?gid=1&trans_type=saga&branch_id=01&op=action", nil))
		for _, word := range []string{"FAILURE", "ONGOING"} {
			if strings.Contains(w.Body.String(), word) != (word == a.decision) {
				t.Errorf("%v to DTM: %d %q", a.err, w.Code, w.Body)
			}
		}
		if w.Code != a.http {
			t.Errorf("%v to DTM: %d, want %d", a.err, w.Code, a.http)
		}
	}
	w := httptest.NewRecorder()
	fence.Middleware(http.NotFoundHandler()).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/?gid=1&trans_type=saga&branch_id=01&op=FAILURE", nil))
	if w.Code != http.StatusBadRequest || strings.Contains(w.Body.String(), "FAILURE") {
		t.Errorf("a bad call to DTM: %d %q", w.Code, w.Body)
	}
}

func TestAnswersOverGRPC(t *testing.T) {
	native, dtm := metadata.MD{}, metadata.Pairs("dtm-gid", "1", "dtm-trans_type", "saga", "dtm-branch_id", "01", "dtm-op", "action")
	for name, value := range nativeHeaders {
		native.Set(name, value)
	}
	for _, a := range answers {
		for _, c := range []struct {
			md   metadata.MD
			want codes.Code
		}{{native, a.grpc}, {dtm, a.dtmGRPC}} {
			ctx := metadata.NewIncomingContext(t.Context(), c.md)
			_, err := fence.UnaryServerInterceptor()(ctx, nil, &grpc.UnaryServerInfo{}, func(ctx context.Context, _ any) (any, error) {
				if fence.FromContext(ctx) == (fence.Call{}) {
					t.Error("the context carries no call")
				}
				return nil, a.err
			})
			s := status.Convert(err)
			if s.Code() != c.want {
				t.Errorf("%v: %v, want %v", a.err, err, c.want)
			}
			if c.want == codes.Unavailable {
				info, ok := s.Details()[0].(*errdetails.ErrorInfo)
				if !ok || info.GetReason() != "ONGOING" {
					t.Errorf("still at work, without the reason: %v", s.Details())
				}
			}
		}
	}
	own := status.Error(codes.NotFound, "the handler's own")
	if got := fence.GRPCError(t.Context(), own); got != own {
		t.Errorf("a status became %v", got)
	}
}
