package raftnode

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
)

// levelled is a machine whose level rises with what it applies and restores.
type levelled struct {
	*registers
	level   uint32
	restore error
}

func (l *levelled) NextFeatureLevel() uint32 { return l.level }

func (l *levelled) ApplyEntry(index, term uint64, entry []byte) ([]fsm.Result, error) {
	l.level++
	return l.registers.ApplyEntry(index, term, entry)
}

func (l *levelled) Follow(index, term uint64, entry []byte) error {
	_, err := l.ApplyEntry(index, term, entry)
	return err
}

func (l *levelled) Restore(source io.Reader) error {
	l.level += 10
	return errors.Join(l.restore, l.registers.Restore(source))
}

// bareMachine is a machine without a node, whose effects are noted in order.
func bareMachine() (m *machine, inner *levelled, notified *[]uint64) {
	n := bare()
	inner, notified = &levelled{registers: newRegisters(), level: 1}, new([]uint64)
	m = n.machine
	*m = machine{
		m: inner, progress: &n.progress, fail: n.fail, flights: &n.flights, grown: make(chan struct{}, 1),
		notify: func(index uint64) { *notified = append(*notified, index) },
		due:    func() int64 { return 50 }, pinning: func() {},
	}
	return m, inner, notified
}

func commandAt(index uint64, register string) *raft.Log {
	return &raft.Log{Index: index, Term: 1, Type: raft.LogCommand, Data: fsm.EncodeEntryRaw(nil, index, 1, 1, [][]byte{set(register, "1")})}
}

// Entries of every kind come in one batch: all commands are applied, and the batch's last
// entry is how far the machine has come, whatever it is.
func TestMachine_ABatchOfAllKinds(t *testing.T) {
	kinds := []raft.LogType{raft.LogNoop, raft.LogConfiguration, raft.LogBarrier}
	for at := range 4 {
		for _, kind := range kinds {
			m, inner, notified := bareMachine()
			var logs []*raft.Log
			var want []string
			for i := range 4 {
				l := commandAt(uint64(i+5), fmt.Sprint("r", i))
				if i == at {
					l = &raft.Log{Index: uint64(i + 5), Term: 1, Type: kind}
				} else {
					want = append(want, fmt.Sprint("r", i))
				}
				logs = append(logs, l)
			}
			m.awaited.Add(1)
			answers := m.ApplyBatch(logs)
			if !slices.Equal(inner.state.Applied, want) || m.progress.applied() != 8 || !slices.Equal(*notified, []uint64{8}) {
				t.Errorf("%v at %d: applied %v up to %d, told %v", kind, at, inner.state.Applied, m.progress.applied(), *notified)
			}
			for i, answer := range answers {
				if a, ok := answer.(applied); ok != (i != at) || ok && (a.index != uint64(i+5) || len(a.results) != 1) {
					t.Errorf("%v at %d: the answer to entry %d is %+v", kind, at, i+5, answer)
				}
			}
			if m.level.Load() != inner.level || inner.level != 4 {
				t.Errorf("%v at %d: entries are stamped with level %d, the machine's is %d", kind, at, m.level.Load(), inner.level)
			}
		}
	}
}

// Whoever is told of an entry finds it applied, and a caller hears of his own last: what
// he does next sees it everywhere on this node.
func TestMachine_TheOrderOfWhatFollowsAnEntry(t *testing.T) {
	m, inner, _ := bareMachine()
	n := m.flights.n
	l := commandAt(7, "x")
	c := n.aCall(1)
	e := &entry{data: l.Data}
	e.add(c)
	n.slots <- struct{}{}
	n.flights.add(e)
	m.awaited.Add(1)
	told := false
	m.notify = func(index uint64) {
		told = true
		if index != 7 || inner.state.Values["x"] != "1" || n.progress.applied() != 7 {
			t.Errorf("told of %d, with x=%q and %d applied", index, inner.state.Values["x"], n.progress.applied())
		}
		if len(c.done) != 0 {
			t.Error("the caller was answered before the node knew that the entry is applied")
		}
	}
	m.Apply(l)
	if !told || len(c.done) != 1 {
		t.Errorf("told: %v, answered: %d", told, len(c.done))
	}
}

// heldSink is a snapshot in memory; full, it takes no more.
type heldSink struct {
	bytes.Buffer
	full              int
	closed, cancelled int
}

func (s *heldSink) Write(p []byte) (int, error) {
	if s.full > 0 && s.Len()+len(p) > s.full {
		return 0, errors.New("no room")
	}
	return s.Buffer.Write(p)
}
func (s *heldSink) ID() string    { return "1-1-1" }
func (s *heldSink) Close() error  { s.closed++; return nil }
func (s *heldSink) Cancel() error { s.cancelled++; return nil }

// A snapshot brings another machine to where the first was: what it holds, how far it has
// come and what its entries are stamped with; and whoever waits there is told.
func TestMachine_ASnapshotBringsAllOfIt(t *testing.T) {
	m, _, _ := bareMachine()
	for index := range uint64(3) {
		m.Apply(commandAt(index+1, fmt.Sprint("r", index)))
	}
	m.ApplyBatch([]*raft.Log{{Index: 4, Term: 1, Type: raft.LogNoop}})
	if len(m.grown) != 1 {
		t.Fatal("no snapshot is due")
	}
	snapshot, err := m.Snapshot()
	must(t, err)
	if m.unsaved != 0 || len(m.grown) != 0 {
		t.Errorf("after a snapshot %d bytes count for the next, and one is due: %d", m.unsaved, len(m.grown))
	}
	sink := &heldSink{}
	must(t, snapshot.Persist(sink))
	if sink.closed != 1 || sink.cancelled != 0 {
		t.Errorf("closed %d times, cancelled %d times", sink.closed, sink.cancelled)
	}

	other, inner, notified := bareMachine()
	other.Apply(commandAt(1, "gone"))
	other.fail.running.Store(true)
	must(t, other.Restore(io.NopCloser(bytes.NewReader(sink.Bytes()))))
	if other.progress.applied() != 4 || !slices.Equal(*notified, []uint64{1, 4}) || other.unsaved != 0 {
		t.Errorf("applied %d, told %v, %d bytes count for the next snapshot", other.progress.applied(), *notified, other.unsaved)
	}
	if len(inner.state.Values) != 3 || other.level.Load() != inner.level || inner.level != 12 {
		t.Errorf("it holds %v at level %d, entries are stamped with %d", inner.state.Values, inner.level, other.level.Load())
	}
}

// A snapshot that cannot be written whole is given up, wherever it ends.
func TestMachine_ASnapshotThatIsCutShortIsGivenUp(t *testing.T) {
	m, _, _ := bareMachine()
	m.Apply(commandAt(1, "r"))
	for _, full := range []int{1, len(snapshotMagic) + 8} {
		snapshot, err := m.Snapshot()
		must(t, err)
		sink := &heldSink{full: full}
		if err := snapshot.Persist(sink); err == nil || sink.closed != 0 || sink.cancelled != 1 {
			t.Errorf("room for %d bytes: %v, closed %d times, cancelled %d times", full, err, sink.closed, sink.cancelled)
		}
	}
}

// A machine that could not be restored holds neither the old nor the new: a node that
// runs stops, and applies nothing more to it.
func TestMachine_AFailedInstallEndsTheNode(t *testing.T) {
	for _, running := range []bool{true, false} {
		m, inner, notified := bareMachine()
		m.fail.running.Store(running)
		inner.restore = errors.New("half of it")
		head := append([]byte(snapshotMagic), 0, 0, 0, 0, 0, 0, 0, 9)
		if err := m.Restore(io.NopCloser(bytes.NewReader(append(head, "{}"...)))); !errors.Is(err, inner.restore) {
			t.Errorf("%v", err)
		}
		if (m.fail.cause() != nil) != running || !errors.Is(m.unreadable, inner.restore) {
			t.Errorf("running %v: it stops for %v; %v", running, m.fail.cause(), m.unreadable)
		}
		if m.progress.applied() != 0 || len(*notified) != 0 {
			t.Errorf("running %v: %d counts as applied, told %v", running, m.progress.applied(), *notified)
		}
		if m.Apply(commandAt(10, "r")); running && len(inner.state.Applied) != 0 {
			t.Error("a broken machine goes on")
		}
	}
}
