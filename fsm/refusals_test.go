package fsm

import (
	"fmt"
	"strings"
	"testing"

	"github.com/quorate/quorate/fsm/logpb"
)

// Malformed commands are INVALID, and the answer names the field.
func TestInvalidNamesTheField(t *testing.T) {
	g := testGID(testStartMS, 1)
	change := func(f func(*logpb.Begin)) *logpb.Command {
		b := explicitBegin(g)
		f(b)
		return begin(b)
	}
	branch := func(f func(*logpb.BranchSpec)) *logpb.BranchSpec {
		b := spec("1")
		f(b)
		return b
	}
	long := strings.Repeat("x", 2000)
	for _, c := range []struct {
		want string // both the field and what is wrong
		do   *logpb.Command
	}{
		{"gid is of 3 bytes", change(func(b *logpb.Begin) { b.Gid = []byte("abc") })},
		{"is born at", explicit(testGID(testStartMS+1, 1))},
		{"mode 0 is unknown", change(func(b *logpb.Begin) { b.Mode = 0 })},
		{"mode 99 is unknown", change(func(b *logpb.Begin) { b.Mode = 99 })},
		{"mode -1 is unknown", change(func(b *logpb.Begin) { b.Mode = -1 })},
		{"entry is neither", change(func(b *logpb.Begin) { b.Entry = 0 })},
		{"entry is neither", change(func(b *logpb.Begin) { b.Entry = 3 })},
		{"timeout is 0 ms: it must lie between 1 and transaction_timeout_max_ms, which is 600000", change(func(b *logpb.Begin) { b.TimeoutMs = 0 })},
		{"timeout is 31536000000 ms: it must lie between 1 and transaction_timeout_max_ms, which is 600000", change(func(b *logpb.Begin) { b.TimeoutMs = 365 * 86_400_000 })},
		{"timeout is 600001 ms", change(func(b *logpb.Begin) { b.TimeoutMs = 600_001 })},
		{"namespace is empty", change(func(b *logpb.Begin) { b.Namespace = "" })},
		{"namespace is of 2000 bytes", change(func(b *logpb.Begin) { b.Namespace = long })},
		{"key is of 129 bytes: at most 128", change(func(b *logpb.Begin) { b.Key = long[:129] })},
		{"key holds a control character", change(func(b *logpb.Begin) { b.Key = "a\nb" })},
		{"key holds a control character", change(func(b *logpb.Begin) { b.Key = "a\u007fb" })},
		{"key holds a control character", change(func(b *logpb.Begin) { b.Key = "a\u0085b" })},
		{"key holds a control character", change(func(b *logpb.Begin) { b.Key = "a\u009fb" })},
		{"key holds a control character", change(func(b *logpb.Begin) { b.Key = "a\u2028b" })},
		{"key holds a control character", change(func(b *logpb.Begin) { b.Key = "a\u202eb" })},
		{"key holds a control character", change(func(b *logpb.Begin) { b.Key = "a\u2029b" })},
		{"key holds a control character", change(func(b *logpb.Begin) { b.Key = "a\ufeffb" })},
		{"traceparent is of 2000", change(func(b *logpb.Begin) { b.Traceparent = long })},
		{"initiator is of 2000", change(func(b *logpb.Begin) { b.Initiator = long })},
		{"labels are 33: labels_max is 32", change(func(b *logpb.Begin) {
			for i := range 33 {
				b.Labels = append(b.Labels, &logpb.Label{Name: fmt.Sprintf("%02d", i)})
			}
		})},
		{"labels hold one without a name", change(func(b *logpb.Begin) { b.Labels = []*logpb.Label{{Value: "x"}} })},
		{`labels are not sorted by unique names at "a"`, change(func(b *logpb.Begin) { b.Labels = []*logpb.Label{{Name: "a"}, {Name: "a"}} })},
		{"labels is of 2000 bytes", change(func(b *logpb.Begin) { b.Labels = []*logpb.Label{{Name: "a", Value: long}} })},
		{"labels holds a control", change(func(b *logpb.Begin) { b.Labels = []*logpb.Label{{Name: "a\t"}} })},

		{"gid is of 0 bytes", &logpb.Command{Kind: &logpb.Command_Enlist{Enlist: &logpb.Enlist{}}}},
		{"branch.id is empty", enlist(g, &logpb.BranchSpec{Resource: "x"})},
		{"branch.id is empty", enlist(g, nil)},
		{"branch.id is of 33 bytes: at most 32", enlist(g, branch(func(b *logpb.BranchSpec) { b.Id = long[:33] }))},
		{"branch.id holds a control", enlist(g, branch(func(b *logpb.BranchSpec) { b.Id = "1\x00" }))},
		{"branch.resource holds a control", enlist(g, branch(func(b *logpb.BranchSpec) { b.Resource = "\x1b[1m" }))},
		{"branch.endpoint holds a control", enlist(g, branch(func(b *logpb.BranchSpec) { b.Endpoint = "http://\n" }))},
		{"branch.holder is of 3 bytes", enlist(g, branch(func(b *logpb.BranchSpec) { b.Holder = []byte("abc") }))},
		{"branch.resource is empty, and so are", enlist(g, spec("1?"))},

		{"gid is of 0 bytes", &logpb.Command{Kind: &logpb.Command_Vote{Vote: &logpb.Vote{}}}},
		{"ballot.kind is neither", vote(g, spec("1"), 0)},
		{"ballot.kind is neither", vote(g, spec("1"), 4)},
		{"ballot.branch.id is empty", vote(g, &logpb.BranchSpec{}, votePrepared)},
		{"ballot.maybe_prepared belongs", func() *logpb.Command {
			c := vote(g, spec("1"), votePrepared)
			c.GetVote().Ballot.MaybePrepared = true
			return c
		}()},

		{"gid is of 0 bytes", decide(&logpb.Decide{})},
		{"origin is missing", decide(&logpb.Decide{Gid: g.Bytes(), Decision: DecisionCommit})},
		{"origin is missing", decide(&logpb.Decide{Gid: g.Bytes(), Decision: DecisionCommit, Origin: 5})},
		{"decision is neither", decide(&logpb.Decide{Gid: g.Bytes(), Origin: client})},
		{"decision is neither", decide(&logpb.Decide{Gid: g.Bytes(), Origin: client, Decision: 3})},
		{"operator is empty", decide(&logpb.Decide{Gid: g.Bytes(), Decision: DecisionRollback, Origin: operator, Detail: "x"})},
		{"detail is empty", decide(&logpb.Decide{Gid: g.Bytes(), Decision: DecisionRollback, Origin: operator, Operator: "x"})},
		{"operator holds a control", decide(&logpb.Decide{Gid: g.Bytes(), Decision: DecisionRollback, Origin: operator, Operator: "\a", Detail: "x"})},
		{"set is not sorted by unique ids at \"1\"", decide(&logpb.Decide{Gid: g.Bytes(), Decision: DecisionCommit, Origin: client, Set: &logpb.BranchSet{Ids: []string{"2", "1"}}})},
		{"set is not sorted by unique ids at \"1\"", commit(g, "1", "1")},
		{"set.id is empty", commit(g, "")},
		{"branches.id is empty", clientRollback(g, &logpb.BranchSpec{})},

		{"mode 0 is unknown", submit(&logpb.Begin{Gid: g.Bytes()}, nil)},
		{"set.id is empty", submit(namedBegin(g), []*logpb.BranchSpec{{}})},
		{"set is not sorted", submit(namedBegin(g), specs("2", "1"))},
		{"set is not sorted", submit(namedBegin(g), specs("1", "1"))},
		{"votes[0].kind", submit(namedBegin(g), specs("1"), ballot(spec("1"), 0))},
		{"votes[0].branch.id", submit(namedBegin(g), specs("1"), ballot(nil, votePrepared))},
		{"votes are not sorted", submit(namedBegin(g), specs("1", "2"), ballots(votePrepared, "2", "1")...)},
		{"votes are not sorted", submit(namedBegin(g), specs("1", "2"), ballots(votePrepared, "1", "1")...)},
		{`votes[0] is of branch "3", which is not in the set`, submit(namedBegin(g), specs("1", "2"), ballots(votePrepared, "3")...)},
		{`votes[1] is of branch "2", which is not in the set`, submit(namedBegin(g), specs("1", "3"), ballots(votePrepared, "1", "2")...)},
		{"votes[0].branch differs", submit(namedBegin(g), specs("1"), ballot(other(spec("1")), votePrepared))},
		{"ballot.branch.resource is empty", submit(namedBegin(g), specs("1?"), ballots(votePrepared, "1?")...)},
		{"votes hold one of branch \"1\", which is held", submit(namedBegin(g), specs("1?"), ballots(votePrepared, "1!")...)},

		{"gid is of 0 bytes", &logpb.Command{Kind: &logpb.Command_Report{Report: &logpb.Report{}}}},
		{"outcome is missing", report(g, "1", 0)},
		{"outcome is missing", report(g, "1", 6)},
		{"branch is empty", report(g, "", committed)},
		{"branch is of 33 bytes", report(g, long[:33], committed)},
		{"gid is of 0 bytes", &logpb.Command{Kind: &logpb.Command_Resolve{Resolve: &logpb.Resolve{}}}},
		{"outcome is neither", resolve(g, "1", 0)},
		{"outcome is neither", resolve(g, "1", hazard)},
		{"branch is empty", resolve(g, "", committed)},
		{"branch holds a control", resolve(g, "1\n", committed)},
		{"operator is empty", &logpb.Command{Kind: &logpb.Command_Resolve{Resolve: &logpb.Resolve{Gid: g.Bytes(), Branch: "1", Outcome: committed, Reason: "x"}}}},
		{"reason is empty", &logpb.Command{Kind: &logpb.Command_Resolve{Resolve: &logpb.Resolve{Gid: g.Bytes(), Branch: "1", Outcome: committed, Operator: "x"}}}},

		{"kind names no command", &logpb.Command{}},
		{"operator is empty", &logpb.Command{Kind: &logpb.Command_SetLimits{SetLimits: &logpb.SetLimits{}}}},
		{"digest is not of 16 bytes", &logpb.Command{Kind: &logpb.Command_CheckDigest{CheckDigest: &logpb.CheckDigest{}}}},
		{"node.id is empty", &logpb.Command{Kind: &logpb.Command_PutNode{PutNode: &logpb.PutNode{}}}},
		{"node.name is of 2000", &logpb.Command{Kind: &logpb.Command_PutNode{PutNode: &logpb.PutNode{Node: &logpb.Node{Id: "x", Name: long}}}}},
		{"hold_before_ms is 0", recovery(2, 0)},
		{"hold_before_ms is 281474976710656", recovery(2, MaxBornMS+1)},
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

// A command with text that is not UTF-8 never gets through the codec, and Apply
// does not trust that.
func TestTextThatIsNotUTF8(t *testing.T) {
	w := newWorld(t)
	b := explicitBegin(testGID(testStartMS, 1))
	b.Key = "\xff"
	if r, err := w.s.apply(begin(b)); err != nil || r.Code != Invalid || !strings.Contains(r.Detail, "key is not UTF-8") {
		t.Fatalf("%+v %v", r, err)
	}
}

// What is good at the edge of a limit is taken.
func TestLimitsAreInclusive(t *testing.T) {
	w := newWorld(t)
	b := explicitBegin(testGID(testStartMS, 1)) // born is the clock itself
	b.Key, b.Namespace = strings.Repeat("k", 128), strings.Repeat("n", 128)
	b.TimeoutMs = 600_000
	b.Traceparent = strings.Repeat("t", 1024)
	for i := range 32 {
		b.Labels = append(b.Labels, &logpb.Label{Name: string(rune('A' + i)), Value: strings.Repeat("v", 1024)})
	}
	w.must(begin(b))
	g := testGID(testStartMS, 1)
	w.must(enlist(g, &logpb.BranchSpec{Id: strings.Repeat("b", 32), Endpoint: "http://x/" + strings.Repeat("y", 1015)}))
	w.must(enlist(g, &logpb.BranchSpec{Id: "h", Holder: []byte(testHolder)}))
	w.must(explicit(testGID(testStartMS, 2)))
	one := explicitBegin(testGID(testStartMS, 3))
	one.TimeoutMs = 1
	w.must(begin(one))
}

// Every limit refuses with QUOTA and names itself and its value.
func TestQuotas(t *testing.T) {
	w := newWorld(t)
	g := testGID(testStartMS, 1)
	w.must(setLimits(&logpb.Limits{BranchesPerTransactionMax: 2, ActiveTransactionsMax: 2, TombstonesMax: 1, RetainedStubsMax: 1}))
	quota := func(limit string, c *logpb.Command) {
		t.Helper()
		if r := w.want(Quota, c); r.Detail != limit {
			t.Errorf("%q, want %q", r.Detail, limit)
		}
	}
	w.must(named(g))
	w.must(enlist(g, spec("1")))
	w.must(vote(g, spec("2"), votePrepared))
	quota("branches_per_transaction_max is 2", enlist(g, spec("3")))
	quota("branches_per_transaction_max is 2", vote(g, spec("3"), votePrepared))
	quota("branches_per_transaction_max is 2", commit(g, "1", "2", "3"))
	quota("branches_per_transaction_max is 2", submit(namedBegin(g), specs("1", "2", "3")))
	w.must(vote(g, spec("1"), votePrepared)) // a member's vote is never refused

	w.must(named(testGID(testStartMS, 2)))
	quota("active_transactions_max is 2", named(testGID(testStartMS, 3)))
	quota("active_transactions_max is 2", submit(namedBegin(testGID(testStartMS, 3)), nil))
	w.must(named(g)) // what stands is answered

	// "No limit ever refuses an ending", a client's tombstones excepted.
	w.must(clientRollback(testGID(testStartMS, 4), specs("1", "2", "3")...))
	quota("tombstones_max is 1", clientRollback(testGID(testStartMS, 5)))
	w.must(rollback(testGID(testStartMS, 5), participant))
	w.must(rollback(testGID(testStartMS, 6), operator))
	w.must(driverRollback(testGID(testStartMS, 7), 1, 1))
	w.must(clientRollback(testGID(testStartMS, 4)))
	w.must(clientRollback(testGID(testStartMS, 2)))
	if c := w.s.Counts(); c.Tombstones != 4 || c.Finished != 4 {
		t.Fatalf("%+v", c)
	}
	w.must(setLimits(&logpb.Limits{ActiveTransactionsMax: 100}))
	quota("retained_stubs_max is 1", named(testGID(testStartMS, 8)))
	quota("retained_stubs_max is 1", submit(namedBegin(testGID(testStartMS, 8)), nil))
}

// Limits that were lowered refuse no member and no ending.
func TestLoweredLimitsRefuseNoMember(t *testing.T) {
	w := newWorld(t)
	g := testGID(testStartMS, 1)
	id := strings.Repeat("b", 32)
	w.must(explicit(g))
	w.must(enlist(g, &logpb.BranchSpec{Id: id, Resource: strings.Repeat("r", 100)}))
	w.must(setLimits(&logpb.Limits{BranchIdBytesMax: 4, TextBytesMax: 20, BranchesPerTransactionMax: 2}))
	w.want(Invalid, enlist(g, spec("12345")))
	w.want(Invalid, enlist(g, &logpb.BranchSpec{Id: "1", Resource: strings.Repeat("r", 21)}))
	w.must(enlist(g, &logpb.BranchSpec{Id: id, Resource: strings.Repeat("r", 100)}))
	w.must(vote(g, &logpb.BranchSpec{Id: id, Resource: strings.Repeat("r", 100)}, votePrepared))
	w.must(commit(g, id))
	w.must(report(g, id, committed))
}

// A client that repeats what was taken hears what it came to, though limits
// were lowered since: were it QUOTA or INVALID, it would believe that nothing
// happened.
func TestLoweredLimitsStillAnswerWhatStands(t *testing.T) {
	w := newWorld(t)
	g, s := testGID(testStartMS, 1), testGID(testStartMS, 2)
	b := explicitBegin(g)
	b.TimeoutMs, b.Key, b.Traceparent = 600_000, strings.Repeat("k", 100), strings.Repeat("t", 100)
	b.Labels = []*logpb.Label{{Name: "a"}, {Name: "b", Value: strings.Repeat("v", 100)}}
	set := specs("1", "2", "3", "a branch's id")
	set[0].Endpoint = strings.Repeat("e", 100)
	log := []*logpb.Command{
		begin(b), submit(namedBegin(s), set, ballot(set[0], votePrepared), ballot(set[1], votePrepared), ballot(set[2], votePrepared), ballot(set[3], votePrepared)),
		enlist(g, set[0]), vote(g, set[0], votePrepared), commit(g, "1"), report(g, "1", committed),
	}
	for _, c := range log {
		w.must(c)
	}
	w.must(setLimits(&logpb.Limits{
		TransactionTimeoutMaxMs: 10, TransactionTimeoutDefaultMs: 10, BranchesPerTransactionMax: 1, BranchIdBytesMax: 1, KeyBytesMax: 1,
		LabelsMax: 1, TextBytesMax: 16, ActiveTransactionsMax: 1, RetainedStubsMax: 1, TombstonesMax: 1,
	}))
	for _, c := range log {
		if r := w.must(c); r.Decision != DecisionCommit || r.Changed {
			t.Errorf("%+v", r)
		}
	}
	w.leap(testStartMS + w.s.Limits().GetRetentionMs())
	w.want(Expired, begin(b)) // and what is expired is expired, not over a limit
	w.must(log[1])            // its branches have not reported
}

// What would join is held against the limits, wherever it would.
func TestJoiningKeepsToTheLimits(t *testing.T) {
	g := testGID(testStartMS, 1)
	long := strings.Repeat("x", 2000)
	fat := &logpb.BranchSpec{Id: "1", Resource: long}
	far := &logpb.BranchSpec{Id: "1", Endpoint: long}
	wide := &logpb.BranchSpec{Id: "12345", Resource: "r"}
	for _, c := range []struct {
		want string
		do   *logpb.Command
	}{
		{"branch.resource is of 2000 bytes: at most 1024", enlist(g, fat)},
		{"branch.endpoint is of 2000 bytes: at most 1024", enlist(g, far)},
		{"branch.id is of 5 bytes: at most 4", enlist(g, wide)},
		{"ballot.branch.resource is of 2000", vote(g, fat, votePrepared)},
		{"ballot.branch.endpoint is of 2000", vote(g, far, voteRefused)},
		{"ballot.branch.id is of 5", vote(g, wide, votePrepared)},
		{"set.id is of 5", commit(g, "12345")},
		{"set.resource is of 2000", submit(namedBegin(g), []*logpb.BranchSpec{fat})},
		{"set.id is of 5", submit(namedBegin(g), []*logpb.BranchSpec{wide})},
		{"set.endpoint is of 2000", submit(namedBegin(testGID(testStartMS, 2)), []*logpb.BranchSpec{far})},
	} {
		w := newWorld(t)
		w.must(setLimits(&logpb.Limits{BranchIdBytesMax: 4}))
		w.must(named(g))
		if r := w.want(Invalid, c.do); !strings.Contains(r.Detail, c.want) {
			t.Errorf("%q, want %q", r.Detail, c.want)
		}
	}
}

// Texts that come with an ending are cut, at a character, never refused.
func TestTextsOfEndingsAreCut(t *testing.T) {
	w := newWorld(t)
	w.must(setLimits(&logpb.Limits{TextBytesMax: 20}))
	long := strings.Repeat("é", 15) // 30 bytes
	g := testGID(testStartMS, 1)
	w.must(explicit(g))
	w.must(enlist(g, spec("1")))
	c := clientRollback(g)
	c.GetDecide().Detail = "x" + long
	w.must(c)
	if got, want := w.get(g).GetDetail(), "x"+strings.Repeat("é", 9); got != want {
		t.Errorf("detail %q, want %q", got, want)
	}
	o := rollback(testGID(testStartMS, 2), operator)
	o.GetDecide().Operator = long
	w.must(o)
	if got := w.get(testGID(testStartMS, 2)).GetOperator(); got != long[:20] {
		t.Errorf("operator %q", got)
	}
	r := report(g, "1", rolledBack)
	r.GetReport().Detail = long
	w.must(r)
	if got := w.get(g).GetBranches()[0].GetDetail(); got != long[:20] {
		t.Errorf("detail %q", got)
	}
}

func TestSetLimits(t *testing.T) {
	w := newWorld(t)
	before := w.s.Digest()
	if r := w.must(setLimits(nil)); r.Changed || w.s.Digest() != before {
		t.Error("no change is a change")
	}
	if r := w.must(setLimits(&logpb.Limits{LabelsMax: 5})); !r.Changed || w.s.Limits().GetLabelsMax() != 5 {
		t.Errorf("%+v", r)
	}
	if w.s.Digest() == before {
		t.Error("limits are no part of the digest")
	}
	for want, l := range map[string]*logpb.Limits{
		"transaction_timeout_default_ms is 600001":                               {TransactionTimeoutDefaultMs: 600_001},
		"retention_ms is 719999: it must lie between 720000 and":                 {RetentionMs: 719_999},
		"retention_ms is 1800000: it must lie between 1920000":                   {TransactionTimeoutMaxMs: 1_800_000},
		"transaction_timeout_max_ms is 604800001":                                {TransactionTimeoutMaxMs: 7*86_400_000 + 1},
		"clock_advance_max_ms is 9999: it must lie between 10000":                {ClockAdvanceMaxMs: 9_999},
		"branch_id_bytes_max is 33: it must lie between 1 and 32":                {BranchIdBytesMax: 33},
		"key_bytes_max is 1025":                                                  {KeyBytesMax: 1025},
		"text_bytes_max is 15: it must lie between 16":                           {TextBytesMax: 15},
		"branches_per_transaction_max is 65537: it must lie between 1 and 65536": {BranchesPerTransactionMax: 65_537},
		"drops_per_tick_max is 1048577":                                          {DropsPerTickMax: 1<<20 + 1},
		"expiries_per_tick_max is 1048577":                                       {ExpiriesPerTickMax: 1<<20 + 1},
	} {
		if r := w.want(Invalid, setLimits(l)); !strings.Contains(r.Detail, want) {
			t.Errorf("%q, want %q", r.Detail, want)
		}
	}
	w.must(setLimits(&logpb.Limits{RetentionMs: 720_000, ClockAdvanceMaxMs: 10_000, BranchIdBytesMax: 32, TextBytesMax: 16}))
	if problem := checkLimits(&logpb.Limits{}); !strings.Contains(problem, "field 1 is zero") {
		t.Errorf("%q", problem)
	}
}

func TestFound(t *testing.T) {
	s := New()
	apply := func(c *logpb.Command) Result {
		t.Helper()
		r, err := s.apply(c)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	g := testGID(0, 1)
	for _, c := range []*logpb.Command{
		explicit(g), clientRollback(g), setLimits(nil), recovery(2, 5), report(g, "1", committed),
	} {
		if r := apply(c); r.Code != NotFounded {
			t.Errorf("%v before the founding: %+v", c, r)
		}
	}
	if r := apply(tick()); r.Code != OK {
		t.Errorf("tick: %+v", r)
	}
	if s.Founded() {
		t.Error("founded by nothing")
	}
	for _, bad := range []*logpb.Found{{}, {ClusterId: make([]byte, 16)}, {ClusterId: []byte("x")},
		{ClusterId: testCluster.Bytes(), Limits: &logpb.Limits{RetentionMs: 1}}} {
		if r := apply(&logpb.Command{Kind: &logpb.Command_Found{Found: bad}}); r.Code != Invalid {
			t.Errorf("%v: %+v", bad, r)
		}
	}
	if r := apply(found()); r.Code != OK || !s.Founded() || s.ClusterID() != testCluster || s.Clock().Incarnation != 1 {
		t.Errorf("%+v", r)
	}
	digest := s.Digest()
	if r := apply(found()); r.Code != AlreadyFounded || r.GID != testCluster || s.Digest() != digest {
		t.Errorf("second: %+v", r)
	}
}

func TestNodes(t *testing.T) {
	w := newWorld(t)
	put := func(id, name string) *logpb.Command {
		return &logpb.Command{Kind: &logpb.Command_PutNode{PutNode: &logpb.PutNode{Node: &logpb.Node{Id: id, Name: name}}}}
	}
	remove := func(id string) *logpb.Command {
		return &logpb.Command{Kind: &logpb.Command_RemoveNode{RemoveNode: &logpb.RemoveNode{Id: id}}}
	}
	names := func() (list []string) {
		for _, n := range w.s.Nodes() {
			list = append(list, n.GetId()+"="+n.GetName())
		}
		return list
	}
	w.must(put("b", "n2"))
	w.must(put("a", "n1"))
	pinned := w.s.Pin()
	before := w.s.Digest()
	if r := w.must(put("a", "n1")); r.Changed || w.s.Digest() != before {
		t.Errorf("repeated: %+v", r)
	}
	if r := w.must(put("b", "n3")); !r.Changed || w.s.Digest() == before {
		t.Errorf("changed: %+v", r)
	}
	if got := strings.Join(names(), " "); got != "a=n1 b=n3" {
		t.Error(got)
	}
	w.must(remove("a"))
	if r := w.must(remove("a")); r.Changed {
		t.Errorf("removed twice: %+v", r)
	}
	if got := strings.Join(names(), " "); got != "b=n3" {
		t.Error(got)
	}
	if got := pinned.header.GetNodes(); len(got) != 2 || got[1].GetName() != "n2" {
		t.Errorf("a pin saw what came after it: %v", got)
	}
	for i := range NodesMax - 1 {
		w.must(put(fmt.Sprintf("c%02d", i), ""))
	}
	if r := w.want(Quota, put("zz", "")); r.Detail != "nodes_max is 64" {
		t.Error(r.Detail)
	}
	w.must(put("b", "n4"))
}

// A repeated Submit that brings a vote stores it, also where it decides nothing;
// one that brings nothing changes nothing.
func TestSubmitAgainBringsVotes(t *testing.T) {
	w := newWorld(t)
	g := testGID(testStartMS, 1)
	w.must(submit(namedBegin(g), specs("1", "2", "3")))
	for i, votes := range [][]string{{"1"}, {"1", "2"}, {"2"}, {"1", "2", "3"}} {
		r := w.must(submit(namedBegin(g), specs("1", "2", "3"), ballots(votePrepared, votes...)...))
		if r.Changed != (i != 2) || r.Created || (r.Decision == DecisionCommit) != (i == 3) {
			t.Errorf("%v: %+v", votes, r)
		}
		for _, id := range votes {
			if b := w.s.find(g).member(id); b.vote != votePrepared {
				t.Errorf("%v: the vote of %s is lost", votes, id)
			}
		}
	}
}
