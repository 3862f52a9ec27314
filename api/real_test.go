package api

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"

	"github.com/quorate/quorate/api/branchcall"
	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/testkit"
)

// sharedLog is one replicated log of several nodes, in memory: the real state
// machine, and whoever is elected leads. Nothing else in these tests is fake.
type sharedLog struct {
	mu          sync.RWMutex
	state       *fsm.State
	index, term uint64
	began       time.Time
	leader      *realNode
	nodes       []*realNode
}

// realNode is the API over the real coordinator, on the shared log.
type realNode struct {
	*node
	log         *sharedLog
	info        coordinator.LeaderInfo
	coordinator *coordinator.Coordinator
}

func (l *sharedLog) apply(commands ...*logpb.Command) ([]fsm.Result, uint64, error) {
	l.index++
	results, err := l.state.ApplyEntry(l.index, max(l.term, 1), fsm.EncodeEntry(nil, &logpb.Batch{
		ClockMs: 10_000 + uint64(time.Since(l.began).Milliseconds()), WallMs: uint64(time.Now().UnixMilli()), FeatureLevel: fsm.FeatureLevel, Commands: commands,
	}))
	return results, l.index, err
}

// realCluster serves count nodes, the first of which leads.
func realCluster(t testing.TB, count int) []*realNode {
	t.Helper()
	log := &sharedLog{state: fsm.New(), began: time.Now()}
	if _, _, err := log.apply(&logpb.Command{Kind: &logpb.Command_Found{Found: &logpb.Found{ClusterId: testCluster.Bytes()}}}); err != nil {
		t.Fatal(err)
	}
	allow, err := branchcall.ParseAllow("localhost")
	if err != nil {
		t.Fatal(err)
	}
	caller := branchcall.New(branchcall.Config{Allow: allow})
	t.Cleanup(func() { _ = caller.Close() })
	for i := range count {
		n := &realNode{log: log, info: coordinator.LeaderInfo{ID: []string{"n1", "n2", "n3"}[i]}}
		metrics := NewMetrics("test", "")
		n.coordinator, err = coordinator.New(coordinator.Config{
			NodeID: n.info.ID, Log: n, Caller: caller, Observer: metrics, Settings: coordinator.FastSettings(), Logger: testkit.Logger(t),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = n.coordinator.Close() })
		n.node = serve(t, Config{NodeID: n.info.ID, Endpoints: allow, Metrics: metrics, LeaderWait: 3 * time.Second}, Over(n.coordinator), n)
		n.info.GRPCAddress, n.info.HTTPAddress = n.node.grpc, n.node.http
		log.mu.Lock()
		log.nodes = append(log.nodes, n)
		log.mu.Unlock()
	}
	log.elect(log.nodes[0])
	return log.nodes
}

// elect makes n the leader of a new term; nil makes nobody.
func (l *sharedLog) elect(n *realNode) {
	l.mu.Lock()
	old := l.leader
	l.leader = nil
	l.mu.Unlock()
	if old != nil {
		old.coordinator.Leadership(false, l.term)
	}
	if n == nil {
		return
	}
	l.mu.Lock()
	l.term++
	l.leader, n.info.Term = n, l.term
	_, _, _ = l.apply(&logpb.Command{Kind: &logpb.Command_Tick{Tick: &logpb.Tick{}}})
	l.mu.Unlock()
	n.coordinator.Leadership(true, l.term)
}

func (n *realNode) Propose(_ context.Context, commands ...*logpb.Command) ([]fsm.Result, uint64, error) {
	n.log.mu.Lock()
	if n.log.leader != n {
		n.log.mu.Unlock()
		return nil, 0, coordinator.ErrNotLeader
	}
	results, index, err := n.log.apply(commands...)
	nodes := n.log.nodes
	n.log.mu.Unlock()
	for _, node := range nodes {
		node.coordinator.Applied(index)
	}
	return results, index, err
}

func (n *realNode) ReadIndex(context.Context) (uint64, error) {
	n.log.mu.RLock()
	defer n.log.mu.RUnlock()
	if n.log.leader != n {
		return 0, coordinator.ErrNotLeader
	}
	return n.log.index, nil
}

func (n *realNode) WaitApplied(ctx context.Context, index uint64) error {
	for {
		n.log.mu.RLock()
		applied := n.log.index
		n.log.mu.RUnlock()
		if applied >= index {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

func (n *realNode) View(f func(*fsm.State)) {
	n.log.mu.RLock()
	defer n.log.mu.RUnlock()
	f(n.log.state)
}

func (n *realNode) Leader() (coordinator.LeaderInfo, bool) {
	n.log.mu.RLock()
	defer n.log.mu.RUnlock()
	if n.log.leader == nil {
		return coordinator.LeaderInfo{}, false
	}
	return n.log.leader.info, true
}

// Status and what follows make a realNode a Cluster.
func (n *realNode) DigestAt(context.Context, uint64) (string, error) { return "", nil }

func (n *realNode) Brief() ClusterStatus { return n.Status() }

func (n *realNode) Status() ClusterStatus {
	leader, _ := n.Leader()
	n.log.mu.RLock()
	defer n.log.mu.RUnlock()
	return ClusterStatus{NodeID: n.info.ID, LeaderID: leader.ID, Term: n.log.term, CommitIndex: n.log.index, AppliedIndex: n.log.index}
}

func (n *realNode) Limits() (limits *logpb.Limits) {
	n.View(func(s *fsm.State) { limits = s.Limits() })
	return limits
}

func (n *realNode) SetLimits(ctx context.Context, change *logpb.Limits, operator string) error {
	results, _, err := n.Propose(ctx, &logpb.Command{Kind: &logpb.Command_SetLimits{SetLimits: &logpb.SetLimits{Limits: change, Operator: operator}}})
	if err == nil && results[0].Code != fsm.OK {
		err = &coordinator.Refusal{Code: results[0].Code, Detail: results[0].Detail}
	}
	return err
}

func (n *realNode) AddNode(context.Context, Node, bool) (bool, error)               { return false, nil }
func (n *realNode) Promote(context.Context, string) error                           { return nil }
func (n *realNode) Remove(context.Context, string, bool) error                      { return nil }
func (n *realNode) TransferLeader(context.Context, string) (leader string, _ error) { return "n1", nil }

// must is a call over HTTP that must be answered 200.
func (n *node) must(t *testing.T, method, path, body string) map[string]any {
	t.Helper()
	code, answer, _ := n.request(t, method, path, body)
	if code != http.StatusOK {
		t.Fatalf("%s %s answered %d: %v", method, path, code, answer)
	}
	return answer
}

// TestStoryWithCurl is a whole transaction in JSON, through a follower, with a
// branch that is called at its endpoint.
func TestStoryWithCurl(t *testing.T) {
	nodes := realCluster(t, 2)
	follower := nodes[1]
	var told atomic.Value
	var tries atomic.Int32
	branch := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if tries.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		told.Store(req.Header.Get("Quorate-Branch"))
	}))
	defer branch.Close()

	begun := follower.must(t, "POST", "/v1/transactions", `{"key":"order/1","timeout":"30s","labels":{"color":"red"}}`)
	gid, _ := begun["gid"].(string)
	if len(gid) != 26 || begun["created"] != true {
		t.Fatalf("begun %v", begun)
	}
	if again := follower.must(t, "POST", "/v1/transactions", `{"key":"order/1","timeout":"30s","labels":{"color":"red"}}`); again["gid"] != gid || again["created"] != false {
		t.Errorf("the key's repetition: %v", again)
	}
	base := "/v1/transactions/" + gid
	follower.must(t, "POST", base+"/branches", `{"id":"1","resource":"orders","endpoint":"`+branch.URL+`/branch"}`)
	follower.must(t, "POST", base+"/branches", `{"id":"2","resource":"stock"}`)
	for _, id := range []string{"1", "2"} {
		resource := map[string]string{"1": `"resource":"orders","endpoint":"` + branch.URL + `/branch"`, "2": `"resource":"stock"`}[id]
		voted := follower.must(t, "POST", base+"/votes", `{"branch":{"id":"`+id+`",`+resource+`},"vote":"VOTE_PREPARED"}`)
		if voted["verdict"] != "VERDICT_WAIT" {
			t.Errorf("voted %v", voted)
		}
	}
	committed := follower.must(t, "POST", "/v1/transactions/key:order%2F1:commit", `{}`)
	if committed["decision"] != "DECISION_COMMIT" || committed["gid"] != gid {
		t.Fatalf("committed %v", committed)
	}
	code, refused, _ := follower.request(t, "POST", base+":rollback", `{}`)
	reason, metadata := jsonReason(t, refused)
	if code != http.StatusConflict || reason != "ALREADY_DECIDED" || metadata["decision"] != "commit" || metadata["index"] != committed["index"] || metadata["decided_at"] == "" {
		t.Errorf("a rollback after the decision: %d %v", code, refused)
	}
	if inquired := follower.must(t, "POST", base+"/branches/2:inquire", `{}`); inquired["verdict"] != "VERDICT_COMMIT" {
		t.Errorf("inquired %v", inquired)
	}
	testkit.Eventually(t, 10*time.Second, func() bool { return told.Load() == "1" }, "the branch at its endpoint to be told")
	doubt := follower.must(t, "GET", "/v1/in-doubt?resource=stock", "")
	if list, _ := doubt["branches"].([]any); len(list) != 1 {
		t.Errorf("in doubt %v", doubt)
	}
	follower.must(t, "POST", base+"/branches/2:report", `{"outcome":"OUTCOME_COMMITTED"}`)
	testkit.Eventually(t, 10*time.Second, func() bool {
		got := follower.must(t, "GET", base, "")
		transaction, _ := got["transaction"].(map[string]any)
		return transaction["state"] == "STATE_COMMITTED"
	}, "the transaction to finish")
	listed := follower.must(t, "GET", "/v1/transactions?filter.include_finished=true&filter.labels[color]=red", "")
	if list, _ := listed["transactions"].([]any); len(list) != 1 {
		t.Errorf("listed %v", listed)
	}
	if other := follower.must(t, "GET", "/v1/transactions?filter.include_finished=true&filter.labels[color]=blue", ""); len(other["transactions"].([]any)) != 0 {
		t.Errorf("listed %v", other)
	}
}

// TestBadInputAgainstTheStateMachine: what only it can know is typed, too.
func TestBadInputAgainstTheStateMachine(t *testing.T) {
	n := realCluster(t, 1)[0]
	late := fsm.NewGID(1<<47, [10]byte{1}).String()
	for _, tt := range []struct {
		name, method, path, body string
		code                     int
		reason                   string
	}{
		{"a gid born after the clock", "POST", "/v1/transactions", `{"gid":"` + late + `"}`, 400, "INVALID"},
		{"a saga that is begun alone", "POST", "/v1/transactions", `{"mode":"MODE_SAGA"}`, 400, "INVALID"},
		{"an endpoint that is not allowed", "POST", "/v1/transactions/" + testGID.String() + "/branches", `{"id":"1","endpoint":"http://10.0.0.1/"}`, 400, "INVALID"},
		{"a commit of nothing", "POST", "/v1/transactions/" + testGID.String() + ":commit", `{}`, 404, "NOT_FOUND"},
		{"a key that nobody knows", "POST", "/v1/transactions/key:nobody:rollback", `{}`, 404, "NOT_FOUND"},
		{"limits that contradict", "PATCH", "/v1/cluster/limits", `{"operator":"ann","limits":{"retention":"1s"}}`, 400, "INVALID"},
	} {
		code, body, _ := n.request(t, tt.method, tt.path, tt.body)
		if reason, _ := jsonReason(t, body); code != tt.code || reason != tt.reason {
			t.Errorf("%s: %d %v", tt.name, code, body)
		}
	}
	if set := n.must(t, "PATCH", "/v1/cluster/limits", `{"operator":"ann","limits":{"branches_per_transaction_max":3}}`); set["limits"].(map[string]any)["branches_per_transaction_max"] != 3.0 {
		t.Errorf("set %v", set)
	}
}

// TestSessionStory: a participant's session over the real coordinator, through a
// change of leader between the decision and the report.
func TestSessionStory(t *testing.T) {
	nodes := realCluster(t, 2)
	first, second := nodes[0], nodes[1]
	watch, err := second.transactions().Watch(within(t), &quoratev1.WatchRequest{AfterIndex: 1})
	if err != nil {
		t.Fatal(err)
	}
	begun, err := first.transactions().Begin(within(t), &quoratev1.BeginRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := second.transactions().Begin(within(t), &quoratev1.BeginRequest{}); ReasonOf(err) != ReasonNotLeader || infoOf(err).Metadata["leader_grpc"] != first.node.grpc {
		t.Fatalf("a follower answered %v", err)
	}
	stream, err := first.participants().Session(within(t))
	if err != nil {
		t.Fatal(err)
	}
	send(t, stream, attachFrame(nil))
	receive(t, stream)
	spec := &quoratev1.BranchSpec{Id: "1", Resource: "orders-db", Held: true}
	send(t, stream, &quoratev1.SessionRequest{Id: 2, Frame: &quoratev1.SessionRequest_Enlist{Enlist: &quoratev1.EnlistRequest{Gid: begun.GetGid(), Branch: spec}}})
	if got := receive(t, stream); got.GetEnlist().GetVerdict() != quoratev1.Verdict_VERDICT_WAIT {
		t.Fatalf("enlisted %v", got)
	}
	send(t, stream, &quoratev1.SessionRequest{Id: 3, Frame: &quoratev1.SessionRequest_Vote{Vote: &quoratev1.VoteRequest{
		Gid: begun.GetGid(), Ballot: &quoratev1.Ballot{Branch: spec, Vote: quoratev1.Vote_VOTE_PREPARED}}}})
	if got := receive(t, stream); got.GetVote().GetVerdict() != quoratev1.Verdict_VERDICT_WAIT {
		t.Fatalf("voted %v", got)
	}
	committed := make(chan error, 1)
	go func() {
		got, err := first.transactions().Commit(within(t), &quoratev1.CommitRequest{Transaction: begun.GetGid()})
		if err == nil && got.GetDecision() != quoratev1.Decision_DECISION_COMMIT {
			err = Errorf(ReasonInternal, "decided %v", got.GetDecision())
		}
		committed <- err
	}()
	// The driver may ask whether the branch is still held, before it decides.
	deliver := nextDelivery(t, stream, begun.GetGid())
	if deliver.GetVerdict() != quoratev1.Verdict_VERDICT_COMMIT || deliver.GetAttempt() != 1 {
		t.Fatalf("delivered %v", deliver)
	}
	if err := <-committed; err != nil {
		t.Fatal(err)
	}

	nodes[0].log.elect(second)
	if _, err := stream.Recv(); ReasonOf(err) != ReasonNotLeader {
		t.Fatalf("the session ended with %v", err)
	}
	stream, err = second.participants().Session(within(t))
	if err != nil {
		t.Fatal(err)
	}
	send(t, stream, attachFrame(nil))
	if got := receive(t, stream); got.GetAttached().GetHeader().GetEpoch().GetTerm() != 2 {
		t.Fatalf("attached %v", got)
	}
	again := nextDelivery(t, stream, begun.GetGid())
	if again.GetVerdict() != quoratev1.Verdict_VERDICT_COMMIT || again.GetEpoch().GetTerm() != 2 {
		t.Errorf("delivered again %v", again)
	}
	send(t, stream, &quoratev1.SessionRequest{Id: 4, Frame: &quoratev1.SessionRequest_Report{Report: &quoratev1.ReportRequest{
		Gid: begun.GetGid(), Branch: "1", Outcome: quoratev1.Outcome_OUTCOME_COMMITTED, Attempt: again.GetAttempt()}}})
	if got := receive(t, stream); got.GetReport() == nil {
		t.Fatalf("reported %v", got)
	}
	send(t, stream, &quoratev1.SessionRequest{Frame: &quoratev1.SessionRequest_Detach{Detach: &quoratev1.Detach{}}})
	if _, err := stream.Recv(); err == nil || ReasonOf(err) != "" {
		t.Errorf("the goodbye was answered %v", err)
	}

	var kinds []string
	for !strings.Contains(strings.Join(kinds, " "), "FINISHED") {
		got, err := watch.Recv()
		if err != nil {
			t.Fatal(err)
		}
		for _, event := range got.GetEvents() {
			kinds = append(kinds, strings.TrimPrefix(event.GetKind().String(), "EVENT_KIND_"))
		}
	}
	if got := strings.Join(kinds, " "); got != "BEGUN ENLISTED VOTED SEALED DECIDED REPORTED FINISHED" {
		t.Errorf("events: %s", got)
	}
	got, err := second.transactions().Get(within(t), &quoratev1.GetRequest{Transaction: begun.GetGid()})
	if err != nil || got.GetTransaction().GetState() != quoratev1.State_STATE_COMMITTED || got.GetTransaction().GetDecided().GetTerm() != 1 || got.GetTransaction().GetBranches()[0].GetReported().GetTerm() != 2 {
		t.Errorf("got %v %v", got, err)
	}
}

// nextDelivery answers questions about held branches until an outcome comes.
func nextDelivery(t *testing.T, stream sessionStream, gid string) *quoratev1.Deliver {
	t.Helper()
	for {
		got := receive(t, stream)
		if asked := got.GetVouchFor(); asked != nil {
			send(t, stream, &quoratev1.SessionRequest{Frame: &quoratev1.SessionRequest_Vouch{Vouch: &quoratev1.Vouch{Branches: asked.GetBranches()}}})
		}
		if d := got.GetDeliver(); d.GetGid() == gid {
			return d
		}
	}
}

// TestElectionLooksLikeASlowCall, over HTTP and gRPC.
func TestElectionLooksLikeASlowCall(t *testing.T) {
	nodes := realCluster(t, 2)
	nodes[0].log.elect(nil)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if code, body, _ := nodes[0].request(t, "POST", "/v1/transactions", `{}`); code != 200 {
				t.Errorf("%d %v", code, body)
			}
		})
		group.Go(func() {
			if _, err := nodes[1].transactions().Begin(within(t), &quoratev1.BeginRequest{}); err != nil {
				t.Error(err)
			}
		})
	}
	time.AfterFunc(100*time.Millisecond, func() { nodes[0].log.elect(nodes[1]) })
	group.Wait()
}
