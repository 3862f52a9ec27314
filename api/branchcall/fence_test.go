package branchcall

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"google.golang.org/grpc"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/testkit"
	"github.com/quorate/quorate/participant/fence"
)

// TestTheFenceReadsCalls: what is sent is what the other side's fence is keyed by,
// in each tongue and over both protocols, whatever the names hold.
func TestTheFenceReadsCalls(t *testing.T) {
	var got fence.Call
	var err error
	web := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) { got, err = fence.FromHTTP(req) }))
	defer web.Close()
	rpc := serveCalls(t, func(ctx context.Context) { got, err = fence.FromGRPC(ctx) })
	caller := newCaller(t, nil)
	native := func(op fence.Operation, mode string) fence.Call {
		return fence.Call{
			GID: testGID.String(), Key: "é/1 %\t", Branch: "1 é", Operation: op, Mode: mode, Attempt: 3,
			Epoch: fence.Epoch{Incarnation: 1, Term: 7}, FloorMS: 11, ClockMS: 12, Cluster: "CLUSTER",
		}
	}
	dtm := func(op fence.Operation, mode string) fence.Call {
		return fence.Call{GID: "order-1", Branch: "01", Operation: op, Mode: mode, Epoch: fence.Epoch{Incarnation: 1, Term: 7}, Dialect: fence.DTM}
	}
	for _, tt := range []struct {
		mode      fsm.Mode
		op        fsm.Operation
		native    fence.Call
		transType string
		dtm       fence.Call
	}{
		{saga, fsm.OperationAction, native(fence.Action, "saga"), "saga", dtm(fence.Action, "saga")},
		{saga, fsm.OperationCompensate, native(fence.Compensate, "saga"), "saga", dtm(fence.Compensate, "saga")},
		{tcc, fsm.OperationConfirm, native(fence.Confirm, "tcc"), "tcc", dtm(fence.Confirm, "tcc")},
		{tcc, fsm.OperationCancel, native(fence.Cancel, "tcc"), "xa", dtm(fence.Cancel, "tcc")},
		{message, fsm.OperationAction, native(fence.Action, "message"), "msg", dtm(fence.Action, "message")},
	} {
		for _, at := range []string{web.URL + "/do", "grpc://" + rpc + "/a.B/Do"} {
			d := called(at, tt.mode, tt.op)
			d.Key, d.Branch = "é/1 %\t", "1 é"
			if _, failed := caller.Call(bounded(t), d); failed != nil || err != nil || got != tt.native {
				t.Errorf("%v at %s is read as %+v, %v, %v; want %+v", tt.op, at, got, err, failed, tt.native)
			}
			d.Key, d.Branch, d.Plan = "order-1", "01", &logpb.Plan{Dialect: dtmHTTP, DialectMode: tt.transType}
			if _, failed := caller.Call(bounded(t), d); failed != nil || err != nil || got != tt.dtm {
				t.Errorf("DTM's %v at %s is read as %+v, %v, %v; want %+v", tt.op, at, got, err, failed, tt.dtm)
			}
		}
	}
	for _, op := range []fsm.Operation{fsm.OperationCheckBack, fsm.OperationResume} {
		mode := map[fsm.Operation]fsm.Mode{fsm.OperationCheckBack: message, fsm.OperationResume: workflow}[op]
		d := called(web.URL, mode, op)
		d.Branch, d.Plan = "", &logpb.Plan{Workflow: "w"}
		if _, failed := caller.Call(bounded(t), d); failed != nil || err != nil || string(got.Operation) != operationWord(op) || got.GID != testGID.String() {
			t.Errorf("%v is read as %+v, %v, %v", op, got, err, failed)
		}
	}
}

// serveCalls is a gRPC server that hears every method.
func serveCalls(t *testing.T, hear func(context.Context)) string {
	t.Helper()
	server := grpc.NewServer(grpc.ForceServerCodecV2(rawCodec{}), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		hear(stream.Context())
		var body []byte
		if err := stream.RecvMsg(&body); err != nil {
			return err
		}
		return stream.SendMsg(&body)
	}))
	l := testkit.Listen(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
	return l.Addr().String()
}
