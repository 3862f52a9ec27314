package fsm

import (
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/fsm/logpb"
)

// The invariants of the modes whose branches are called: whatever breaks one is
// not stored, and the transaction is quarantined until an operator ends it.
func TestQuarantineOfModes(t *testing.T) {
	g := testGID(testStartMS, 1)
	for name, c := range map[string]struct {
		make situation
		in   string
		do   func(*transaction)
		want string
	}{
		"an active saga":          {sagaSituation, "S", func(t *transaction) { t.state, t.sealed = StateActive, false }, "sealed became active"},
		"a saga committed early":  {sagaSituation, "S", func(t *transaction) { t.decision, t.state = DecisionCommit, StateCommitting }, "without every vote"},
		"a saga sealed for ever":  {sagaSituation, "S", func(t *transaction) { t.edit("2").vote = votePrepared; t.edit("3").vote = votePrepared }, "every vote is in"},
		"a step answered early":   {sagaSituation, "S", func(t *transaction) { t.edit("3").vote = votePrepared }, "before it could be called"},
		"a step refused":          {sagaSituation, "S", func(t *transaction) { t.edit("2").vote = voteRefused }, "has ended"},
		"a step's answer changed": {sagaSituation, "R", func(t *transaction) { t.edit("1").vote = voteRefused }, "overwritten"},
		"a saga's set grew":       {sagaSituation, "S", func(t *transaction) { t.join(step("4"), nil) }, "the sealed set changed"},
		"a held step":             {sagaSituation, "S", func(t *transaction) { t.edit("2").spec = &logpb.BranchSpec{Id: "2", Held: true} }, "would vote"},
		"a hint":                  {tccSituation, "A", func(t *transaction) { t.edit("2").hint = true }, "would vote"},
		"a sealed TCC":            {tccSituation, "A", func(t *transaction) { t.state, t.sealed = StateSealed, true }, "a tcc in"},
		"a vote in TCC":           {tccSituation, "A", func(t *transaction) { t.edit("2").vote = votePrepared }, "has voted"},
		"a step recorded in TCC": {tccSituation, "A", func(t *transaction) {
			t.branches = append(t.branches, &branch{spec: step("3"), more: &branchMore{operation: "x"}})
		}, "was recorded"},
		"stopped and going on": {tccSituation, "C", func(t *transaction) { t.stopped = true }, "stopped and not ended"},
		"finished too early": {tccSituation, "C", func(t *transaction) {
			for _, id := range []string{"1", "2"} {
				b := t.edit(id)
				b.spec = withoutPayload(b.spec)
			}
			t.state = StateCommitted
		}, "all branches terminal is false"},
		"ended with a payload": {sagaSituation, "R+", func(t *transaction) { t.edit("1").spec = step("1") }, "with the payload"},
		"two of one name":      {workflowSituation, "A", func(t *transaction) { t.branches = append(t.branches, t.branches[0]) }, "sorted by unique"},
		"a record that left":   {workflowSituation, "A", func(t *transaction) { t.edit("1").more = &branchMore{operation: "other"} }, "left"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c.make(w, c.in)
			old := w.s.find(g)
			next := old.clone()
			c.do(next)
			w.s.put(old, next)
			if err := w.s.CheckInvariants(); err != nil {
				t.Fatal(err)
			}
			tx := w.get(g)
			if !tx.GetQuarantined() || !strings.Contains(tx.GetDetail(), c.want) {
				t.Fatalf("not quarantined for %q: %v", c.want, tx)
			}
			for _, command := range []*logpb.Command{
				done(g, "2"), enlist(g, step("1")), commit(g), clientRollback(g), report(g, "1", rolledBack),
				record(g, "1", "action", "one"), driverDecides(g, DecisionCommit, w.term),
			} {
				w.want(Quarantined, command)
			}
			if len(w.s.DueOf(g)) != 0 {
				t.Error("due")
			}
			if got := reborn(t, w.s).Digest(); got != w.s.Digest() {
				t.Error("a snapshot differs")
			}
			// An operator's stop is one word that ends it.
			w.must(stop(g))
			tx = w.get(g)
			if tx.GetQuarantined() || !tx.GetStopped() || tx.GetDecision() == DecisionNone || len(w.s.DueOf(g)) != 0 {
				t.Fatalf("%v", tx)
			}
			w.leap(w.clock + w.s.Limits().GetRetentionMs())
			if _, ok := w.s.Get(g); ok {
				t.Error("never dropped")
			}
		})
	}
}

// What was to be made and breaks an invariant is kept as evidence, undecided.
func TestQuarantineOfACalledOneToBeMade(t *testing.T) {
	w := newWorld(t)
	g := testGID(testStartMS, 1)
	w.s.now.index++
	next, _, ok := w.s.open(beginMode(g, modeNotify, nil), g, []*logpb.BranchSpec{to("1", "")})
	if !ok {
		t.Fatal("not opened")
	}
	w.s.submitted(next)
	next.require(false, "it was wrong")
	if got := w.s.put(nil, next); !got.quarantined || got.state != StateActive || got.branches[0].idle {
		t.Fatalf("%+v", got)
	}
	if err := w.s.CheckInvariants(); err != nil {
		t.Fatal(err)
	}
	w.must(rollback(g, operator))
	w.state(g, StateRolledBack)
}

// A derived mark that is wrong, or an index, is a breach of the whole state.
func TestInvariantsSeeWhatIsDerived(t *testing.T) {
	for name, do := range map[string]func(s *State, x *transaction){
		"idle":      func(s *State, x *transaction) { x.branches[2].idle = false },
		"not due":   func(s *State, x *transaction) { x.due = false },
		"deadlines": func(s *State, x *transaction) { s.deadlines.put(heapKey{timeMS: 5, order: x.order()}) },
		"topics":    func(s *State, x *transaction) { s.topics = append(s.topics, &logpb.Topic{Name: "x"}) },
	} {
		w := newWorld(t)
		g := sagaSituation(w, "R")
		do(w.s, w.s.live[g])
		if err := w.s.CheckInvariants(); err == nil {
			t.Errorf("%s: not seen", name)
		}
	}
}

// A restored state withholds what was undecided; an operator lets it go on,
// either way, and its calls go on too.
func TestWithheldModes(t *testing.T) {
	for name, c := range map[string]struct {
		make situation
		in   string
		due  string
	}{
		"saga":     {sagaSituation, "S", "action 2"},
		"tcc":      {tccSituation, "A", "confirm 1 2"},
		"message":  {messageSituation, "A", "action 1 2"},
		"workflow": {workflowSituation, "A", ""},
	} {
		for _, decision := range []Decision{DecisionCommit, DecisionRollback} {
			w := newWorld(t)
			g := c.make(w, c.in)
			w.must(recovery(2, w.clock+5_000))
			w.clock += 5_000
			w.wantDue(g, "")
			for _, command := range []*logpb.Command{
				done(g, "2"), commit(g), clientRollback(g), record(g, "2", "action", "two"), driverDecides(g, DecisionCommit, w.term),
			} {
				w.want(Withheld, command)
			}
			if _, ok := w.s.NextDeadlineMS(); ok {
				t.Errorf("%s: time would end it", name)
			}
			word := commit(g)
			if decision == DecisionRollback {
				word = rollback(g, operator)
			}
			word.GetDecide().Origin, word.GetDecide().Operator, word.GetDecide().Detail = operator, "alice", "I have looked"
			w.must(word)
			if w.get(g).GetWithheld() {
				t.Errorf("%s: still withheld", name)
			}
			if decision == DecisionCommit {
				w.wantDue(g, c.due)
			}
			w.must(stop(g))
		}
	}
}

// Keys are of every mode: whoever repeats one hears what stands for it.
func TestKeysOfModes(t *testing.T) {
	w := newWorld(t)
	g, h := testGID(testStartMS, 1), testGID(testStartMS, 2)
	keyed := func(g GID, texts ...string) *logpb.Command {
		c := saga(g, texts...)
		c.GetSubmit().Begin.Key = "order-1"
		return c
	}
	w.must(keyed(g, "1"))
	if r := w.must(keyed(h, "1")); r.GID != g || r.Created || r.Changed {
		t.Fatalf("%+v", r)
	}
	if r := w.want(GIDConflict, keyed(h, "1", "2")); r.GID != g {
		t.Fatalf("%+v", r)
	}
	if _, ok := w.s.Get(h); ok {
		t.Fatal("it was created all the same")
	}
	m := message(h, to("1", "http://a"))
	m.GetBegin().Key = "order-1"
	w.want(GIDConflict, m)
}

// Branches that are called are not in doubt, and what is undecided is counted.
func TestCountsOfModes(t *testing.T) {
	w := newWorld(t)
	sagaSituation(w, "S")
	w.must(message(testGID(testStartMS, 2), to("1", "http://a")))
	c := w.s.Counts()
	if c.InDoubt != 0 || c.OldestInDoubtMS != 0 || c.Due != 2 ||
		c.Open[logpb.Mode_MODE_SAGA][StateSealed] != 1 || c.Open[modeMessage][StateActive] != 1 {
		t.Fatalf("%+v", c)
	}
	w.must(explicit(testGID(testStartMS, 3)))
	w.must(enlist(testGID(testStartMS, 3), spec("1")))
	w.must(vote(testGID(testStartMS, 3), spec("1"), votePrepared))
	if c := w.s.Counts(); c.InDoubt != 1 || c.OldestInDoubtMS != testStartMS {
		t.Fatalf("%+v", c)
	}
}

func TestTopicsAreListedInOrder(t *testing.T) {
	w := newWorld(t)
	in := func(namespace, name string) {
		c := subscribe(name, "http://a")
		c.GetPutTopic().Namespace = namespace
		w.must(c)
	}
	in("b", "x")
	for _, name := range []string{"m", "a", "z", "k"} {
		in("default", name)
	}
	in("a", "y")
	names := func(after string, most int) (list []string, more bool) {
		page, more := w.s.Topics("default", after, most)
		for _, x := range page {
			list = append(list, x.GetName())
		}
		return list, more
	}
	for _, c := range []struct {
		after string
		most  int
		want  string
		more  bool
	}{
		{"", 10, "a k m z", false}, {"", 2, "a k", true}, {"k", 2, "m z", false}, {"l", 1, "m", true}, {"z", 2, "", false},
	} {
		if got, more := names(c.after, c.most); strings.Join(got, " ") != c.want || more != c.more {
			t.Errorf("after %q: %v %v", c.after, got, more)
		}
	}
	if _, ok := w.s.Topic("b", "a"); ok {
		t.Error("a topic of another namespace")
	}
	x, _ := w.s.Topic("default", "m")
	w.leap(w.clock + 5)
	remarked := subscribe("m", "http://a")
	remarked.GetPutTopic().Subscriber.Remark = "why"
	w.must(remarked)
	y, _ := w.s.Topic("default", "m")
	if x.GetVersion() != 1 || y.GetVersion() != 2 || y.GetCreated().GetIndex() != x.GetCreated().GetIndex() ||
		y.GetUpdated().GetClockMs() != testStartMS+5 || len(x.GetSubscribers()[0].GetRemark()) != 0 {
		t.Fatalf("%v then %v", x, y)
	}
	if !slices.Equal(w.s.topics, reborn(t, w.s).topics) && w.s.Digest() != reborn(t, w.s).Digest() {
		t.Fatal("lost in a snapshot")
	}
	// A message of another namespace does not find it.
	c := message(testGID(testStartMS, 1), to("1", "topic://m"))
	c.GetBegin().Namespace = "b"
	w.want(NotFound, c)
}

func TestTopicsMakeUniqueIDs(t *testing.T) {
	w := newWorld(t)
	for _, e := range []string{"http://a", "http://b"} {
		w.must(subscribe("news", e))
	}
	g := testGID(testStartMS, 1)
	if r := w.want(Invalid, message(g, to("01", "topic://news"), to("01-02", "http://c"))); !strings.Contains(r.Detail, "also the id of") {
		t.Error(r.Detail)
	}
	if r := w.want(Invalid, message(g, to(strings.Repeat("x", 31), "topic://news"))); !strings.Contains(r.Detail, "branch_id_bytes_max is 32") {
		t.Error(r.Detail)
	}
	w.must(message(g, to("a", "http://c", strings.Repeat("x", 29)), to(strings.Repeat("x", 29), "topic://news")))
}

// A delay beyond all clocks is never, and no overflow.
func TestDelaysDoNotOverflow(t *testing.T) {
	w := newWorld(t)
	g := testGID(testStartMS, 1)
	w.must(submit(beginMode(g, modeNotify, &logpb.Plan{DelayMs: 1<<64 - 1}), []*logpb.BranchSpec{to("1", "http://a")}))
	if d := w.s.DueOf(g); len(d) != 1 || d[0].NotBeforeMS != noDeadline {
		t.Fatalf("%+v", d)
	}
}
