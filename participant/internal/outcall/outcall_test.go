package outcall_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/fence"
	"github.com/quorate/quorate/participant/handlers"
	"github.com/quorate/quorate/participant/internal/outcall"
)

// call has a value in every field that travels.
var call = fence.Call{
	GID: "01JD9S7KQ0000000000000000A", Key: "order 1%", Branch: "1.2", Operation: fence.Try, Mode: "tcc", Attempt: 3,
	Epoch: fence.Epoch{Incarnation: 2, Term: 7}, FloorMS: 1000, ClockMS: 2000, Cluster: "C",
}

// answerBytesMax is the longest answer that is taken.
const answerBytesMax = 1 << 20

// meaning is what an error says of the branch.
func meaning(err error) string {
	switch {
	case err == nil:
		return "done"
	case errors.Is(err, participant.ErrRefused):
		return "refused"
	case errors.Is(err, participant.ErrOngoing):
		return "at work"
	}
	return "unknown"
}

// Only an answer of the branch's own says what was done: all the rest leaves it open.
func TestHTTP_WhatAnswersMean(t *testing.T) {
	for _, c := range []struct {
		code int
		body string
		want string
	}{
		{200, "held", "done"}, {201, "held", "done"}, {204, "", "done"},
		{202, "patience", "at work"}, {425, "patience", "at work"}, {409, "no", "refused"},
		{302, "", "unknown"}, {400, "", "unknown"}, {410, "", "unknown"}, {412, "", "unknown"}, {500, "", "unknown"}, {503, "", "unknown"},
		{200, strings.Repeat("x", answerBytesMax), "done"}, {200, strings.Repeat("x", answerBytesMax+1), "unknown"},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if got, err := fence.FromHTTP(r); err != nil || got != call {
				t.Errorf("the call is read as %+v, %v", got, err)
			}
			if r.Header.Get("Tenant") != "acme" {
				t.Errorf("the caller's own header is %q", r.Header.Get("Tenant"))
			}
			w.WriteHeader(c.code)
			_, _ = w.Write([]byte(c.body))
		}))
		// Headers of the caller's never stand for ours.
		headers := map[string]string{"Tenant": "acme", "Quorate-Gid": "01JD9S7KQ0000000000000000B", "QUORATE-BRANCH": "2"}
		said, err := outcall.Caller{}.Do(t.Context(), server.URL, call, headers, nil)
		server.Close()
		if meaning(err) != c.want || err == nil && string(said) != c.body {
			t.Errorf("%d with %d bytes: %d bytes, %v, want %s", c.code, len(c.body), len(said), err, c.want)
		}
	}
}

func TestGRPC_WhatStatusesMean(t *testing.T) {
	detailed := func(code codes.Code, reason string) error {
		s, err := status.New(code, "words").WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: "quorate"})
		if err != nil {
			t.Fatal(err)
		}
		return s.Err()
	}
	for _, c := range []struct {
		answer error
		want   string
	}{
		{nil, "done"}, {status.Error(codes.Aborted, "no"), "refused"}, {detailed(codes.Unavailable, "ONGOING"), "at work"},
		// A server that is away is none that works.
		{status.Error(codes.Unavailable, "away"), "unknown"}, {detailed(codes.Unavailable, "DRAINING"), "unknown"},
		{detailed(codes.Internal, "ONGOING"), "unknown"}, {status.Error(codes.FailedPrecondition, "ONGOING"), "unknown"},
		{status.Error(codes.Unimplemented, ""), "unknown"}, {status.Error(codes.DeadlineExceeded, ""), "unknown"},
	} {
		target := serve(t, func(_ any, stream grpc.ServerStream) error {
			if got, err := fence.FromGRPC(stream.Context()); err != nil || got != call {
				t.Errorf("the call is read as %+v, %v", got, err)
			}
			var in handlers.Raw
			if err := stream.RecvMsg(&in); err != nil || c.answer != nil {
				if err != nil {
					return err
				}
				return c.answer
			}
			return stream.SendMsg(&in)
		})
		headers := map[string]string{"Quorate-Gid": "01JD9S7KQ0000000000000000B"}
		said, err := outcall.Caller{}.Do(t.Context(), "grpc://"+target+"/shop.Stock/Take", call, headers, []byte("\xff"))
		if meaning(err) != c.want || err == nil && string(said) != "\xff" {
			t.Errorf("%v: %q, %v, want %s", c.answer, said, err, c.want)
		}
	}
}

// Connections that the caller made stay his: the next call goes over the same one.
func TestGRPC_TheCallersConnectionStaysOpen(t *testing.T) {
	target := serve(t, func(_ any, stream grpc.ServerStream) error {
		var in handlers.Raw
		return errors.Join(stream.RecvMsg(&in), stream.SendMsg(&in))
	})
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	caller := outcall.Caller{Dial: func(host string) (*grpc.ClientConn, error) {
		if host != target {
			t.Errorf("dialled %q, want %q", host, target)
		}
		return conn, nil
	}}
	for range 2 {
		if _, err := caller.Do(t.Context(), "grpc://"+target+"/shop.Stock/Take", call, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
}

func serve(t *testing.T, handler grpc.StreamHandler) (target string) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.ForceServerCodecV2(handlers.Codec()), grpc.UnknownServiceHandler(handler))
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		<-done // it was told to end
	})
	return l.Addr().String()
}
