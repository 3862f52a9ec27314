package fsm

import (
	"strings"
	"testing"

	"github.com/quorate/quorate/fsm/logpb"
)

const (
	modeMessage  = logpb.Mode_MODE_MESSAGE
	modeNotify   = logpb.Mode_MODE_NOTIFY
	modeWorkflow = logpb.Mode_MODE_WORKFLOW
)

func messagePlan() *logpb.Plan {
	return &logpb.Plan{Callback: "http://ask", CallbackPayload: []byte("who"), CallbackAfterMs: 3_000, DelayMs: 500}
}

// message begins a message with branches.
func message(g GID, branches ...*logpb.BranchSpec) *logpb.Command {
	b := beginMode(g, modeMessage, messagePlan())
	b.Branches = branches
	return begin(b)
}

func to(id, endpoint string, after ...string) *logpb.BranchSpec {
	return &logpb.BranchSpec{Id: id, Endpoint: endpoint, Payload: []byte("news"), After: after}
}

func driverDecides(g GID, d Decision, term uint64) *logpb.Command {
	return decide(&logpb.Decide{
		Gid: g.Bytes(), Decision: d, Origin: driverSays, Reason: logpb.Reason_REASON_CHECKED_BACK,
		Epoch: &logpb.Epoch{Incarnation: 1, Term: term},
	})
}

func putTopic(change logpb.PutTopic_Change, name, endpoint string) *logpb.Command {
	return &logpb.Command{Kind: &logpb.Command_PutTopic{PutTopic: &logpb.PutTopic{
		Namespace: "default", Name: name, Change: change, Subscriber: &logpb.Subscriber{Endpoint: endpoint},
	}}}
}

func subscribe(name, endpoint string) *logpb.Command {
	return putTopic(logpb.PutTopic_CHANGE_SUBSCRIBE, name, endpoint)
}

func unsubscribe(name, endpoint string) *logpb.Command {
	return putTopic(logpb.PutTopic_CHANGE_UNSUBSCRIBE, name, endpoint)
}

func deleteTopic(name string) *logpb.Command { return putTopic(logpb.PutTopic_CHANGE_DELETE, name, "") }

func record(g GID, branch, operation, result string) *logpb.Command {
	return &logpb.Command{Kind: &logpb.Command_Record{Record: &logpb.Record{
		Gid: g.Bytes(), Branch: &logpb.BranchSpec{Id: branch}, Operation: operation, Result: []byte(result),
	}}}
}

func recordFailed(g GID, branch, operation string) *logpb.Command {
	c := record(g, branch, operation, "no")
	c.GetRecord().Failed = true
	return c
}

func stop(g GID) *logpb.Command {
	return &logpb.Command{Kind: &logpb.Command_Stop{Stop: &logpb.Stop{Gid: g.Bytes(), Operator: "alice", Reason: "it hangs for a week"}}}
}

// TestMessageDelayedAtItsCommit: the delay may be known only then; the content
// that it began with stays the same.
func TestMessageDelayedAtItsCommit(t *testing.T) {
	w := newWorld(t)
	g := testGID(testStartMS, 1)
	b := message(g, to("1", "http://a"))
	w.must(b)
	commit := decide(&logpb.Decide{Gid: g.Bytes(), Decision: DecisionCommit, Origin: logpb.Origin_ORIGIN_CLIENT, DelayMs: 9_000})
	w.must(commit)
	if d := w.s.DueOf(g); len(d) != 1 || d[0].Operation != OperationAction || d[0].NotBeforeMS != testStartMS+9_000 {
		t.Fatalf("%+v", d)
	}
	if tx := w.get(g); tx.GetBegin().GetPlan().GetDelayMs() != 9_000 || tx.GetBegin().GetPlan().GetCallback() != "http://ask" {
		t.Errorf("%v", tx.GetBegin().GetPlan())
	}
	w.must(b)
	commit.GetDecide().DelayMs = 1
	w.must(commit)
	if d := w.s.DueOf(g); d[0].NotBeforeMS != testStartMS+9_000 {
		t.Errorf("a second commit changed the delay: %+v", d)
	}
	other := testGID(testStartMS, 2)
	w.must(begin(beginMode(other, logpb.Mode_MODE_TCC, nil)))
	commit.GetDecide().Gid = other.Bytes()
	w.want(Invalid, commit)
}

func TestMessageIsCheckedBack(t *testing.T) {
	for _, decision := range []Decision{DecisionCommit, DecisionRollback} {
		w := newWorld(t)
		g := testGID(testStartMS, 1)
		w.must(message(g, to("1", "http://a"), to("2", "http://b", "1")))
		w.leap(testStartMS + 1_000_000) // time never rolls it back
		w.state(g, StateActive)
		d := w.s.DueOf(g)
		if len(d) != 1 || d[0].Operation != OperationCheckBack || d[0].NotBeforeMS != testStartMS+3_000 ||
			d[0].Branch.GetEndpoint() != "http://ask" || string(d[0].Branch.GetPayload()) != "who" || d[0].Branch.GetId() != "" {
			t.Fatalf("%+v", d)
		}
		w.want(Stale, driverDecides(g, decision, w.term+1))
		r := w.must(driverDecides(g, decision, w.term))
		if r.Decision != decision {
			t.Fatalf("%+v", r)
		}
		if decision == DecisionRollback {
			w.state(g, StateRolledBack)
			if r.Reason != logpb.Reason_REASON_CHECKED_BACK {
				t.Fatalf("%+v", r)
			}
			continue
		}
		w.wantDue(g, "action 1")
		if d := w.s.DueOf(g)[0]; d.NotBeforeMS != testStartMS+500 {
			t.Fatalf("%+v", d)
		}
		w.want(Invalid, report(g, "1", logpb.Outcome_OUTCOME_GAVE_UP))
		w.must(report(g, "1", committed))
		w.wantDue(g, "action 2")
		w.must(report(g, "2", committed))
		w.state(g, StateCommitted)
		if p := w.get(g).GetBegin().GetPlan(); len(p.GetCallbackPayload()) > 0 || p.GetCallback() == "" {
			t.Fatalf("%v", p)
		}
		// Repeated: what created it, as a Begin or as a Submit.
		w.must(message(g, to("1", "http://a"), to("2", "http://b", "1")))
		w.must(submit(beginMode(g, modeMessage, messagePlan()), []*logpb.BranchSpec{to("1", "http://a"), to("2", "http://b", "1")}))
		w.want(GIDConflict, message(g, to("1", "http://a"), to("2", "http://b")))
	}
}

func TestMessageSubmitted(t *testing.T) {
	w := newWorld(t)
	g, h := testGID(testStartMS, 1), testGID(testStartMS, 2)
	set := []*logpb.BranchSpec{to("1", "http://a"), to("2", "http://b")}
	w.must(submit(beginMode(g, modeMessage, nil), set))
	w.wantDue(g, "action 1 2")
	w.want(AlreadyDecided, clientRollback(g))
	// Prepared, then submitted with the same content.
	w.must(message(h, set...))
	if r := w.must(submit(beginMode(h, modeMessage, messagePlan()), set)); r.State != StateCommitting || r.Created {
		t.Fatalf("%+v", r)
	}
}

func TestNotifyGivesUp(t *testing.T) {
	w := newWorld(t)
	g := testGID(testStartMS, 1)
	w.must(submit(beginMode(g, modeNotify, nil), []*logpb.BranchSpec{to("1", "http://a"), to("2", "http://b")}))
	if r := w.must(report(g, "1", logpb.Outcome_OUTCOME_GAVE_UP)); r.Alarm {
		t.Fatalf("%+v", r)
	}
	w.wantDue(g, "action 2")
	w.must(report(g, "2", committed))
	w.state(g, StateCommitted)
	if b := w.get(g).GetBranches()[0]; b.GetOutcome() != logpb.Outcome_OUTCOME_GAVE_UP || w.s.Counts().Heuristics != 0 {
		t.Fatalf("%v", b)
	}
}

func TestTopics(t *testing.T) {
	w := newWorld(t)
	g := testGID(testStartMS, 1)
	w.want(NotFound, message(g, to("01", "topic://news")))
	if r := w.must(subscribe("news", "http://a")); !r.Changed {
		t.Fatal("not changed")
	}
	if r := w.must(subscribe("news", "http://a")); r.Changed {
		t.Fatal("changed")
	}
	w.must(message(g, to("01", "topic://news")))
	w.must(subscribe("news", "http://b"))
	h := testGID(testStartMS, 2)
	w.must(message(h, to("01", "topic://news"), to("02", "http://c", "01")))
	w.must(unsubscribe("news", "http://a"))
	w.must(unsubscribe("news", "http://b"))
	w.must(unsubscribe("news", "http://b"))
	i := testGID(testStartMS, 3)
	w.must(message(i, to("01", "topic://news"), to("02", "http://c", "01")))
	w.must(deleteTopic("news"))
	w.must(deleteTopic("news"))
	j := testGID(testStartMS, 4)
	w.want(NotFound, message(j, to("01", "topic://news")))
	for _, x := range []GID{g, h, i} {
		w.must(commit(x))
	}
	w.wantDue(g, "action 01")
	w.wantDue(h, "action 01-01 01-02")
	w.wantDue(i, "action 02") // nobody subscribes: done at once
	b := w.get(h).GetBranches()[1]
	if b.GetSpec().GetEndpoint() != "http://b" || b.GetSpec().GetTopic() != "news" || string(b.GetSpec().GetPayload()) != "news" {
		t.Fatalf("%v", b)
	}
	if after := w.get(h).GetBranches()[2].GetSpec().GetAfter(); strings.Join(after, " ") != "01-01 01-02" {
		t.Fatalf("%v", after)
	}
	// Repeated, though the topic is gone.
	if r := w.must(message(h, to("01", "topic://news"), to("02", "http://c", "01"))); r.Decision != DecisionCommit {
		t.Fatalf("%+v", r)
	}
	if s := reborn(t, w.s); s.Digest() != w.s.Digest() {
		t.Fatal("digest")
	}
}

// What replaces something is bounded as what is new, and so are all topics together: they
// are one frame of a snapshot, which must be read again.
func TestTopicsAreBounded(t *testing.T) {
	w := newWorld(t)
	remark := func(text string) *logpb.Command {
		c := subscribe("news", "http://a")
		c.GetPutTopic().Subscriber.Remark = text
		return c
	}
	long := strings.Repeat("x", int(w.s.Limits().GetTextBytesMax()))
	w.must(remark("short"))
	w.must(remark(long))
	w.want(Invalid, remark(long+"x"))
	w.must(setLimits(&logpb.Limits{TopicsMax: 1, SubscribersPerTopicMax: 1}))
	w.must(remark("another"))
	w.want(Quota, subscribe("news", "http://b"))
	w.want(Quota, subscribe("other", "http://a"))

	w = newWorld(t)
	w.must(subscribe("news", "http://a"))
	w.s.topics[0].Subscribers[0] = &logpb.Subscriber{
		Endpoint: "http://a", Remark: strings.Repeat("x", TopicsBytesMax-100), // as many would
	}
	w.s.settings = w.s.hashSettings()
	w.must(subscribe("news", "http://b"))
	w.want(Quota, subscribe("news", "http://"+strings.Repeat("c", 100)))
	w.must(unsubscribe("news", "http://a"))
	w.must(subscribe("news", "http://"+strings.Repeat("c", 100)))
}

// An operator's word on a branch that is called is the last one: nobody calls it any more,
// and nothing waits for it.
func TestResolvedCallsWaitForRetentionOnly(t *testing.T) {
	g := testGID(testStartMS, 1)
	for name, start := range map[string]func(w *world){
		"message": func(w *world) { w.must(message(g, to("01", "http://a"))); w.must(commit(g)) },
		"tcc": func(w *world) {
			w.must(begin(beginMode(g, logpb.Mode_MODE_TCC, nil)))
			w.must(enlist(g, &logpb.BranchSpec{Id: "01", Endpoint: "http://a", Undo: "http://a"}))
			w.must(commit(g))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			start(w)
			w.must(resolve(g, "01", committed))
			w.state(g, StateCommitted)
			w.wantDue(g, "")
			w.leap(w.clock + 2*w.s.Limits().GetRetentionMs())
			if _, ok := w.s.Get(g); ok {
				t.Fatal("it stands for ever")
			}
		})
	}
}

func TestWorkflowIsReplayed(t *testing.T) {
	w := newWorld(t)
	g := testGID(testStartMS, 1)
	plan := &logpb.Plan{Callback: "http://resume", CallbackPayload: []byte("in"), CallbackAfterMs: 9_000, Workflow: "order"}
	w.must(begin(beginMode(g, modeWorkflow, plan)))
	w.wantDue(g, "resume")
	w.must(record(g, "1", "action", "one"))
	w.must(record(g, "1", "action", "one"))
	w.want(VoteConflict, record(g, "1", "action", "two"))
	w.must(record(g, "1", "compensate", "undone"))
	w.must(recordFailed(g, "2", "action"))
	if r := w.must(begin(beginMode(g, modeWorkflow, plan))); r.Created {
		t.Fatalf("%+v", r)
	}
	if s := reborn(t, w.s); s.Digest() != w.s.Digest() {
		t.Fatal("digest")
	}
	w.want(Invalid, report(g, "1", committed))
	c := commit(g)
	c.GetDecide().Result = []byte("all is well")
	w.must(c)
	w.state(g, StateCommitted)
	tx := w.get(g)
	if string(tx.GetResult()) != "all is well" || len(tx.GetBranches()) != 3 || string(tx.GetBranches()[1].GetResult()) != "undone" {
		t.Fatalf("%v", tx)
	}
	w.must(record(g, "1", "action", "one"))
	w.want(AlreadyDecided, record(g, "3", "action", "one"))
}

func TestStop(t *testing.T) {
	w := newWorld(t)
	g := testGID(testStartMS, 1)
	w.want(NotFound, stop(g))
	w.must(saga(g, chain(3)...))
	w.must(done(g, "01"))
	if r := w.must(stop(g)); r.State != StateRolledBack || r.Reason != logpb.Reason_REASON_OPERATOR {
		t.Fatalf("%+v", r)
	}
	if r := w.must(stop(g)); r.Changed {
		t.Fatal("changed")
	}
	w.wantDue(g, "")
	if tx := w.get(g); !tx.GetStopped() || tx.GetOperator() != "alice" || tx.GetFiledMs() == 0 {
		t.Fatalf("%v", tx)
	}
	// What is over takes no answer any more, one way or the other.
	for _, kind := range []logpb.Answer_Kind{answerRefused, answerDone} {
		if r := w.must(answerOf(g, "02", kind)); r.Changed {
			t.Fatalf("%v changed it", kind)
		}
	}
	h := testGID(testStartMS, 2)
	w.must(message(h, to("1", "http://a")))
	w.must(commit(h))
	if r := w.must(stop(h)); r.State != StateCommitted {
		t.Fatalf("%+v", r)
	}
}
