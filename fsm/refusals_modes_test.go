package fsm

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm/logpb"
)

// Malformed commands of the modes whose branches are called are INVALID, change
// nothing, and name what is wrong.
func TestInvalidInModes(t *testing.T) {
	g := testGID(testStartMS, 1)
	long := strings.Repeat("x", 2000)
	sagaOf := func(f func(b *logpb.Begin, set []*logpb.BranchSpec)) *logpb.Command {
		b, set := beginMode(g, logpb.Mode_MODE_SAGA, new(logpb.Plan)), steps("1", "2")
		f(b, set)
		return submit(b, set)
	}
	one := func(f func(s *logpb.BranchSpec)) *logpb.Command {
		return sagaOf(func(_ *logpb.Begin, set []*logpb.BranchSpec) { f(set[0]) })
	}
	plan := func(f func(p *logpb.Plan)) *logpb.Command {
		return sagaOf(func(b *logpb.Begin, _ []*logpb.BranchSpec) { f(b.Plan) })
	}
	twoPhase := func(f func(b *logpb.Begin)) *logpb.Command {
		b := explicitBegin(g)
		f(b)
		return begin(b)
	}
	messageOf := func(f func(b *logpb.Begin)) *logpb.Command {
		b := beginMode(g, modeMessage, messagePlan())
		b.Branches = []*logpb.BranchSpec{to("1", "http://a")}
		f(b)
		return begin(b)
	}
	recordOf := func(f func(r *logpb.Record)) *logpb.Command {
		c := record(g, "1", "action", "one")
		f(c.GetRecord())
		return c
	}
	topicOf := func(f func(c *logpb.PutTopic)) *logpb.Command {
		c := subscribe("news", "http://a")
		f(c.GetPutTopic())
		return c
	}
	for _, c := range []struct {
		want string
		do   *logpb.Command
	}{
		{"set is empty", saga(g)},
		{"set.after of branch \"1\" names \"9\", which is no branch of the set", saga(g, "1<9")},
		{"set.after of branch \"1\" names itself", saga(g, "1<1")},
		{"set.after goes in a circle: none of 1, 2, 3, 4 could ever be first", saga(g, "1<3", "2<1", "3<2", "4<1", "5")},
		{"set.after of branch \"3\" is not sorted", saga(g, "1", "2", "3<2,1")},
		{"set.after of branch \"3\" is not sorted", saga(g, "1", "2", "3<2,2")},
		{"set.after is of 33 bytes", saga(g, "1<"+long[:33])},
		{"set is not sorted by unique ids", saga(g, "2", "1")},
		{"set is not sorted by unique ids", saga(g, "1", "1")},
		{"nothing that its undo could undo", one(func(s *logpb.BranchSpec) { s.Endpoint = "" })},
		{"names nobody to call", one(func(s *logpb.BranchSpec) { s.Endpoint, s.Undo = "", "" })},
		{"set.endpoint holds a control character", one(func(s *logpb.BranchSpec) { s.Endpoint = "http://a\r\nX: y" })},
		{"set.undo holds a control character", one(func(s *logpb.BranchSpec) { s.Undo = "http://a\n" })},
		{"set.undo is of 2000 bytes", one(func(s *logpb.BranchSpec) { s.Undo = long })},
		{"set.endpoint is of 2000 bytes", one(func(s *logpb.BranchSpec) { s.Endpoint = long })},
		{"set.held of branch", one(func(s *logpb.BranchSpec) { s.Held = true })},
		{"set.topic of branch", one(func(s *logpb.BranchSpec) { s.Topic = "news" })},
		{"is a topic: a saga has none", one(func(s *logpb.BranchSpec) { s.Endpoint = "topic://news" })},
		{"set.payload is of 65537 bytes: payload_bytes_max is 65536", one(func(s *logpb.BranchSpec) { s.Payload = make([]byte, 65537) })},
		{"votes are given", submit(beginMode(g, logpb.Mode_MODE_SAGA, nil), steps("1"), ballot(step("1"), votePrepared))},
		{"begin.branches are given", func() *logpb.Command {
			b := beginMode(g, modeMessage, nil)
			b.Branches = steps("1")
			return submit(b, steps("1"))
		}()},
		{"entry is not explicit: mode saga", sagaOf(func(b *logpb.Begin, _ []*logpb.BranchSpec) { b.Entry = logpb.Entry_ENTRY_NAMED })},
		{"timeout is 600001 ms: it must lie between 0", sagaOf(func(b *logpb.Begin, _ []*logpb.BranchSpec) { b.TimeoutMs = 600_001 })},
		{"holder is of 3 bytes", sagaOf(func(b *logpb.Begin, _ []*logpb.BranchSpec) { b.Holder = []byte("abc") })},
		{"saga has no begin", begin(beginMode(g, logpb.Mode_MODE_SAGA, nil))},
		{"notify has no begin", begin(beginMode(g, modeNotify, nil))},
		{"tcc has no submit", submit(beginMode(g, logpb.Mode_MODE_TCC, nil), steps("1"))},
		{"workflow has no submit", submit(beginMode(g, modeWorkflow, nil), steps("1"))},
		{"timeout is 0 ms", func() *logpb.Command {
			b := beginMode(g, logpb.Mode_MODE_TCC, nil)
			b.TimeoutMs = 0
			return begin(b)
		}()},

		{"plan.dialect 9 is unknown", plan(func(p *logpb.Plan) { p.Dialect = 9 })},
		{"plan.callback holds a control character", plan(func(p *logpb.Plan) { p.Callback = "a\nb" })},
		{"plan.callback is of 2000 bytes", plan(func(p *logpb.Plan) { p.Callback = long })},
		{"plan.callback_payload is of 65537 bytes", plan(func(p *logpb.Plan) { p.CallbackPayload = make([]byte, 65537) })},
		{"plan.workflow holds", plan(func(p *logpb.Plan) { p.Workflow = "a\u2028b" })},
		{"plan.dialect_mode is of 2000", plan(func(p *logpb.Plan) { p.DialectMode = long })},
		{"plan.headers holds a control character", plan(func(p *logpb.Plan) { p.Headers = []*logpb.Label{{Name: "a", Value: "x\r\ny: z"}} })},
		{"plan.headers are not sorted", plan(func(p *logpb.Plan) { p.Headers = []*logpb.Label{{Name: "b"}, {Name: "a"}} })},
		{"plan.headers hold one without a name", plan(func(p *logpb.Plan) { p.Headers = []*logpb.Label{{}} })},
		{"plan.headers is of 2000 bytes", plan(func(p *logpb.Plan) { p.Headers = []*logpb.Label{{Name: "a", Value: long}} })},
		{"plan.headers are 33: headers_max is 32", plan(func(p *logpb.Plan) {
			for i := range 33 {
				p.Headers = append(p.Headers, &logpb.Label{Name: fmt.Sprintf("%02d", i)})
			}
		})},

		{"plan belongs to modes", twoPhase(func(b *logpb.Begin) { b.Plan = new(logpb.Plan) })},
		{"plan belongs to modes", twoPhase(func(b *logpb.Begin) { b.Branches = steps("1") })},
		{"branches come with the begin of a message", func() *logpb.Command {
			b := beginMode(g, modeWorkflow, nil)
			b.Branches = steps("1")
			return begin(b)
		}()},
		{"an undo, a payload, an order or a topic", submit(explicitBegin(g), steps("1"))},

		{"plan.callback is empty", messageOf(func(b *logpb.Begin) { b.Plan.Callback = "" })},
		{"branches is empty", messageOf(func(b *logpb.Begin) { b.Branches = nil })},
		{"branches.after goes in a circle", messageOf(func(b *logpb.Begin) { b.Branches = steps("1<2", "2<1") })},
		{"names no topic", messageOf(func(b *logpb.Begin) { b.Branches[0].Endpoint = "topic://" })},

		{"branch.id is empty", recordOf(func(r *logpb.Record) { r.Branch.Id = "" })},
		{"operation is of 46 bytes: at most 45", recordOf(func(r *logpb.Record) { r.Operation = long[:46] })},
		{"operation holds", recordOf(func(r *logpb.Record) { r.Operation = "a\nb" })},
		{"is held, or has an order", recordOf(func(r *logpb.Record) { r.Branch.After = []string{"2"} })},
		{"gid is of 1 bytes", recordOf(func(r *logpb.Record) { r.Gid = []byte("x") })},

		{"kind is neither", answerOf(g, "1", 0)},
		{"kind is neither", answerOf(g, "1", 4)},
		{"maybe_done belongs", &logpb.Command{Kind: &logpb.Command_Answer{Answer: &logpb.Answer{Gid: g.Bytes(), Branch: "1", Kind: answerDone, MaybeDone: true}}}},
		{"branch is empty", answerOf(g, "", answerDone)},
		{"operator is empty", &logpb.Command{Kind: &logpb.Command_Stop{Stop: &logpb.Stop{Gid: g.Bytes(), Reason: "x"}}}},
		{"reason is empty", &logpb.Command{Kind: &logpb.Command_Stop{Stop: &logpb.Stop{Gid: g.Bytes(), Operator: "x"}}}},

		{"namespace is empty", topicOf(func(c *logpb.PutTopic) { c.Namespace = "" })},
		{"name is empty", topicOf(func(c *logpb.PutTopic) { c.Name = "" })},
		{"name holds", topicOf(func(c *logpb.PutTopic) { c.Name = "a\x00" })},
		{"name is of 2000", topicOf(func(c *logpb.PutTopic) { c.Name = long })},
		{"change is neither", topicOf(func(c *logpb.PutTopic) { c.Change = 0 })},
		{"change is neither", topicOf(func(c *logpb.PutTopic) { c.Change = 4 })},
		{"subscriber.endpoint is empty", topicOf(func(c *logpb.PutTopic) { c.Subscriber = nil })},
		{"subscriber.endpoint is of 2000", topicOf(func(c *logpb.PutTopic) { c.Subscriber.Endpoint = long })},
		{"subscriber.remark holds", topicOf(func(c *logpb.PutTopic) { c.Subscriber.Remark = "\n" })},
		{"topics do not nest", topicOf(func(c *logpb.PutTopic) { c.Subscriber.Endpoint = "topic://news" })},
	} {
		w := newWorld(t)
		before := w.s.Digest()
		r := w.do(c.do)
		if r.Code != Invalid || !strings.Contains(r.Detail, c.want) {
			t.Errorf("%.100v: %v %q, want INVALID with %q", c.do, r.Code, r.Detail, c.want)
		}
		if before != w.s.Digest() {
			t.Errorf("%v: a refusal changed the state", c.do)
		}
	}
}

// In another tongue an empty endpoint is instant success: allowed, and on the
// way back terminal.
func TestDialectsMayLeaveEndpointsOut(t *testing.T) {
	w := newWorld(t)
	g := testGID(testStartMS, 1)
	dtm := &logpb.Plan{Dialect: logpb.Dialect_DIALECT_DTM_HTTP}
	set := steps("1", "2<1")
	set[0].Endpoint, set[1].Undo = "", ""
	w.must(submit(beginMode(g, logpb.Mode_MODE_SAGA, dtm), set))
	w.wantDue(g, "action 1") // whoever calls answers it as done
	w.must(done(g, "1"))
	w.must(answerOf(g, "2", answerGaveUp))
	w.wantDue(g, "compensate 1")

	h := testGID(testStartMS, 2)
	w.must(begin(beginMode(h, logpb.Mode_MODE_TCC, dtm)))
	w.must(enlist(h, &logpb.BranchSpec{Id: "1", Undo: "http://undo"}))
	w.must(enlist(h, &logpb.BranchSpec{Id: "2", Endpoint: "http://do", After: []string{"1"}}))
	w.must(commit(h))
	w.wantDue(h, "confirm 2")
	w.must(begin(beginMode(testGID(testStartMS, 3), modeWorkflow, nil)))
}

func TestTCCEnlistsWhatCanBeCalled(t *testing.T) {
	w := newWorld(t)
	g := testGID(testStartMS, 1)
	w.must(begin(beginMode(g, logpb.Mode_MODE_TCC, nil)))
	for want, s := range map[string]*logpb.BranchSpec{
		"branch.undo of branch \"1\" is empty": step("1-"),
		"names nobody to call":                 {Id: "1", Resource: "r"},
		"which is no branch of":                step("1<0"),
		"names itself":                         step("1<1"),
		"is a topic":                           {Id: "1", Endpoint: "topic://a", Undo: "http://b"},
	} {
		if r := w.want(Invalid, enlist(g, s)); !strings.Contains(r.Detail, want) {
			t.Errorf("%q, want %q", r.Detail, want)
		}
	}
	h := testGID(testStartMS, 2)
	w.must(explicit(h))
	plain := spec("1")
	plain.Payload = []byte("x")
	w.want(Invalid, enlist(h, plain))
}

// Limits refuse with QUOTA where something would be stored, and name themselves.
func TestQuotasOfModes(t *testing.T) {
	w := newWorld(t)
	g := testGID(testStartMS, 1)
	w.must(setLimits(&logpb.Limits{TopicsMax: 1, SubscribersPerTopicMax: 3, BranchesPerTransactionMax: 3, TransactionBytesMax: 100, PayloadBytesMax: 80}))
	quota := func(limit string, c *logpb.Command) {
		t.Helper()
		if r := w.want(Quota, c); r.Detail != limit {
			t.Errorf("%q, want %q", r.Detail, limit)
		}
	}
	for _, e := range []string{"http://a", "http://b", "http://c"} {
		w.must(subscribe("news", e))
	}
	quota("subscribers_per_topic_max is 3", subscribe("news", "http://d"))
	quota("topics_max is 1", subscribe("other", "http://d"))
	w.must(deleteTopic("other"))
	quota("branches_per_transaction_max is 3", saga(g, "1", "2", "3", "4"))
	quota("branches_per_transaction_max is 3", message(g, to("1", "topic://news"), to("2", "http://x")))
	big := to("1", "http://a")
	big.Payload = make([]byte, 60)
	other := to("2", "http://a")
	other.Payload = make([]byte, 60)
	quota("transaction_bytes_max is 100", message(g, big, other))
	big.Endpoint = "topic://news" // for each subscriber once
	quota("transaction_bytes_max is 100", message(g, big))
	quota("transaction_bytes_max is 100", begin(beginMode(g, modeWorkflow, &logpb.Plan{DialectData: make([]byte, 101)})))

	w.must(begin(beginMode(g, modeWorkflow, nil)))
	w.want(Invalid, record(g, "1", "action", strings.Repeat("r", 81)))
	w.must(record(g, "1", "action", strings.Repeat("r", 80)))
	quota("transaction_bytes_max is 100", record(g, "2", "action", strings.Repeat("r", 21)))
	quota("transaction_bytes_max is 100", commitWith(strings.Repeat("r", 21))(g))
	// No limit refuses an ending: what cannot be kept with it is let go of.
	c := clientRollback(g)
	c.GetDecide().Result = make([]byte, 21)
	w.must(c)
	if tx := w.get(g); tx.GetState() != StateRolledBack || tx.GetResult() != nil {
		t.Fatalf("%v", tx)
	}
}

// What was taken is answered by what it came to, though limits were lowered.
func TestLoweredLimitsStillAnswerModes(t *testing.T) {
	w := newWorld(t)
	g, h := testGID(testStartMS, 1), testGID(testStartMS, 2)
	w.must(subscribe("news", "http://a"))
	w.must(subscribe("news", "http://b"))
	w.must(saga(g, chain(5)...))
	w.must(message(h, to("1", "topic://news")))
	w.must(setLimits(&logpb.Limits{BranchesPerTransactionMax: 1, PayloadBytesMax: 1, TransactionBytesMax: 1, TextBytesMax: 16, SubscribersPerTopicMax: 1}))
	w.must(saga(g, chain(5)...))
	w.must(message(h, to("1", "topic://news")))
	w.must(subscribe("news", "http://b"))
	w.must(done(g, "01"))
	w.want(Quota, saga(testGID(testStartMS, 3), "1", "2"))
}

// In a batch of the first feature level every node answers as the first version
// does, which knows none of it.
func TestModesNeedTheirFeatureLevel(t *testing.T) {
	w := newWorld(t)
	g := testGID(testStartMS, 1)
	for _, c := range []*logpb.Command{
		saga(g, "1"), begin(beginMode(g, logpb.Mode_MODE_TCC, nil)), message(g, to("1", "http://a")),
		done(g, "1"), record(g, "1", "action", "one"), stop(g), subscribe("news", "http://a"),
	} {
		w.index++
		before := w.s.Digest()
		r, err := w.s.Apply(Meta{w.index, w.term}, &logpb.Batch{ClockMs: w.clock, FeatureLevel: 1, Commands: []*logpb.Command{c}})
		if err != nil || r[0].Code != Invalid || before != w.s.Digest() {
			t.Errorf("%v: %+v %v", c, r, err)
		}
	}
}

// A snapshot of the first version has none of the later limits: they stand at
// their defaults, and so does the digest.
func TestLaterLimitsTakeTheirDefaults(t *testing.T) {
	old := DefaultLimits()
	old.TopicsMax, old.SubscribersPerTopicMax, old.HeadersMax, old.TransactionBytesMax = 0, 0, 0, 0
	if got := limitsOf(old); got.GetTopicsMax() != 1024 || got.GetSubscribersPerTopicMax() != 256 || got.GetHeadersMax() != 32 || got.GetTransactionBytesMax() != 1<<20 {
		t.Fatalf("%v", got)
	}
	if a, b := appendLimits(nil, DefaultLimits()), appendLimits(nil, limitsOf(old)); !slices.Equal(a, b) {
		t.Fatal("the bytes that are hashed differ")
	}
	w := newWorld(t)
	was := w.s.Digest()
	w.must(setLimits(&logpb.Limits{TopicsMax: 7}))
	if w.s.Digest() == was || reborn(t, w.s).Limits().GetTopicsMax() != 7 {
		t.Fatal("a changed limit is not hashed, or not kept")
	}
}

// "Work per command must stay near O(branches)": a wide saga whose last step
// names all others is answered in time, forward and back.
func TestWideSaga(t *testing.T) {
	w := newWorld(t)
	w.must(setLimits(&logpb.Limits{BranchesPerTransactionMax: 2000, TransactionBytesMax: 1 << 26}))
	g := testGID(testStartMS, 1)
	var texts, names []string
	for i := range 999 {
		names = append(names, fmt.Sprintf("%04d", i))
	}
	texts = append(slices.Clone(names), "9999<"+strings.Join(names, ","))
	begun := time.Now()
	w.must(saga(g, texts...))
	for range 20 {
		w.must(done(g, w.s.DueOf(g)[0].Branch.GetId()))
	}
	w.must(answerOf(g, w.s.DueOf(g)[0].Branch.GetId(), answerGaveUp))
	for range 20 {
		w.must(report(g, w.s.DueOf(g)[0].Branch.GetId(), rolledBack))
	}
	t.Logf("%v for 42 commands over 1000 branches, checks of the whole state included", time.Since(begun))
}
