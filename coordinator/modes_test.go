package coordinator

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/testkit"
)

// services is a Caller: what is called answers by its endpoint.
type services struct {
	mu     sync.Mutex
	called []string
	answer func(ctx context.Context, d Delivery) (Answered, error)
}

func (s *services) Call(ctx context.Context, d Delivery) (Answered, error) {
	s.mu.Lock()
	s.called = append(s.called, operationName(d.Operation)+" "+d.Endpoint)
	s.mu.Unlock()
	if s.answer == nil {
		return Answered{}, nil
	}
	return s.answer(ctx, d)
}

func (s *services) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.called...)
}

func nodeWith(t testing.TB, s *services) *node {
	return newNode(t, func(c *Config) { c.Caller = s })
}

// sagaOf is a request of its own, which Submit may take over.
func sagaOf(key string, set ...*logpb.BranchSpec) *logpb.Submit {
	return proto.CloneOf(&logpb.Submit{Begin: &logpb.Begin{Key: key, Mode: logpb.Mode_MODE_SAGA}, Set: set})
}

func TestSubmitOfASagaWaitsAsAsked(t *testing.T) {
	gate := make(chan struct{})
	s := &services{answer: func(ctx context.Context, d Delivery) (Answered, error) {
		if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > d.Timeout+time.Second {
			return Answered{}, errors.New("no deadline")
		}
		select {
		case <-gate:
		case <-ctx.Done():
		}
		return Answered{Refused: d.Branch == "03" && d.Operation == fsm.OperationAction, Detail: "sold out"}, nil
	}}
	n := nodeWith(t, s)
	// The set comes in any order, and so does what a step comes after.
	set := chain(3)
	set[0], set[2] = set[2], set[0]
	set[0].After = []string{"02", "01", "02"}
	first, err := n.Submit(n.ctx, SubmitRequest{Submit: sagaOf("order-1", set...), Wait: WaitNone})
	n.must(err)
	if !first.Created || first.Decision != fsm.DecisionNone || first.State != fsm.StateSealed {
		t.Errorf("not waiting: %+v", first)
	}
	if timeout := n.recordOf(first.GID).GetBegin().GetTimeoutMs(); timeout != 0 {
		t.Errorf("a saga got a deadline that nobody asked for: %d ms", timeout)
	}
	done := make(chan Status, 2)
	for _, wait := range []Wait{WaitDecision, WaitFinish} {
		go func() {
			again := sagaOf("order-1", set...)
			s, _ := n.Submit(n.ctx, SubmitRequest{Submit: again, Wait: wait})
			done <- s
		}()
	}
	testkit.Eventually(t, 5*time.Second, func() bool { return n.Stats().Waiters == 2 }, "both wait")
	close(gate)
	for range 2 {
		if s := <-done; s.GID != first.GID || s.Created || s.Decision != fsm.DecisionRollback || s.Reason != logpb.Reason_REASON_REFUSED ||
			!strings.Contains(s.Detail, "sold out") {
			t.Errorf("waited: %+v", s)
		}
	}
	testkit.Eventually(t, 5*time.Second, func() bool { return n.recordOf(first.GID).GetState() == fsm.StateRolledBack }, "compensated")
	wantList(t, s.list(), "action http://h:1/do/01", "action http://h:1/do/02", "action http://h:1/do/03",
		"compensate http://h:1/undo/02", "compensate http://h:1/undo/01")
}

func (n *node) recordOf(gid fsm.GID) (rec *logpb.Transaction) {
	n.log.View(func(s *fsm.State) { rec, _ = s.Get(gid) })
	return rec
}

func TestMessageFromBeginToDelivery(t *testing.T) {
	s := &services{}
	n := nodeWith(t, s)
	begin := &logpb.Begin{
		Key: "m", Mode: logpb.Mode_MODE_MESSAGE, Branches: []*logpb.BranchSpec{actionOf("02", "01"), actionOf("01")},
		Plan: &logpb.Plan{Callback: "http://i/back", CallbackAfterMs: 3_600_000, Headers: []*logpb.Label{{Name: "b"}, {Name: "a"}}},
	}
	st, err := n.Begin(n.ctx, begin)
	n.must(err)
	v, err := n.Get(n.ctx, GetRequest{Transaction: ByKey("", "m")})
	n.must(err)
	if v.Callback == nil || v.Callback.Operation != fsm.OperationCheckBack || v.Callback.NextAttempt.IsZero() || len(v.Deliveries) != 0 {
		t.Errorf("the check-back to come is not shown: %+v", v)
	}
	c, err := n.Commit(n.ctx, CommitRequest{Transaction: ByKey("", "m"), Wait: WaitFinish})
	n.must(err)
	if c.GID != st.GID || c.State != fsm.StateCommitted {
		t.Errorf("%+v", c)
	}
	wantList(t, s.list(), "action http://h:1/01", "action http://h:1/02")
	if r := n.recordOf(st.GID); r.GetBranches()[0].GetSpec().GetId() != "01" || r.GetBegin().GetPlan().GetHeaders()[0].GetName() != "a" {
		t.Errorf("not in the log's order: %v", r)
	}
}

func TestRetryNowReachesACheckBack(t *testing.T) {
	s := &services{}
	n := nodeWith(t, s)
	_, err := n.Begin(n.ctx, &logpb.Begin{Key: "m", Mode: logpb.Mode_MODE_MESSAGE, Branches: []*logpb.BranchSpec{actionOf("01")},
		Plan: &logpb.Plan{Callback: "http://i/back", CallbackAfterMs: 3_600_000}})
	n.must(err)
	count, err := n.Retry(n.ctx, ByKey("", "m"), "")
	n.must(err)
	if count != 1 {
		t.Errorf("%d due", count)
	}
	testkit.Eventually(t, 5*time.Second, func() bool { return len(s.list()) == 2 }, "checked back, and delivered")
	wantList(t, s.list(), "check-back http://i/back", "action http://h:1/01")
}

func TestTCCIsDecidedByItsInitiator(t *testing.T) {
	s := &services{}
	n := nodeWith(t, s)
	st, err := n.Begin(n.ctx, &logpb.Begin{Mode: logpb.Mode_MODE_TCC})
	n.must(err)
	if n.recordOf(st.GID).GetBegin().GetTimeoutMs() == 0 {
		t.Error("a TCC without a deadline")
	}
	_, err = n.Enlist(n.ctx, st.GID, &logpb.BranchSpec{Id: "1", Endpoint: "http://h/confirm", Undo: "http://h/cancel"})
	n.must(err)
	_, err = n.Vote(n.ctx, st.GID, &logpb.Ballot{Branch: &logpb.BranchSpec{Id: "1", Resource: "r"}, Kind: prepared})
	wantRefusal(t, err, fsm.Invalid)
	c, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(st.GID), Wait: WaitFinish})
	n.must(err)
	if c.State != fsm.StateCommitted {
		t.Errorf("%+v", c)
	}
	wantList(t, s.list(), "confirm http://h/confirm")
}

func TestWorkflowsProgressIsRecordedAndItsResultKept(t *testing.T) {
	n := nodeWith(t, &services{})
	begin := &logpb.Begin{Key: "w", Mode: logpb.Mode_MODE_WORKFLOW, Plan: &logpb.Plan{Workflow: "order", Callback: "http://i/w", CallbackAfterMs: 3_600_000}}
	st, err := n.Begin(n.ctx, begin)
	n.must(err)
	step := RecordRequest{Transaction: ByKey("", "w"), Branch: &logpb.BranchSpec{Id: "01"}, Operation: "reserve", Result: []byte("r1")}
	for range 2 {
		_, err = n.Record(n.ctx, step)
		n.must(err)
	}
	other := step
	other.Result = []byte("r2")
	_, err = n.Record(n.ctx, other)
	if r := wantRefusal(t, err, fsm.VoteConflict); r.Branch != "01" || r.Key != "w" {
		t.Errorf("%+v", r)
	}
	other.Operation = "pay"
	_, err = n.Record(n.ctx, other)
	n.must(err)
	again, err := n.Begin(n.ctx, begin)
	n.must(err)
	v, err := n.Get(n.ctx, GetRequest{Transaction: ByGID(again.GID)})
	n.must(err)
	if again.Created || again.GID != st.GID || len(v.Transaction.GetBranches()) != 2 {
		t.Errorf("again: %+v, progress %v", again, v.Transaction.GetBranches())
	}
	_, err = n.Rollback(n.ctx, RollbackRequest{Transaction: ByKey("", "w"), Result: []byte("why"), Detail: "no stock"})
	n.must(err)
	if rec := n.recordOf(st.GID); rec.GetReason() != logpb.Reason_REASON_FAILED || string(rec.GetResult()) != "why" || rec.GetState() != fsm.StateRolledBack {
		t.Errorf("failed: %+v", rec)
	}
	st, err = n.Begin(n.ctx, &logpb.Begin{Mode: logpb.Mode_MODE_WORKFLOW, Plan: begin.Plan})
	n.must(err)
	_, err = n.Commit(n.ctx, CommitRequest{Transaction: ByGID(st.GID), Result: []byte("42")})
	n.must(err)
	if rec := n.recordOf(st.GID); string(rec.GetResult()) != "42" || rec.GetState() != fsm.StateCommitted {
		t.Errorf("done: %+v", rec)
	}
}

func TestStopNeedsAnOperatorAndAReason(t *testing.T) {
	hung := make(chan struct{})
	n := nodeWith(t, &services{answer: func(ctx context.Context, _ Delivery) (Answered, error) {
		close(hung)
		<-ctx.Done()
		return Answered{}, ctx.Err()
	}})
	st, err := n.Submit(n.ctx, SubmitRequest{Submit: sagaOf("k", chain(2)...), Wait: WaitNone})
	n.must(err)
	<-hung
	_, err = n.Stop(n.ctx, StopRequest{Transaction: ByKey("", "k"), Operator: "ann"})
	wantRefusal(t, err, fsm.Invalid)
	stopped, err := n.Stop(n.ctx, StopRequest{Transaction: ByKey("", "k"), Operator: "ann", Reason: "gone for good"})
	n.must(err)
	if stopped.GID != st.GID || stopped.State != fsm.StateRolledBack || !n.recordOf(st.GID).GetStopped() {
		t.Errorf("%+v", stopped)
	}
	_, err = n.Stop(n.ctx, StopRequest{Transaction: ByKey("", "nobody"), Operator: "ann", Reason: "r"})
	wantRefusal(t, err, fsm.NotFound)
	testkit.Eventually(t, 5*time.Second, func() bool { return n.Stats().Due == 0 }, "nothing is due")
}

func TestTopicsChangeAtOnceAndAreReadInPages(t *testing.T) {
	n := nodeWith(t, &services{})
	subscribe := func(topic, endpoint string) *logpb.Topic {
		got, err := n.PutTopic(n.ctx, &logpb.PutTopic{Name: topic, Change: logpb.PutTopic_CHANGE_SUBSCRIBE, Subscriber: &logpb.Subscriber{Endpoint: endpoint}})
		n.must(err)
		return got
	}
	subscribe("b", "http://s1/x")
	if got := subscribe("b", "http://s2/x"); got.GetVersion() != 2 || len(got.GetSubscribers()) != 2 || got.GetNamespace() != DefaultNamespace {
		t.Errorf("%v", got)
	}
	subscribe("a", "http://s1/x")
	subscribe("c", "http://s1/x")
	var names []string
	for token, first := "", true; first || token != ""; first = false {
		page, err := n.Topics(n.ctx, TopicsRequest{PageSize: 2, PageToken: token})
		n.must(err)
		for _, topic := range page.Topics {
			names = append(names, topic.GetName())
		}
		token = page.NextPageToken
		if page.At.AppliedIndex == 0 || len(page.Topics) > 2 {
			t.Errorf("%+v", page)
		}
	}
	wantList(t, names, "a", "b", "c")
	got, err := n.PutTopic(n.ctx, &logpb.PutTopic{Name: "b", Change: logpb.PutTopic_CHANGE_DELETE})
	n.must(err)
	page, err := n.Topics(n.ctx, TopicsRequest{Name: "b"})
	n.must(err)
	if got != nil || len(page.Topics) != 0 {
		t.Errorf("deleted: %v %v", got, page.Topics)
	}
	_, err = n.Topics(n.ctx, TopicsRequest{PageToken: "%"})
	wantRefusal(t, err, fsm.Invalid)
	_, err = n.PutTopic(n.ctx, &logpb.PutTopic{Name: "b"})
	wantRefusal(t, err, fsm.Invalid)
	_, err = n.Submit(n.ctx, SubmitRequest{Submit: &logpb.Submit{Begin: &logpb.Begin{Mode: logpb.Mode_MODE_MESSAGE}, Set: []*logpb.BranchSpec{{Id: "01", Endpoint: "topic://b"}}}})
	if r := wantRefusal(t, err, fsm.NotFound); !strings.Contains(r.Detail, `"b"`) {
		t.Errorf("%+v", r)
	}
}

// A step that was done is not in doubt, and who lists doubts does not meet it.
func TestStepThatWasDoneIsNotInDoubt(t *testing.T) {
	second := make(chan struct{})
	n := nodeWith(t, &services{answer: func(ctx context.Context, d Delivery) (Answered, error) {
		if d.Branch == "02" {
			close(second)
			<-ctx.Done()
		}
		return Answered{}, ctx.Err()
	}})
	_, err := n.Submit(n.ctx, SubmitRequest{Submit: sagaOf("k", chain(2)...), Wait: WaitNone})
	n.must(err)
	<-second
	page, err := n.ListInDoubt(n.ctx, ListInDoubtRequest{})
	n.must(err)
	list, err := n.List(n.ctx, ListRequest{Filter: Filter{InDoubt: true}})
	n.must(err)
	if len(page.Branches)+len(list.Transactions) != 0 {
		t.Errorf("in doubt: %v %v", page.Branches, list.Transactions)
	}
	if s := n.Stats(); s.OldestInDoubt != 0 {
		t.Errorf("in doubt for %v", s.OldestInDoubt)
	}
}

// unbornLog is the log of a cluster whose clock still stands at zero.
type unbornLog struct{ *memLog }

func (unbornLog) View(f func(*fsm.State)) { f(fsm.New()) }

// A GID born at zero would be EXPIRED: the horizon is zero, too.
func TestGIDIsNeverBornAtTheHorizonOfANewCluster(t *testing.T) {
	n := newNode(t)
	n.replog = unbornLog{n.log}
	if born := n.newGID().BornMS(); born == 0 {
		t.Errorf("born at %d", born)
	}
}
