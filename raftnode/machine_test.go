package raftnode

import (
	"testing"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
)

// listener is a machine that notes how it was asked.
type listener struct {
	*registers
	applied, followed int
}

func (l *listener) ApplyEntry(uint64, uint64, []byte) ([]fsm.Result, error) {
	l.applied++
	return make([]fsm.Result, 1), nil
}

func (l *listener) Follow(uint64, uint64, []byte) error {
	l.followed++
	return nil
}

// Results are made where this node waits for one, and only there.
func TestAFollowersMachineMakesNoResults(t *testing.T) {
	l := &listener{registers: newRegisters()}
	m := &machine{m: l, progress: new(progress), fail: newFailStop(func(error) {}), notify: func(uint64) {}, due: func() int64 { return 1 << 40 }}
	apply := func(index uint64) any {
		return m.Apply(&raft.Log{Index: index, Term: 1, Type: raft.LogCommand, Data: []byte("x")})
	}
	if got := apply(1); got != nil || l.followed != 1 || l.applied != 0 {
		t.Fatalf("nobody waits: %v %+v", got, l)
	}
	m.awaited.Add(1)
	if got, ok := apply(2).(applied); !ok || len(got.results) != 1 || got.index != 2 || l.applied != 1 {
		t.Fatalf("somebody waits: %v %+v", got, l)
	}
	m.awaited.Add(-1)
	if got := apply(3); got != nil || l.followed != 2 {
		t.Fatalf("nobody waits any more: %v %+v", got, l)
	}
}
