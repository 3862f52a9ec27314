package fsm

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/quorate/quorate/fsm/logpb"
)

// Under load records are hashed late. The digest is the same whoever asks for it, and
// whenever: one node is asked after each entry, one never, one is restored now and
// then; each remembers the same entries' digests.
func TestDigestsUnderLoad(t *testing.T) {
	w := newWorld(t)
	asked, silent := w.s, reborn(t, w.s)
	restored := reborn(t, w.s)
	random := rand.New(rand.NewPCG(1, 2))
	begun, made := 0, []GID{}
	want := map[uint64]Digest{w.index: asked.Digest()}
	for range 2*rememberEvery + 9 {
		b := &logpb.Batch{ClockMs: testStartMS, FeatureLevel: FeatureLevel}
		for range random.IntN(30) {
			switch g := testGID(testStartMS, uint64(begun)); random.IntN(3) {
			case 0:
				begun++
				made = append(made, g)
				b.Commands = append(b.Commands, submit(namedBegin(g), specs("1", "2"), ballots(votePrepared, "1", "2")...))
			default:
				if len(made) == 0 {
					continue
				}
				g = made[random.IntN(len(made))]
				b.Commands = append(b.Commands, report(g, []string{"1", "2"}[random.IntN(2)], committed))
			}
		}
		w.index++
		if w.index%80 == 0 {
			restored = reborn(t, restored)
		}
		for _, s := range []*State{asked, silent, restored} {
			if _, err := s.Apply(Meta{w.index, 1}, b); err != nil {
				t.Fatal(err)
			}
			if w.index%32 != 0 {
				continue
			}
			if err := s.CheckInvariants(); err != nil {
				t.Fatal(err)
			}
		}
		late := len(asked.unhashed)
		want[w.index] = asked.Digest()
		if d, ok := asked.DigestAt(w.index); !ok || d != want[w.index] || len(asked.unhashed) != late {
			t.Fatalf("digest %s, %v, is %s; %d unhashed, were %d", d, ok, want[w.index], len(asked.unhashed), late)
		}
		if w.index%7 == 0 && restored.Digest() != want[w.index] {
			t.Fatalf("index %d: the restored node has another digest", w.index)
		}
		index, d, ok := silent.LastDigest()
		if i, e, _ := asked.LastDigest(); !ok || d != want[index] || i != index || e != d {
			t.Fatalf("index %d: last digest %s of %d, %s of %d", w.index, d, index, e, i)
		}
		if i, e, _ := restored.LastDigest(); e != want[i] {
			t.Fatalf("index %d: restored: last digest %s of %d, was %s", w.index, e, i, want[i])
		}
	}
	last, known := w.index/rememberEvery*rememberEvery, 0
	for index := range want {
		a, inA := asked.DigestAt(index)
		b, inB := silent.DigestAt(index)
		if inA != inB || a != b || inA && a != want[index] {
			t.Errorf("index %d: %s, %v and %s, %v, was %s", index, a, inA, b, inB, want[index])
		}
		if inA {
			known++
		}
	}
	if _, ok := silent.DigestAt(last); !ok || known == len(want) {
		t.Errorf("index %d known is %v, %d of %d are", last, ok, known, len(want))
	}
}

// What is hashed late is bounded, and so is what Digest hashes for who asks.
func TestUnhashedIsBounded(t *testing.T) {
	w := newWorld(t)
	most := 0
	for i := range 20 {
		b := &logpb.Batch{ClockMs: testStartMS, FeatureLevel: FeatureLevel}
		for k := range unhashedMax / 8 {
			b.Commands = append(b.Commands, explicit(testGID(testStartMS, uint64(i*unhashedMax+k))))
		}
		w.applied(b)
		most = max(most, len(w.s.unhashed))
	}
	if most <= unhashedMax/2 || most > unhashedMax {
		t.Errorf("%d records were unhashed at most", most)
	}
	if err := w.s.CheckInvariants(); err != nil {
		t.Error(err)
	}
}

// The floor follows the oldest that has not ended, among many and of any age.
func TestFloorAmongMany(t *testing.T) {
	w := newWorld(t)
	retention := w.s.Limits().GetRetentionMs()
	random := rand.New(rand.NewPCG(3, 4))
	open := map[GID]bool{}
	for i := range 40 {
		b := &logpb.Batch{ClockMs: w.s.ClockMS() + retention/8, FeatureLevel: FeatureLevel}
		for w.s.ClockMS() < b.ClockMs { // one entry's step is bounded
			w.applied(&logpb.Batch{ClockMs: b.ClockMs, FeatureLevel: FeatureLevel, Commands: []*logpb.Command{tick()}})
		}
		for k := range 40 {
			g := testGID(b.ClockMs-random.Uint64N(retention/4), uint64(1000*i+k))
			if !w.s.mayCreate(g) {
				continue
			}
			begun := beginMode(g, modeWorkflow, nil)
			begun.TimeoutMs = 0
			b.Commands = append(b.Commands, &logpb.Command{Kind: &logpb.Command_Begin{Begin: begun}})
			open[g] = true
		}
		for g := range open {
			if random.IntN(8) == 0 || i == 39 {
				b.Commands = append(b.Commands, clientRollback(g))
				delete(open, g)
			}
		}
		w.applied(b)
		want := w.s.horizonMS
		for g := range open {
			if g.BornMS() <= w.s.horizonMS {
				want = min(want, g.BornMS()-1)
			}
		}
		for _, s := range []*State{w.s, reborn(t, w.s)} {
			if got := s.Clock().FloorMS; got != want {
				t.Fatalf("step %d: floor %d, want %d; horizon %d", i, got, want, s.horizonMS)
			}
			if err := s.CheckInvariants(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A small entry's digest is remembered while little is live, and not among many: their
// records would all be hashed for it.
func TestSmallEntriesAmongManyHashNothing(t *testing.T) {
	w := newWorld(t)
	small := func() (index uint64, known bool) {
		for (w.index+1)%rememberEvery == 0 {
			w.applied(&logpb.Batch{ClockMs: testStartMS, FeatureLevel: FeatureLevel})
		}
		w.applied(&logpb.Batch{ClockMs: testStartMS, FeatureLevel: FeatureLevel})
		last, _, _ := w.s.LastDigest()
		return w.index, last == w.index
	}
	begin := func(from, to int) {
		b := &logpb.Batch{ClockMs: testStartMS, FeatureLevel: FeatureLevel}
		for i := from; i < to; i++ {
			b.Commands = append(b.Commands, explicit(testGID(testStartMS, uint64(i))))
		}
		w.applied(b)
	}
	begin(0, fewLive)
	if index, known := small(); !known || len(w.s.unhashed) != 0 {
		t.Errorf("index %d: remembered is %v with %d live", index, known, len(w.s.live))
	}
	begin(fewLive, 2*fewLive)
	before := len(w.s.unhashed)
	if index, known := small(); known || before == 0 || len(w.s.unhashed) != before {
		t.Errorf("index %d: remembered is %v with %d live, %d of %d unhashed", index, known, len(w.s.live), len(w.s.unhashed), before)
	}
}

// A node that keeps live what others have filed, or never had, has other digests than they
// and remembers fewer; it meets the majority's all the same, where little happens.
func TestANodeWithTooMuchMeetsTheMajority(t *testing.T) {
	w := newWorld(t)
	healthy, broken := w.s, reborn(t, w.s)
	clock := uint64(testStartMS)
	apply := func(s *State, commands ...*logpb.Command) error {
		_, err := s.Apply(Meta{w.index, 1}, &logpb.Batch{ClockMs: clock, FeatureLevel: FeatureLevel, Commands: commands})
		return err
	}
	var many []*logpb.Command
	for i := range uint64(2 * fewLive) {
		many = append(many, explicit(testGID(testStartMS, i)))
	}
	w.index++
	if err := errors.Join(apply(healthy), apply(broken, many...)); err != nil {
		t.Fatal(err)
	}
	clock += TickIdleMaxMS
	for w.index++; w.index%rememberEvery == 0; w.index++ {
	}
	if err := errors.Join(apply(healthy), apply(broken)); err != nil {
		t.Fatal(err)
	}
	index, d, ok := healthy.LastDigest()
	if !ok || index != w.index {
		t.Fatalf("the last digest is of %d, %v, and %d is applied", index, ok, w.index)
	}
	w.index++
	check := &logpb.Command{Kind: &logpb.Command_CheckDigest{CheckDigest: &logpb.CheckDigest{Index: index, Digest: d[:]}}}
	if err := apply(healthy, check); err != nil {
		t.Error(err)
	}
	if err := apply(broken, check); !errors.Is(err, ErrDigest) {
		t.Errorf("a node with %d live transactions, of which the others have none, goes on: %v", len(broken.live), err)
	}
}

// However much is live, the digest of a quiet cluster is as new as its last Tick.
func TestDigestsOfAQuietClusterAreNew(t *testing.T) {
	w := newWorld(t)
	b := &logpb.Batch{ClockMs: testStartMS, FeatureLevel: FeatureLevel}
	for i := range uint64(2 * fewLive) {
		b.Commands = append(b.Commands, explicit(testGID(testStartMS, i)))
	}
	w.applied(b)
	for range rememberEvery {
		b := &logpb.Batch{ClockMs: w.s.ClockMS() + rememberEachMS, FeatureLevel: FeatureLevel}
		w.applied(b)
		if last, _, _ := w.s.LastDigest(); last != w.index {
			t.Fatalf("at %d the last digest is of %d", w.index, last)
		}
	}
}
