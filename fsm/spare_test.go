package fsm

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/quorate/quorate/fsm/logpb"
)

// A follower makes what it files at once in memory that it uses again. Whatever stays,
// or is shared with a pinned snapshot, is none of that.
func TestSpareIsNeverKept(t *testing.T) {
	w := newWorld(t)
	leads, follows := w.s, reborn(t, w.s)
	random := rand.New(rand.NewPCG(7, 8))
	type pin struct {
		pinned *Pinned
		want   []byte
	}
	var pins []pin
	var made []GID
	kept, reused := false, false
	for i := range 600 {
		b := &logpb.Batch{ClockMs: testStartMS, FeatureLevel: FeatureLevel}
		for range 1 + random.IntN(6) {
			if len(made) == 0 || random.IntN(3) == 0 {
				g := testGID(testStartMS, uint64(len(made)))
				made = append(made, g)
				if random.IntN(4) == 0 {
					b.Commands = append(b.Commands, saga(g, "1", "2", "3"))
				} else {
					b.Commands = append(b.Commands, submit(namedBegin(g), specs("1", "2", "3"), ballots(votePrepared, "1", "2", "3")...))
				}
				continue
			}
			g := made[max(0, len(made)-1-random.IntN(8))]
			b.Commands = append(b.Commands, [](func() *logpb.Command){
				func() *logpb.Command { return reportsAll(g, committed, "1", "2", "3") },
				func() *logpb.Command { return reportsAll(g, committed, "3", "1") },
				func() *logpb.Command { return report(g, "2", committed) },
				func() *logpb.Command { return report(g, "2", rolledBack) },
				func() *logpb.Command { return answersOf(g, said("1", answerDone), said("2", answerDone)) },
				func() *logpb.Command { return done(g, "3") },
			}[random.IntN(6)]())
		}
		w.index++
		entry := EncodeEntry(nil, b)
		if _, err := leads.ApplyEntry(w.index, 1, entry); err != nil {
			t.Fatal(err)
		}
		before := follows.spare
		if err := follows.Follow(w.index, 1, entry); err != nil {
			t.Fatal(err)
		}
		kept = kept || before != nil && follows.spare != before
		reused = reused || before != nil && follows.spare == before && follows.counts.Finished > 0
		if err := follows.CheckInvariants(); err != nil {
			t.Fatalf("index %d: %v", w.index, err)
		}
		if i%20 == 0 {
			pins = append(pins, pin{follows.Pin(), snapshotOf(t, leads)})
		}
	}
	if !kept || !reused {
		t.Errorf("a record kept the memory: %v; it was used again: %v", kept, reused)
	}
	for _, p := range pins {
		var got bytes.Buffer
		if _, err := p.pinned.WriteTo(&got); err != nil || !bytes.Equal(got.Bytes(), p.want) {
			t.Fatalf("the snapshot of index %d changed after it was pinned, or is not the leader's: %v", p.pinned.Index(), err)
		}
	}
}

// TestAllocationsOfFollow: what a follower pays, a batch's commands together.
func TestAllocationsOfFollow(t *testing.T) {
	if raceDetector || checkEveryApply {
		t.Skip("the race detector, and checks after every entry, allocate themselves: a plain `go test ./fsm` counts")
	}
	const many, runs = 64, 40
	w := newWorld(t)
	var entries [][]byte
	for _, b := range pairs(many, 0, unreported+many*(runs+2)) {
		entries = append(entries, EncodeEntry(nil, b))
	}
	next := 0
	follow := func() {
		w.index++
		if err := w.s.Follow(w.index, 1, entries[next]); err != nil {
			t.Fatal(err)
		}
		next++
	}
	for range unreported / many { // Submits only
		follow()
	}
	got := testing.AllocsPerRun(runs, func() { follow(); follow() }) / many
	// Maps and chunks grow now and then, which is less than one a transaction.
	if want := 3.0; math.Floor(got) != want {
		t.Errorf("a Submit and its Reports allocate %.1f times, and it was %v: spare what was added, or change the number here and say why", got, want)
	}
}
