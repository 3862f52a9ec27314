package api

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/testkit"
	"github.com/quorate/quorate/internal/wire"
)

// TestMain looks for goroutines that stay. net/http itself keeps a connection for
// half a second when it has refused the rest of a body; nobody can end that.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// fake is a Coordinator that does as it is told, and remembers what it was asked.
type fake struct {
	mu    sync.Mutex
	fail  error                         // what every call fails with
	asked map[string]any                // the last argument of each method
	calls map[string]int                // how often each method was called
	on    func(method string)           // called first, outside of the lock
	watch []fsm.Event                   // what Watch sends, each as an entry
	views map[string]*logpb.Transaction // by gid, for Get
	next  *fakeSession
	ahead uint64 // entries applied since the reads' answers were read
	large int    // bytes of each transaction that List returns
}

func newFake() *fake {
	return &fake{asked: make(map[string]any), calls: make(map[string]int), views: make(map[string]*logpb.Transaction)}
}

func (f *fake) setFail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = err
}

func (f *fake) called(method string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[method]
}

func (f *fake) last(method string) any {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked[method]
}

func (f *fake) call(method string, argument any) error {
	if f.on != nil {
		f.on(method)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked[method] = argument
	f.calls[method]++
	return f.fail
}

// The fake cluster's id and a transaction of it.
var (
	testCluster = fsm.NewGID(1, [10]byte{1})
	testGID     = fsm.NewGID(1000, [10]byte{2})
)

var testStatus = coordinator.Status{
	GID: testGID, Created: true, Decision: fsm.DecisionCommit, State: fsm.StateCommitting, Index: 7, Verdict: fsm.VerdictWait,
}

var testTopic = &logpb.Topic{
	Namespace: Namespace, Name: "orders", Version: 2, Created: &logpb.Stamp{Index: 3, Term: 1}, Updated: &logpb.Stamp{Index: 4, Term: 1},
	Subscribers: []*logpb.Subscriber{{Endpoint: "http://good:1/x", Remark: "stock"}},
}

var testHeader = coordinator.Header{
	AppliedIndex: 42, ClockMS: 2000, FloorMS: 900, Epoch: coordinator.Epoch{Incarnation: 1, Term: 3}, ClusterID: testCluster,
}

func (f *fake) Header() coordinator.Header {
	h := testHeader
	h.AppliedIndex += f.ahead
	return h
}

func (f *fake) HeaderOfWrites() coordinator.Header { return f.Header() }

func (f *fake) Begin(_ context.Context, begin *logpb.Begin) (coordinator.Status, error) {
	return testStatus, f.call("Begin", begin)
}

func (f *fake) Enlist(_ context.Context, _ fsm.GID, branch *logpb.BranchSpec) (coordinator.Status, error) {
	return testStatus, f.call("Enlist", branch)
}

func (f *fake) Vote(_ context.Context, _ fsm.GID, ballot *logpb.Ballot) (coordinator.Status, error) {
	return testStatus, f.call("Vote", ballot)
}

func (f *fake) Commit(_ context.Context, r coordinator.CommitRequest) (coordinator.Status, error) {
	return testStatus, f.call("Commit", r)
}

func (f *fake) Rollback(_ context.Context, r coordinator.RollbackRequest) (coordinator.Status, error) {
	return testStatus, f.call("Rollback", r)
}

func (f *fake) Submit(_ context.Context, r coordinator.SubmitRequest) (coordinator.Status, error) {
	r.Submit = proto.CloneOf(r.Submit) // which is not kept
	return testStatus, f.call("Submit", r)
}

func (f *fake) Report(_ context.Context, r coordinator.ReportRequest) (coordinator.Status, error) {
	return testStatus, f.call("Report", r)
}

func (f *fake) Resolve(_ context.Context, r coordinator.ResolveRequest) (coordinator.Status, error) {
	return testStatus, f.call("Resolve", r)
}

func (f *fake) Retry(_ context.Context, ref coordinator.Ref, _ string) (int, error) {
	return 2, f.call("Retry", ref)
}

func (f *fake) Record(_ context.Context, r coordinator.RecordRequest) (coordinator.Status, error) {
	return testStatus, f.call("Record", r)
}

func (f *fake) Stop(_ context.Context, r coordinator.StopRequest) (coordinator.Status, error) {
	return testStatus, f.call("Stop", r)
}

func (f *fake) PutTopic(_ context.Context, change *logpb.PutTopic) (*logpb.Topic, error) {
	if err := f.call("PutTopic", change); err != nil || change.GetChange() == logpb.PutTopic_CHANGE_DELETE {
		return nil, err
	}
	return testTopic, nil
}

func (f *fake) Topics(_ context.Context, r coordinator.TopicsRequest) (coordinator.TopicPage, error) {
	return coordinator.TopicPage{At: testHeader, NextPageToken: "more", Topics: []*logpb.Topic{testTopic}}, f.call("Topics", r)
}

func (f *fake) Inquire(_ context.Context, r coordinator.InquireRequest) (coordinator.Inquired, error) {
	return coordinator.Inquired{Verdict: fsm.VerdictWait, Unseen: true}, f.call("Inquire", r)
}

func (f *fake) Get(_ context.Context, r coordinator.GetRequest) (coordinator.View, error) {
	err := f.call("Get", r)
	f.mu.Lock()
	defer f.mu.Unlock()
	if t := f.views[r.Transaction.GID.String()]; t != nil {
		return coordinator.View{Transaction: t, At: testHeader}, nil
	}
	return coordinator.View{Transaction: &logpb.Transaction{Begin: &logpb.Begin{Gid: testGID.Bytes()}}, At: testHeader}, err
}

func (f *fake) List(_ context.Context, r coordinator.ListRequest) (coordinator.Page, error) {
	if f.large > 0 {
		page := coordinator.Page{}
		for range r.PageSize {
			page.Transactions = append(page.Transactions, coordinator.View{Transaction: &logpb.Transaction{Detail: strings.Repeat("x", f.large)}})
		}
		return page, f.call("List", r)
	}
	return coordinator.Page{At: testHeader, NextPageToken: "more", Transactions: []coordinator.View{
		{Transaction: &logpb.Transaction{Begin: &logpb.Begin{Gid: testGID.Bytes()}}},
	}}, f.call("List", r)
}

func (f *fake) ListInDoubt(_ context.Context, r coordinator.ListInDoubtRequest) (coordinator.InDoubtPage, error) {
	return coordinator.InDoubtPage{Branches: []coordinator.InDoubt{
		{GID: testGID, Branch: &logpb.Branch{Spec: &logpb.BranchSpec{Id: "1"}}, Verdict: fsm.VerdictCommit, Age: time.Second},
	}}, f.call("ListInDoubt", r)
}

func (f *fake) Watch(ctx context.Context, r coordinator.WatchRequest, send func(uint64, []fsm.Event) error) error {
	if err := f.call("Watch", r); err != nil {
		return err
	}
	for _, event := range f.watch {
		if event.Index > r.AfterIndex {
			if err := send(event.Index, []fsm.Event{event}); err != nil {
				return err
			}
		}
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

func (f *fake) Attach(_ context.Context, r coordinator.AttachRequest) (Session, error) {
	if err := f.call("Attach", r); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.next, nil
}

func (f *fake) Stats() coordinator.Stats {
	s := coordinator.Stats{Leading: true, Sessions: 3, Due: 4, OldestInDoubt: 90 * time.Second}
	s.Counts.Open[0][fsm.StateRollingBack] = 1
	s.Counts.Open[1][fsm.StateActive] = 5
	s.Counts.Open[1][fsm.StateRollingBack] = 1
	s.Counts.Open[3][fsm.StateSealed] = 3
	s.Counts.InDoubt = 2
	s.Stuck[1], s.Stuck[3] = 1, 2
	return s
}

// fakeCluster is a Cluster of three nodes.
type fakeCluster struct {
	mu     sync.Mutex
	status ClusterStatus
	fail   error
	limits *logpb.Limits
	added  Node
	asked  int // how often for the whole status
}

func newFakeCluster() *fakeCluster {
	return &fakeCluster{
		limits: fsm.DefaultLimits(),
		status: ClusterStatus{
			NodeID: "n1", ClusterID: testCluster.String(), Role: RoleLeader, LeaderID: "n1", Term: 3,
			CommitIndex: 43, AppliedIndex: 42, LastLogIndex: 43,
			Nodes: []NodeStatus{
				{Node: Node{ID: "n1", Name: "one", GRPCAddress: "127.0.0.1:1"}, Voter: true, Leader: true, Healthy: true},
				{Node: Node{ID: "n2", Name: "two"}, Voter: true, LastContact: 12 * time.Millisecond, MatchIndex: 40},
			},
			LogWrite: Histogram{Bounds: []float64{.001, .01}, Counts: []uint64{2, 3, 1}, Count: 6, SumSeconds: .05, P99: 9 * time.Millisecond}, LogBytes: 8192,
		},
	}
}

func (c *fakeCluster) Status() ClusterStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	return c.status
}

func (c *fakeCluster) Brief() ClusterStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	full := &c.status
	return ClusterStatus{
		NodeID: full.NodeID, LeaderID: full.LeaderID, Term: full.Term,
		CommitIndex: full.CommitIndex, AppliedIndex: full.AppliedIndex, LastLogIndex: full.LastLogIndex,
	}
}

func (c *fakeCluster) DigestAt(_ context.Context, index uint64) (string, error) {
	return fmt.Sprintf("digest at %d", index), nil
}

func (c *fakeCluster) set(f func(*ClusterStatus)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.status)
}

func (c *fakeCluster) setFail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail = err
}

func (c *fakeCluster) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fail
}

func (c *fakeCluster) AddNode(_ context.Context, n Node, _ bool) (bool, error) {
	c.mu.Lock()
	c.added = n
	c.mu.Unlock()
	return true, c.failure()
}
func (c *fakeCluster) Promote(context.Context, string) error      { return c.failure() }
func (c *fakeCluster) Remove(context.Context, string, bool) error { return c.failure() }
func (c *fakeCluster) TransferLeader(context.Context, string) (string, error) {
	return "n2", c.failure()
}
func (c *fakeCluster) Limits() *logpb.Limits {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.limits
}

func (c *fakeCluster) SetLimits(_ context.Context, change *logpb.Limits, _ string) error {
	if err := c.failure(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limits = proto.CloneOf(c.limits)
	proto.Merge(c.limits, change)
	return nil
}

// node is a served API on loopback.
type node struct {
	server     *Server
	grpc, http string // addresses
	conn       *grpc.ClientConn
	client     *http.Client
	done       chan error
}

func (n *node) transactions() quoratev1.TransactionServiceClient {
	return quoratev1.NewTransactionServiceClient(n.conn)
}

func (n *node) participants() quoratev1.ParticipantServiceClient {
	return quoratev1.NewParticipantServiceClient(n.conn)
}

func (n *node) cluster() quoratev1.ClusterServiceClient {
	return quoratev1.NewClusterServiceClient(n.conn)
}

// serve starts a server in the clear and stops it with the test.
func serve(t testing.TB, cfg Config, c Coordinator, cluster Cluster) *node {
	t.Helper()
	if cfg.NodeID == "" {
		cfg.NodeID = "n1"
	}
	if cfg.LeaderWait == 0 {
		cfg.LeaderWait = 50 * time.Millisecond
	}
	if cfg.Endpoints == nil {
		cfg.Endpoints = anyEndpoint{}
	}
	server, err := NewServer(cfg, c, cluster)
	if err != nil {
		t.Fatal(err)
	}
	listeners := Listeners{GRPC: testkit.Listen(t), HTTP: testkit.Listen(t)}
	n := &node{server: server, grpc: listeners.GRPC.Addr().String(), http: listeners.HTTP.Addr().String(), done: make(chan error, 1)}
	go func() { n.done <- server.Serve(listeners) }()
	transport := &http.Transport{}
	n.client = &http.Client{Transport: transport}
	n.conn, err = grpc.NewClient(n.grpc, append(wire.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = n.conn.Close()
		transport.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		server.Stop(ctx)
		if err := <-n.done; err != nil {
			t.Errorf("Serve returned %v", err)
		}
	})
	return n
}

type anyEndpoint struct{}

func (anyEndpoint) Check(string) error { return nil }

// within gives a test's calls a bound.
func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

var _ net.Listener = (*limitedListener)(nil)
