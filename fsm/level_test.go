package fsm

import (
	"errors"
	"testing"

	"github.com/quorate/quorate/fsm/logpb"
)

func nodeOf(id string, level uint32) *logpb.Command {
	return &logpb.Command{Kind: &logpb.Command_PutNode{PutNode: &logpb.PutNode{Node: &logpb.Node{Id: id, Version: "1", FeatureLevel: level}}}}
}

// applyAt applies commands as one entry of a level, and returns the state's answer.
func (w *world) applyAt(level uint32, commands ...*logpb.Command) []Result {
	w.t.Helper()
	w.index++
	results, err := w.s.ApplyEntry(w.index, w.term, EncodeEntry(nil, &logpb.Batch{ClockMs: w.clock, FeatureLevel: level, Commands: commands}))
	if err == nil {
		err = w.s.CheckInvariants()
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return results
}

// While versions are mixed a leader stamps what all nodes have; what was stamped
// once is never gone below.
func TestALeaderStampsWhatAllNodesHave(t *testing.T) {
	w := &world{t: t, s: New(), term: 1}
	want := func(next, reached uint32) {
		t.Helper()
		if w.s.NextFeatureLevel() != next || w.s.FeatureLevel() != reached {
			t.Fatalf("next %d, reached %d; want %d, %d", w.s.NextFeatureLevel(), w.s.FeatureLevel(), next, reached)
		}
	}
	want(LevelModes, 0)
	w.applyAt(2, found())
	want(2, 2)
	w.applyAt(2, nodeOf("a", 3))
	want(3, 2)
	w.applyAt(2, nodeOf("b", 0)) // one of the version before
	want(2, 2)
	w.applyAt(2, nodeOf("c", 9)) // one of a later version
	want(2, 2)
	w.applyAt(2, nodeOf("b", 3))
	want(3, 2)
	w.applyAt(2, nodeOf("b", 0)) // it went back, and may: the log holds nothing that it does not know
	want(2, 2)
	w.applyAt(2, nodeOf("b", 3))
	w.applyAt(3, tick())
	want(3, 3)
	w.applyAt(3, nodeOf("b", 0)) // too late
	want(3, 3)
	if s := reborn(t, w.s); s.NextFeatureLevel() != 3 || s.FeatureLevel() != 3 {
		t.Fatal("a snapshot forgets the level")
	}
	if _, err := w.s.Apply(Meta{w.index + 1, w.term}, &logpb.Batch{FeatureLevel: FeatureLevel + 1}); !errors.Is(err, ErrFeatureLevel) {
		t.Fatal(err)
	}
}

// Until the log has reached the third level the digest is that of nodes which know
// nothing of levels; from then on it covers them.
func TestDigestAndNodesLevels(t *testing.T) {
	w, x := newWorldAt(t, 2), newWorldAt(t, 2)
	w.applyAt(2, nodeOf("a", 3))
	x.applyAt(2, nodeOf("a", 0))
	if w.s.Digest() != x.s.Digest() {
		t.Fatal("the version before comes to another digest")
	}
	if reborn(t, w.s).NextFeatureLevel() != 3 {
		t.Fatal("a snapshot forgets a node's level")
	}
	w.applyAt(3, tick())
	x.applyAt(3, tick())
	if w.s.Digest() == x.s.Digest() {
		t.Fatal("the digest does not cover a node's level")
	}
	reborn(t, w.s)
}

// newWorldAt is a founded cluster whose log has reached a level and no more.
func newWorldAt(t testing.TB, level uint32) *world {
	w := &world{t: t, s: New(), term: 1}
	w.logAt(level, found())
	return w
}
