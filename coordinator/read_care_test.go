package coordinator

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/testkit"
)

// beginIn begins a transaction, explicit, with labels like "team=red".
func (n *node) beginIn(namespace, key string, mode fsm.Mode, labels ...*logpb.Label) fsm.GID {
	n.t.Helper()
	s, err := n.Begin(n.ctx, &logpb.Begin{Namespace: namespace, Key: key, Mode: mode, TimeoutMs: 600_000, Labels: labels})
	n.must(err)
	return s.GID
}

func (n *node) enlistAll(gid fsm.GID, branches ...*logpb.BranchSpec) {
	n.t.Helper()
	for _, b := range branches {
		_, err := n.Enlist(n.ctx, gid, b)
		n.must(err)
	}
}

// Every field of a filter keeps what matches it, of several branches, labels and states
// too, and drops what does not.
func TestEveryFilterKeepsAndDrops(t *testing.T) {
	n := newNode(t, func(c *Config) { c.Settings.StuckAfter = time.Millisecond })
	red, first, second := &logpb.Label{Name: "team", Value: "red"}, &logpb.Label{Name: "tier", Value: "1"}, &logpb.Label{Name: "tier", Value: "2"}
	voted := n.beginIn("", "old-voted", 0, red, first)
	n.enlistAll(voted, branchA, branchB)
	n.prepare(voted, branchA, branchB)
	n.beginIn("theirs", "old-tcc", logpb.Mode_MODE_TCC, red, second)
	resolved := n.beginIn("", "old-resolved", 0)
	n.enlistAll(resolved, branchB)
	n.prepare(resolved, branchB)
	_, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(resolved)})
	n.must(err)
	_, err = n.Resolve(n.ctx, ResolveRequest{Transaction: ByGID(resolved), Branch: "2", Outcome: committed, Operator: "ann", Reason: "gone"})
	n.must(err)
	n.log.leap(5 * time.Minute)
	unsure := n.beginIn("", "new-unsure", 0)
	n.enlistAll(unsure, branchA)
	_, err = n.Vote(n.ctx, unsure, &logpb.Ballot{Branch: branchA, Kind: logpb.VoteKind_VOTE_KIND_REFUSED, MaybePrepared: true})
	n.must(err)
	over := n.beginIn("", "new-over", 0)
	_, err = n.Rollback(n.ctx, RollbackRequest{Transaction: ByGID(over)})
	n.must(err)
	testkit.Eventually(t, 5*time.Second, func() bool { return n.Stats().Stuck[logpb.Mode_MODE_TWO_PHASE] == 1 }, "one is stuck")

	set := make(map[string]bool)
	for _, c := range []struct {
		filter Filter
		want   []string
	}{
		{Filter{}, []string{"old-voted", "old-tcc", "old-resolved", "new-unsure"}},
		{Filter{Namespace: "theirs"}, []string{"old-tcc"}},
		{Filter{Namespace: DefaultNamespace}, []string{"old-voted", "old-resolved", "new-unsure"}},
		{Filter{States: []fsm.TxState{fsm.StateCommitted, fsm.StateRollingBack}}, []string{"old-resolved", "new-unsure"}},
		{Filter{Modes: []fsm.Mode{logpb.Mode_MODE_SAGA, logpb.Mode_MODE_TCC}}, []string{"old-tcc"}},
		{Filter{InDoubt: true}, []string{"old-voted", "new-unsure"}},
		{Filter{Stuck: true}, []string{"new-unsure"}},
		{Filter{OlderThan: 4 * time.Minute}, []string{"old-voted", "old-tcc", "old-resolved"}},
		{Filter{OlderThan: time.Hour}, nil},
		{Filter{Resource: "bank-b"}, []string{"old-voted", "old-resolved"}},
		{Filter{Resource: "bank-a"}, []string{"old-voted", "new-unsure"}},
		{Filter{KeyPrefix: "new-"}, []string{"new-unsure"}},
		{Filter{Labels: []*logpb.Label{red}}, []string{"old-voted", "old-tcc"}},
		{Filter{Labels: []*logpb.Label{red, second}}, []string{"old-tcc"}},
		{Filter{Labels: []*logpb.Label{{Name: "team"}}}, nil},
		{Filter{IncludeFinished: true}, []string{"old-voted", "old-tcc", "old-resolved", "new-unsure", "new-over"}},
		{Filter{IncludeFinished: true, KeyPrefix: "new-", Resource: "bank-a"}, []string{"new-unsure"}},
	} {
		for i := range reflect.TypeFor[Filter]().NumField() {
			if !reflect.ValueOf(c.filter).Field(i).IsZero() {
				set[reflect.TypeFor[Filter]().Field(i).Name] = true
			}
		}
		if got, _ := n.list(ListRequest{Filter: c.filter}); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v, want %v", c.filter, got, c.want)
		}
	}
	for i := range reflect.TypeFor[Filter]().NumField() {
		if name := reflect.TypeFor[Filter]().Field(i).Name; !set[name] {
			t.Errorf("%s is never set here", name)
		}
	}
}

// Of each transaction in doubt every branch is told that is, and what it must do.
func TestInDoubtIsToldOfEachBranch(t *testing.T) {
	n := newNode(t, func(c *Config) { c.Settings.SessionGrace = time.Hour })
	gid := n.beginIn("", "", 0)
	specs := []*logpb.BranchSpec{branchOf("1", "bank", nil), branchOf("2", "bank", nil), branchOf("3", "bank", nil), branchOf("4", "other", nil)}
	n.enlistAll(gid, specs...)
	n.log.leap(2 * time.Minute)
	_, err := n.Vote(n.ctx, gid, &logpb.Ballot{Branch: specs[0], Kind: logpb.VoteKind_VOTE_KIND_READ_ONLY})
	n.must(err)
	n.prepare(gid, specs[1:]...)
	_, err = n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid)})
	n.must(err)
	theirs := n.beginIn("theirs", "", 0)
	n.enlistAll(theirs, specs[1])
	n.prepare(theirs, specs[1])
	n.log.leap(10 * time.Second)

	for _, c := range []struct {
		r    ListInDoubtRequest
		want []string
	}{
		{ListInDoubtRequest{Resource: "bank", Namespace: DefaultNamespace}, []string{"2 VERDICT_COMMIT", "3 VERDICT_COMMIT"}},
		{ListInDoubtRequest{Namespace: "theirs"}, []string{"2 VERDICT_WAIT"}},
		{ListInDoubtRequest{}, []string{"2 VERDICT_COMMIT", "3 VERDICT_COMMIT", "4 VERDICT_COMMIT", "2 VERDICT_WAIT"}},
		{ListInDoubtRequest{Resource: "nobody's"}, nil},
	} {
		p, err := n.ListInDoubt(n.ctx, c.r)
		n.must(err)
		var got []string
		for _, b := range p.Branches {
			got = append(got, fmt.Sprint(b.Branch.GetSpec().GetId(), " ", verdictName(b.Verdict)))
			if b.Age < 9*time.Second || b.Age > time.Minute {
				t.Errorf("branch %s voted 10 s ago by the cluster clock, and its age is %v", b.Branch.GetSpec().GetId(), b.Age)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v, want %v", c.r, got, c.want)
		}
	}
	if age := n.Stats().OldestInDoubt; age < 9*time.Second || age > time.Minute {
		t.Errorf("the oldest has been in doubt for %v, by the figures", age)
	}
	n.follow("other")
	if _, err := n.ListInDoubt(n.ctx, ListInDoubtRequest{}); !errors.Is(err, ErrNotLeader) {
		t.Errorf("a follower tells what is in doubt: %v", err)
	}
}

func verdictName(v fsm.Verdict) string {
	return map[fsm.Verdict]string{fsm.VerdictWait: "VERDICT_WAIT", fsm.VerdictCommit: "VERDICT_COMMIT", fsm.VerdictRollback: "VERDICT_ROLLBACK"}[v]
}

// Pages of any size show everything once, where many began in one entry and where what
// is looked for lies many looks apart, and no page is larger than asked or allowed.
func TestPagesShowEverythingOnce(t *testing.T) {
	n := newNode(t)
	made := uint16(0)
	beginAll := func(keys ...string) {
		for chunk := range slices.Chunk(keys, 200) {
			var commands []*logpb.Command
			for _, key := range chunk {
				made++ // in an entry their order is that of their GIDs
				commands = append(commands, cmdBegin(fsm.NewGID(10_000, [10]byte{byte(made >> 8), byte(made)}), key, time.Minute))
			}
			n.log.appendAll(t, commands...)
		}
	}
	beginAll("mine-1", "mine-2", "mine-3", "mine-4", "mine-5")
	for _, size := range []int{1, 2, 3, 5} {
		var got []string
		token := ""
		for first := true; first || token != ""; first = false {
			var keys []string
			if keys, token = n.list(ListRequest{PageSize: size, PageToken: token}); len(keys) > size {
				t.Fatalf("a page of %d for %d", len(keys), size)
			}
			got = append(got, keys...)
			if len(got) > 5 {
				break
			}
		}
		wantList(t, got, "mine-1", "mine-2", "mine-3", "mine-4", "mine-5")
	}
	beginAll(slices.Repeat([]string{""}, fsm.ListScanDefault)...)
	beginAll("far-1", "mine-6", "mine-7", "mine-8")
	if got, token := n.list(ListRequest{PageSize: 6, Filter: Filter{KeyPrefix: "mine-"}}); token == "" {
		t.Error("a page that is full says that it is the last")
	} else {
		wantList(t, got, "mine-1", "mine-2", "mine-3", "mine-4", "mine-5", "mine-6")
		got, _ = n.list(ListRequest{PageSize: 6, PageToken: token, Filter: Filter{KeyPrefix: "mine-"}})
		wantList(t, got, "mine-7", "mine-8")
	}
	got, _ := n.list(ListRequest{Filter: Filter{KeyPrefix: "far-"}})
	wantList(t, got, "far-1")
	for asked, want := range map[int]int{0: PageSizeDefault, PageSizeMax: PageSizeMax, PageSizeMax + 1: PageSizeMax, -1: PageSizeDefault} {
		if got, _ := n.list(ListRequest{PageSize: asked}); len(got) != want {
			t.Errorf("a page of %d for %d", len(got), asked)
		}
	}
}

// A list whose caller leaves is cut short, and never looks like a whole one. What only the
// leader knows no other node answers, however stale an answer would do.
func TestAListThatIsCutShortSaysSo(t *testing.T) {
	log := &meddledLog{}
	n := followingNode(t, func(cfg *Config) { // so nobody but the list looks
		log.memLog = cfg.Log.(*memLog)
		cfg.Log = log
	})
	gid := func(i int) fsm.GID { return fsm.NewGID(10_000, [10]byte{byte(i >> 8), byte(i)}) }
	for i := 0; i < fsm.ListScanDefault+200; i += 200 {
		var commands []*logpb.Command
		for k := range 200 {
			commands = append(commands, cmdBegin(gid(i+k), "", time.Minute))
		}
		n.log.appendAll(t, commands...)
	}
	ctx, cancel := context.WithCancel(n.ctx)
	looks := 0
	log.after = func() {
		looks++
		cancel()
	}
	_, err := n.List(ctx, ListRequest{Consistency: Local, Filter: Filter{KeyPrefix: "nobody's"}})
	if !errors.Is(err, context.Canceled) || looks != 1 {
		t.Errorf("after %d looks: %v", looks, err)
	}
	if _, err := n.List(n.ctx, ListRequest{Consistency: Local, Filter: Filter{Stuck: true}}); !errors.Is(err, ErrNoLeader) && !errors.Is(err, ErrNotLeader) {
		t.Errorf("what is stuck, by who does not lead: %v", err)
	}
}

// appendAll applies commands in one entry, and each must be taken.
func (l *memLog) appendAll(t testing.TB, commands ...*logpb.Command) {
	t.Helper()
	l.mu.Lock()
	results, err := l.apply(commands...)
	index := l.index
	l.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if r.Code != fsm.OK {
			t.Fatal(r)
		}
	}
	l.applied(index)
}

// A page shows with each transaction what is due of that one.
func TestAPageShowsTheDeliveriesOfEach(t *testing.T) {
	n := newNode(t)
	want := map[string]string{"k1": "1", "k2": "2", "k3": ""}
	for _, key := range []string{"k1", "k2"} {
		b := branchOf(want[key], "nobody-"+key, nil)
		gid := n.begin(key, b)
		n.prepare(gid, b)
		_, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid)})
		n.must(err)
	}
	n.begin("k3", branchA)
	p, err := n.List(n.ctx, ListRequest{})
	n.must(err)
	for _, v := range p.Transactions {
		key, got := v.Transaction.GetBegin().GetKey(), ""
		for _, d := range v.Deliveries {
			got += d.Branch
		}
		if got != want[key] {
			t.Errorf("%s: due are %q, want %q", key, got, want[key])
		}
	}
}

// A key, and a topic, is its namespace's own, whoever asks.
func TestANamespaceIsItsOwn(t *testing.T) {
	n := newNode(t)
	gids := map[string]fsm.GID{}
	for _, ns := range []string{"", "theirs"} {
		gids[ns] = n.beginIn(ns, "order-1", 0)
		topic, err := n.PutTopic(n.ctx, &logpb.PutTopic{Namespace: ns, Name: "t" + ns, Change: logpb.PutTopic_CHANGE_SUBSCRIBE,
			Subscriber: &logpb.Subscriber{Endpoint: "http://" + ns + "s/x"}})
		n.must(err)
		if topic.GetName() != "t"+ns {
			t.Errorf("the topic of %q is answered as %v", ns, topic)
		}
	}
	if gids[""] == gids["theirs"] {
		t.Fatal("one key of two namespaces is one transaction")
	}
	for ns, gid := range gids {
		if found, err := n.find(n.ctx, ByKey(ns, "order-1")); err != nil || found != gid {
			t.Errorf("%q: found %s, %v", ns, found, err)
		}
		v, err := n.Get(n.ctx, GetRequest{Transaction: ByKey(ns, "order-1")})
		n.must(err)
		if got := fsm.GID(v.Transaction.GetBegin().GetGid()); got != gid {
			t.Errorf("%q: got %s", ns, got)
		}
		for _, name := range []string{"", "t" + ns} {
			page, err := n.Topics(n.ctx, TopicsRequest{Namespace: ns, Name: name})
			n.must(err)
			if len(page.Topics) != 1 || page.Topics[0].GetName() != "t"+ns {
				t.Errorf("%q: topics %v", ns, page.Topics)
			}
		}
		page, err := n.Topics(n.ctx, TopicsRequest{Namespace: ns, Name: "t" + map[string]string{"": "theirs"}[ns]})
		n.must(err)
		if len(page.Topics) != 0 {
			t.Errorf("%q: topics of another namespace: %v", ns, page.Topics)
		}
	}
	// A rollback of what nobody began is of the default one.
	tombstone := n.newGID()
	_, err := n.Rollback(n.ctx, RollbackRequest{Transaction: ByGID(tombstone)})
	n.must(err)
	for ns, want := range map[string][]fsm.GID{"theirs": {gids["theirs"]}, DefaultNamespace: {gids[""], tombstone}, "": {gids[""], gids["theirs"], tombstone}} {
		events, _, err := n.eventsAfter(1)
		n.must(err)
		var seen []fsm.GID
		n.must(sendEntries(events, fsm.GID{}, ns, func(_ uint64, events []fsm.Event) error {
			for _, e := range events {
				if !slices.Contains(seen, e.GID) {
					seen = append(seen, e.GID)
				}
			}
			return nil
		}))
		if !slices.Equal(seen, want) {
			t.Errorf("a watch of %q has seen %v, want %v", ns, seen, want)
		}
	}
}

// What is not applied here when a key is looked up may be once the leader has been asked.
func TestAKeyIsLookedUpAgainOnceTheLeaderWasAsked(t *testing.T) {
	late := &lateLog{}
	n := newNode(t, func(c *Config) {
		late.memLog = c.Log.(*memLog)
		c.Log = late
	})
	gid := n.newGID()
	late.arrives = func() { n.log.appendAll(t, cmdBegin(gid, "late", time.Minute)) }
	if found, err := n.find(n.ctx, ByKey("", "late")); err != nil || found != gid {
		t.Errorf("found %s, %v", found, err)
	}
}

// lateLog applies something while a linearizable read waits.
type lateLog struct {
	*memLog
	arrives func()
}

func (l *lateLog) ReadIndex(ctx context.Context) (uint64, error) {
	l.arrives()
	return l.memLog.ReadIndex(ctx)
}

// After retention a client hears that nobody knows any more, never that there was nothing;
// a participant hears "rolled back", presumed, from any node.
func TestBehindTheHorizon(t *testing.T) {
	n := newNode(t)
	n.log.appendAll(t, &logpb.Command{Kind: &logpb.Command_SetLimits{SetLimits: &logpb.SetLimits{Operator: "ann", Limits: &logpb.Limits{
		TransactionTimeoutDefaultMs: 1000, TransactionTimeoutMaxMs: 1000, RetentionMs: 1000 + 60_000 + 60_000,
	}}}})
	before := n.newGID()
	n.log.leap(4 * time.Minute)
	_, err := n.Get(n.ctx, GetRequest{Transaction: ByGID(before)})
	wantRefusal(t, err, fsm.Expired)
	_, err = n.Get(n.ctx, GetRequest{Transaction: ByGID(n.newGID())})
	wantRefusal(t, err, fsm.NotFound)
	n.follow("other")
	for _, c := range []struct {
		born uint64
		want fsm.Code
	}{{0, fsm.Expired}, {1, fsm.NotFound}} {
		var horizon uint64
		n.log.View(func(s *fsm.State) { horizon = s.Clock().HorizonMS })
		_, err = n.Get(n.ctx, GetRequest{Transaction: ByGID(fsm.NewGID(horizon+c.born, [10]byte{5})), Consistency: Local})
		wantRefusal(t, err, c.want)
	}
	q, err := n.Inquire(n.ctx, InquireRequest{GID: before, Branch: "1", Timeout: time.Second})
	if err != nil || q.Verdict != fsm.VerdictRollback || !q.Unseen {
		t.Errorf("%+v, %v: want a rollback that is presumed", q, err)
	}
}

// An unseen GID's time is over when the cluster clock has passed born + ClockStaleMax +
// its timeout, and not at that moment; without a timeout, when the longest is over.
func TestTheTimeOfAnUnseenGIDToTheMillisecond(t *testing.T) {
	n := followingNode(t) // so that the clock stands
	n.log.leap(12 * time.Minute)
	clock := n.Header().ClockMS
	n.log.View(func(s *fsm.State) {
		if longest := s.Limits().GetTransactionTimeoutMaxMs(); longest != 600_000 {
			t.Fatalf("the longest timeout is %d", longest)
		}
	})
	for _, c := range []struct {
		age     uint64
		timeout time.Duration
		over    bool
	}{
		{61_000, time.Second, false}, {61_001, time.Second, true}, {61_000, 999 * time.Millisecond, true},
		{660_000, 0, false}, {660_001, 0, true}, {660_000, -1, false},
	} {
		_, over := n.inquiry(InquireRequest{GID: fsm.NewGID(clock-c.age, [10]byte{1}), Branch: "1", Timeout: c.timeout})
		if over != c.over {
			t.Errorf("born %d ms ago with a timeout of %v: over is %v", c.age, c.timeout, over)
		}
	}
}

// Where no branch enlists, two runs of one call may have prepared under one name in two
// resources: the one that did not vote rolls back.
func TestAnInquiryIsOfTheResourceToo(t *testing.T) {
	n := newNode(t)
	b := branchOf("1", "bank-a", nil)
	gid := n.begin("", b)
	n.prepare(gid, b)
	_, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid)})
	n.must(err)
	for resource, want := range map[string]fsm.Verdict{"bank-a": fsm.VerdictCommit, "": fsm.VerdictCommit, "bank-b": fsm.VerdictRollback} {
		q, err := n.Inquire(n.ctx, InquireRequest{GID: gid, Branch: "1", Resource: resource})
		if err != nil || q.Verdict != want {
			t.Errorf("from %q: %+v, %v, want %v", resource, q, err, want)
		}
	}
}

// A refused inquiry says what stands, of which branch.
func TestARefusedInquirySaysWhatStands(t *testing.T) {
	n := newNode(t)
	active := n.begin("", branchA)
	n.log.appendAll(t, &logpb.Command{Kind: &logpb.Command_Recover{Recover: &logpb.Recover{Incarnation: 2, HoldBeforeMs: n.Header().ClockMS + 1000}}})
	for _, gid := range []fsm.GID{active, fsm.NewGID(n.Header().ClockMS, [10]byte{4})} { // both are withheld
		var q fsm.Inquiry
		n.log.View(func(s *fsm.State) { q = s.InquireFor(gid, "1", "bank-a") })
		_, err := n.Inquire(n.ctx, InquireRequest{GID: gid, Branch: "1", Resource: "bank-a"})
		r := wantRefusal(t, err, fsm.Withheld)
		if r.GID != gid || r.Branch != "1" || r.Decision != q.Decision || r.State != q.State || r.Verdict != q.Verdict || r.Detail != q.Detail || r.Detail == "" {
			t.Errorf("refused with %+v, and the log says %+v", r, q)
		}
	}
	if h := n.Header(); h.Epoch.Incarnation != 2 {
		t.Errorf("the answers' epoch is %+v", h.Epoch)
	}
}

// What every answer carries is what the log says, each under its own name.
func TestAHeaderIsOfOneMoment(t *testing.T) {
	n := newNode(t)
	n.log.appendAll(t, &logpb.Command{Kind: &logpb.Command_SetLimits{SetLimits: &logpb.SetLimits{Operator: "ann", Limits: &logpb.Limits{
		TransactionTimeoutDefaultMs: 1000, TransactionTimeoutMaxMs: 1000, RetentionMs: 1000 + 60_000 + 60_000,
	}}}})
	s, err := n.Begin(n.ctx, &logpb.Begin{Mode: logpb.Mode_MODE_WORKFLOW, Plan: &logpb.Plan{Workflow: "w", Callback: "http://i/w", CallbackAfterMs: 3_600_000}})
	n.must(err) // it outlives the horizon, so the floor stays behind
	n.log.leap(4 * time.Minute)
	n.follow("other") // nothing is applied any more
	h := n.Header()
	n.log.View(func(state *fsm.State) {
		c := state.Clock()
		if c.FloorMS == c.HorizonMS || c.FloorMS != s.GID.BornMS()-1 {
			t.Fatalf("floor %d, horizon %d, born %d", c.FloorMS, c.HorizonMS, s.GID.BornMS())
		}
		want := Header{AppliedIndex: c.AppliedIndex, ClockMS: c.ClockMS, FloorMS: c.FloorMS, Epoch: Epoch{c.Incarnation, c.AppliedTerm}, ClusterID: state.ClusterID()}
		if h != want {
			t.Errorf("the header is %+v, want %+v", h, want)
		}
	})
}
