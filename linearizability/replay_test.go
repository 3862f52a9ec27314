package linearizability

import "testing"

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
