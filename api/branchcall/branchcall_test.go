package branchcall

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/testkit"
)

// TestMain looks for goroutines that stay. net/http itself keeps a connection for
// half a second when it has refused the rest of a body; nobody can end that.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

var testGID = fsm.NewGID(1000, [10]byte{9})

func delivery(endpoint string, verdict fsm.Verdict) coordinator.Delivery {
	return coordinator.Delivery{
		GID: testGID, Branch: "1.2", Resource: "stock-db", Endpoint: endpoint, Verdict: verdict, Attempt: 3,
		Epoch: coordinator.Epoch{Incarnation: 1, Term: 7}, FloorMS: 11, ClockMS: 12,
	}
}

func newCaller(t *testing.T, config *tls.Config) *Caller {
	t.Helper()
	c := New(Config{Allow: allowed(t, "localhost"), TLS: config, ClusterID: func() string { return "CLUSTER" }})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// TestHTTPAnswers is branch.proto's table of answers.
func TestHTTPAnswers(t *testing.T) {
	for _, tt := range []struct {
		name    string
		code    int
		body    string
		verdict fsm.Verdict
		outcome fsm.Outcome
		busy    bool
		err     string
	}{
		{"done, nothing said", 200, "", fsm.VerdictCommit, logpb.Outcome_OUTCOME_COMMITTED, false, ""},
		{"done, rollback", 204, "", fsm.VerdictRollback, logpb.Outcome_OUTCOME_ROLLED_BACK, false, ""},
		{"done, some page", 200, "<html>ok</html>", fsm.VerdictCommit, logpb.Outcome_OUTCOME_COMMITTED, false, ""},
		{"done, another JSON", 200, `{"dtm_result":"SUCCESS"}`, fsm.VerdictCommit, logpb.Outcome_OUTCOME_COMMITTED, false, ""},
		{"done otherwise", 200, `{"outcome":"OUTCOME_MIXED","detail":"half"}`, fsm.VerdictCommit, logpb.Outcome_OUTCOME_MIXED, false, ""},
		{"an unknown outcome", 200, `{"outcome":77}`, fsm.VerdictCommit, 0, false, "unknown"},
		{"the coordinator's own outcome", 200, `{"outcome":"OUTCOME_GAVE_UP"}`, fsm.VerdictCommit, 0, false, "unknown"},
		{"still working", 202, "soon", fsm.VerdictCommit, 0, true, ""},
		{"too early", 425, "", fsm.VerdictCommit, 0, true, ""},
		{"refused", 409, "no funds", fsm.VerdictCommit, 0, false, "refuses what is decided"},
		{"refused without an outcome", 409, `{"detail":"x"}`, fsm.VerdictCommit, 0, false, "refuses what is decided"},
		{"refused and told", 409, `{"outcome":"OUTCOME_ROLLED_BACK"}`, fsm.VerdictCommit, logpb.Outcome_OUTCOME_ROLLED_BACK, false, ""},
		{"pool exhausted", 503, "pool \x1b[2J exhausted", fsm.VerdictCommit, 0, false, `503 Service Unavailable "pool  [2J exhausted"`},
		{"not found", 404, "", fsm.VerdictRollback, 0, false, "404 Not Found"},
		{"moved", 307, "", fsm.VerdictRollback, 0, false, "307"},
		{"too much said", 200, strings.Repeat("x", AnswerBytesMax+1), fsm.VerdictCommit, 0, false, "larger than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var followed atomic.Bool
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if req.URL.Path == "/elsewhere" {
					followed.Store(true)
					return
				}
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(tt.code)
				_, _ = io.WriteString(w, tt.body)
			}))
			defer server.Close()
			got, err := newCaller(t, nil).Call(bounded(t), delivery(server.URL+"/branch", tt.verdict))
			if followed.Load() {
				t.Error("a redirect was followed")
			}
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil || got.Outcome != tt.outcome || got.Busy != tt.busy {
				t.Errorf("got %+v %v", got, err)
			}
		})
	}
}

// TestHTTPRequest: what a branch is told.
func TestHTTPRequest(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	var got map[string]any
	var header http.Header
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		header = req.Header
		if req.Method != http.MethodPost || req.URL.Path != "/branch" || req.URL.RawQuery != "a=b" {
			t.Errorf("%s %s", req.Method, req.URL)
		}
		if err := json.NewDecoder(req.Body).Decode(&got); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	if _, err := newCaller(t, nil).Call(bounded(t), delivery(server.URL+"/branch?a=b", fsm.VerdictRollback)); err != nil {
		t.Fatal(err)
	}
	for field, want := range map[string]any{
		"gid": testGID.String(), "branch": "1.2", "resource": "stock-db", "verdict": "VERDICT_ROLLBACK", "attempt": 3.0,
		"floor_ms": "11", "clock_ms": "12", "cluster_id": "CLUSTER",
	} {
		if got[field] != want {
			t.Errorf("%s is %v, want %v", field, got[field], want)
		}
	}
	if epoch, _ := got["epoch"].(map[string]any); epoch["incarnation"] != "1" || epoch["term"] != "7" {
		t.Errorf("epoch %v", got["epoch"])
	}
	if header.Get("Quorate-Gid") != testGID.String() || header.Get("Quorate-Branch") != "1.2" || header.Get("Accept-Encoding") != "" {
		t.Errorf("header %v", header)
	}
}

// TestHTTPEnds: a branch that never answers costs its deadline; one that cuts
// the connection is asked again.
func TestHTTPEnds(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/cut" {
			panic(http.ErrAbortHandler)
		}
		select {
		case <-release:
		case <-req.Context().Done():
		}
	}))
	defer server.Close()
	defer close(release)
	caller := newCaller(t, nil)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := caller.Call(ctx, delivery(server.URL, fsm.VerdictCommit)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a branch that never answers: %v", err)
	}
	if _, err := caller.Call(context.Background(), delivery(server.URL+"/cut", fsm.VerdictCommit)); err == nil {
		t.Error("a cut connection was taken for an answer")
	}
	if _, err := caller.Call(bounded(t), delivery("http://10.0.0.1/", fsm.VerdictCommit)); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("an endpoint that is not allowed: %v", err)
	}
}

func TestHTTPS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of the handshake that must fail
	server.StartTLS()
	defer server.Close()
	if _, err := newCaller(t, nil).Call(bounded(t), delivery(server.URL, fsm.VerdictCommit)); err == nil {
		t.Error("an unknown authority was believed")
	}
	trusting := server.Client().Transport.(*http.Transport).TLSClientConfig
	got, err := newCaller(t, trusting).Call(bounded(t), delivery(server.URL, fsm.VerdictCommit))
	if err != nil || got.Outcome != logpb.Outcome_OUTCOME_COMMITTED {
		t.Errorf("got %+v %v", got, err)
	}
}

// branchServer is a BranchService that answers as it is told.
type branchServer struct {
	quoratev1.UnimplementedBranchServiceServer
	answer func(*quoratev1.DeliverRequest) (*quoratev1.DeliverResponse, error)
}

func (b *branchServer) Deliver(_ context.Context, req *quoratev1.DeliverRequest) (*quoratev1.DeliverResponse, error) {
	return b.answer(req)
}

func serveGRPC(t *testing.T, b *branchServer, options ...grpc.ServerOption) string {
	t.Helper()
	server := grpc.NewServer(options...)
	quoratev1.RegisterBranchServiceServer(server, b)
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

func withInfo(code codes.Code, message, reason, outcome string) error {
	info := &errdetails.ErrorInfo{Reason: reason, Domain: "stock.example"}
	if outcome != "" {
		info.Metadata = map[string]string{"outcome": outcome}
	}
	st, err := status.New(code, message).WithDetails(info)
	if err != nil {
		return err
	}
	return st.Err()
}

// TestGRPCAnswers is the other half of branch.proto's table.
func TestGRPCAnswers(t *testing.T) {
	b := &branchServer{}
	endpoint := "grpc://" + serveGRPC(t, b)
	caller := newCaller(t, nil)
	for _, tt := range []struct {
		name    string
		answer  *quoratev1.DeliverResponse
		fails   error
		outcome fsm.Outcome
		busy    bool
		err     string
	}{
		{"done", &quoratev1.DeliverResponse{}, nil, logpb.Outcome_OUTCOME_COMMITTED, false, ""},
		{"done otherwise", &quoratev1.DeliverResponse{Outcome: quoratev1.Outcome_OUTCOME_HAZARD}, nil, logpb.Outcome_OUTCOME_HAZARD, false, ""},
		{"an unknown outcome", &quoratev1.DeliverResponse{Outcome: 9}, nil, 0, false, "unknown"},
		{"still working", nil, withInfo(codes.Unavailable, "soon", "ONGOING", ""), 0, true, ""},
		{"down", nil, status.Error(codes.Unavailable, "down"), 0, false, `Unavailable "down"`},
		{"refused", nil, status.Error(codes.Aborted, "no"), 0, false, "refuses what is decided"},
		{"refused with nonsense", nil, withInfo(codes.Aborted, "no", "X", "WHATEVER"), 0, false, "refuses what is decided"},
		{"refused and told", nil, withInfo(codes.Aborted, "did it already", "X", "OUTCOME_ROLLED_BACK"), logpb.Outcome_OUTCOME_ROLLED_BACK, false, ""},
		{"failed", nil, status.Error(codes.Internal, "oops"), 0, false, `Internal "oops"`},
		{"too much said", &quoratev1.DeliverResponse{Detail: strings.Repeat("x", AnswerBytesMax)}, nil, 0, false, "ResourceExhausted"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b.answer = func(req *quoratev1.DeliverRequest) (*quoratev1.DeliverResponse, error) {
				if req.GetGid() != testGID.String() || req.GetBranch() != "1.2" || req.GetVerdict() != quoratev1.Verdict_VERDICT_COMMIT || req.GetEpoch().GetTerm() != 7 {
					t.Errorf("asked %v", req)
				}
				return tt.answer, tt.fails
			}
			got, err := caller.Call(bounded(t), delivery(endpoint, fsm.VerdictCommit))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil || got.Outcome != tt.outcome || got.Busy != tt.busy {
				t.Errorf("got %+v %v", got, err)
			}
		})
	}
	if len(caller.conns) != 1 {
		t.Errorf("%d connections for one endpoint", len(caller.conns))
	}
}

func TestGRPCS(t *testing.T) {
	https := httptest.NewTLSServer(nil) // for its certificate
	defer https.Close()
	b := &branchServer{answer: func(*quoratev1.DeliverRequest) (*quoratev1.DeliverResponse, error) {
		return &quoratev1.DeliverResponse{}, nil
	}}
	endpoint := "grpcs://" + serveGRPC(t, b, grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: https.TLS.Certificates, MinVersion: tls.VersionTLS12})))
	if _, err := newCaller(t, nil).Call(bounded(t), delivery(endpoint, fsm.VerdictCommit)); err == nil {
		t.Error("an unknown authority was believed")
	}
	trusting := https.Client().Transport.(*http.Transport).TLSClientConfig
	if _, err := newCaller(t, trusting).Call(bounded(t), delivery(endpoint, fsm.VerdictCommit)); err != nil {
		t.Error(err)
	}
}

// TestConnectionsAreBounded: endpoints are named by clients, connections cost.
func TestConnectionsAreBounded(t *testing.T) {
	caller := newCaller(t, nil)
	for port := range connectionsMax + 10 {
		to, err := caller.allow.parse("grpc://127.0.0.1:" + strconv.Itoa(port+1))
		if err != nil {
			t.Fatal(err)
		}
		conn, err := caller.connection(to)
		if err != nil {
			t.Fatal(err)
		}
		conn.release()
	}
	if len(caller.conns) != connectionsMax {
		t.Errorf("%d connections are kept", len(caller.conns))
	}
	if caller.conns["grpc://127.0.0.1:1"] != nil {
		t.Error("the one unused for longest is still there")
	}
	_ = caller.Close()
	if _, err := caller.Call(bounded(t), delivery("grpc://127.0.0.1:1", fsm.VerdictCommit)); err == nil {
		t.Error("a closed caller calls")
	}
}

// TestACallKeepsItsConnection: room for others is not made by cutting calls off, which
// would leave it open what they did.
func TestACallKeepsItsConnection(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	address, _ := serveRaw(t, func([]byte) error {
		close(asked)
		<-release
		return nil
	})
	caller := newCaller(t, nil)
	ended := make(chan error, 1)
	go func() {
		_, err := caller.Call(bounded(t), called("grpc://"+address+"/stock.v1.Stock/Reserve", saga, fsm.OperationAction))
		ended <- err
	}()
	<-asked
	for port := range connectionsMax + 10 {
		to, err := caller.allow.parse("grpc://127.0.0.1:" + strconv.Itoa(port+1))
		if err != nil {
			t.Fatal(err)
		}
		conn, err := caller.connection(to)
		if err != nil {
			t.Fatal(err)
		}
		conn.release()
	}
	close(release)
	if err := <-ended; err != nil {
		t.Errorf("a call that was under way: %v", err)
	}
	if len(caller.conns) != connectionsMax {
		t.Errorf("%d connections are kept", len(caller.conns))
	}
}

// TestALostConnectionIsSoonMadeAgain: the driver spaces the calls, and gRPC's own
// back-off must not outlast it.
func TestALostConnectionIsSoonMadeAgain(t *testing.T) {
	dials := make(chan struct{}, 100)
	caller := New(Config{Allow: allowed(t, "127.0.0.1"), Detour: func(string) (string, error) {
		dials <- struct{}{}
		return "", errors.New("nobody is there")
	}})
	t.Cleanup(func() { _ = caller.Close() })
	endpoint := "grpc://127.0.0.1:1/stock.v1.Stock/Reserve"
	if _, err := caller.Call(bounded(t), called(endpoint, saga, fsm.OperationAction)); err == nil {
		t.Fatal("nobody answered")
	}
	late := time.After(3500 * time.Millisecond) // gRPC's own way has dialled three times by then
	for n := range 5 {
		select {
		case <-dials:
		case <-late:
			t.Fatalf("dialled %d times only", n)
		}
	}
}

func TestQuoted(t *testing.T) {
	if got := quoted("  a\r\nb\x00 "); got != "a  b" {
		t.Errorf("%q", got)
	}
	if got := quoted(strings.Repeat("é", 1000)); len(got) > detailBytesMax+5 || !strings.HasSuffix(got, "...") {
		t.Errorf("%d bytes: %q", len(got), got[len(got)-8:])
	}
}
