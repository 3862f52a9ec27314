package branchcall

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/callheader"
	"github.com/quorate/quorate/internal/testkit"
)

const (
	saga     = logpb.Mode_MODE_SAGA
	tcc      = logpb.Mode_MODE_TCC
	message  = logpb.Mode_MODE_MESSAGE
	workflow = logpb.Mode_MODE_WORKFLOW
	notify   = logpb.Mode_MODE_NOTIFY

	committed  = logpb.Outcome_OUTCOME_COMMITTED
	rolledBack = logpb.Outcome_OUTCOME_ROLLED_BACK
)

// called is a delivery of a mode whose branches are called.
func called(endpoint string, mode fsm.Mode, op fsm.Operation) coordinator.Delivery {
	d := delivery(endpoint, fsm.VerdictWait)
	d.Mode, d.Operation, d.Key, d.Payload = mode, op, "order-1", []byte(`{"amount":30}`)
	return d
}

// said is what a call came to.
type said struct {
	outcome       fsm.Outcome
	busy, refused bool
	err           string // in the error; empty for none
}

func (want said) check(t *testing.T, got coordinator.Answered, err error) {
	t.Helper()
	if want.err != "" {
		if err == nil || !strings.Contains(err.Error(), want.err) {
			t.Errorf("got %+v %v, want an error with %q", got, err, want.err)
		}
		return
	}
	if err != nil || got.Outcome != want.outcome || got.Busy != want.busy || got.Refused != want.refused {
		t.Errorf("got %+v %v, want %+v", got, err, want)
	}
}

// everyCall is each operation with what "done" and "refused" come to.
var everyCall = []struct {
	mode          fsm.Mode
	op            fsm.Operation
	done, refused said
}{
	{saga, fsm.OperationAction, said{outcome: committed}, said{refused: true}},
	{saga, fsm.OperationCompensate, said{outcome: rolledBack}, said{err: "refuses what is decided"}},
	{tcc, fsm.OperationConfirm, said{outcome: committed}, said{err: "refuses what is decided"}},
	{tcc, fsm.OperationCancel, said{outcome: rolledBack}, said{err: "refuses what is decided"}},
	{message, fsm.OperationAction, said{outcome: committed}, said{err: "refuses what is decided"}},
	{message, fsm.OperationCheckBack, said{outcome: committed}, said{refused: true}},
	{workflow, fsm.OperationResume, said{outcome: committed}, said{refused: true}},
	{notify, fsm.OperationAction, said{outcome: committed}, said{err: "refuses what is decided"}},
}

// TestCallAnswers is HTTP's column of the table, for every operation.
func TestCallAnswers(t *testing.T) {
	var code atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/elsewhere" {
			t.Error("a redirect was followed")
		}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(int(code.Load()))
		_, _ = io.WriteString(w, "FAILURE no \x1b[2Jfunds ONGOING")
	}))
	defer server.Close()
	caller := newCaller(t, nil)
	for _, c := range everyCall {
		for answer, want := range map[int]said{
			200: c.done, 201: c.done, 299: c.done, 202: {busy: true}, 425: {busy: true}, 409: c.refused,
			301: {err: "301"}, 307: {err: "307"}, 400: {err: "400"}, 401: {err: "401"}, 404: {err: "404"}, 408: {err: "408"},
			410: {err: "410"}, 422: {err: "422"}, 429: {err: "429"}, 500: {err: `"FAILURE no  [2Jfunds ONGOING"`}, 503: {err: "POST " + server.URL + " → 503"}, 599: {err: "599"},
		} {
			code.Store(int32(answer))
			got, err := caller.Call(bounded(t), called(server.URL, c.mode, c.op))
			t.Run(c.op.String()+" of "+c.mode.String()+" "+http.StatusText(answer), func(t *testing.T) {
				want.check(t, got, err)
				if got.Outcome != 0 && got.Detail != "" {
					t.Errorf("a body goes into the log: %q", got.Detail)
				}
				if answer == 409 && want.refused && !strings.Contains(got.Detail, "no  [2Jfunds") {
					t.Errorf("the branch's words are lost: %q", got.Detail)
				}
			})
		}
	}
}

// TestCallRequest: what a branch is sent, byte by byte, and that a plan's headers
// come along without standing in for ours.
func TestCallRequest(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	var header http.Header
	var body []byte
	var host string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodPost || req.URL.String() != "/reserve?a=b%20c" {
			t.Errorf("%s %s", req.Method, req.URL)
		}
		header, host = req.Header, req.Host
		body, _ = io.ReadAll(req.Body)
	}))
	defer server.Close()
	d := called(server.URL+"/reserve?a=b%20c", saga, fsm.OperationAction)
	d.Payload = []byte("{\"n\": 1}\x00\xff")
	d.Key, d.Topic, d.Traceparent = "order/1 é%\r\nX: y", "orders", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	d.Plan = &logpb.Plan{Workflow: "w", Headers: []*logpb.Label{
		{Name: "content-type", Value: "text/csv"}, {Name: "quorate-gid", Value: "forged"}, {Name: "Host", Value: "evil"},
		{Name: "X-Tenant", Value: "t1"}, {Name: "Content-Length", Value: "1"}, {Name: "Connection", Value: "X-Tenant"},
	}}
	if _, err := newCaller(t, nil).Call(bounded(t), d); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		callheader.GID: testGID.String(), callheader.Key: "order/1%20%C3%A9%25%0D%0AX:%20y", callheader.Branch: "1.2", callheader.Operation: "action",
		callheader.Mode: "saga", callheader.Attempt: "3", callheader.Epoch: "1.7", callheader.Floor: "11", callheader.Clock: "12",
		callheader.Topic: "orders", callheader.Workflow: "w", callheader.Trace: d.Traceparent, callheader.Cluster: "CLUSTER",
		"Content-Type": "text/csv", "X-Tenant": "t1", "Accept-Encoding": "", "X": "",
	} {
		if got := strings.Join(header.Values(name), "|"); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if string(body) != string(d.Payload) || host == "evil" {
		t.Errorf("body %q to %s", body, host)
	}
}

// TestCallInjection: a header that could break out of its line is never sent,
// wherever it came from.
func TestCallInjection(t *testing.T) {
	var reached atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer server.Close()
	caller := newCaller(t, nil)
	endpoint, asked := serveRaw(t, func([]byte) error { return nil })
	for _, bad := range []*logpb.Label{
		{Name: "X-A", Value: "b\r\nX-C: d"}, {Name: "X-A\r\nX-C", Value: "b"}, {Name: "", Value: "b"}, {Name: "X A", Value: "b"}, {Name: "X-A", Value: "b\x00"},
	} {
		for _, at := range []string{server.URL, "grpc://" + endpoint + "/stock.v1.Stock/Reserve"} {
			d := called(at, saga, fsm.OperationAction)
			d.Plan = &logpb.Plan{Headers: []*logpb.Label{bad}}
			if got, err := caller.Call(bounded(t), d); err == nil {
				t.Errorf("%q: %q at %s was sent: %+v", bad.Name, bad.Value, at, got)
			}
		}
	}
	if n := reached.Load() + asked.calls.Load(); n != 0 {
		t.Errorf("%d calls were made", n)
	}
}

// TestCallLargeAnswers: whatever a branch says, a bounded part is read. Over HTTP
// its status still counts.
func TestCallLargeAnswers(t *testing.T) {
	const size = 100 << 20
	var code, written atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(int(code.Load()))
		chunk := []byte(strings.Repeat("x", 64<<10))
		for range size / len(chunk) {
			n, err := w.Write(chunk)
			written.Add(int64(n))
			if err != nil {
				return
			}
		}
	}))
	defer server.Close()
	caller := newCaller(t, nil)
	for answer, want := range map[int64]said{200: {outcome: committed}, 409: {refused: true}, 425: {busy: true}, 500: {err: "500"}} {
		code.Store(answer)
		written.Store(0)
		got, err := caller.Call(bounded(t), called(server.URL, saga, fsm.OperationAction))
		want.check(t, got, err)
		if len(got.Detail) > 2*detailBytesMax || err != nil && len(err.Error()) > 3*detailBytesMax {
			t.Errorf("%d: %d bytes of it are kept, %v", answer, len(got.Detail), err)
		}
	}
	server.Close() // waits for the handlers
	if n := written.Load(); n >= size/2 {
		t.Errorf("%d bytes of the last answer were taken", n)
	}
	endpoint, asked := serveRaw(t, func([]byte) error { return nil })
	asked.answer = make([]byte, AnswerBytesMax+1)
	_, err := caller.Call(bounded(t), called("grpc://"+endpoint+"/stock.v1.Stock/Reserve", saga, fsm.OperationAction))
	said{err: "ResourceExhausted"}.check(t, coordinator.Answered{}, err)
}

// rawService is a gRPC server that takes every method, byte by byte.
type rawService struct {
	calls  atomic.Int32
	method string
	md     metadata.MD
	body   []byte
	answer []byte
}

func serveRaw(t *testing.T, answer func(body []byte) error) (address string, s *rawService) {
	t.Helper()
	s = &rawService{}
	server := grpc.NewServer(grpc.ForceServerCodecV2(rawCodec{}), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		s.calls.Add(1)
		s.method, _ = grpc.MethodFromServerStream(stream)
		s.md, _ = metadata.FromIncomingContext(stream.Context())
		if err := stream.RecvMsg(&s.body); err != nil {
			return err
		}
		if err := answer(s.body); err != nil {
			return err
		}
		return stream.SendMsg(&s.answer)
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
	return l.Addr().String(), s
}

// TestCallGRPCAnswers is gRPC's column of the table, for every operation.
func TestCallGRPCAnswers(t *testing.T) {
	var fails error
	address, _ := serveRaw(t, func([]byte) error { return fails })
	caller := newCaller(t, nil)
	ongoing := withInfo(codes.Unavailable, "soon", "ONGOING", "")
	for _, c := range everyCall {
		for name, row := range map[string]struct {
			fails error
			want  said
		}{
			"done":          {nil, c.done},
			"still working": {ongoing, said{busy: true}},
			"refused":       {status.Error(codes.Aborted, "no funds"), c.refused},
			"down":          {status.Error(codes.Unavailable, "ONGOING"), said{err: `Unavailable "ONGOING"`}},
			"precondition":  {status.Error(codes.FailedPrecondition, "FAILURE"), said{err: "FailedPrecondition"}},
			"unimplemented": {status.Error(codes.Unimplemented, "what?"), said{err: "Unimplemented"}},
			"internal":      {status.Error(codes.Internal, "oops"), said{err: "Internal"}},
			"unknown":       {status.Error(codes.Unknown, "?"), said{err: "Unknown"}},
		} {
			fails = row.fails
			got, err := caller.Call(bounded(t), called("grpc://"+address+"/stock.v1.Stock/Reserve", c.mode, c.op))
			t.Run(c.op.String()+" of "+c.mode.String()+" "+name, func(t *testing.T) { row.want.check(t, got, err) })
		}
	}
	_, err := caller.Call(bounded(t), called("grpc://"+address, saga, fsm.OperationAction))
	said{err: "names no method"}.check(t, coordinator.Answered{}, err)
	_, err = caller.Call(bounded(t), delivery("grpc://"+address+"/stock.v1.Stock/Reserve", fsm.VerdictCommit))
	said{err: "leave the path out"}.check(t, coordinator.Answered{}, err)
}

// TestCallGRPCRequest: any method, the payload as it is, the same names as
// metadata.
func TestCallGRPCRequest(t *testing.T) {
	address, asked := serveRaw(t, func([]byte) error { return nil })
	d := called("grpc://"+address+"/stock.v1.Stock/Reserve", saga, fsm.OperationCompensate)
	d.Payload, d.Key = []byte{8, 30, 0, 255}, "é 1"
	d.Plan = &logpb.Plan{Headers: []*logpb.Label{{Name: "X-Tenant", Value: "t1"}, {Name: "Quorate-Gid", Value: "forged"}, {Name: "grpc-timeout", Value: "1n"}}}
	if _, err := newCaller(t, nil).Call(bounded(t), d); err != nil {
		t.Fatal(err)
	}
	if asked.method != "/stock.v1.Stock/Reserve" || string(asked.body) != string(d.Payload) {
		t.Errorf("%s with %q", asked.method, asked.body)
	}
	for name, want := range map[string]string{
		"quorate-gid": testGID.String(), "quorate-key": "%C3%A9%201", "quorate-branch": "1.2", "quorate-operation": "compensate", "quorate-mode": "saga",
		"quorate-attempt": "3", "quorate-epoch": "1.7", "x-tenant": "t1", "dtm-gid": "",
	} {
		if got := strings.Join(asked.md.Get(name), "|"); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// TestCallbacks carry the plan's payload, and name no branch.
func TestCallbacks(t *testing.T) {
	var body []byte
	var header http.Header
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		header = req.Header
		body, _ = io.ReadAll(req.Body)
	}))
	defer server.Close()
	d := called(server.URL, workflow, fsm.OperationResume)
	d.Branch, d.Payload = "", nil
	d.Plan = &logpb.Plan{CallbackPayload: []byte("data"), Workflow: "order flow"}
	if _, err := newCaller(t, nil).Call(bounded(t), d); err != nil {
		t.Fatal(err)
	}
	if _, named := header[callheader.Branch]; named || string(body) != "data" || header.Get(callheader.Operation) != "resume" || header.Get(callheader.Workflow) != "order%20flow" {
		t.Errorf("%q with %v", body, header)
	}
}

// TestCallCutShort: an answer that ends before its end is none.
func TestCallCutShort(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	defer server.Close()
	_, err := newCaller(t, nil).Call(bounded(t), called(server.URL, saga, fsm.OperationAction))
	said{err: "reading the answer"}.check(t, coordinator.Answered{}, err)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = newCaller(t, nil).Call(ctx, called(server.URL, saga, fsm.OperationAction))
	said{err: "canceled"}.check(t, coordinator.Answered{}, err)
}

// TestCallOddStatusLine: the words after a status are the branch's, and may be
// anything: they stand in errors and in the log.
func TestCallOddStatusLine(t *testing.T) {
	for code, reason := range map[int]string{409: "\xff\xfe\x1b[31m\u202eneg", 500: "\xff\x07" + strings.Repeat("long ", 3000)} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Read(make([]byte, 4096))
				_, _ = fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno", code, reason)
				_ = conn.Close()
			}
		}()
		for _, plan := range []*logpb.Plan{nil, {Dialect: logpb.Dialect_DIALECT_DTM_HTTP, DialectMode: "saga"}} {
			for _, op := range []fsm.Operation{fsm.OperationAction, fsm.OperationCompensate, fsm.OperationRollback} {
				d := called("http://"+listener.Addr().String()+"/x", saga, op)
				d.Plan = plan
				got, err := newCaller(t, nil).Call(bounded(t), d)
				said := got.Detail
				if err != nil {
					said = err.Error()
				}
				if !strings.Contains(said, strconv.Itoa(code)) || !utf8.ValidString(said) || strings.ContainsFunc(said, fsm.IsControl) || len(said) > 1024 {
					t.Errorf("%v answered %d: %d bytes: %.200q", op, code, len(said), said)
				}
			}
		}
	}
}
