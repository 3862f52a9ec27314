package api

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// denyEndpoints refuses all but one.
type denyEndpoints struct{}

func (denyEndpoints) Check(endpoint string) error {
	if endpoint == "http://good:1/x" {
		return nil
	}
	return errors.New("not allowed; --endpoint-allow would")
}

// TestBadInput: each malformed request is refused before it reaches the
// coordinator, and every field at fault is named.
func TestBadInput(t *testing.T) {
	c, cluster := newFake(), newFakeCluster()
	n := serve(t, Config{Endpoints: denyEndpoints{}}, c, cluster)
	gid := testGID.String()
	long := strings.Repeat("x", 200)
	spec := func(change func(*quoratev1.BranchSpec)) *quoratev1.BranchSpec {
		s := &quoratev1.BranchSpec{Id: "1", Resource: "r"}
		change(s)
		return s
	}
	begin := func(req *quoratev1.BeginRequest) func(context.Context) error {
		return func(ctx context.Context) error { _, err := n.transactions().Begin(ctx, req); return err }
	}
	enlist := func(s *quoratev1.BranchSpec) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := n.transactions().Enlist(ctx, &quoratev1.EnlistRequest{Gid: gid, Branch: s})
			return err
		}
	}
	vote := func(b *quoratev1.Ballot) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := n.transactions().Vote(ctx, &quoratev1.VoteRequest{Gid: gid, Ballot: b})
			return err
		}
	}
	commit := func(req *quoratev1.CommitRequest) func(context.Context) error {
		return func(ctx context.Context) error { _, err := n.transactions().Commit(ctx, req); return err }
	}
	submit := func(req *quoratev1.SubmitRequest) func(context.Context) error {
		return func(ctx context.Context) error { _, err := n.transactions().Submit(ctx, req); return err }
	}
	list := func(req *quoratev1.ListRequest) func(context.Context) error {
		return func(ctx context.Context) error { _, err := n.transactions().List(ctx, req); return err }
	}
	addNode := func(req *quoratev1.AddNodeRequest) func(context.Context) error {
		return func(ctx context.Context) error { _, err := n.cluster().AddNode(ctx, req); return err }
	}
	many := make([]string, 257)
	var specs []*quoratev1.BranchSpec
	var votes []*quoratev1.Ballot
	for i := range many {
		many[i] = fmt.Sprint(i)
		specs = append(specs, &quoratev1.BranchSpec{Id: many[i], Resource: "r"})
		votes = append(votes, &quoratev1.Ballot{Branch: specs[i], Vote: quoratev1.Vote_VOTE_PREPARED})
	}
	labels := make(map[string]string)
	for i := range 33 {
		labels[fmt.Sprint(i)] = "x"
	}
	for _, tt := range []struct {
		name   string
		call   func(context.Context) error
		fields string
	}{
		{"gid no ULID", begin(&quoratev1.BeginRequest{Gid: "order-1"}), "gid"},
		{"gid too large", begin(&quoratev1.BeginRequest{Gid: "8" + strings.Repeat("0", 25)}), "gid"},
		{"key too long", begin(&quoratev1.BeginRequest{Key: long}), "key"},
		{"key with an escape", begin(&quoratev1.BeginRequest{Key: "a\x1b[2J"}), "key"},
		{"key with a line end", begin(&quoratev1.BeginRequest{Key: "a\u2028b"}), "key"},
		{"key that turns the writing", begin(&quoratev1.BeginRequest{Key: "a\u202eb"}), "key"},
		{"timeout under a millisecond", begin(&quoratev1.BeginRequest{Timeout: durationpb.New(time.Microsecond)}), "timeout"},
		{"timeout zero", begin(&quoratev1.BeginRequest{Timeout: durationpb.New(0)}), "timeout"},
		{"timeout negative", begin(&quoratev1.BeginRequest{Timeout: durationpb.New(-time.Second)}), "timeout"},
		{"timeout a year", begin(&quoratev1.BeginRequest{Timeout: durationpb.New(365 * 24 * time.Hour)}), "timeout"},
		{"timeout beyond int64", begin(&quoratev1.BeginRequest{Timeout: &durationpb.Duration{Seconds: 300_000_000_000}}), "timeout"},
		{"timeout no duration", begin(&quoratev1.BeginRequest{Timeout: &durationpb.Duration{Seconds: 1, Nanos: -1}}), "timeout"},
		{"mode unknown", begin(&quoratev1.BeginRequest{Mode: 99}), "mode"},
		{"entry unknown", begin(&quoratev1.BeginRequest{Entry: 99}), "entry"},
		{"labels too many", begin(&quoratev1.BeginRequest{Labels: labels}), "labels"},
		{"label without a name", begin(&quoratev1.BeginRequest{Labels: map[string]string{"": "x"}}), "labels"},
		{"label with a bell", begin(&quoratev1.BeginRequest{Labels: map[string]string{"a": "\a"}}), "labels"},
		{"everything at once", begin(&quoratev1.BeginRequest{Gid: "x", Key: long, Mode: 99}), "gid key mode"},

		{"no branch", enlist(nil), "branch"},
		{"branch without an id", enlist(spec(func(s *quoratev1.BranchSpec) { s.Id = "" })), "branch.id"},
		{"branch id too long", enlist(spec(func(s *quoratev1.BranchSpec) { s.Id = strings.Repeat("1", 33) })), "branch.id"},
		{"branch id with a newline", enlist(spec(func(s *quoratev1.BranchSpec) { s.Id = "1\n2" })), "branch.id"},
		{"endpoint not allowed", enlist(spec(func(s *quoratev1.BranchSpec) { s.Endpoint = "http://evil:1/x" })), "branch.endpoint"},
		{"holder no ULID", enlist(spec(func(s *quoratev1.BranchSpec) { s.Holder = "me" })), "branch.holder"},
		{"no gid", func(ctx context.Context) error {
			_, err := n.transactions().Enlist(ctx, &quoratev1.EnlistRequest{Branch: spec(func(*quoratev1.BranchSpec) {})})
			return err
		}, "gid"},

		{"no ballot", vote(nil), "ballot"},
		{"no vote", vote(&quoratev1.Ballot{Branch: specs[0]}), "ballot.vote"},
		{"vote unknown", vote(&quoratev1.Ballot{Branch: specs[0], Vote: 9}), "ballot.vote"},
		{"maybe prepared without a refusal", vote(&quoratev1.Ballot{Branch: specs[0], Vote: quoratev1.Vote_VOTE_PREPARED, MaybePrepared: true}), "ballot.maybe_prepared"},

		{"transaction missing", commit(&quoratev1.CommitRequest{}), "transaction"},
		{"empty key", commit(&quoratev1.CommitRequest{Transaction: "key:"}), "transaction"},
		{"key reference too long", commit(&quoratev1.CommitRequest{Transaction: "key:" + long}), "transaction"},
		{"set too large", commit(&quoratev1.CommitRequest{Transaction: gid, Set: &quoratev1.BranchSet{Ids: many}}), "set.ids"},
		{"set twice", commit(&quoratev1.CommitRequest{Transaction: gid, Set: &quoratev1.BranchSet{Ids: []string{"1", "1"}}}), "set.ids"},
		{"set with an empty id", commit(&quoratev1.CommitRequest{Transaction: gid, Set: &quoratev1.BranchSet{Ids: []string{""}}}), "set.ids[0]"},
		{"wait unknown", commit(&quoratev1.CommitRequest{Transaction: gid, Wait: 9}), "wait"},

		{"submit set too large", submit(&quoratev1.SubmitRequest{Set: specs}), "set"},
		{"submit votes too many", submit(&quoratev1.SubmitRequest{Votes: votes}), "votes"},
		{"submit branch twice", submit(&quoratev1.SubmitRequest{Set: []*quoratev1.BranchSpec{specs[0], specs[0]}}), "set[1].id"},
		{"submit vote twice", submit(&quoratev1.SubmitRequest{Set: specs[:1], Votes: []*quoratev1.Ballot{votes[0], votes[0]}}), "votes[1].branch.id"},
		{"submit with a bad begin", submit(&quoratev1.SubmitRequest{Begin: &quoratev1.BeginRequest{Key: long}}), "begin.key"},
		{"submit with empty ones", submit(&quoratev1.SubmitRequest{Set: []*quoratev1.BranchSpec{nil}, Votes: []*quoratev1.Ballot{nil}}), "set[0].id votes[0].vote votes[0].branch"},

		{"operator without a reason", func(ctx context.Context) error {
			_, err := n.transactions().Rollback(ctx, &quoratev1.RollbackRequest{Transaction: gid, Operator: "ann"})
			return err
		}, "operator_reason"},
		{"reason without an operator", func(ctx context.Context) error {
			_, err := n.transactions().Rollback(ctx, &quoratev1.RollbackRequest{Transaction: gid, OperatorReason: "x"})
			return err
		}, "operator"},
		{"resolve without anything", func(ctx context.Context) error {
			_, err := n.transactions().Resolve(ctx, &quoratev1.ResolveRequest{Transaction: gid})
			return err
		}, "outcome operator reason branch"},
		{"retry of a bad branch", func(ctx context.Context) error {
			_, err := n.transactions().Retry(ctx, &quoratev1.RetryRequest{Transaction: gid, Branch: long})
			return err
		}, "branch"},
		{"consistency unknown", func(ctx context.Context) error {
			_, err := n.transactions().Get(ctx, &quoratev1.GetRequest{Transaction: gid, Consistency: 9})
			return err
		}, "consistency"},
		{"watch of nothing", func(ctx context.Context) error {
			stream, err := n.transactions().Watch(ctx, &quoratev1.WatchRequest{Transaction: "x"})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		}, "transaction"},
		{"page too large", list(&quoratev1.ListRequest{PageSize: 1001}), "page_size"},
		{"filter unknown", list(&quoratev1.ListRequest{Filter: &quoratev1.Filter{States: []quoratev1.State{99}, Modes: []quoratev1.Mode{0}}}), "filter.states[0] filter.modes[0]"},
		{"filter older than -1s", list(&quoratev1.ListRequest{Filter: &quoratev1.Filter{OlderThan: durationpb.New(-1)}}), "filter.older_than"},

		{"inquire without a branch", func(ctx context.Context) error {
			_, err := n.participants().Inquire(ctx, &quoratev1.InquireRequest{Gid: gid, Timeout: durationpb.New(-1)})
			return err
		}, "timeout branch"},
		{"report nothing", func(ctx context.Context) error {
			_, err := n.participants().Report(ctx, &quoratev1.ReportRequest{Gid: gid, Branch: "1"})
			return err
		}, "outcome"},
		{"report having given up", func(ctx context.Context) error {
			_, err := n.participants().Report(ctx, &quoratev1.ReportRequest{Gid: gid, Branch: "1", Outcome: quoratev1.Outcome_OUTCOME_GAVE_UP})
			return err
		}, "outcome"},
		{"report both", func(ctx context.Context) error {
			_, err := n.participants().Report(ctx, &quoratev1.ReportRequest{Gid: gid, Branch: "1", Busy: true, Outcome: quoratev1.Outcome_OUTCOME_COMMITTED})
			return err
		}, "outcome"},
		{"in doubt of a bad resource", func(ctx context.Context) error {
			_, err := n.participants().ListInDoubt(ctx, &quoratev1.ListInDoubtRequest{Resource: "\x00", PageSize: 9999})
			return err
		}, "page_size resource"},

		{"node without anything", addNode(&quoratev1.AddNodeRequest{}), "id raft_address grpc_address"},
		{"node at any address", addNode(&quoratev1.AddNodeRequest{Id: "n", RaftAddress: "0.0.0.0:1", GrpcAddress: ":2", HttpAddress: "h:0"}), "raft_address grpc_address http_address"},
		{"node of no cluster", addNode(&quoratev1.AddNodeRequest{Id: "n", RaftAddress: "h:1", GrpcAddress: "h:1", ClusterId: "prod"}), "cluster_id"},
		{"promote nobody", func(ctx context.Context) error {
			_, err := n.cluster().Promote(ctx, &quoratev1.PromoteRequest{})
			return err
		}, "node"},
		{"remove nobody", func(ctx context.Context) error {
			_, err := n.cluster().Remove(ctx, &quoratev1.RemoveRequest{})
			return err
		}, "node"},
		{"transfer to a bell", func(ctx context.Context) error {
			_, err := n.cluster().TransferLeader(ctx, &quoratev1.TransferLeaderRequest{Node: "\a"})
			return err
		}, "node"},
		{"limits by nobody", func(ctx context.Context) error {
			_, err := n.cluster().SetLimits(ctx, &quoratev1.SetLimitsRequest{})
			return err
		}, "operator limits"},
		{"limits of nothing", func(ctx context.Context) error {
			_, err := n.cluster().SetLimits(ctx, &quoratev1.SetLimitsRequest{Operator: "ann", Limits: &quoratev1.Limits{Retention: durationpb.New(0), TransactionTimeoutMax: durationpb.New(-1)}})
			return err
		}, "limits.transaction_timeout_max limits.transaction_timeout_max limits.retention"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := callsOf(c)
			err := tt.call(within(t))
			if got, _ := wireReason(t, err); got != ReasonInvalid {
				t.Fatalf("answered %v, want INVALID", err)
			}
			var fields []string
			for _, detail := range status.Convert(err).Details() {
				if bad, ok := detail.(*errdetails.BadRequest); ok {
					for _, v := range bad.FieldViolations {
						fields = append(fields, v.Field)
						if v.Description == "" || strings.ContainsFunc(v.Description, unprintable) {
							t.Errorf("description %q", v.Description)
						}
					}
				}
			}
			if got := strings.Join(fields, " "); got != tt.fields {
				t.Errorf("fields %q, want %q: %v", got, tt.fields, err)
			}
			if after := callsOf(c); !maps.Equal(before, after) {
				t.Errorf("the coordinator was asked: %v", after)
			}
		})
	}
	if _, err := n.cluster().AddNode(within(t), &quoratev1.AddNodeRequest{Id: "n", RaftAddress: "h:1", GrpcAddress: "h:1", ClusterId: testGID.String()}); ReasonOf(err) != ReasonForeignCluster {
		t.Errorf("a node of another cluster: %v", err)
	}
	if cluster.added.ID != "" {
		t.Errorf("added %v", cluster.added)
	}
}

func callsOf(c *fake) map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.calls)
}

// TestRequestsReachTheCoordinator: what a request says is what is asked, sorted
// and with its defaults.
func TestRequestsReachTheCoordinator(t *testing.T) {
	c := newFake()
	n := serve(t, Config{Endpoints: denyEndpoints{}}, c, newFakeCluster())
	traced := "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	ctx := metadata.AppendToOutgoingContext(within(t), "traceparent", traced, initiatorHeader, "checkout@h", "namespace", "other")
	if _, err := n.transactions().Begin(ctx, &quoratev1.BeginRequest{
		Gid: testGID.String(), Key: "order/1 é", Timeout: durationpb.New(1500 * time.Microsecond), Labels: map[string]string{"b": "2", "a": "1"},
	}); err != nil {
		t.Fatal(err)
	}
	want := &logpb.Begin{
		Gid: testGID.Bytes(), Namespace: "default", Key: "order/1 é", Mode: logpb.Mode_MODE_TWO_PHASE, Entry: logpb.Entry_ENTRY_EXPLICIT,
		TimeoutMs: 2, Labels: []*logpb.Label{{Name: "a", Value: "1"}, {Name: "b", Value: "2"}}, Traceparent: traced, Initiator: "checkout@h",
	}
	if got := c.last("Begin").(*logpb.Begin); !proto.Equal(got, want) {
		t.Errorf("begin %v\nwant  %v", got, want)
	}
	if _, err := n.transactions().Begin(metadata.AppendToOutgoingContext(within(t), "traceparent", "junk"), &quoratev1.BeginRequest{}); err != nil {
		t.Fatal(err)
	}
	if got := c.last("Begin").(*logpb.Begin); got.GetTimeoutMs() != 30_000 || got.GetTraceparent() != "" || len(got.GetGid()) != 0 || !strings.HasPrefix(got.GetInitiator(), "127.0.0.1") {
		t.Errorf("defaults %v", got)
	}

	if _, err := n.transactions().Submit(within(t), &quoratev1.SubmitRequest{
		Set: []*quoratev1.BranchSpec{{Id: "2", Resource: "r"}, {Id: "1", Endpoint: "http://good:1/x"}},
		Votes: []*quoratev1.Ballot{
			{Branch: &quoratev1.BranchSpec{Id: "2", Resource: "r"}, Vote: quoratev1.Vote_VOTE_READ_ONLY},
			{Branch: &quoratev1.BranchSpec{Id: "1", Resource: "r"}, Vote: quoratev1.Vote_VOTE_REFUSED, MaybePrepared: true, Detail: "no\x00 funds " + strings.Repeat("é", 50_000)},
		}, Wait: quoratev1.Wait_WAIT_NONE,
	}); err != nil {
		t.Fatal(err)
	}
	submit := c.last("Submit").(coordinator.SubmitRequest)
	if submit.Wait != coordinator.WaitNone || submit.Submit.Begin.Entry != logpb.Entry_ENTRY_NAMED || submit.Submit.Set[0].Id != "1" ||
		submit.Submit.Votes[0].Branch.Id != "1" || submit.Submit.Votes[0].Kind != logpb.VoteKind_VOTE_KIND_REFUSED {
		t.Errorf("submit %v", submit.Submit)
	}
	if detail := submit.Submit.Votes[0].Detail; !strings.HasPrefix(detail, "no  funds é") || len(detail) != 1024 {
		t.Errorf("detail of %d bytes: %.20q", len(detail), detail)
	}

	if _, err := n.transactions().Commit(within(t), &quoratev1.CommitRequest{Transaction: "key:order-1", Set: &quoratev1.BranchSet{Ids: []string{"2", "1"}}}); err != nil {
		t.Fatal(err)
	}
	commit := c.last("Commit").(coordinator.CommitRequest)
	if commit.Transaction != coordinator.ByKey("default", "order-1") || !slices.Equal(commit.Set.GetIds(), []string{"1", "2"}) {
		t.Errorf("commit %+v", commit)
	}
	if _, err := n.transactions().Commit(within(t), &quoratev1.CommitRequest{Transaction: testGID.String()}); err != nil {
		t.Fatal(err)
	}
	if commit := c.last("Commit").(coordinator.CommitRequest); commit.Set != nil || commit.Transaction.GID != testGID {
		t.Errorf("a bare commit is %+v", commit)
	}
	if _, err := n.transactions().Rollback(within(t), &quoratev1.RollbackRequest{Transaction: testGID.String(), Operator: "ann", OperatorReason: "restored", Detail: "x"}); err != nil {
		t.Fatal(err)
	}
	if got := c.last("Rollback").(coordinator.RollbackRequest); got.Operator != "ann" || got.Detail != "restored" || got.Participant {
		t.Errorf("rollback %+v", got)
	}
	if _, err := n.transactions().List(within(t), &quoratev1.ListRequest{Filter: &quoratev1.Filter{
		States: []quoratev1.State{quoratev1.State_STATE_ACTIVE}, Modes: []quoratev1.Mode{quoratev1.Mode_MODE_TWO_PHASE},
		OlderThan: durationpb.New(time.Minute), Labels: map[string]string{"a": "b"}, Stuck: true,
	}, MinIndex: 5}); err != nil {
		t.Fatal(err)
	}
	if got := c.last("List").(coordinator.ListRequest); got.PageSize != PageSizeDefault || got.Filter.Namespace != "default" || got.Filter.States[0] != fsm.StateActive ||
		got.Filter.OlderThan != time.Minute || got.Filter.Labels[0].Value != "b" || !got.Filter.Stuck || got.MinIndex != 5 {
		t.Errorf("list %+v", got)
	}
}

// TestLargePagesAreMadeShorter: a client takes 4 MiB, whatever it asked for.
func TestLargePagesAreMadeShorter(t *testing.T) {
	c := newFake()
	c.large = 100_000
	n := serve(t, Config{}, c, newFakeCluster())
	got, err := n.transactions().List(within(t), &quoratev1.ListRequest{PageSize: 1000})
	if err != nil || len(got.GetTransactions()) != 31 || c.called("List") != 6 {
		t.Errorf("%d transactions after %d reads, %v", len(got.GetTransactions()), c.called("List"), err)
	}
}

// TestLoweredLimitsRefuseNoEnding: PROTOCOL.md, "no limit ever refuses an ending".
func TestLoweredLimitsRefuseNoEnding(t *testing.T) {
	c, cluster := newFake(), newFakeCluster()
	cluster.limits.BranchesPerTransactionMax = 1
	cluster.limits.BranchIdBytesMax = 1
	cluster.limits.KeyBytesMax = 1
	cluster.limits.TextBytesMax = 16
	n := serve(t, Config{}, c, cluster)
	spec := &quoratev1.BranchSpec{Id: "1.2.3", Resource: strings.Repeat("r", 100)}
	for name, call := range map[string]func() error{
		"vote": func() error {
			_, err := n.transactions().Vote(within(t), &quoratev1.VoteRequest{Gid: testGID.String(), Ballot: &quoratev1.Ballot{Branch: spec, Vote: quoratev1.Vote_VOTE_PREPARED}})
			return err
		},
		"rollback": func() error {
			_, err := n.transactions().Rollback(within(t), &quoratev1.RollbackRequest{Transaction: "key:order-1", Branches: []*quoratev1.BranchSpec{spec, {Id: "2", Resource: "r"}}})
			return err
		},
		"report": func() error {
			_, err := n.participants().Report(within(t), &quoratev1.ReportRequest{Gid: testGID.String(), Branch: "1.2.3", Outcome: quoratev1.Outcome_OUTCOME_HAZARD})
			return err
		},
		"resolve": func() error {
			_, err := n.transactions().Resolve(within(t), &quoratev1.ResolveRequest{Transaction: testGID.String(), Branch: "1.2.3", Outcome: quoratev1.Outcome_OUTCOME_MIXED, Operator: "ann", Reason: strings.Repeat("because ", 9)})
			return err
		},
	} {
		if err := call(); err != nil {
			t.Errorf("%s was refused: %v", name, err)
		}
	}
	if _, err := n.transactions().Enlist(within(t), &quoratev1.EnlistRequest{Gid: testGID.String(), Branch: spec}); ReasonOf(err) != ReasonInvalid {
		t.Errorf("an enlistment beyond the limits: %v", err)
	}
}

// TestEnumerationsAgree: conversions between the wire and the log are casts.
func TestEnumerationsAgree(t *testing.T) {
	for _, tt := range []struct {
		wire, log  protoreflect.EnumDescriptor
		wirePrefix string
		logPrefix  string
	}{
		{quoratev1.Mode(0).Descriptor(), logpb.Mode(0).Descriptor(), "", ""},
		{quoratev1.Entry(0).Descriptor(), logpb.Entry(0).Descriptor(), "", ""},
		{quoratev1.State(0).Descriptor(), logpb.State(0).Descriptor(), "", ""},
		{quoratev1.Decision(0).Descriptor(), logpb.Decision(0).Descriptor(), "", ""},
		{quoratev1.Vote(0).Descriptor(), logpb.VoteKind(0).Descriptor(), "VOTE_", "VOTE_KIND_"},
		{quoratev1.Outcome(0).Descriptor(), logpb.Outcome(0).Descriptor(), "", ""},
		{quoratev1.RollbackReason(0).Descriptor(), logpb.Reason(0).Descriptor(), "ROLLBACK_REASON_", "REASON_"},
	} {
		if tt.wire.Values().Len() != tt.log.Values().Len() {
			t.Errorf("%s and %s differ in size", tt.wire.Name(), tt.log.Name())
		}
		for i := range tt.log.Values().Len() {
			log := tt.log.Values().Get(i)
			name := tt.wirePrefix + strings.TrimPrefix(string(log.Name()), tt.logPrefix)
			wire := tt.wire.Values().ByName(protoreflect.Name(name))
			if wire == nil || wire.Number() != log.Number() {
				t.Errorf("%s of the log is %v on the wire", log.Name(), wire)
			}
		}
	}
	for verdict, want := range map[fsm.Verdict]quoratev1.Verdict{
		fsm.VerdictNone: quoratev1.Verdict_VERDICT_UNSPECIFIED, fsm.VerdictWait: quoratev1.Verdict_VERDICT_WAIT,
		fsm.VerdictCommit: quoratev1.Verdict_VERDICT_COMMIT, fsm.VerdictRollback: quoratev1.Verdict_VERDICT_ROLLBACK,
	} {
		if verdictAnswer(verdict) != want {
			t.Errorf("%v became %v", verdict, verdictAnswer(verdict))
		}
	}
	for kind, want := range map[fsm.EventKind]quoratev1.EventKind{
		fsm.EventBegun: quoratev1.EventKind_EVENT_KIND_BEGUN, fsm.EventEnlisted: quoratev1.EventKind_EVENT_KIND_ENLISTED,
		fsm.EventVoted: quoratev1.EventKind_EVENT_KIND_VOTED, fsm.EventSealed: quoratev1.EventKind_EVENT_KIND_SEALED,
		fsm.EventDecided: quoratev1.EventKind_EVENT_KIND_DECIDED, fsm.EventReported: quoratev1.EventKind_EVENT_KIND_REPORTED,
		fsm.EventResolved: quoratev1.EventKind_EVENT_KIND_RESOLVED, fsm.EventFinished: quoratev1.EventKind_EVENT_KIND_FINISHED,
		fsm.EventDropped: quoratev1.EventKind_EVENT_KIND_DROPPED, fsm.EventQuarantined: quoratev1.EventKind_EVENT_KIND_QUARANTINED,
	} {
		if got := eventAnswer(fsm.Event{Kind: kind}).GetKind(); got != want {
			t.Errorf("%v became %v", kind, got)
		}
	}
	for role, want := range map[Role]quoratev1.Role{
		RoleLeader: quoratev1.Role_ROLE_LEADER, RoleFollower: quoratev1.Role_ROLE_FOLLOWER,
		RoleCandidate: quoratev1.Role_ROLE_CANDIDATE, RoleNonVoter: quoratev1.Role_ROLE_NON_VOTER,
	} {
		if quoratev1.Role(role) != want {
			t.Errorf("%v became %v", role, quoratev1.Role(role))
		}
	}
}

// FuzzRequestToCommand: whatever bytes a request is made of, reading it neither
// panics nor lets anything through that the state machine would call malformed.
func FuzzRequestToCommand(f *testing.F) {
	for _, m := range []proto.Message{
		&quoratev1.SubmitRequest{
			Begin: &quoratev1.BeginRequest{Gid: testGID.String(), Key: "k", Timeout: durationpb.New(time.Second), Labels: map[string]string{"a": "b"}},
			Set:   []*quoratev1.BranchSpec{{Id: "1", Resource: "r", Holder: testGID.String()}},
			Votes: []*quoratev1.Ballot{{Branch: &quoratev1.BranchSpec{Id: "1", Resource: "r"}, Vote: quoratev1.Vote_VOTE_PREPARED}},
		},
		&quoratev1.SubmitRequest{Set: []*quoratev1.BranchSpec{{Id: "\x7f"}}},
	} {
		seed, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	server := &Server{cfg: Config{Endpoints: anyEndpoint{}}, cluster: newFakeCluster()}
	f.Fuzz(func(t *testing.T, data []byte) {
		var req quoratev1.SubmitRequest
		if proto.Unmarshal(data, &req) != nil {
			return
		}
		r := server.reader()
		submit := readSubmit(context.Background(), r, &req)
		if err := r.err(); err != nil {
			if ReasonOf(translate(err, changes).GRPCStatus().Err()) != ReasonInvalid {
				t.Fatalf("refused as %v", err)
			}
			return
		}
		// The command must not be refused as malformed for its text, its order or its
		// numbers, only for what the API leaves to the state machine.
		if submit.Begin.Gid == nil {
			submit.Begin.Gid = fsm.NewGID(0, [10]byte{1}).Bytes()
		}
		state := fsm.New()
		found := &logpb.Command{Kind: &logpb.Command_Found{Found: &logpb.Found{ClusterId: testCluster.Bytes()}}}
		command := &logpb.Command{Kind: &logpb.Command_Submit{Submit: submit}}
		if _, err := state.Apply(fsm.Meta{Index: 1, Term: 1}, &logpb.Batch{ClockMs: fsm.MaxBornMS, Commands: []*logpb.Command{found}}); err != nil {
			t.Fatal(err)
		}
		results, err := state.Apply(fsm.Meta{Index: 2, Term: 1}, &logpb.Batch{ClockMs: fsm.MaxBornMS, Commands: []*logpb.Command{command}})
		if err != nil {
			t.Fatal(err)
		}
		if got := results[0]; got.Code == fsm.Invalid && !leftToTheStateMachine(got.Detail) {
			t.Fatalf("let through: %s in %v", got.Detail, submit)
		}
	})
}

// leftToTheStateMachine tells of refusals that depend on more than the request.
func leftToTheStateMachine(detail string) bool {
	for _, about := range []string{"mode ", "is of branch", "differs from the set", "nobody could be told", "held", "born"} {
		if strings.Contains(detail, about) {
			return true
		}
	}
	return false
}

// TestPlainTextIsPrintable: the short way agrees with the long one.
func TestPlainTextIsPrintable(t *testing.T) {
	for c := range rune(0x3000) {
		text := "a" + string(c) + "b"
		if plain(text) && (!utf8.ValidString(text) || strings.ContainsFunc(text, unprintable)) {
			t.Errorf("%q passes as plain", text)
		}
		if c >= ' ' && c <= '~' && !plain(text) {
			t.Errorf("%q does not pass as plain", text)
		}
	}
	if plain("\xff") {
		t.Error("bytes that are no UTF-8 pass as plain")
	}
}
