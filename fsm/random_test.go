package fsm

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/quorate/quorate/fsm/logpb"
)

// pick chooses a number below n: from rapid, or from a fuzzer's bytes.
type pick func(n int) int

// randomCommand makes a command over few GIDs, branches and keys, so that
// commands meet. Most are well-formed.
func randomCommand(p pick, clock uint64) *logpb.Command {
	switch p(9) {
	case 0:
		return randomPacked(p)
	case 1, 2, 3, 4:
		return randomCalled(p, clock)
	}
	born := []uint64{testStartMS, testStartMS, testStartMS, clock}[p(4)]
	g := testGID(born, uint64(p(3)))
	ids := []string{"1", "2", "3!", "1?", "2?"}
	one := func() *logpb.BranchSpec {
		b := spec(ids[p(len(ids))])
		if p(12) == 0 {
			b.Resource = "other"
		}
		return b
	}
	subset := func() (set []*logpb.BranchSpec) {
		for _, id := range [][]string{{}, {"1"}, {"1", "2"}, {"1", "2?"}, {"1", "2", "3!"}, {"1?", "2", "3!"}}[p(6)] {
			set = append(set, spec(id))
		}
		return set
	}
	start := func() *logpb.Begin {
		b := beginOf(g, []logpb.Entry{logpb.Entry_ENTRY_EXPLICIT, logpb.Entry_ENTRY_NAMED}[p(2)])
		b.Key = []string{"", "", "", "k1", "k2"}[p(5)]
		if p(10) == 0 {
			b.TimeoutMs *= 2
		}
		return b
	}
	kind := func() logpb.VoteKind {
		return []logpb.VoteKind{votePrepared, votePrepared, votePrepared, voteReadOnly, voteRefused}[p(5)]
	}
	outcome := func() Outcome {
		return []Outcome{committed, rolledBack, committed, rolledBack, hazard, mixed}[p(6)]
	}
	branch := func() string { return []string{"1", "2", "3", "9"}[p(4)] }
	switch p(16) {
	case 0, 1:
		return begin(start())
	case 2, 3:
		return enlist(g, one())
	case 4, 5, 6:
		b := ballot(one(), kind())
		b.MaybePrepared = b.Kind == voteRefused && p(2) == 0
		return &logpb.Command{Kind: &logpb.Command_Vote{Vote: &logpb.Vote{Gid: g.Bytes(), Ballot: b}}}
	case 7, 8:
		d := &logpb.Decide{Gid: g.Bytes(), Decision: DecisionCommit, Origin: client}
		if p(2) == 0 {
			d.Set = &logpb.BranchSet{}
			for _, b := range subset() {
				d.Set.Ids = append(d.Set.Ids, b.GetId())
			}
		}
		if p(3) == 0 {
			d.Origin, d.Epoch = driverSays, &logpb.Epoch{Incarnation: uint64(1 + p(2)), Term: uint64(1 + p(2))}
		}
		return decide(d)
	case 9:
		return rollback(g, []logpb.Origin{client, participant, operator, client}[p(4)], subset()...)
	case 10, 11:
		c := submit(start(), subset())
		for _, b := range c.GetSubmit().GetSet() {
			if p(3) > 0 {
				c.GetSubmit().Votes = append(c.GetSubmit().Votes, ballot(b, kind()))
			}
		}
		return c
	case 12, 13:
		return report(g, branch(), outcome())
	case 14:
		return resolve(g, branch(), []Outcome{committed, rolledBack}[p(2)])
	default:
		if p(30) == 0 {
			return recovery(uint64(1+p(4)), clock+uint64(p(3)))
		}
		return tick()
	}
}

// randomClock moves the clock on, sometimes far.
func randomClock(p pick, clock uint64) uint64 {
	switch p(12) {
	case 0:
		return clock + testTimeoutMS
	case 1:
		return clock + 1_000_000
	default:
		return clock + uint64(p(3))
	}
}

// pair is two nodes that apply one log; one of them is restarted at will.
type pair struct {
	a, b  *State
	index uint64
	clock uint64
}

func newPair(t testing.TB) *pair {
	w := newWorld(t)
	return &pair{a: w.s, b: reborn(t, w.s), index: w.index, clock: w.clock}
}

// step applies commands on both nodes and holds results and digests together. The one
// reads entries into memory that it uses again, the other into memory of their own.
func (p *pair) step(commands ...*logpb.Command) ([]Result, error) {
	p.index++
	entry := EncodeEntry(nil, &logpb.Batch{ClockMs: p.clock, WallMs: p.index, FeatureLevel: FeatureLevel, Commands: commands})
	ra, err := p.a.ApplyEntry(p.index, 1, entry)
	if err != nil {
		return nil, err
	}
	own, err := DecodeEntry(entry)
	if err != nil {
		return nil, err
	}
	rb, err := p.b.Apply(Meta{Index: p.index, Term: 1}, own)
	if err != nil {
		return nil, err
	}
	if got, want := fmt.Sprintf("%+v", rb), fmt.Sprintf("%+v", ra); got != want {
		return nil, fmt.Errorf("results differ:\n%s\n%s", want, got)
	}
	if a, b := p.a.Digest(), p.b.Digest(); a != b {
		return nil, fmt.Errorf("digests differ after index %d: %s, %s", p.index, a, b)
	}
	if err := p.a.CheckInvariants(); err != nil {
		return nil, err
	}
	for _, known := range p.a.decoder.names.specs {
		was := new(logpb.BranchSpec)
		if err := proto.Unmarshal([]byte(known.raw), was); known.raw != "" && (err != nil || !proto.Equal(known.spec, was)) {
			return nil, fmt.Errorf("a branch that records share was edited: %v is %v", was, known.spec)
		}
	}
	p.clock = max(p.clock, p.a.ClockMS()) // as the leader's clock does
	return ra, nil
}

// restart replaces the second node by one that reads the first's snapshot.
func (p *pair) restart(t testing.TB) { p.b = reborn(t, p.a) }

// A log of random commands, over two nodes: the results and the digests are
// equal; snapshot and restore at any index change nothing, nor any later
// result; applying twice is applying once; a refusal changes no byte.
func TestRandomLogs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pick := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "pick") }
		p := newPair(failer{t: t})
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			p.clock = randomClock(pick, p.clock)
			if _, err := p.step(tick()); err != nil {
				t.Fatal(err)
			}
			c := randomCommand(pick, p.clock)
			before, record := p.a.Digest(), snapshotRecords(p.a)
			first, err := p.step(c)
			if err != nil {
				t.Fatalf("%v: %v", c, err)
			}
			if first[0].Code != OK && (p.a.Digest() != before || !bytes.Equal(record, snapshotRecords(p.a))) {
				t.Fatalf("%v: the refusal %v changed the state", c, first[0].Code)
			}
			once := p.a.Digest()
			if pick(4) == 0 {
				p.restart(failer{t: t})
			}
			again, err := p.step(proto.CloneOf(c))
			if err != nil {
				t.Fatal(err)
			}
			if slices.ContainsFunc(first[0].Parts, func(r Result) bool { return r.Code != OK }) {
				continue // a part that was refused may be taken behind those that came after it
			}
			if p.a.Digest() != once {
				t.Fatalf("%v: applied twice is not applied once", c)
			}
			if first[0].Code != again[0].Code || first[0].Decision != again[0].Decision || first[0].Verdict != again[0].Verdict {
				t.Fatalf("%v: answered %+v, then %+v", c, first[0], again[0])
			}
		}
		p.restart(failer{t: t})
		if !bytes.Equal(snapshotOf(failer{t: t}, p.a), snapshotOf(failer{t: t}, p.b)) {
			t.Fatal("a restored state's snapshot differs")
		}
	})
}

// snapshotRecords is a snapshot without its header, which holds the index.
func snapshotRecords(s *State) []byte {
	var b bytes.Buffer
	p := s.Pin()
	p.header = new(logpb.SnapshotHeader)
	if _, err := p.WriteTo(&b); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// failer lets helpers that ask for a testing.TB fail a rapid test. Of TB it has
// what they use.
type failer struct {
	testing.TB
	t *rapid.T
}

func (f failer) Helper()                           {}
func (f failer) Fatalf(format string, args ...any) { f.t.Fatalf(format, args...) }
func (f failer) Fatal(args ...any)                 { f.t.Fatal(args...) }
