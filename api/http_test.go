package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/testkit"
)

// get reads a page.
func (n *node) get(t testing.TB, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t), http.MethodGet, "http://"+n.http+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := n.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func TestProbes(t *testing.T) {
	c, cluster := newFake(), newFakeCluster()
	var full atomic.Pointer[error]
	n := serve(t, Config{Version: "1.2.3", Commit: "abc", Checks: []Check{{"disk", func(context.Context) error {
		if problem := full.Load(); problem != nil {
			return *problem
		}
		return nil
	}}}}, c, cluster)
	healthy := func() healthpb.HealthCheckResponse_ServingStatus {
		got, err := healthpb.NewHealthClient(n.conn).Check(within(t), &healthpb.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return got.GetStatus()
	}
	testkit.Eventually(t, 5*time.Second, func() bool { return healthy() == healthpb.HealthCheckResponse_SERVING })
	for path, want := range map[string]string{
		"/livez":          "ok\n",
		"/readyz":         "ready\n",
		"/readyz?verbose": "[+] not stopping\n[+] a leader is known\n[+] the log is applied\n[+] disk\nready\n",
	} {
		if code, body := n.get(t, path); code != 200 || body != want {
			t.Errorf("%s: %d %q, want %q", path, code, body, want)
		}
	}
	problem := errors.New("disk is full")
	full.Store(&problem)
	if code, body := n.get(t, "/readyz"); code != 503 || !strings.Contains(body, "[-] disk: disk is full") {
		t.Errorf("a failing check: %d %q", code, body)
	}
	testkit.Eventually(t, 5*time.Second, func() bool { return healthy() == healthpb.HealthCheckResponse_NOT_SERVING })
	full.Store(nil)
	testkit.Eventually(t, 5*time.Second, func() bool { return healthy() == healthpb.HealthCheckResponse_SERVING })
	cluster.set(func(s *ClusterStatus) { s.CommitIndex = s.AppliedIndex + 10_001 })
	if code, body := n.get(t, "/readyz"); code != 503 || !strings.Contains(body, "10001 entries") {
		t.Errorf("a lagging node: %d %q", code, body)
	}
	cluster.set(func(s *ClusterStatus) { s.LeaderID = "" })
	if code, body := n.get(t, "/readyz"); code != 503 || !strings.Contains(body, "[-] a leader is known") {
		t.Errorf("without a leader: %d %q", code, body)
	}
	testkit.Eventually(t, 5*time.Second, func() bool { return healthy() == healthpb.HealthCheckResponse_NOT_SERVING })
	if code, _ := n.get(t, "/livez"); code != 200 {
		t.Errorf("a node without a leader is alive: %d", code)
	}
	// Ten times a second, on every node: the state's digest would hold up what is applied.
	cluster.mu.Lock()
	if cluster.asked > 0 {
		t.Errorf("the probes asked %d times for all that the node knows", cluster.asked)
	}
	cluster.mu.Unlock()
	if code, body := n.get(t, "/version"); code != 200 || !strings.Contains(body, `"version":"1.2.3"`) || !strings.Contains(body, `"commit":"abc"`) {
		t.Errorf("version: %d %s", code, body)
	}
	code, body := n.get(t, "/openapi.json")
	var openapi struct{ Paths map[string]any }
	if err := json.Unmarshal([]byte(body), &openapi); code != 200 || err != nil || openapi.Paths["/v1/transactions"] == nil {
		t.Errorf("openapi: %d %v", code, err)
	}
}

// TestMetrics: UX.md's names, in base units, and no label that grows with the work.
func TestMetrics(t *testing.T) {
	c, cluster := newFake(), newFakeCluster()
	metrics := NewMetrics("1.2.3", "abc")
	n := serve(t, Config{Metrics: metrics}, c, cluster)
	metrics.TransactionStarted(logpb.Mode_MODE_TWO_PHASE)
	metrics.TransactionDecided(logpb.Mode_MODE_TWO_PHASE, fsm.DecisionCommit, 3*time.Millisecond)
	metrics.TransactionFinished(logpb.Mode_MODE_SAGA, fsm.DecisionRollback, 2*time.Second)
	metrics.BranchCall(logpb.Mode_MODE_TWO_PHASE, fsm.OperationCommit, coordinator.ProtocolHTTP, coordinator.ResultError, time.Second)
	metrics.BranchCall(logpb.Mode_MODE_MESSAGE, fsm.OperationCheckBack, coordinator.ProtocolGRPC, coordinator.ResultDone, time.Second)
	for _, h := range handlers() {
		_, _ = h.call(within(t), n)
	}
	code, body := n.get(t, "/metrics")
	if code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	for _, want := range []string{
		`quorate_build_info{commit="abc",version="1.2.3"} 1`,
		`quorate_transactions_started_total{mode="two-phase"} 1`,
		`quorate_transactions_finished_total{mode="saga",outcome="rollback"} 1`,
		`quorate_transactions_open{mode="two-phase",state="active"} 5`,
		`quorate_transactions_open{mode="two-phase",state="rolling-back"} 2`, // a tombstone counts as two-phase
		`quorate_transactions_open{mode="two-phase",state="sealed"} 0`,
		`quorate_transactions_in_doubt 2`,
		`quorate_oldest_in_doubt_age_seconds 90`,
		`quorate_decision_duration_seconds_bucket{mode="two-phase",le="0.005"} 1`,
		`quorate_decision_duration_seconds_bucket{mode="two-phase",le="0.0025"} 0`,
		`quorate_transaction_duration_seconds_sum{mode="saga",outcome="rollback"} 2`,
		`quorate_branch_calls_total{mode="two-phase",op="commit",protocol="http",result="error"} 1`,
		`quorate_branch_call_duration_seconds_count{op="commit",protocol="http"} 1`,
		`quorate_branch_calls_total{mode="message",op="check-back",protocol="grpc",result="done"} 1`,
		`quorate_transactions_open{mode="saga",state="sealed"} 3`, `quorate_branches_stuck{mode="saga"} 2`,
		`quorate_branches_stuck{mode="two-phase"} 1`,
		`quorate_raft_has_leader 1`, `quorate_raft_is_leader 1`, `quorate_raft_term 3`, `quorate_raft_applied_index 42`,
		`quorate_raft_leader_changes_total 0`, `quorate_raft_commit_to_apply_lag 1`,
		`quorate_log_fsync_duration_seconds_bucket{le="0.01"} 5`, `quorate_log_fsync_duration_seconds_count 6`, `quorate_log_bytes_total 8192`,
		`quorate_snapshot_duration_seconds_count 0`, `quorate_proposals_pending 0`, `quorate_sessions 3`,
		`quorate_api_requests_total{method="/quorate.v1.TransactionService/Enlist",reason="OK"} 1`,
		"go_goroutines", "process_open_fds",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("missing: %s", want)
		}
	}
	if strings.Contains(body, testGID.String()) || strings.Contains(body, "orders-db") {
		t.Error("a series is labelled by what a caller named")
	}
	families, err := metrics.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		name := family.GetName()
		counter := strings.HasSuffix(name, "_total")
		if strings.HasPrefix(name, "quorate_") && (family.GetType().String() == "COUNTER") != counter {
			t.Errorf("%s is a %s", name, family.GetType())
		}
		if family.GetType().String() == "HISTOGRAM" && !strings.HasSuffix(name, "_seconds") && strings.HasPrefix(name, "quorate_") {
			t.Errorf("%s has no unit", name)
		}
	}
}

// TestGatewayRefusesWhatItCannotRead, with a typed error each time.
func TestGatewayRefusesWhatItCannotRead(t *testing.T) {
	n := serve(t, Config{}, newFake(), newFakeCluster())
	for _, tt := range []struct {
		name, method, path, body string
		code                     int
		reason                   Reason
	}{
		{"no JSON", "POST", "/v1/transactions", `{`, 400, ReasonInvalid},
		{"an unknown field", "POST", "/v1/transactions", `{"kye":"order-1"}`, 400, ReasonInvalid},
		{"a wrong type", "POST", "/v1/transactions", `{"key":7}`, 400, ReasonInvalid},
		{"an unknown enumeration", "POST", "/v1/transactions", `{"mode":"MODE_MAGIC"}`, 400, ReasonInvalid},
		{"no duration", "POST", "/v1/transactions", `{"timeout":"soon"}`, 400, ReasonInvalid},
		{"an unknown parameter", "GET", "/v1/transactions?pgae_size=3", "", 400, ReasonInvalid},
		{"an unknown nested parameter", "GET", "/v1/transactions?filter.sate=STATE_ACTIVE", "", 400, ReasonInvalid},
		{"a nested parameter of a scalar", "GET", "/v1/transactions?page_size.x=1", "", 400, ReasonInvalid},
		{"an index of what is no map", "GET", "/v1/transactions?filter.resource[a]=1", "", 400, ReasonInvalid},
		{"a bad parameter", "GET", "/v1/transactions?page_size=many", "", 400, ReasonInvalid},
		{"an unknown path", "GET", "/v2/transactions", "", 404, ReasonUnimplemented},
		{"an unknown path below v1", "GET", "/v1/nothing", "", 404, ReasonUnimplemented},
		{"a wrong method", "DELETE", "/v1/transactions", "", 405, ReasonUnimplemented},
		{"a body beyond the limit", "POST", "/v1/transactions", `{"key":"` + strings.Repeat("x", MessageBytesMax) + `"}`, 413, ReasonInvalid},
		{"a bad index", "GET", "/v1/events?after_index=x", "", 400, ReasonInvalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, body, _ := n.request(t, tt.method, tt.path, tt.body)
			if reason, _ := jsonReason(t, body); code != tt.code || Reason(reason) != tt.reason {
				t.Errorf("%d %v, want %d %s", code, body, tt.code, tt.reason)
			}
		})
	}
}

// TestFilterInQuery: lists are filtered by what a shell can type.
func TestFilterInQuery(t *testing.T) {
	c := newFake()
	n := serve(t, Config{}, c, newFakeCluster())
	code, body, _ := n.request(t, "GET", "/v1/transactions?pageSize=3&filter.states=STATE_ACTIVE&filter.states=STATE_SEALED&filter.labels[color]=red&filter.older_than=60s", "")
	if code != 200 {
		t.Fatalf("%d %v", code, body)
	}
	got := c.last("List").(coordinator.ListRequest)
	if got.PageSize != 3 || len(got.Filter.States) != 2 || got.Filter.Labels[0].Value != "red" || got.Filter.OlderThan != time.Minute {
		t.Errorf("list %+v", got)
	}
}

// TestKeysInPaths: whatever a key holds, its path leads to it.
func TestKeysInPaths(t *testing.T) {
	c := newFake()
	n := serve(t, Config{}, c, newFakeCluster())
	for escaped, key := range map[string]string{
		"order-1": "order-1", "a%2Fb": "a/b", "100%25": "100%", "%252F": "%2F", "%25": "%", "a:commit": "a:commit", "a%20b": "a b",
		"%C3%A9": "é", "a+b": "a+b", "x%3Fy": "x?y", "key%3Ak": "key:k", "%2525": "%25",
	} {
		if code, body, _ := n.request(t, "POST", "/v1/transactions/key:"+escaped+":commit", "{}"); code != 200 {
			t.Errorf("%s: %d %v", escaped, code, body)
			continue
		}
		if got := c.last("Commit").(coordinator.CommitRequest).Transaction.Key; got != key {
			t.Errorf("%s became %q, want %q", escaped, got, key)
		}
		if code, body, _ := n.request(t, "GET", "/v1/transactions/key:"+escaped, ""); code != 200 {
			t.Errorf("%s: %d %v", escaped, code, body)
			continue
		}
		if got := c.last("Get").(coordinator.GetRequest).Transaction.Key; got != key {
			t.Errorf("%s became %q, want %q", escaped, got, key)
		}
	}
}

// TestOtherOriginsMustNotDecide: a page in a browser beside a local node.
func TestOtherOriginsMustNotDecide(t *testing.T) {
	c := newFake()
	n := serve(t, Config{}, c, newFakeCluster())
	req, _ := http.NewRequestWithContext(within(t), http.MethodPost, "http://"+n.http+"/v1/transactions", strings.NewReader("{}"))
	req.Header.Set("Content-Type", "text/plain")
	req.Header.Set("Origin", "http://evil.example")
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	res, err := n.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	var body map[string]any
	if err := json.NewDecoder(res.Body).Decode(&body); err != nil {
		t.Fatal(err)
	}
	if reason, _ := jsonReason(t, body); reason != "DENIED" || res.StatusCode != http.StatusForbidden || c.called("Begin") != 0 {
		t.Errorf("answered %s %v, begun %d times", res.Status, body, c.called("Begin"))
	}
}

// TestCallersSetNoMetadata: HTTP headers must not pass for metadata of ours.
func TestCallersSetNoMetadata(t *testing.T) {
	c := newFake()
	n := serve(t, Config{}, c, newFakeCluster())
	req, _ := http.NewRequestWithContext(within(t), http.MethodPost, "http://"+n.http+"/v1/transactions", strings.NewReader("{}"))
	req.Header.Set("Grpc-Metadata-Quorate-Initiator", "root")
	req.Header.Set("Quorate-Initiator", "root")
	req.Header.Set("Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	res, err := n.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	begin := c.last("Begin").(*logpb.Begin)
	if !strings.HasPrefix(begin.GetInitiator(), "127.0.0.1:") || !strings.HasPrefix(begin.GetTraceparent(), "00-4bf9") {
		t.Errorf("begin %v", begin)
	}
}

var testEvents = []fsm.Event{
	{Index: 5, Term: 2, GID: testGID, Kind: fsm.EventBegun, State: fsm.StateActive},
	{Index: 6, Term: 2, GID: testGID, Kind: fsm.EventDecided, State: fsm.StateCommitting, Decision: fsm.DecisionCommit, WallMS: 1000},
}

func TestEventsOverHTTP(t *testing.T) {
	c := newFake()
	c.watch = testEvents
	n := serve(t, Config{}, c, newFakeCluster())
	open := func(path string, header http.Header) *bufio.Scanner {
		ctx, cancel := context.WithCancel(within(t))
		t.Cleanup(cancel)
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.http+path, nil)
		req.Header = header
		res, err := n.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = res.Body.Close() })
		if res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", path, res.Status)
		}
		return bufio.NewScanner(res.Body)
	}
	lines := open("/v1/events", http.Header{})
	for _, want := range []string{`"index":"5"`, `"kind":"EVENT_KIND_DECIDED"`} {
		if !lines.Scan() || !strings.Contains(strings.ReplaceAll(lines.Text(), " ", ""), want) {
			t.Errorf("line %q, want %s", lines.Text(), want)
		}
	}
	events := open("/v1/events?after_index=2", http.Header{"Accept": {"text/event-stream"}, "Last-Event-Id": {"5"}})
	var got []string
	for len(got) < 2 && events.Scan() {
		if text := events.Text(); text != "" && text[0] != ':' {
			got = append(got, text)
		}
	}
	if len(got) != 2 || got[0] != "id: 6" || !strings.HasPrefix(got[1], "data: {") || !strings.Contains(got[1], testGID.String()) {
		t.Errorf("events %q", got)
	}
	if asked := c.last("Watch").(coordinator.WatchRequest); asked.AfterIndex != 5 || asked.Namespace != "default" {
		t.Errorf("watch %+v", asked)
	}
	c.setFail(&coordinator.CompactedError{After: 1, Oldest: 4})
	events = open("/v1/events?after_index=1", http.Header{"Accept": {"text/event-stream"}})
	var text strings.Builder
	for events.Scan() {
		text.WriteString(events.Text() + "\n")
	}
	if !strings.Contains(text.String(), "event: error") || !strings.Contains(text.String(), "COMPACTED") {
		t.Errorf("a compacted index: %s", text.String())
	}
}

// TestWatchResumes over gRPC, by index, and ends when the server stops.
func TestWatchResumes(t *testing.T) {
	c := newFake()
	c.watch = testEvents
	n := serve(t, Config{}, c, newFakeCluster())
	stream, err := n.transactions().Watch(within(t), &quoratev1.WatchRequest{AfterIndex: 5, Transaction: testGID.String()})
	if err != nil {
		t.Fatal(err)
	}
	got, err := stream.Recv()
	if err != nil || got.GetIndex() != 6 || got.GetEvents()[0].GetStamp().GetWallTime().AsTime().UnixMilli() != 1000 {
		t.Fatalf("got %v %v", got, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	n.server.Stop(ctx)
	if _, err := stream.Recv(); ReasonOf(err) != ReasonNoLeader {
		t.Errorf("the watch ended with %v", err)
	}
	if ctx.Err() != nil {
		t.Error("the watch kept the server from stopping")
	}
}

// TestLaggingRead: min_index that does not come is not an unknown outcome.
func TestLaggingRead(t *testing.T) {
	c := newFake()
	c.setFail(context.DeadlineExceeded)
	n := serve(t, Config{}, c, newFakeCluster())
	_, err := n.transactions().Get(within(t), &quoratev1.GetRequest{Transaction: testGID.String(), MinIndex: 50})
	if got, metadata := wireReason(t, err); got != ReasonLagging || metadata["applied_index"] != "42" || metadata["min_index"] != "50" {
		t.Errorf("got %v with %v", err, metadata)
	}
	_, err = n.transactions().List(within(t), &quoratev1.ListRequest{MinIndex: 41})
	if got, _ := wireReason(t, err); got != ReasonDeadline {
		t.Errorf("got %v", err)
	}
}

// TestListenersAreBounded: what one connection can cost.
func TestListenersAreBounded(t *testing.T) {
	n := serve(t, Config{}, newFake(), newFakeCluster())
	// A message beyond the limit.
	_, err := n.transactions().Begin(within(t), &quoratev1.BeginRequest{Key: strings.Repeat("x", MessageBytesMax)})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a message beyond the limit: %v", err)
	}
	// A header list beyond the limit.
	big := metadata.AppendToOutgoingContext(within(t), "x-big", strings.Repeat("x", 2*HeaderListBytesMax))
	if _, err := n.cluster().Status(big, &quoratev1.StatusRequest{}); err == nil {
		t.Error("a header list beyond the limit was taken")
	}
	req, _ := http.NewRequestWithContext(within(t), http.MethodGet, "http://"+n.http+"/livez", nil)
	req.Header.Set("X-Big", strings.Repeat("x", 2*HeaderListBytesMax))
	res, err := n.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a header list beyond the limit over HTTP: %s", res.Status)
	}
	// Compressed messages are refused, so that a small one never becomes a large one.
	if encoding.GetCompressor("gzip") != nil {
		t.Error("a decompressor is registered: a gzip bomb would be unpacked")
	}
}

// TestSlowHeadersAreCut: a client that sends its headers a byte at a time holds
// its connection for HandshakeTimeout, no longer.
func TestSlowHeadersAreCut(t *testing.T) {
	n := serve(t, Config{}, newFake(), newFakeCluster())
	for _, address := range []string{n.http, n.grpc} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := conn.Write([]byte("GET / HT")); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		_ = conn.SetReadDeadline(begun.Add(3 * HandshakeTimeout))
		_, err = io.ReadAll(conn)
		if took := time.Since(begun); errors.Is(err, context.DeadlineExceeded) || took > 2*HandshakeTimeout {
			t.Errorf("%s was cut after %v (%v)", address, took, err)
		}
	}
}

// TestConnectionsAreBounded: the listener's cap.
func TestConnectionsAreBounded(t *testing.T) {
	inner := testkit.Listen(t)
	l := &limitedListener{Listener: inner, slots: make(chan struct{}, 1), closed: make(chan struct{})}
	accepted := make(chan net.Conn)
	ended := make(chan error, 1)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				ended <- err
				return
			}
			accepted <- conn
		}
	}()
	for range 2 {
		conn, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
	}
	first := <-accepted
	select {
	case <-accepted:
		t.Fatal("a second connection was accepted beyond the cap")
	case <-time.After(50 * time.Millisecond):
	}
	_ = first.Close()
	_ = first.Close() // gives its place back once
	second := <-accepted
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept ended with %v", err)
	}
	_ = second.Close()
}

// TestServeFailsWithItsListener: a listener that breaks ends the server.
func TestServeFailsWithItsListener(t *testing.T) {
	server, err := NewServer(Config{}, newFake(), newFakeCluster())
	if err != nil {
		t.Fatal(err)
	}
	listeners := Listeners{GRPC: testkit.Listen(t), HTTP: testkit.Listen(t)}
	_ = listeners.HTTP.Close()
	if err := server.Serve(listeners); err == nil || !strings.Contains(err.Error(), "listener failed") {
		t.Errorf("Serve returned %v", err)
	}
}

func TestNewServerRefuses(t *testing.T) {
	if _, err := NewServer(Config{}, nil, newFakeCluster()); err == nil {
		t.Error("no coordinator was taken")
	}
	if _, err := NewServer(Config{LeaderWait: -1}, newFake(), newFakeCluster()); err == nil {
		t.Error("a negative wait was taken")
	}
	metrics := NewMetrics("", "")
	server, err := NewServer(Config{Metrics: metrics}, newFake(), newFakeCluster())
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop(within(t))
	if _, err := NewServer(Config{Metrics: metrics}, newFake(), newFakeCluster()); err == nil {
		t.Error("two servers share a registry")
	}
	if err := (noEndpoints{}).Check("http://h/"); err == nil || !strings.Contains(err.Error(), "--endpoint-allow") {
		t.Errorf("without an allow list: %v", err)
	}
}

// TestSlowBodyText: what a caller whose body never comes is told.
func TestSlowBodyText(t *testing.T) {
	recorded := &bytes.Buffer{}
	writeBodyError(&recorder{Buffer: recorded, header: http.Header{}}, errors.New("i/o timeout"))
	if !strings.Contains(recorded.String(), "did not arrive") {
		t.Errorf("got %s", recorded)
	}
}

type recorder struct {
	*bytes.Buffer
	header http.Header
	code   int
}

func (r *recorder) Header() http.Header  { return r.header }
func (r *recorder) WriteHeader(code int) { r.code = code }
