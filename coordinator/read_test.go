package coordinator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/testkit"
)

func (n *node) list(r ListRequest) ([]string, string) {
	n.t.Helper()
	p, err := n.List(n.ctx, r)
	n.must(err)
	var keys []string
	for _, v := range p.Transactions {
		keys = append(keys, v.Transaction.GetBegin().GetKey())
	}
	return keys, p.NextPageToken
}

func TestListPagesInAnOrderThatStays(t *testing.T) {
	n := newNode(t)
	var want []string
	for i := range 25 {
		want = append(want, fmt.Sprintf("k%02d", i))
		n.begin(want[i])
	}
	var got []string
	token := ""
	for pages := 0; ; pages++ {
		keys, next := n.list(ListRequest{PageSize: 10, PageToken: token})
		got = append(got, keys...)
		n.begin("") // what comes later stands at the end
		if token = next; token == "" || pages > 10 {
			break
		}
	}
	if !slices.Equal(got[:25], want) {
		t.Errorf("listed %v", got)
	}
	for _, token := range []string{"nonsense!", "AAAA"} {
		_, err := n.List(n.ctx, ListRequest{PageToken: token})
		wantRefusal(t, err, fsm.Invalid)
	}
	if keys, _ := n.list(ListRequest{PageSize: 5000, Consistency: Local, MinIndex: 3}); len(keys) < 25 {
		t.Errorf("a page size beyond the largest: %d", len(keys))
	}
}

func TestListFilters(t *testing.T) {
	n := newNode(t, func(c *Config) { c.Settings.StuckAfter = time.Millisecond })
	_, err := n.Begin(n.ctx, &logpb.Begin{Key: "labelled", Labels: []*logpb.Label{{Name: "team", Value: "red"}}})
	n.must(err)
	n.begin("order-active", branchA)
	n.prepare(n.begin("order-voted", branchA), branchA)
	stuck := n.begin("order-stuck", branchB)
	n.prepare(stuck, branchB)
	_, err = n.Commit(n.ctx, CommitRequest{Transaction: ByGID(stuck)})
	n.must(err)
	done := n.begin("order-done")
	_, err = n.Commit(n.ctx, CommitRequest{Transaction: ByGID(done)})
	n.must(err)
	testkit.Eventually(t, 5*time.Second, func() bool { return n.Stats().Stuck[logpb.Mode_MODE_TWO_PHASE] == 1 }, "one is stuck")

	for name, c := range map[string]struct {
		filter Filter
		want   []string
	}{
		"all":       {Filter{}, []string{"labelled", "order-active", "order-voted", "order-stuck"}},
		"finished":  {Filter{IncludeFinished: true, KeyPrefix: "order-d"}, []string{"order-done"}},
		"states":    {Filter{States: []fsm.TxState{fsm.StateCommitting}}, []string{"order-stuck"}},
		"modes":     {Filter{Modes: []fsm.Mode{logpb.Mode_MODE_SAGA}}, nil},
		"in doubt":  {Filter{InDoubt: true}, []string{"order-voted", "order-stuck"}},
		"stuck":     {Filter{Stuck: true}, []string{"order-stuck"}},
		"old":       {Filter{OlderThan: time.Hour}, nil},
		"resource":  {Filter{Resource: "bank-a"}, []string{"order-active", "order-voted"}},
		"prefix":    {Filter{KeyPrefix: "order-"}, []string{"order-active", "order-voted", "order-stuck"}},
		"label":     {Filter{Labels: []*logpb.Label{{Name: "team", Value: "red"}}}, []string{"labelled"}},
		"no label":  {Filter{Labels: []*logpb.Label{{Name: "team", Value: "blue"}}}, nil},
		"namespace": {Filter{Namespace: "theirs"}, nil},
	} {
		if got, _ := n.list(ListRequest{Filter: c.filter}); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	p, err := n.List(n.ctx, ListRequest{Filter: Filter{Stuck: true}})
	n.must(err)
	if d := p.Transactions[0].Deliveries; len(d) != 1 || !d[0].Stuck || d[0].LastError == "" {
		t.Errorf("deliveries %+v", d)
	}
	n.follow("other")
	if _, err := n.List(n.ctx, ListRequest{Filter: Filter{Stuck: true}}); !errors.Is(err, ErrNotLeader) {
		t.Errorf("a follower cannot tell what is stuck: %v", err)
	}
	if _, err := n.List(n.ctx, ListRequest{}); !errors.Is(err, ErrNotLeader) {
		t.Errorf("a follower reads linearizably: %v", err)
	}
	if keys, _ := n.list(ListRequest{Consistency: Local}); len(keys) != 4 {
		t.Errorf("a follower's own view: %v", keys)
	}
}

func TestListInDoubt(t *testing.T) {
	n := newNode(t)
	both := n.begin("", branchA, branchB)
	n.prepare(both, branchA, branchB)
	mine := n.begin("", branchA)
	n.prepare(mine, branchA)
	_, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(mine)})
	n.must(err)
	n.begin("", branchA) // has not voted
	n.log.leap(2 * time.Second)

	var got []InDoubt
	for token := ""; ; {
		p, err := n.ListInDoubt(n.ctx, ListInDoubtRequest{Resource: "bank-a", PageSize: 1, PageToken: token})
		n.must(err)
		got = append(got, p.Branches...)
		if token = p.NextPageToken; token == "" {
			break
		}
	}
	if len(got) != 2 || got[0].GID != both || got[1].GID != mine {
		t.Fatalf("in doubt: %+v", got)
	}
	if got[0].Verdict != fsm.VerdictWait || got[1].Verdict != fsm.VerdictCommit || got[0].Age < time.Second {
		t.Errorf("in doubt: %+v", got)
	}
	if p, err := n.ListInDoubt(n.ctx, ListInDoubtRequest{}); err != nil || len(p.Branches) != 3 {
		t.Errorf("all resources: %+v, %v", p, err)
	}
	if _, err := n.ListInDoubt(n.ctx, ListInDoubtRequest{PageToken: "?"}); err == nil {
		t.Error("a bad token was taken")
	}
	if _, err := n.Report(n.ctx, ReportRequest{GID: mine, Branch: "1", Outcome: committed}); err != nil {
		t.Fatal(err)
	}
	if p, err := n.ListInDoubt(n.ctx, ListInDoubtRequest{Resource: "bank-a"}); err != nil || len(p.Branches) != 1 {
		t.Errorf("after the report: %+v, %v", p, err)
	}
}

// meddledLog is a log on which something happens after each look at the state.
type meddledLog struct {
	*memLog
	after func()
}

func (l *meddledLog) View(f func(*fsm.State)) {
	l.memLog.View(f)
	if l.after != nil {
		l.after()
	}
}

// A list that takes several looks says where the first of them was: whoever watches from
// there misses nothing that the list does not show.
func TestAWatchFromAListMissesNothing(t *testing.T) {
	log := &meddledLog{}
	n := followingNode(t, func(cfg *Config) { // so nobody but the list looks
		log.memLog = cfg.Log.(*memLog)
		cfg.Log = log
	})
	apply := func(commands ...*logpb.Command) {
		n.log.mu.Lock()
		defer n.log.mu.Unlock()
		results, err := n.log.apply(commands...)
		n.must(err)
		for _, r := range results {
			if r.Code != fsm.OK {
				t.Fatal(r)
			}
		}
	}
	made := uint16(0)
	begin := func(key string) (fsm.GID, *logpb.Command) {
		made++
		gid := fsm.NewGID(10_000, [10]byte{byte(made >> 8), byte(made)})
		return gid, &logpb.Command{Kind: &logpb.Command_Begin{Begin: &logpb.Begin{
			Gid: gid.Bytes(), Key: key, Namespace: DefaultNamespace, Mode: logpb.Mode_MODE_TWO_PHASE, Entry: logpb.Entry_ENTRY_EXPLICIT, TimeoutMs: 60_000,
		}}}
	}
	rollback := func(gid fsm.GID) *logpb.Command {
		return &logpb.Command{Kind: &logpb.Command_Decide{Decide: &logpb.Decide{
			Gid: gid.Bytes(), Decision: fsm.DecisionRollback, Origin: logpb.Origin_ORIGIN_CLIENT, Reason: logpb.Reason_REASON_REQUESTED,
		}}}
	}
	first, command := begin("mine-1")
	apply(command)
	for range fsm.ListScanDefault / 100 { // so many that one look does not do
		var others []*logpb.Command
		for range 100 {
			_, command := begin("")
			others = append(others, command)
		}
		apply(others...)
	}
	last, command := begin("mine-2")
	apply(command)
	looks := 0
	log.after = func() {
		if looks++; looks == 1 { // the list has seen the first, and not the last
			apply(rollback(first), rollback(last))
		}
	}
	page, err := n.List(n.ctx, ListRequest{Consistency: Local, Filter: Filter{KeyPrefix: "mine-", IncludeFinished: true}})
	if err != nil || looks < 2 || len(page.Transactions) != 2 {
		t.Fatalf("%d transactions in %d looks, %v", len(page.Transactions), looks, err)
	}
	events, _, err := n.eventsAfter(page.At.AppliedIndex)
	n.must(err)
	for i, gid := range []fsm.GID{first, last} {
		shown := page.Transactions[i].Transaction.GetDecision() == fsm.DecisionRollback
		told := slices.ContainsFunc(events, func(e fsm.Event) bool { return e.GID == gid && e.Kind == fsm.EventDecided })
		if !shown && !told {
			t.Errorf("transaction %d was rolled back: the list does not show it, nor does a watch from its index", i+1)
		}
	}
}

type seen struct {
	index uint64
	kinds []fsm.EventKind
}

func (n *node) watch(ctx context.Context, r WatchRequest) (<-chan seen, <-chan error) {
	out, done := make(chan seen, 1000), make(chan error, 1)
	go func() {
		done <- n.Watch(ctx, r, func(index uint64, events []fsm.Event) error {
			s := seen{index: index}
			for _, e := range events {
				s.kinds = append(s.kinds, e.Kind)
			}
			select {
			case out <- s:
				return nil
			case <-ctx.Done(): // nobody reads, and there is no room for more
				return context.Cause(ctx)
			}
		})
	}()
	return out, done
}

func TestWatchTellsWholeEntriesAndResumes(t *testing.T) {
	n := newNode(t)
	n.begin("before")
	ctx, cancel := context.WithCancel(n.ctx)
	defer cancel()
	start := n.Header().AppliedIndex
	gid := n.begin("mine", branchA) // two entries
	n.begin("other")
	n.prepare(gid, branchA)
	_, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid)})
	n.must(err)

	all, done := n.watch(ctx, WatchRequest{AfterIndex: start})
	want := []fsm.EventKind{fsm.EventBegun, fsm.EventEnlisted, fsm.EventBegun, fsm.EventVoted, fsm.EventSealed, fsm.EventDecided}
	var got []fsm.EventKind
	var second uint64
	for len(got) < len(want) {
		s := <-all
		got = append(got, s.kinds...)
		if len(got) == 2 {
			second = s.index
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
	// Resumed in the middle, and only one transaction, by key.
	mine, _ := n.watch(ctx, WatchRequest{AfterIndex: second, Transaction: ByKey("", "mine"), Namespace: "default"})
	if s := <-mine; !slices.Equal(s.kinds, []fsm.EventKind{fsm.EventVoted}) {
		t.Errorf("resumed with %v", s.kinds)
	}
	if s := <-mine; !slices.Equal(s.kinds, []fsm.EventKind{fsm.EventSealed, fsm.EventDecided}) {
		t.Errorf("one entry's events come together: %v", s.kinds)
	}
	// From now on.
	now, _ := n.watch(ctx, WatchRequest{})
	testkit.Eventually(t, 5*time.Second, func() bool {
		n.watchers.mu.Lock()
		defer n.watchers.mu.Unlock()
		return n.watchers.count == 3
	}, "three watch")
	for len(now) == 0 { // it may not have read where now is yet
		n.begin("")
	}
	if s := <-now; !slices.Equal(s.kinds, []fsm.EventKind{fsm.EventBegun}) {
		t.Errorf("from now on: %v", s.kinds)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("watch ended with %v", err)
	}
}

func TestWatchEndings(t *testing.T) {
	n := newNode(t)
	n.begin("k")
	stop := errors.New("stream broke")
	err := n.Watch(n.ctx, WatchRequest{AfterIndex: 1}, func(uint64, []fsm.Event) error { return stop })
	if !errors.Is(err, stop) {
		t.Errorf("send failed: %v", err)
	}
	err = n.Watch(n.ctx, WatchRequest{Transaction: ByKey("", "nobody")}, nil)
	wantRefusal(t, err, fsm.NotFound)

	n.overflow()
	var compacted *CompactedError
	err = n.Watch(n.ctx, WatchRequest{AfterIndex: 1}, func(uint64, []fsm.Event) error { return nil })
	if !errors.Is(err, ErrCompacted) || !errors.As(err, &compacted) || compacted.Oldest <= 1 || compacted.Error() == "" {
		t.Errorf("compacted: %v", err)
	}
	// It says what was asked for, and from where the events go on; there they do.
	if compacted.After != 1 {
		t.Errorf("asked for those after 1, and those after %d are gone", compacted.After)
	}
	if _, _, err := n.eventsAfter(compacted.Oldest - 1); !errors.Is(err, ErrCompacted) {
		t.Errorf("after %d: %v", compacted.Oldest-1, err)
	}
	if events, _, err := n.eventsAfter(compacted.Oldest); err != nil || len(events) == 0 {
		t.Errorf("after %d: %d events, %v", compacted.Oldest, len(events), err)
	}
	_, done := n.watch(n.ctx, WatchRequest{Namespace: "theirs"})
	testkit.Eventually(t, 5*time.Second, func() bool {
		n.watchers.mu.Lock()
		defer n.watchers.mu.Unlock()
		return n.watchers.count == 1
	}, "one watches")
	go func() { _ = n.Close() }()
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// overflow makes more happen than the ring of events keeps.
func (n *node) overflow() {
	for told := 0; told < fsm.EventsKept; told += eventsOfCrowd {
		_, _, err := n.log.Propose(n.ctx, cmdCrowd(n.newGID()))
		n.must(err)
	}
}
