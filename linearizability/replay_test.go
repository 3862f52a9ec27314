package linearizability

import (
	"slices"
	"testing"
)

// A key stands for the GID that was begun with it, whatever was asked about that
// GID before; a later Begin with the key is about that one, and begins nothing.
func TestReplayKnowsWhoseAKeyIs(t *testing.T) {
	const first, second = "00000012E0TC0BAYS3B48BVW4Q", "00000016VVHA1JFER7GSWKTZP6"
	command := func(index uint64, kind Kind, gid, key string) Observation {
		return Observation{Sight: SightCommand, Index: index, ClockMS: 2000 * index, Command: &Command{Kind: kind, GID: gid, Namespace: "default", Key: key, Input: Input{TimeoutMS: 60000}}}
	}
	h := &History{Observations: []Observation{
		command(1, KindCommit, first, ""), // finds nothing
		command(1, KindBegin, first, "k"),
		command(2, KindBegin, second, "k"),
		{Sight: SightLog, From: 1, Through: 3, Whole: true},
	}}
	r := newReplay(h, newCompiler(h))
	if states := r.at(first, 3); len(states) != 1 || states[0].state() != StateActive {
		t.Errorf("the first is %s, want active", describeStates(states))
	}
	if states := r.at(second, 3); len(states) != 1 || states[0].state() != "" {
		t.Errorf("the second is %s, want unseen", describeStates(states))
	}
	// A tombstone has taken no key.
	h.Observations[0] = command(1, KindRollback, first, "")
	r = newReplay(h, newCompiler(h))
	if states := r.at(second, 3); len(states) != 1 || states[0].state() != StateActive {
		t.Errorf("after a tombstone the second is %s, want active", describeStates(states))
	}
}

// A key is free again when what it stood for was dropped, of which the log tells only
// the earliest time: from then on a Begin with the key makes another transaction, or
// is about the one that stands.
func TestReplayFreesAKeyAfterRetention(t *testing.T) {
	const first, second, third = "00000012E0TC0BAYS3B48BVW4Q", "00000016VVHA1JFER7GSWKTZP6", "00000016VWHA1JFER7GSWKTZP7"
	born, _ := bornMS(first)
	late := born + uint64(retentionDefault.Milliseconds()) + 1
	command := func(index, clock uint64, kind Kind, gid, key string) Observation {
		return Observation{Sight: SightCommand, Index: index, ClockMS: clock, Command: &Command{Kind: kind, GID: gid, Namespace: "default", Key: key, Input: Input{TimeoutMS: 60000}}}
	}
	replayed := func(at uint64) *replay {
		h := &History{Observations: []Observation{
			command(1, born, KindBegin, first, "k"),
			command(2, born, KindRollback, first, ""),
			command(3, at, KindBegin, second, "k"),
			command(4, at+1, KindBegin, third, "k"),
			{Sight: SightLog, From: 1, Through: 5, Whole: true},
		}}
		return newReplay(h, newCompiler(h))
	}
	active := func(r *replay, gid string) int {
		return slices.IndexFunc(r.at(gid, 5), func(t *tx) bool { return t.state() == StateActive })
	}
	if r := replayed(late - 3); active(r, second) >= 0 || active(r, third) >= 0 {
		t.Errorf("before retention is over the second is %s, the third %s", describeStates(r.at(second, 5)), describeStates(r.at(third, 5)))
	}
	r := replayed(late)
	if states := r.at(second, 5); active(r, second) < 0 || len(states) != 2 {
		t.Errorf("after retention the second is %s, want unseen or active", describeStates(states))
	}
	// The second one may have found the first one there, and the third not.
	if states := r.at(third, 5); active(r, third) < 0 || len(states) != 2 {
		t.Errorf("the third is %s, want unseen or active", describeStates(states))
	}
}
