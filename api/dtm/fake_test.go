package dtm

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sort"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// TestMain looks for goroutines that stay. net/http itself keeps a connection for
// half a second when it has refused the rest of a body; nobody can end that.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// fake is the native services in a few lines: what was asked stands at once, and
// a test says when a transaction goes on. What the real ones do is tested against
// the real ones.
type fake struct {
	quoratev1.UnimplementedTransactionServiceServer

	mu      sync.Mutex
	index   uint64
	byKey   map[string]*quoratev1.Transaction
	topics  map[string]*quoratev1.Topic
	retried []string
	fail    func(method string) error // nil: nothing fails
	changed chan struct{}             // closed and renewed when something changes
}

func newFake() *fake {
	return &fake{
		byKey: make(map[string]*quoratev1.Transaction), topics: make(map[string]*quoratev1.Topic),
		changed: make(chan struct{}),
	}
}

// failing is an error of our own services, as it comes over the wire.
func failing(reason string, code codes.Code, message string) error {
	st := status.New(code, message)
	if reason == "" {
		return st.Err()
	}
	typed, err := st.WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: "quorate"})
	if err != nil {
		panic(err)
	}
	return typed.Err()
}

var errNotFound = failing("NOT_FOUND", codes.NotFound, "never seen")

func (f *fake) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	f.mu.Lock()
	method := info.FullMethod[len("/quorate.v1.TransactionService/"):]
	fail := f.fail
	f.mu.Unlock()
	if fail != nil {
		if err := fail(method); err != nil {
			return nil, err
		}
	}
	return handler(ctx, req)
}

// set changes what fails.
func (f *fake) set(fail func(method string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = fail
}

func (f *fake) stamp() *quoratev1.Stamp {
	f.index++
	return &quoratev1.Stamp{Index: f.index, WallTime: timestamppb.New(time.Unix(1_000_000, 0))}
}

func (f *fake) find(ref string) (*quoratev1.Transaction, error) {
	for key, t := range f.byKey {
		if ref == t.GetGid() || ref == keyRef(key) {
			return t, nil
		}
	}
	return nil, errNotFound
}

func (f *fake) create(b *quoratev1.BeginRequest, specs []*quoratev1.BranchSpec, state quoratev1.State) (*quoratev1.Transaction, bool) {
	if t, ok := f.byKey[b.GetKey()]; ok {
		return t, false
	}
	t := &quoratev1.Transaction{
		Gid: fmt.Sprintf("01GID%d", len(f.byKey)), Key: b.GetKey(), Mode: b.GetMode(), Plan: b.GetPlan(), State: state,
		Timeout: b.GetTimeout(), Began: f.stamp(),
	}
	for _, spec := range specs {
		t.Branches = append(t.Branches, &quoratev1.Branch{Spec: spec})
	}
	f.byKey[b.GetKey()] = t
	return t, true
}

func (f *fake) Begin(_ context.Context, r *quoratev1.BeginRequest) (*quoratev1.BeginResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, created := f.create(r, r.GetBranches(), quoratev1.State_STATE_ACTIVE)
	return &quoratev1.BeginResponse{Gid: t.GetGid(), Created: created, State: t.GetState()}, nil
}

func (f *fake) Submit(_ context.Context, r *quoratev1.SubmitRequest) (*quoratev1.SubmitResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	state := quoratev1.State_STATE_SEALED
	if r.GetBegin().GetMode() == quoratev1.Mode_MODE_MESSAGE {
		state = quoratev1.State_STATE_COMMITTING
	}
	t, created := f.create(r.GetBegin(), r.GetSet(), state)
	return &quoratev1.SubmitResponse{Gid: t.GetGid(), Created: created, State: t.GetState()}, nil
}

func (f *fake) Enlist(_ context.Context, r *quoratev1.EnlistRequest) (*quoratev1.EnlistResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, err := f.find(r.GetGid())
	if err != nil {
		return nil, err
	}
	if t.GetState() != quoratev1.State_STATE_ACTIVE {
		return nil, failing("SEALED", codes.FailedPrecondition, "sealed")
	}
	for _, b := range t.GetBranches() {
		if b.GetSpec().GetId() == r.GetBranch().GetId() && !proto.Equal(b.GetSpec(), r.GetBranch()) {
			return nil, failing("BRANCH_CONFLICT", codes.AlreadyExists, "other content")
		}
	}
	t.Branches = append(t.Branches, &quoratev1.Branch{Spec: r.GetBranch(), Enlisted: f.stamp()})
	return &quoratev1.EnlistResponse{Verdict: quoratev1.Verdict_VERDICT_WAIT}, nil
}

func (f *fake) Record(_ context.Context, r *quoratev1.RecordRequest) (*quoratev1.RecordResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, err := f.find(r.GetGid())
	if err != nil {
		return nil, err
	}
	vote := quoratev1.Vote_VOTE_PREPARED
	if r.GetFailed() {
		vote = quoratev1.Vote_VOTE_REFUSED
	}
	t.Branches = append(t.Branches, &quoratev1.Branch{
		Spec: &quoratev1.BranchSpec{Id: r.GetBranch()}, Vote: vote, Recorded: r.GetOperation(), Result: r.GetResult(), Enlisted: f.stamp(),
	})
	return &quoratev1.RecordResponse{}, nil
}

func (f *fake) decide(ref string, from, to quoratev1.State, d quoratev1.Decision, detail string, result []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, err := f.find(ref)
	if err != nil {
		return err
	}
	if t.GetDecision() == d {
		return nil
	}
	if t.GetState() != from {
		return failing("ALREADY_DECIDED", codes.FailedPrecondition, "decided")
	}
	t.State, t.Decision, t.Detail, t.Result, t.Decided = to, d, detail, result, f.stamp()
	return nil
}

func (f *fake) Commit(_ context.Context, r *quoratev1.CommitRequest) (*quoratev1.CommitResponse, error) {
	return &quoratev1.CommitResponse{}, f.decide(r.GetTransaction(), quoratev1.State_STATE_ACTIVE, quoratev1.State_STATE_COMMITTING,
		quoratev1.Decision_DECISION_COMMIT, "", r.GetResult())
}

func (f *fake) Rollback(_ context.Context, r *quoratev1.RollbackRequest) (*quoratev1.RollbackResponse, error) {
	return &quoratev1.RollbackResponse{}, f.decide(r.GetTransaction(), quoratev1.State_STATE_ACTIVE, quoratev1.State_STATE_ROLLING_BACK,
		quoratev1.Decision_DECISION_ROLLBACK, r.GetDetail(), r.GetResult())
}

func (f *fake) Stop(_ context.Context, r *quoratev1.StopRequest) (*quoratev1.StopResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, err := f.find(r.GetTransaction())
	if err != nil {
		return nil, err
	}
	t.State, t.Decision, t.Stopped = quoratev1.State_STATE_ROLLED_BACK, quoratev1.Decision_DECISION_ROLLBACK, true
	return &quoratev1.StopResponse{}, nil
}

func (f *fake) Retry(_ context.Context, r *quoratev1.RetryRequest) (*quoratev1.RetryResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.find(r.GetTransaction()); err != nil {
		return nil, err
	}
	f.retried = append(f.retried, r.GetTransaction())
	return &quoratev1.RetryResponse{Branches: 1}, nil
}

func (f *fake) Get(_ context.Context, r *quoratev1.GetRequest) (*quoratev1.GetResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, err := f.find(r.GetTransaction())
	if err != nil {
		return nil, err
	}
	return &quoratev1.GetResponse{
		Header: &quoratev1.ResponseHeader{AppliedIndex: f.index}, Transaction: proto.Clone(t).(*quoratev1.Transaction),
	}, nil
}

// List pages by two, whatever is asked for, so that callers must go on.
func (f *fake) List(_ context.Context, r *quoratev1.ListRequest) (*quoratev1.ListResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var keys []string
	for key := range f.byKey {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	answer := &quoratev1.ListResponse{}
	size := min(int(r.GetPageSize()), 2)
	for _, key := range keys {
		if key <= r.GetPageToken() {
			continue
		}
		if len(answer.Transactions) == size {
			answer.NextPageToken = answer.Transactions[size-1].GetKey()
			break
		}
		answer.Transactions = append(answer.Transactions, f.byKey[key])
	}
	return answer, nil
}

func (f *fake) Watch(r *quoratev1.WatchRequest, stream quoratev1.TransactionService_WatchServer) error {
	f.mu.Lock()
	changed := f.changed
	f.mu.Unlock()
	select {
	case <-changed:
		return stream.Send(&quoratev1.WatchResponse{Index: r.GetAfterIndex() + 1})
	case <-stream.Context().Done():
		return stream.Context().Err()
	}
}

func (f *fake) Subscribe(_ context.Context, r *quoratev1.SubscribeRequest) (*quoratev1.SubscribeResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.topics[r.GetTopic()]
	if t == nil {
		t = &quoratev1.Topic{Name: r.GetTopic(), Created: f.stamp()}
		f.topics[r.GetTopic()] = t
	}
	t.Subscribers, t.Updated = append(t.Subscribers, r.GetSubscriber()), f.stamp()
	t.Version++
	return &quoratev1.SubscribeResponse{Topic: t}, nil
}

func (f *fake) Unsubscribe(_ context.Context, r *quoratev1.UnsubscribeRequest) (*quoratev1.UnsubscribeResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.topics[r.GetTopic()]
	for i, s := range t.GetSubscribers() {
		if s.GetEndpoint() == r.GetEndpoint() {
			t.Subscribers = append(t.Subscribers[:i:i], t.Subscribers[i+1:]...)
			t.Version++
		}
	}
	return &quoratev1.UnsubscribeResponse{Topic: t}, nil
}

func (f *fake) DeleteTopic(_ context.Context, r *quoratev1.DeleteTopicRequest) (*quoratev1.DeleteTopicResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.topics, r.GetTopic())
	return &quoratev1.DeleteTopicResponse{}, nil
}

func (f *fake) ListTopics(_ context.Context, r *quoratev1.ListTopicsRequest) (*quoratev1.ListTopicsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	answer := &quoratev1.ListTopicsResponse{}
	for name, t := range f.topics {
		if r.GetTopic() == "" || r.GetTopic() == name {
			answer.Topics = append(answer.Topics, t)
		}
	}
	return answer, nil
}

// stand is a gateway over a fake, served over real HTTP and real gRPC.
type stand struct {
	t    *testing.T
	fake *fake
	url  string // with Prefix
	base string
	web  *http.Client
	conn *grpc.ClientConn
}

func newStand(t *testing.T, cfg Config) *stand {
	t.Helper()
	f := newFake()
	inner := bufconn.Listen(1 << 20)
	native := grpc.NewServer(grpc.ChainUnaryInterceptor(f.intercept))
	quoratev1.RegisterTransactionServiceServer(native, f)
	go func() { _ = native.Serve(inner) }()
	cfg.Conn = dial(t, "passthrough:///inner", func(ctx context.Context, _ string) (net.Conn, error) { return inner.DialContext(ctx) })
	if cfg.HoldMax == 0 {
		cfg.HoldMax = 50 * time.Millisecond
	}
	gateway := New(cfg)
	web := httptest.NewServer(gateway)
	outer, l := grpc.NewServer(), listen(t)
	gateway.Register(outer)
	go func() { _ = outer.Serve(l) }()
	s := &stand{t: t, fake: f, web: &http.Client{Transport: &http.Transport{}}, base: web.URL, url: web.URL + Prefix, conn: dial(t, "passthrough:///"+l.Addr().String(), nil)}
	t.Cleanup(func() {
		s.web.CloseIdleConnections()
		web.Close()
		outer.Stop()
		native.Stop()
	})
	return s
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func dial(t *testing.T, target string, dialer func(context.Context, string) (net.Conn, error)) *grpc.ClientConn {
	t.Helper()
	opts := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	if dialer != nil {
		opts = append(opts, grpc.WithContextDialer(dialer))
	}
	conn, err := grpc.NewClient(target, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
