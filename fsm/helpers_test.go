package fsm

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"
	"testing"

	"github.com/quorate/quorate/fsm/logpb"
)

// world is a state machine and the clock and the log that drive it in a test.
type world struct {
	t     testing.TB
	s     *State
	index uint64
	term  uint64
	clock uint64
	log   []logged // every entry, as it went in
}

// logged is one entry of a log.
type logged struct {
	index, term uint64
	entry       []byte
}

const (
	testTimeoutMS = 1_000
	testStartMS   = 1_000_000
	testHolder    = "holder-000000001"
)

// newWorld founds a cluster whose clock stands at testStartMS.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, s: New(), term: 1}
	w.must(found())
	w.leap(testStartMS)
	return w
}

var testCluster = testGID(7, 7)

func found() *logpb.Command {
	return &logpb.Command{Kind: &logpb.Command_Found{Found: &logpb.Found{
		ClusterId: testCluster.Bytes(),
		Limits:    &logpb.Limits{ClockAdvanceMaxMs: 3_600_000}, // so that tests leap in one step
	}}}
}

// leap moves the clock on in as many entries as ClockAdvanceMax asks for.
func (w *world) leap(to uint64) {
	w.t.Helper()
	w.clock = to
	for w.s.ClockMS() < to {
		w.batch(&logpb.Command{Kind: &logpb.Command_Tick{Tick: &logpb.Tick{}}})
	}
}

// batch applies commands as one entry, through the codec, and checks everything.
func (w *world) batch(commands ...*logpb.Command) []Result {
	w.t.Helper()
	w.index++
	entry := EncodeEntry(nil, &logpb.Batch{ClockMs: w.clock, WallMs: 1_700_000_000_000 + w.clock, FeatureLevel: FeatureLevel, Commands: commands})
	w.log = append(w.log, logged{w.index, w.term, entry})
	results, err := w.s.ApplyEntry(w.index, w.term, entry)
	if err != nil {
		w.t.Fatalf("apply index %d: %v", w.index, err)
	}
	if err := w.s.CheckInvariants(); err != nil {
		w.t.Fatalf("after index %d: %v", w.index, err)
	}
	return results
}

func (w *world) do(c *logpb.Command) Result {
	w.t.Helper()
	return w.batch(c)[0]
}

// must applies a command that has to be taken.
func (w *world) must(c *logpb.Command) Result {
	w.t.Helper()
	return w.want(OK, c)
}

// want applies a command that has to be answered with a code.
func (w *world) want(code Code, c *logpb.Command) Result {
	w.t.Helper()
	before := w.s.Digest()
	r := w.do(c)
	if r.Code != code {
		w.t.Fatalf("index %d: %v is answered %v (%s), want %v", w.index, c, r.Code, r.Detail, code)
	}
	if code != OK && !r.Changed && w.clock <= w.s.ClockMS() && before != w.s.Digest() {
		w.t.Fatalf("index %d: refusal %v changed the state", w.index, r.Code)
	}
	return r
}

func (w *world) get(gid GID) *logpb.Transaction {
	w.t.Helper()
	tx, ok := w.s.Get(gid)
	if !ok {
		w.t.Fatalf("no transaction %s", gid)
	}
	return tx
}

func (w *world) state(gid GID, want TxState) {
	w.t.Helper()
	if got := w.get(gid).GetState(); got != want {
		w.t.Fatalf("%s is in %v, want %v", gid, got, want)
	}
}

func testGID(bornMS uint64, n uint64) GID {
	var random [10]byte
	binary.BigEndian.PutUint64(random[2:], n)
	return NewGID(bornMS, random)
}

// spec makes a branch of resource r-ID; a trailing "!" means held, and a
// trailing "?" a name and nothing more.
func spec(id string) *logpb.BranchSpec {
	switch last := id[len(id)-1]; last {
	case '!':
		id = id[:len(id)-1]
		return &logpb.BranchSpec{Id: id, Resource: "r-" + id, Held: true, Holder: []byte(testHolder)}
	case '?':
		return &logpb.BranchSpec{Id: id[:len(id)-1]}
	}
	return &logpb.BranchSpec{Id: id, Resource: "r-" + id}
}

func specs(ids ...string) []*logpb.BranchSpec {
	var list []*logpb.BranchSpec
	for _, id := range ids {
		list = append(list, spec(id))
	}
	return list
}

func beginOf(gid GID, entry logpb.Entry) *logpb.Begin {
	return &logpb.Begin{
		Gid: gid.Bytes(), Namespace: "default", Mode: logpb.Mode_MODE_TWO_PHASE, Entry: entry, TimeoutMs: testTimeoutMS,
	}
}

func begin(b *logpb.Begin) *logpb.Command {
	return &logpb.Command{Kind: &logpb.Command_Begin{Begin: b}}
}

func explicit(gid GID) *logpb.Command { return begin(beginOf(gid, logpb.Entry_ENTRY_EXPLICIT)) }
func named(gid GID) *logpb.Command    { return begin(beginOf(gid, logpb.Entry_ENTRY_NAMED)) }

func enlist(gid GID, b *logpb.BranchSpec) *logpb.Command {
	return &logpb.Command{Kind: &logpb.Command_Enlist{Enlist: &logpb.Enlist{Gid: gid.Bytes(), Branch: b}}}
}

func ballot(b *logpb.BranchSpec, kind logpb.VoteKind) *logpb.Ballot {
	return &logpb.Ballot{Branch: b, Kind: kind}
}

func vote(gid GID, b *logpb.BranchSpec, kind logpb.VoteKind) *logpb.Command {
	return &logpb.Command{Kind: &logpb.Command_Vote{Vote: &logpb.Vote{Gid: gid.Bytes(), Ballot: ballot(b, kind)}}}
}

func maybe(gid GID, b *logpb.BranchSpec) *logpb.Command {
	c := vote(gid, b, voteRefused)
	c.GetVote().Ballot.MaybePrepared = true
	return c
}

func decide(d *logpb.Decide) *logpb.Command {
	return &logpb.Command{Kind: &logpb.Command_Decide{Decide: d}}
}

// commit asks commit as a client does: bare, or with a set.
func commit(gid GID, set ...string) *logpb.Command {
	d := &logpb.Decide{Gid: gid.Bytes(), Decision: DecisionCommit, Origin: logpb.Origin_ORIGIN_CLIENT}
	if len(set) > 0 {
		slices.Sort(set)
		d.Set = &logpb.BranchSet{Ids: set}
	}
	return decide(d)
}

func commitEmpty(gid GID) *logpb.Command {
	c := commit(gid)
	c.GetDecide().Set = &logpb.BranchSet{}
	return c
}

// driver proposes a commit as the leader's driver does.
func driver(gid GID, incarnation, term uint64) *logpb.Command {
	return decide(&logpb.Decide{
		Gid: gid.Bytes(), Decision: DecisionCommit, Origin: logpb.Origin_ORIGIN_DRIVER,
		Epoch: &logpb.Epoch{Incarnation: incarnation, Term: term},
	})
}

func rollback(gid GID, origin logpb.Origin, branches ...*logpb.BranchSpec) *logpb.Command {
	d := &logpb.Decide{Gid: gid.Bytes(), Decision: DecisionRollback, Origin: origin, Branches: branches}
	if origin == logpb.Origin_ORIGIN_OPERATOR {
		d.Operator, d.Detail = "alice", "the other side says so"
	}
	return decide(d)
}

func clientRollback(gid GID, branches ...*logpb.BranchSpec) *logpb.Command {
	return rollback(gid, logpb.Origin_ORIGIN_CLIENT, branches...)
}

func submit(b *logpb.Begin, set []*logpb.BranchSpec, votes ...*logpb.Ballot) *logpb.Command {
	return &logpb.Command{Kind: &logpb.Command_Submit{Submit: &logpb.Submit{Begin: b, Set: set, Votes: votes}}}
}

func report(gid GID, branch string, o Outcome) *logpb.Command {
	return &logpb.Command{Kind: &logpb.Command_Report{Report: &logpb.Report{Gid: gid.Bytes(), Branch: branch, Outcome: o}}}
}

func resolve(gid GID, branch string, o Outcome) *logpb.Command {
	return &logpb.Command{Kind: &logpb.Command_Resolve{Resolve: &logpb.Resolve{
		Gid: gid.Bytes(), Branch: branch, Outcome: o, Operator: "alice", Reason: "looked at the ledger",
	}}}
}

func tick() *logpb.Command { return &logpb.Command{Kind: &logpb.Command_Tick{Tick: &logpb.Tick{}}} }

func setLimits(l *logpb.Limits) *logpb.Command {
	return &logpb.Command{Kind: &logpb.Command_SetLimits{SetLimits: &logpb.SetLimits{Limits: l, Operator: "alice"}}}
}

func recovery(incarnation, holdBefore uint64) *logpb.Command {
	return &logpb.Command{Kind: &logpb.Command_Recover{Recover: &logpb.Recover{Incarnation: incarnation, HoldBeforeMs: holdBefore}}}
}

const (
	committed  = logpb.Outcome_OUTCOME_COMMITTED
	rolledBack = logpb.Outcome_OUTCOME_ROLLED_BACK
	mixed      = logpb.Outcome_OUTCOME_MIXED
	hazard     = logpb.Outcome_OUTCOME_HAZARD
)

// snapshotOf is a snapshot's bytes.
func snapshotOf(t testing.TB, s *State) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := s.Pin().WriteTo(&b)
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("snapshot: %d of %d bytes: %v", n, b.Len(), err)
	}
	return b.Bytes()
}

// reborn is a state restored from another's snapshot.
func reborn(t testing.TB, s *State) *State {
	t.Helper()
	fresh := New()
	if err := fresh.Restore(bytes.NewReader(snapshotOf(t, s))); err != nil {
		t.Fatalf("restore: %v", err)
	}
	return fresh
}

// fork is a cheap copy of a state, for searches. Records are immutable and are
// shared.
func (s *State) fork() *State {
	s.hashAll() // where a record stands among the unhashed is its own, and it is shared
	c := *s
	c.unhashed = nil
	c.live = maps.Clone(s.live)
	c.keys = maps.Clone(s.keys)
	c.stubs.index.windows = maps.Clone(s.stubs.index.windows)
	c.stubs.index.latest = nil // it is the other state's
	for at, w := range c.stubs.index.windows {
		c.stubs.index.windows[at] = maps.Clone(w)
	}
	c.stubs.buckets = nil
	for _, b := range s.stubs.buckets {
		c.stubs.buckets = append(c.stubs.buckets, &bucket{data: slices.Clone(b.data), dead: slices.Clone(b.dead)})
	}
	for _, q := range []*sequence{&c.begun, &c.unfiled} {
		old := q.chunks
		q.chunks = nil
		for _, k := range old {
			q.chunks = append(q.chunks, k.clone())
		}
	}
	c.deadlines.items, c.deadlines.place = slices.Clone(s.deadlines.items), maps.Clone(s.deadlines.place)
	c.digests, c.events = nil, eventRing{}
	c.scratch, c.lately, c.spare = nil, latelyFiled{}, nil
	return &c
}
