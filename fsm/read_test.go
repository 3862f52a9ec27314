package fsm

import (
	"fmt"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/quorate/quorate/fsm/logpb"
)

func kinds(events []Event) (list []string) {
	names := []string{"", "begun", "enlisted", "voted", "sealed", "decided", "reported", "resolved", "finished", "dropped", "quarantined"}
	for _, e := range events {
		text := names[e.Kind]
		if e.Branch != "" {
			text += " " + e.Branch
		}
		list = append(list, text)
	}
	return list
}

// What happened is told from what changed, in the order in which it happened.
func TestEvents(t *testing.T) {
	g := testGID(testStartMS, 1)
	for _, c := range []struct {
		name string
		log  []*logpb.Command
		want []string
	}{
		{"explicit", []*logpb.Command{
			explicit(g), explicit(g), enlist(g, spec("1")), enlist(g, spec("1")), enlist(g, spec("2")), vote(g, spec("2"), votePrepared),
			commit(g), vote(g, spec("1"), votePrepared), report(g, "2", committed), resolve(g, "1", committed),
		}, []string{"begun", "enlisted 1", "enlisted 2", "voted 2", "sealed", "voted 1", "decided", "reported 2", "resolved 1", "finished"}},
		{"submit", []*logpb.Command{submit(namedBegin(g), specs("1", "2"), ballots(voteReadOnly, "1", "2")...)},
			[]string{"begun", "enlisted 1", "voted 1", "enlisted 2", "voted 2", "sealed", "decided", "finished"}},
		{"a hint becomes known", []*logpb.Command{named(g), commit(g, "1", "2"), enlist(g, spec("2")), vote(g, spec("1"), votePrepared)},
			[]string{"begun", "sealed", "enlisted 2", "enlisted 1", "voted 1"}},
		{"tombstone", []*logpb.Command{clientRollback(g, spec("1"), spec("2?")), report(g, "1", rolledBack)},
			[]string{"enlisted 1", "decided", "reported 1", "finished"}},
		{"refusals tell nothing", []*logpb.Command{explicit(g), vote(g, spec("1"), votePrepared), commit(g, "9"), named(g)}, []string{"begun"}},
	} {
		w := newWorld(t)
		from := w.index
		for _, command := range c.log {
			w.do(command)
		}
		events, oldest, ok := w.s.Events(from, 1000)
		if got := kinds(events); !ok || oldest != 0 || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		for _, e := range events {
			if e.GID != g || e.Index <= from || e.Term != 1 || e.ClockMS != testStartMS || e.WallMS == 0 {
				t.Errorf("%s: %+v", c.name, e)
			}
			if want := map[bool]string{true: "", false: "default"}[c.name == "tombstone"]; e.Namespace != want {
				t.Errorf("%s: namespace %q", c.name, e.Namespace)
			}
		}
	}
	w := newWorld(t)
	from := w.index
	explicitSituation(w, "A")
	old := w.s.find(g)
	next := old.clone()
	next.require(false, "planted")
	w.index++
	w.s.now.index = w.index
	w.s.put(old, next)
	events, _, _ := w.s.Events(from+4, 10)
	if got := kinds(events); !slices.Equal(got, []string{"quarantined"}) {
		t.Error(got)
	}
}

// Entries are read whole, a reader goes on after the last index, and what is no
// longer kept is said to be gone.
func TestEventsAreARing(t *testing.T) {
	var s State
	add := func(index uint64, n int) {
		for range n {
			s.events.add(news{at: &stamp{index: index, term: uint64(n)}, all: &[]happened{{kind: EventVoted}}})
		}
	}
	for i := range uint64(EventsKept / 4) {
		add(i+1, 4)
	}
	if _, oldest, ok := s.Events(0, 10); !ok || oldest != 0 {
		t.Fatalf("nothing is gone yet: %d %v", oldest, ok)
	}
	last := uint64(EventsKept / 4)
	add(last+1, 1) // pushes out one of index 1
	if _, oldest, ok := s.Events(0, 10); ok || oldest != 1 {
		t.Fatalf("an event of index 1 is gone: %d %v", oldest, ok)
	}
	events, _, ok := s.Events(1, 5)
	if !ok || len(events) != 8 || events[0].Index != 2 || events[7].Index != 3 {
		t.Fatalf("%v %v", events, ok)
	}
	if events, _, ok := s.Events(1, 8); !ok || len(events) != 8 {
		t.Fatalf("%d events", len(events))
	}
	all := 0
	for after := uint64(1); ; {
		events, _, ok := s.Events(after, 1000)
		if !ok {
			t.Fatal("gone")
		}
		if len(events) == 0 {
			break
		}
		all += len(events)
		after = events[len(events)-1].Index
	}
	if all != EventsKept-3 {
		t.Errorf("%d events, want %d", all, EventsKept-3)
	}
	if events, _, ok := s.Events(last+5, 10); !ok || len(events) != 0 {
		t.Error("events of the future")
	}
	for i := range uint64(EventsKept) {
		add(last+2+i, 1)
	}
	if events, oldest, ok := s.Events(last+1, 1); !ok || oldest != last+1 || len(events) != 1 || events[0].Index != last+2 {
		t.Errorf("%v %d %v", events, oldest, ok)
	}
}

func TestListPages(t *testing.T) {
	w := newWorld(t)
	var want, live []GID
	for n := range uint64(25) {
		g := testGID(testStartMS, n^7) // not in the order of GIDs
		want = append(want, g)
		if n%3 == 0 {
			w.must(clientRollback(g)) // filed at once
			continue
		}
		w.must(explicit(g))
		live = append(live, g)
	}
	read := func(q ListQuery) (gids []GID, pages int) {
		for at, more := (Cursor{}), true; more; pages++ {
			p := w.s.List(at, q)
			if len(p.Transactions) > max(q.LimitMax, 1) && q.LimitMax > 0 {
				t.Fatalf("%d on a page of %d", len(p.Transactions), q.LimitMax)
			}
			for _, tx := range p.Transactions {
				gids = append(gids, GID(tx.GetBegin().GetGid()))
			}
			at, more = p.Next, p.More
		}
		return gids, pages
	}
	tomb := func(tx *logpb.Transaction) bool { return tx.GetTombstone() }
	for _, c := range []struct {
		q     ListQuery
		want  []GID
		pages int
	}{
		{ListQuery{}, live, 1},
		{ListQuery{Finished: true}, want, 1},
		{ListQuery{Finished: true, LimitMax: 4}, want, 7},
		{ListQuery{Finished: true, LimitMax: 25}, want, 1},
		{ListQuery{Finished: true, ScanMax: 5}, want, 5},
		{ListQuery{LimitMax: 1}, live, len(live)},
		{ListQuery{Keep: tomb}, nil, 1},
		{ListQuery{Finished: true, Keep: tomb, ScanMax: 2}, []GID{want[0], want[3], want[6], want[9], want[12], want[15], want[18], want[21], want[24]}, 13},
	} {
		if got, pages := read(c.q); !slices.Equal(got, c.want) || pages != c.pages {
			t.Errorf("%+v: %d pages of %v, want %d of %v", c.q, pages, got, c.pages, c.want)
		}
	}
	// A cursor survives what stands at it.
	p := w.s.List(Cursor{}, ListQuery{LimitMax: 3})
	w.must(clientRollback(live[2]))
	if next := w.s.List(p.Next, ListQuery{LimitMax: 1}); len(next.Transactions) != 1 || GID(next.Transactions[0].GetBegin().GetGid()) != live[3] {
		t.Errorf("%v", next)
	}
	var active []GID
	for tx := range w.s.Active() {
		active = append(active, GID(tx.GetBegin().GetGid()))
		if len(active) == 5 {
			break
		}
	}
	if !slices.Equal(active, append(slices.Clone(live[:2]), live[3:6]...)) {
		t.Errorf("%v", active)
	}
	// A page holds a hundred unless more are asked for.
	for n := range uint64(120) {
		w.must(explicit(testGID(testStartMS, 100+n)))
	}
	if p := w.s.List(Cursor{}, ListQuery{}); len(p.Transactions) != ListLimitDefault || !p.More {
		t.Errorf("%d, %v", len(p.Transactions), p.More)
	}
}

func TestCounts(t *testing.T) {
	w := newWorld(t)
	g := func(n uint64) GID { return testGID(testStartMS, n) }
	w.must(explicit(g(1)))
	w.must(enlist(g(1), spec("1")))
	w.clock += 10
	w.must(explicit(g(2)))
	w.must(enlist(g(2), spec("1")))
	w.must(vote(g(2), spec("1"), votePrepared))
	w.clock += 10
	w.must(vote(g(1), spec("1"), votePrepared)) // the older one votes later
	w.must(clientRollback(g(3)))
	w.must(clientRollback(g(4), spec("1")))
	c := w.s.Counts()
	if c.Open[1][StateActive] != 2 || c.Open[0][StateRollingBack] != 1 || c.Live != 3 || c.Finished != 1 || c.Tombstones != 2 ||
		c.InDoubt != 2 || c.OldestInDoubtMS != testStartMS+10 || c.Due != 1 || c.Heuristics != 0 {
		t.Errorf("%+v", c)
	}
	w.must(commit(g(2)))
	w.must(report(g(2), "1", rolledBack))
	c = w.s.Counts()
	if c.InDoubt != 1 || c.OldestInDoubtMS != testStartMS+20 || c.Heuristics != 1 || c.Open[1][StateActive] != 1 || c.Open[1][StateCommitting] != 0 {
		t.Errorf("%+v", c)
	}
	w.must(clientRollback(g(1)))
	if c = w.s.Counts(); c.InDoubt != 1 || c.Open[1][StateRollingBack] != 1 || c.Due != 2 {
		t.Errorf("%+v", c)
	}
	w.must(report(g(1), "1", rolledBack))
	if c = w.s.Counts(); c.InDoubt != 0 || c.OldestInDoubtMS != 0 || c.Open[1][StateRollingBack] != 0 {
		t.Errorf("%+v", c)
	}
}

func TestDueIsInOrderAndWhole(t *testing.T) {
	w := newWorld(t)
	var want []string
	for n := range uint64(5) {
		g := testGID(testStartMS, 9-n)
		w.must(submit(namedBegin(g), specs("1", "2", "3"), ballots(votePrepared, "1", "2", "3")...))
		w.must(report(g, "2", committed))
		want = append(want, g.String()+" 1 COMMIT 1000000", g.String()+" 3 COMMIT 1000000")
	}
	var got []string
	for d := range w.s.Due() {
		got = append(got, fmt.Sprintf("%s %s %s %d", d.GID, d.Branch.GetId(), d.Verdict, d.DecidedMS))
	}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	for range w.s.Due() {
		break
	}
	// A hint is never due, and a refusal is told only if it may have prepared.
	g := testGID(testStartMS, 50)
	w.must(submit(namedBegin(g), specs("1", "2", "3?", "4"), ballot(spec("1"), voteReadOnly), &logpb.Ballot{Branch: spec("2"), Kind: voteRefused, MaybePrepared: true}))
	got = nil
	for _, d := range w.s.DueOf(g) {
		got = append(got, d.Branch.GetId()+" "+d.Verdict.String())
	}
	if !slices.Equal(got, []string{"2 ROLLBACK", "4 ROLLBACK"}) {
		t.Errorf("%v", got)
	}
	if len(w.s.DueOf(testGID(1, 1))) != 0 {
		t.Error("an unseen GID is due")
	}
}

// What is heard of a rollback, and why it was decided, is kept.
func TestReasons(t *testing.T) {
	for _, c := range []struct {
		do     func(w *world, g GID) *logpb.Command
		reason logpb.Reason
		origin logpb.Origin
		detail string
	}{
		{func(w *world, g GID) *logpb.Command { return clientRollback(g) }, logpb.Reason_REASON_REQUESTED, client, ""},
		{func(w *world, g GID) *logpb.Command { return rollback(g, participant) }, logpb.Reason_REASON_PRESUMED, participant, ""},
		{func(w *world, g GID) *logpb.Command { return driverRollback(g, 1, 1) }, logpb.Reason_REASON_PARTICIPANT_LOST, driverSays, ""},
		{func(w *world, g GID) *logpb.Command { return rollback(g, operator) }, logpb.Reason_REASON_OPERATOR, operator, "the other side says so"},
		{func(w *world, g GID) *logpb.Command {
			c := clientRollback(g)
			c.GetDecide().Reason = logpb.Reason_REASON_PRESUMED
			c.GetDecide().Detail = "because"
			return c
		}, logpb.Reason_REASON_PRESUMED, client, "because"},
		{func(w *world, g GID) *logpb.Command {
			c := clientRollback(g)
			c.GetDecide().Reason = 99
			return c
		}, logpb.Reason_REASON_REQUESTED, client, ""},
		{func(w *world, g GID) *logpb.Command { return vote(g, spec("1"), voteRefused) }, logpb.Reason_REASON_REFUSED, 0, "branch 1 refused"},
		{func(w *world, g GID) *logpb.Command {
			c := vote(g, spec("1"), voteRefused)
			c.GetVote().Ballot.Detail = "no funds"
			return c
		}, logpb.Reason_REASON_REFUSED, 0, "branch 1 refused: no funds"},
		{func(w *world, g GID) *logpb.Command {
			return submit(explicitBegin(g), specs("1", "2"), ballots(voteRefused, "1", "2")...)
		}, logpb.Reason_REASON_SUBMIT_REFUSED, client, "branch 1 refused"},
		{func(w *world, g GID) *logpb.Command { return report(g, "1", rolledBack) }, logpb.Reason_REASON_REPORTED, participant, "branch 1 reported rolled_back before the decision"},
	} {
		w := newWorld(t)
		g := testGID(testStartMS, 1)
		w.must(explicit(g))
		w.must(enlist(g, spec("1")))
		w.must(enlist(g, spec("2")))
		r := w.must(c.do(w, g))
		tx := w.get(g)
		if r.Reason != c.reason || tx.GetReason() != c.reason || tx.GetOrigin() != c.origin || tx.GetDetail() != c.detail {
			t.Errorf("%v: %v %v %q, want %v %v %q", c.do(w, g), tx.GetReason(), tx.GetOrigin(), tx.GetDetail(), c.reason, c.origin, c.detail)
		}
	}
}

// Alarms are for what nobody can put right.
func TestAlarms(t *testing.T) {
	for _, c := range []struct {
		column  string
		branch  string
		outcome Outcome
		alarm   bool
		own     logpb.Own
	}{
		{"C", "1", committed, false, ownDone}, {"C", "1", rolledBack, true, ownContrary}, {"C", "1", hazard, true, ownHazard}, {"C", "1", mixed, true, ownMixed},
		{"R", "1", rolledBack, false, ownDone}, {"R", "1", committed, true, ownContrary}, {"R", "1", hazard, true, ownHazard}, {"R", "1", mixed, true, ownMixed},
		{"C+", "1", committed, false, ownDone}, {"C+", "1", rolledBack, true, ownMixed}, {"C+", "1", hazard, false, ownDone},
		{"A", "1", rolledBack, false, ownDone}, {"A", "1", committed, true, ownContrary}, {"A", "1", hazard, true, ownHazard},
		{"C", "9", committed, true, 0}, {"C", "9", hazard, true, 0}, {"C", "9", rolledBack, false, 0},
		{"A", "9", committed, true, 0}, {"R", "9", rolledBack, false, 0}, {"X", "1", committed, true, 0}, {"X", "1", rolledBack, false, 0}, {"X", "1", hazard, true, 0},
	} {
		w := newWorld(t)
		g := explicitSituation(w, c.column)
		r := w.must(report(g, c.branch, c.outcome))
		if r.Alarm != c.alarm || r.Alarm && r.Detail == "" {
			t.Errorf("%+v: %+v", c, r)
		}
		if c.own != 0 {
			if b := w.s.find(g).member(c.branch); b.own != c.own {
				t.Errorf("%+v: %v", c, b.own)
			}
		}
	}
}

// "Own outcomes join: none -> done | contrary | hazard; hazard -> done |
// contrary; done with contrary -> mixed; mixed stays."
func TestOwnOutcomesJoin(t *testing.T) {
	want := map[[2]logpb.Own]logpb.Own{
		{ownNone, ownDone}: ownDone, {ownNone, ownContrary}: ownContrary, {ownNone, ownHazard}: ownHazard, {ownNone, ownMixed}: ownMixed,
		{ownHazard, ownDone}: ownDone, {ownHazard, ownContrary}: ownContrary, {ownHazard, ownHazard}: ownHazard, {ownHazard, ownMixed}: ownMixed,
		{ownDone, ownDone}: ownDone, {ownDone, ownContrary}: ownMixed, {ownDone, ownHazard}: ownDone, {ownDone, ownMixed}: ownMixed,
		{ownContrary, ownDone}: ownMixed, {ownContrary, ownContrary}: ownContrary, {ownContrary, ownHazard}: ownContrary, {ownContrary, ownMixed}: ownMixed,
		{ownMixed, ownDone}: ownMixed, {ownMixed, ownContrary}: ownMixed, {ownMixed, ownHazard}: ownMixed, {ownMixed, ownMixed}: ownMixed,
	}
	for in, out := range want {
		if got := joined(in[0], in[1]); got != out {
			t.Errorf("%v and %v: %v, want %v", in[0], in[1], got, out)
		}
	}
	// A read-only branch wrote nothing, however it ended.
	w := newWorld(t)
	g := testGID(testStartMS, 1)
	w.must(submit(namedBegin(g), specs("1", "2"), ballot(spec("1"), voteReadOnly), ballot(spec("2"), votePrepared)))
	if r := w.must(report(g, "1", rolledBack)); r.Alarm || w.s.find(g).member("1").own != ownDone {
		t.Errorf("%+v", r)
	}
}

// What a report says is kept as it was said.
func TestReportIsKept(t *testing.T) {
	w := newWorld(t)
	g := testGID(testStartMS, 1)
	w.must(submit(namedBegin(g), specs("1"), &logpb.Ballot{Branch: spec("1"), Kind: votePrepared, Detail: "3 rows"}))
	if d := w.get(g).GetBranches()[0].GetDetail(); d != "3 rows" {
		t.Errorf("detail %q", d)
	}
	c := report(g, "1", rolledBack)
	c.GetReport().Attempts = 7
	w.must(c)
	b := w.get(g).GetBranches()[0]
	if b.GetOutcome() != rolledBack || b.GetAttempts() != 7 || b.GetReported().GetIndex() != w.index || b.GetDetail() != "3 rows" ||
		b.GetVoted().GetIndex() == 0 || b.GetEnlisted().GetIndex() == 0 {
		t.Errorf("%v", b)
	}
	c = report(g, "1", committed)
	c.GetReport().Detail = "it was there after all"
	w.must(c)
	if b := w.get(g).GetBranches()[0]; b.GetDetail() != "it was there after all" || b.GetOwn() != ownMixed || b.GetOutcome() != committed {
		t.Errorf("%v", b)
	}
	if tx := w.get(g); tx.GetFiledMs() == 0 || tx.GetSealedAt().GetIndex() == 0 || !tx.GetSubmitted() || tx.GetFinished().GetIndex() == 0 {
		t.Errorf("%v", tx)
	}
}

// Every field of Begin's content tells same from other, and no other field.
func TestContentOfBegin(t *testing.T) {
	g := testGID(testStartMS, 1)
	full := func() *logpb.Begin {
		b := keyed(g, "k", logpb.Entry_ENTRY_NAMED)
		b.Labels = []*logpb.Label{{Name: "a", Value: "1"}, {Name: "b", Value: "2"}}
		b.Traceparent, b.Initiator = "t", "i"
		return b
	}
	for name, c := range map[string]struct {
		change func(*logpb.Begin)
		same   bool
	}{
		"nothing":     {func(b *logpb.Begin) {}, true},
		"trace":       {func(b *logpb.Begin) { b.Traceparent = "other" }, true},
		"initiator":   {func(b *logpb.Begin) { b.Initiator = "other" }, true},
		"namespace":   {func(b *logpb.Begin) { b.Namespace = "other" }, false},
		"key":         {func(b *logpb.Begin) { b.Key = "other" }, false},
		"no key":      {func(b *logpb.Begin) { b.Key = "" }, false},
		"entry":       {func(b *logpb.Begin) { b.Entry = logpb.Entry_ENTRY_EXPLICIT }, false},
		"timeout":     {func(b *logpb.Begin) { b.TimeoutMs++ }, false},
		"label":       {func(b *logpb.Begin) { b.Labels[1].Value = "3" }, false},
		"label name":  {func(b *logpb.Begin) { b.Labels[1].Name = "c" }, false},
		"less labels": {func(b *logpb.Begin) { b.Labels = b.Labels[:1] }, false},
	} {
		w := newWorld(t)
		w.must(begin(full()))
		changed := full()
		c.change(changed)
		code := GIDConflict
		if c.same {
			code = OK
		}
		if r := w.want(code, begin(changed)); r.Created {
			t.Errorf("%s: created", name)
		}
		if !proto.Equal(w.get(g).GetBegin(), full()) {
			t.Errorf("%s: the record changed", name)
		}
	}
	if (&transaction{begin: full()}).sameBegin(func() *logpb.Begin { b := full(); b.Mode = logpb.Mode_MODE_TCC; return b }(), nil) {
		t.Error("mode")
	}
}

// Every field of Enlist's content tells same from other.
func TestContentOfEnlist(t *testing.T) {
	full := func() *logpb.BranchSpec {
		return &logpb.BranchSpec{Id: "1", Resource: "r", Endpoint: "http://e", Held: true, Holder: []byte(testHolder)}
	}
	for name, change := range map[string]func(*logpb.BranchSpec){
		"resource": func(b *logpb.BranchSpec) { b.Resource = "other" },
		"endpoint": func(b *logpb.BranchSpec) { b.Endpoint = "" },
		"held":     func(b *logpb.BranchSpec) { b.Held = false },
		"holder":   func(b *logpb.BranchSpec) { b.Holder = []byte("holder-000000002") },
	} {
		w := newWorld(t)
		g := testGID(testStartMS, 1)
		w.must(explicit(g))
		w.must(enlist(g, full()))
		w.must(enlist(g, full()))
		changed := full()
		change(changed)
		if r := w.want(BranchConflict, enlist(g, changed)); r.Detail != "branch 1 of "+g.String()+" stands as r at http://e, held" {
			t.Errorf("%s: %q", name, r.Detail)
		}
		if !proto.Equal(w.get(g).GetBranches()[0].GetSpec(), full()) {
			t.Errorf("%s: the branch changed", name)
		}
	}
}

// A rollback that knows more of a hint than its name makes it due; of a sealed
// set it adds none.
func TestRollbackIntroducesHints(t *testing.T) {
	w := newWorld(t)
	g := testGID(testStartMS, 1)
	w.must(named(g))
	w.must(commit(g, "1", "2"))
	w.must(clientRollback(g, spec("1"), spec("2?"), spec("3")))
	var got []string
	for _, d := range w.s.DueOf(g) {
		got = append(got, d.Branch.GetId()+" "+d.Branch.GetResource())
	}
	if !slices.Equal(got, []string{"1 r-1"}) || len(w.get(g).GetBranches()) != 2 {
		t.Errorf("due %v of %v", got, w.get(g).GetBranches())
	}
	// An active one's set is open: those that were called join, to hear of it.
	g = testGID(testStartMS, 2)
	w.must(named(g))
	w.must(clientRollback(g, spec("1"), spec("2?")))
	if len(w.s.DueOf(g)) != 1 || len(w.get(g).GetBranches()) != 2 {
		t.Errorf("%v", w.get(g))
	}
}

// Where branches do not enlist, two may bear one name. The verdict is that of the
// branch that voted, by its resource.
func TestInquireForAnotherResource(t *testing.T) {
	w, g := newWorld(t), testGID(testStartMS, 1)
	w.must(submit(namedBegin(g), specs("1"), ballots(votePrepared, "1")...))
	has := spec("1").GetResource()
	for resource, want := range map[string]Verdict{has: VerdictCommit, "": VerdictCommit, has + "2": VerdictRollback} {
		if q := w.s.InquireFor(g, "1", resource); q.Code != OK || q.Verdict != want || q.Decision != DecisionCommit {
			t.Errorf("branch 1 of %q is told %v", resource, q)
		}
	}
	if q := w.s.InquireFor(g, "2", has); q.Verdict != VerdictRollback {
		t.Errorf("a branch outside the set is told %v", q)
	}
}
