package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
)

// handler is one method, called over gRPC and as the gateway maps it.
type handler struct {
	name   string
	effect effect
	call   func(ctx context.Context, n *node) (answer interface {
		GetHeader() *quoratev1.ResponseHeader
	}, err error)
	http, path, body string
}

// answered is a helper that keeps a nil answer an untyped nil.
type answer = interface {
	GetHeader() *quoratev1.ResponseHeader
}

func handlers() []handler {
	gid := testGID.String()
	spec := &quoratev1.BranchSpec{Id: "1", Resource: "orders-db"}
	ballot := &quoratev1.Ballot{Branch: spec, Vote: quoratev1.Vote_VOTE_PREPARED}
	return []handler{
		{"Begin", changes, func(ctx context.Context, n *node) (answer, error) {
			return n.transactions().Begin(ctx, &quoratev1.BeginRequest{Gid: gid, Key: "order-1"})
		}, "POST", "/v1/transactions", `{"key":"order-1"}`},
		{"Enlist", changes, func(ctx context.Context, n *node) (answer, error) {
			return n.transactions().Enlist(ctx, &quoratev1.EnlistRequest{Gid: gid, Branch: spec})
		}, "POST", "/v1/transactions/" + gid + "/branches", `{"id":"1","resource":"orders-db"}`},
		{"Vote", changes, func(ctx context.Context, n *node) (answer, error) {
			return n.transactions().Vote(ctx, &quoratev1.VoteRequest{Gid: gid, Ballot: ballot})
		}, "POST", "/v1/transactions/" + gid + "/votes", `{"branch":{"id":"1","resource":"orders-db"},"vote":"VOTE_PREPARED"}`},
		{"Commit", changes, func(ctx context.Context, n *node) (answer, error) {
			return n.transactions().Commit(ctx, &quoratev1.CommitRequest{Transaction: gid, Set: &quoratev1.BranchSet{Ids: []string{"2", "1"}}})
		}, "POST", "/v1/transactions/" + gid + ":commit", `{"wait":"WAIT_FINISH"}`},
		{"Rollback", changes, func(ctx context.Context, n *node) (answer, error) {
			return n.transactions().Rollback(ctx, &quoratev1.RollbackRequest{Transaction: gid, Branches: []*quoratev1.BranchSpec{spec}})
		}, "POST", "/v1/transactions/key:order%2F1:rollback", `{"detail":"no funds"}`},
		{"Submit", changes, func(ctx context.Context, n *node) (answer, error) {
			return n.transactions().Submit(ctx, &quoratev1.SubmitRequest{
				Begin: &quoratev1.BeginRequest{Gid: gid}, Set: []*quoratev1.BranchSpec{spec}, Votes: []*quoratev1.Ballot{ballot},
			})
		}, "POST", "/v1/transactions:submit", `{"begin":{},"set":[{"id":"1","resource":"r"}],"votes":[{"branch":{"id":"1","resource":"r"},"vote":"VOTE_PREPARED"}]}`},
		{"Resolve", changes, func(ctx context.Context, n *node) (answer, error) {
			return n.transactions().Resolve(ctx, &quoratev1.ResolveRequest{
				Transaction: gid, Branch: "1", Outcome: quoratev1.Outcome_OUTCOME_COMMITTED, Operator: "ann", Reason: "the disk is gone",
			})
		}, "POST", "/v1/transactions/" + gid + "/branches/1:resolve", `{"outcome":"OUTCOME_COMMITTED","operator":"ann","reason":"gone"}`},
		{"Retry", reads, func(ctx context.Context, n *node) (answer, error) {
			return n.transactions().Retry(ctx, &quoratev1.RetryRequest{Transaction: gid, Branch: "1"})
		}, "POST", "/v1/transactions/" + gid + ":retry", `{}`},
		{"Get", reads, func(ctx context.Context, n *node) (answer, error) {
			return n.transactions().Get(ctx, &quoratev1.GetRequest{Transaction: "key:order-1", Consistency: quoratev1.Consistency_CONSISTENCY_LOCAL})
		}, "GET", "/v1/transactions/key:order-1?consistency=CONSISTENCY_LOCAL&min_index=3", ""},
		{"List", reads, func(ctx context.Context, n *node) (answer, error) {
			return n.transactions().List(ctx, &quoratev1.ListRequest{Filter: &quoratev1.Filter{InDoubt: true}})
		}, "GET", "/v1/transactions?page_size=3&filter.in_doubt=true", ""},
		{"Record", changes, func(ctx context.Context, n *node) (answer, error) {
			return n.transactions().Record(ctx, &quoratev1.RecordRequest{Gid: gid, Branch: "1", Operation: "reserve", Result: []byte("ok")})
		}, "POST", "/v1/transactions/" + gid + "/branches/1.2:record", `{"operation":"reserve","result":"b2s="}`},
		{"Stop", changes, func(ctx context.Context, n *node) (answer, error) {
			return n.transactions().Stop(ctx, &quoratev1.StopRequest{Transaction: gid, Operator: "ann", Reason: "the shop is closed"})
		}, "POST", "/v1/transactions/key:order%2F1:stop", `{"operator":"ann","reason":"closed"}`},
		{"Subscribe", changes, func(ctx context.Context, n *node) (answer, error) {
			return n.transactions().Subscribe(ctx, &quoratev1.SubscribeRequest{Topic: "orders", Subscriber: &quoratev1.Subscriber{Endpoint: "http://good:1/x", Remark: "stock"}})
		}, "POST", "/v1/topics/orders%2Feu:subscribe", `{"endpoint":"grpc://good:1/stock.v1.Stock/Ordered"}`},
		{"Unsubscribe", changes, func(ctx context.Context, n *node) (answer, error) {
			return n.transactions().Unsubscribe(ctx, &quoratev1.UnsubscribeRequest{Topic: "orders", Endpoint: "http://good:1/x"})
		}, "POST", "/v1/topics/orders:unsubscribe", `{"endpoint":"http://gone.example/x"}`},
		{"DeleteTopic", changes, func(ctx context.Context, n *node) (answer, error) {
			return n.transactions().DeleteTopic(ctx, &quoratev1.DeleteTopicRequest{Topic: "orders"})
		}, "DELETE", "/v1/topics/orders", ""},
		{"ListTopics", reads, func(ctx context.Context, n *node) (answer, error) {
			return n.transactions().ListTopics(ctx, &quoratev1.ListTopicsRequest{PageSize: 3})
		}, "GET", "/v1/topics?page_size=3&topic=orders", ""},
		{"Submit of a saga", changes, func(ctx context.Context, n *node) (answer, error) {
			return n.transactions().Submit(ctx, &quoratev1.SubmitRequest{
				Begin: &quoratev1.BeginRequest{Gid: gid, Mode: quoratev1.Mode_MODE_SAGA}, Set: []*quoratev1.BranchSpec{{Id: "1", Endpoint: "http://good:1/x"}},
			})
		}, "POST", "/v1/transactions:submit", `{"begin":{"mode":"MODE_SAGA","plan":{"headers":{"X-Tenant":"t"},"retry":{"interval":"0.5s"}}},"set":[{"id":"1","endpoint":"http://good:1/x","undo":"http://good:1/y","payload":"e30="},{"id":"2","endpoint":"http://good:1/x","after":["1"]}]}`},
		{"Begin of a message", changes, func(ctx context.Context, n *node) (answer, error) {
			return n.transactions().Begin(ctx, &quoratev1.BeginRequest{
				Mode: quoratev1.Mode_MODE_MESSAGE, Plan: &quoratev1.Plan{Callback: "http://good:1/ask"}, Branches: []*quoratev1.BranchSpec{{Id: "1", Endpoint: "topic://orders"}},
			})
		}, "POST", "/v1/transactions", `{"mode":"MODE_MESSAGE","plan":{"callback":"http://good:1/ask","callback_after":"3s"},"branches":[{"id":"1","endpoint":"topic://orders"}]}`},
		{"Inquire", changes, func(ctx context.Context, n *node) (answer, error) {
			return n.participants().Inquire(ctx, &quoratev1.InquireRequest{Gid: gid, Branch: "1", Resource: "r"})
		}, "POST", "/v1/transactions/" + gid + "/branches/1:inquire", `{}`},
		{"Report", changes, func(ctx context.Context, n *node) (answer, error) {
			return n.participants().Report(ctx, &quoratev1.ReportRequest{Gid: gid, Branch: "1", Outcome: quoratev1.Outcome_OUTCOME_COMMITTED})
		}, "POST", "/v1/transactions/" + gid + "/branches/1:report", `{"outcome":"OUTCOME_ROLLED_BACK"}`},
		{"ListInDoubt", reads, func(ctx context.Context, n *node) (answer, error) {
			return n.participants().ListInDoubt(ctx, &quoratev1.ListInDoubtRequest{Resource: "r"})
		}, "GET", "/v1/in-doubt?resource=r", ""},
		{"AddNode", changes, func(ctx context.Context, n *node) (answer, error) {
			return n.cluster().AddNode(ctx, &quoratev1.AddNodeRequest{Id: "n4", RaftAddress: "h:1", GrpcAddress: "h:2"})
		}, "POST", "/v1/cluster/nodes", `{"id":"n4","raft_address":"h:1","grpc_address":"h:2"}`},
		{"Promote", changes, func(ctx context.Context, n *node) (answer, error) {
			return n.cluster().Promote(ctx, &quoratev1.PromoteRequest{Node: "n2"})
		}, "POST", "/v1/cluster/nodes/n2:promote", `{}`},
		{"Remove", changes, func(ctx context.Context, n *node) (answer, error) {
			return n.cluster().Remove(ctx, &quoratev1.RemoveRequest{Node: "n2"})
		}, "POST", "/v1/cluster/nodes/n2:remove", `{"force":true}`},
		{"TransferLeader", changes, func(ctx context.Context, n *node) (answer, error) {
			return n.cluster().TransferLeader(ctx, &quoratev1.TransferLeaderRequest{})
		}, "POST", "/v1/cluster:transferLeader", `{}`},
		{"SetLimits", changes, func(ctx context.Context, n *node) (answer, error) {
			return n.cluster().SetLimits(ctx, &quoratev1.SetLimitsRequest{Limits: &quoratev1.Limits{BranchesPerTransactionMax: 8}, Operator: "ann"})
		}, "PATCH", "/v1/cluster/limits", `{"limits":{"retention":"3600s"},"operator":"ann"}`},
	}
}

// local handlers answer on every node, whatever the coordinator says.
func localHandlers() []handler {
	return []handler{
		{"Status", reads, func(ctx context.Context, n *node) (answer, error) {
			return n.cluster().Status(ctx, &quoratev1.StatusRequest{})
		}, "GET", "/v1/cluster", ""},
		{"GetLimits", reads, func(ctx context.Context, n *node) (answer, error) {
			return n.cluster().GetLimits(ctx, &quoratev1.GetLimitsRequest{})
		}, "GET", "/v1/cluster/limits", ""},
	}
}

// request sends a call over HTTP and reads its JSON.
func (n *node) request(t testing.TB, method, path, body string) (int, map[string]any, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t), method, "http://"+n.http+path, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	if body == "" {
		req.Body = http.NoBody
	}
	res, err := n.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var parsed map[string]any
	if err := json.Unmarshal(text, &parsed); err != nil {
		t.Fatalf("%s %s answered %d with no JSON: %q", method, path, res.StatusCode, text)
	}
	return res.StatusCode, parsed, res.Header
}

// jsonReason returns the one ErrorInfo's reason and metadata in an error's JSON.
func jsonReason(t testing.TB, body map[string]any) (string, map[string]any) {
	t.Helper()
	var reason string
	var metadata map[string]any
	infos := 0
	details, _ := body["details"].([]any)
	for _, detail := range details {
		d := detail.(map[string]any)
		if d["@type"] == "type.googleapis.com/google.rpc.ErrorInfo" {
			infos++
			reason, _ = d["reason"].(string)
			metadata, _ = d["metadata"].(map[string]any)
		}
	}
	if infos != 1 {
		t.Errorf("%d ErrorInfos in %v, want exactly one", infos, body)
	}
	return reason, metadata
}

// wireReason is ReasonOf, which insists on exactly one ErrorInfo.
func wireReason(t testing.TB, err error) (Reason, map[string]string) {
	t.Helper()
	infos := 0
	var metadata map[string]string
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			infos++
			metadata = info.Metadata
		}
	}
	if infos != 1 {
		t.Errorf("%d ErrorInfos in %v, want exactly one", infos, err)
	}
	return ReasonOf(err), metadata
}

// TestEveryHandlerAnswers: every method answers over gRPC and over HTTP, with a
// header.
func TestEveryHandlerAnswers(t *testing.T) {
	n := serve(t, Config{}, newFake(), newFakeCluster())
	for _, h := range append(handlers(), localHandlers()...) {
		t.Run(h.name, func(t *testing.T) {
			got, err := h.call(within(t), n)
			if err != nil {
				t.Fatal(err)
			}
			header := got.GetHeader()
			if header.GetAppliedIndex() != 42 || header.GetClockMs() != 2000 || header.GetFloorMs() != 900 || header.GetNodeId() != "n1" ||
				header.GetClusterId() != testCluster.String() || header.GetEpoch().GetTerm() != 3 {
				t.Errorf("header %v", header)
			}
			code, body, _ := n.request(t, h.http, h.path, h.body)
			if code != 200 {
				t.Fatalf("%s %s answered %d: %v", h.http, h.path, code, body)
			}
			if header, _ := body["header"].(map[string]any); header["applied_index"] != "42" {
				t.Errorf("header %v", body["header"])
			}
		})
	}
}

// failures are what the calls below can fail with, and how each must be answered.
var failures = []struct {
	name          string
	err           error
	read, changed Reason
	metadata      map[string]string
}{
	{"elsewhere", &coordinator.NotLeaderError{Leader: coordinator.LeaderInfo{ID: "n2", GRPCAddress: "", HTTPAddress: "h:2", Term: 9}},
		ReasonNotLeader, ReasonNotLeader, map[string]string{"leader_id": "n2", "leader_http": "h:2", "term": "9"}},
	{"nobody leads", coordinator.ErrNoLeader, ReasonNoLeader, ReasonNoLeader, map[string]string{"term": "3"}},
	{"unknown", &coordinator.UnknownError{GID: testGID, Cause: context.DeadlineExceeded},
		ReasonOutcomeUnknown, ReasonOutcomeUnknown, map[string]string{"gid": testGID.String()}},
	{"unknown, bare", fmt.Errorf("x: %w", coordinator.ErrUnknown), ReasonOutcomeUnknown, ReasonOutcomeUnknown, nil},
	{"overload", &coordinator.OverloadError{Limit: "ProposalsPendingMax", Max: 5},
		ReasonQuota, ReasonQuota, map[string]string{"limit": "ProposalsPendingMax", "max": "5"}},
	{"overload, bare", coordinator.ErrOverload, ReasonQuota, ReasonQuota, nil},
	{"compacted", &coordinator.CompactedError{After: 1, Oldest: 9}, ReasonCompacted, ReasonCompacted, map[string]string{"oldest": "9"}},
	{"too large", coordinator.ErrTooLarge, ReasonInvalid, ReasonInvalid, nil},
	{"closed", coordinator.ErrClosed, ReasonNoLeader, ReasonNoLeader, nil},
	{"superseded", coordinator.ErrSuperseded, ReasonSessionLost, ReasonSessionLost, nil},
	{"deadline", context.DeadlineExceeded, ReasonDeadline, ReasonOutcomeUnknown, nil},
	{"untyped", errors.New("disk on fire"), ReasonInternal, ReasonOutcomeUnknown, nil},
	{"typed", Errorf(ReasonNotCaughtUp, "node n2 lags").With("node_id", "n2"), ReasonNotCaughtUp, ReasonNotCaughtUp, map[string]string{"node_id": "n2"}},
	{"not founded", &coordinator.Refusal{Code: fsm.NotFounded, Detail: "bootstrap first"}, ReasonNoLeader, ReasonNoLeader, nil},
	{"quota", &coordinator.Refusal{Code: fsm.Quota, GID: testGID, Detail: "tombstones_max is 7"},
		ReasonQuota, ReasonQuota, map[string]string{"limit": "tombstones_max"}},
	{"invalid", &coordinator.Refusal{Code: fsm.Invalid, Detail: "timeout is 0 ms"}, ReasonInvalid, ReasonInvalid, map[string]string{"clock_ms": "2000"}},
	{"decided", &coordinator.Refusal{Code: fsm.AlreadyDecided, GID: testGID, Decision: fsm.DecisionRollback, State: fsm.StateRolledBack, Index: 12, Detail: "rolled back", Verdict: fsm.VerdictRollback},
		ReasonAlreadyDecided, ReasonAlreadyDecided, map[string]string{"decision": "rollback", "state": "rolled-back", "index": "12", "verdict": "rollback", "stands": "rolled back", "gid": testGID.String()}},
	{"key", &coordinator.Refusal{Code: fsm.KeyConflict, GID: testGID, Key: "order-1"},
		ReasonKeyConflict, ReasonKeyConflict, map[string]string{"key": "order-1", "gid": testGID.String()}},
	{"branch", &coordinator.Refusal{Code: fsm.NotEnlisted, GID: testGID, Branch: "7"}, ReasonNotEnlisted, ReasonNotEnlisted, map[string]string{"branch": "7"}},
}

// TestEveryHandlerMapsEveryFailure goes through every method, every failure, and
// both protocols. An outcome that is not known must come out as just that.
func TestEveryHandlerMapsEveryFailure(t *testing.T) {
	c, cluster := newFake(), newFakeCluster()
	n := serve(t, Config{LeaderWait: 1}, c, cluster)
	for _, failure := range failures {
		c.setFail(failure.err)
		cluster.setFail(failure.err)
		for _, h := range handlers() {
			want := failure.read
			if h.effect == changes {
				want = failure.changed
			}
			_, err := h.call(within(t), n)
			got, metadata := wireReason(t, err)
			if got != want || status.Code(err) != table[want].code {
				t.Errorf("%s of %s: %s (%v), want %s", failure.name, h.name, got, err, want)
			}
			for name, value := range failure.metadata {
				if metadata[name] != value {
					t.Errorf("%s of %s: metadata %s is %q, want %q", failure.name, h.name, name, metadata[name], value)
				}
			}
			if want == ReasonNotLeader {
				want = ReasonNoLeader // HTTP is forwarded, and this leader has no address
			}
			code, body, header := n.request(t, h.http, h.path, h.body)
			reason, _ := jsonReason(t, body)
			if Reason(reason) != want || code != table[want].http {
				t.Errorf("%s of %s over HTTP: %d %s, want %s", failure.name, h.name, code, reason, want)
			}
			if table[want].retryAfter > 0 && header.Get("Retry-After") == "" {
				t.Errorf("%s of %s over HTTP: no Retry-After", failure.name, h.name)
			}
		}
	}
}

// TestAlreadyDecidedSaysWhen: the decision's time is looked up for people.
func TestAlreadyDecidedSaysWhen(t *testing.T) {
	c := newFake()
	c.setFail(&coordinator.Refusal{Code: fsm.AlreadyDecided, GID: testGID, Decision: fsm.DecisionCommit})
	c.views[testGID.String()] = decidedAt(1_700_000_000_000)
	n := serve(t, Config{}, c, newFakeCluster())
	_, err := n.transactions().Rollback(within(t), &quoratev1.RollbackRequest{Transaction: testGID.String()})
	if _, metadata := wireReason(t, err); metadata["decided_at"] != "2023-11-14T22:13:20Z" {
		t.Errorf("metadata %v", metadata)
	}
}

// TestAPanicIsNoFailure: a handler that panics may have done its work.
func TestAPanicIsNoFailure(t *testing.T) {
	c := newFake()
	c.on = func(method string) { panic("boom in " + method) }
	n := serve(t, Config{}, c, newFakeCluster())
	_, err := n.transactions().Begin(within(t), &quoratev1.BeginRequest{})
	if got, _ := wireReason(t, err); got != ReasonOutcomeUnknown || strings.Contains(err.Error(), "boom") {
		t.Errorf("Begin: %v", err)
	}
	_, err = n.transactions().Get(within(t), &quoratev1.GetRequest{Transaction: testGID.String()})
	if got, _ := wireReason(t, err); got != ReasonInternal {
		t.Errorf("Get: %v", err)
	}
	stream, err := n.transactions().Watch(within(t), &quoratev1.WatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = stream.Recv(); ReasonOf(err) != ReasonInternal {
		t.Errorf("Watch: %v", err)
	}
}

// TestUnknownMethodsAreTyped, of a service of ours and of any other.
func TestUnknownMethodsAreTyped(t *testing.T) {
	n := serve(t, Config{}, newFake(), newFakeCluster())
	for _, method := range []string{"/quorate.v1.TransactionService/Erase", "/seata.Seata/Submit"} {
		err := n.conn.Invoke(within(t), method, &quoratev1.BeginRequest{}, &quoratev1.BeginResponse{})
		if got, _ := wireReason(t, err); got != ReasonUnimplemented || status.Code(err) != codes.Unimplemented {
			t.Errorf("%s: %v", method, err)
		}
	}
}
