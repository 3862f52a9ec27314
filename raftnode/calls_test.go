package raftnode

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/testkit"
)

// bare is a node without a library: what packs and answers can be looked at alone.
func bare() *Node {
	n := &Node{
		cfg: DefaultConfig(), fail: newFailStop(func(error) {}), machine: &machine{},
		slots: make(chan struct{}, 4), closing: make(chan struct{}), closed: make(chan struct{}),
	}
	n.queue = newQueue(n.cfg.QueueCallsMax, n.cfg.QueueBytesMax)
	n.flights.n, n.calls.New = n, newCall
	return n
}

// aCall is one of the pool's, with so many commands.
func (n *Node) aCall(commands int) *call {
	c := n.calls.Get().(*call)
	for i := range commands {
		c.commands = append(c.commands, fmt.Append(nil, i))
	}
	n.counters.pending.Add(1)
	return c
}

// What the caller handed over stays his: he repeats the very same bytes when he hears
// that nothing was appended, or does not know.
func TestPropose_TheCallersSliceStaysHis(t *testing.T) {
	c := newCluster(t, 1, func(_ int, cfg *Config) { cfg.QueueBytesMax = 1000 })
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for name, test := range map[string]struct {
		ctx   context.Context
		value string
		want  error
	}{
		"appended": {c.ctx(), "1", nil}, "given up": {ended, "1", context.Canceled}, "refused": {c.ctx(), string(make([]byte, 1000)), ErrBusy},
	} {
		commands := [][]byte{set("a", test.value), set("b", test.value)}
		if _, err := c.leader().Propose(test.ctx, commands...); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
		if string(commands[0]) != string(set("a", test.value)) || string(commands[1]) != string(set("b", test.value)) {
			t.Errorf("%s: the caller's commands are %q now", name, commands)
		}
	}
}

// The limits themselves are allowed.
func TestPropose_WhatJustFits(t *testing.T) {
	n := bare()
	for name, commands := range map[string][][]byte{
		"a command":    {make([]byte, n.cfg.CommandBytesMax)},
		"all commands": make([][]byte, n.cfg.EntryCommandsMax),
	} {
		if _, err := n.size(commands); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := n.size(append(commands, make([]byte, n.cfg.CommandBytesMax+1))); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s and one too many: %v", name, err)
		}
	}
	n.cfg.CommandBytesMax = n.cfg.EntryBytesMax
	if _, err := n.size([][]byte{make([]byte, n.cfg.EntryBytesMax)}); err != nil {
		t.Errorf("one command of an entry's size: %v", err)
	}
}

// A call whose caller has gone belongs to the queue or to its entry: nobody else may
// get it meanwhile, and hear its answer.
func TestPropose_ACallThatWasGivenUpIsNotUsedAgain(t *testing.T) {
	n := bare()
	gone := errors.New("gone")
	for name, state := range map[string]int32{"waiting": callWaiting, "packed": callPacked} {
		c := n.aCall(1)
		c.state.Store(state)
		if _, err := n.abandon(c, gone); !errors.Is(err, gone) || errors.Is(err, ErrUnknown) != (state == callPacked) {
			t.Errorf("%s: %v", name, err)
		}
		if len(c.commands) != 1 || c.state.Load() == callWaiting && state != callWaiting {
			t.Errorf("%s: it was cleared for the next caller", name)
		}
	}
}

// Slots are few: one that is not given back is one entry fewer under way for ever.
func TestPropose_SlotsComeBack(t *testing.T) {
	c := newCluster(t, 1, func(_ int, cfg *Config) { cfg.EntriesInFlightMax = 2 })
	leader := c.leader()
	for range 2 * cap(leader.slots) { // calls that were all given up
		abandoned := leader.aCall(1)
		leader.counters.pending.Add(-1)
		abandoned.state.Store(callAbandoned)
		must(t, leader.queue.push(abandoned))
		testkit.Eventually(t, within, func() bool { return leader.queue.waiting() == 0 && len(leader.slots) == 0 }, "the slot comes back")
	}
	c.set("x", "1")

	n := bare() // it has ceased to lead
	for range 2 * cap(n.slots) {
		c := n.aCall(2)
		n.slots <- struct{}{}
		n.propose(&entry{calls: []*call{c}})
		<-c.done
		if !errors.Is(c.err, ErrNotLeader) || len(n.slots) != 0 {
			t.Fatalf("answered %v, and %d slots are taken", c.err, len(n.slots))
		}
	}
	if pending := n.counters.pending.Load(); pending != 0 {
		t.Errorf("%d calls are pending", pending)
	}
}

// never is a future of a library that has stopped.
type never struct {
	raft.ApplyFuture
	end chan struct{}
}

func (f never) Error() error { <-f.end; return errors.New("too late") }

// What the library does not answer any more is answered all the same, and as unknown.
func TestPropose_ALibraryThatAnswersNoMore(t *testing.T) {
	end := make(chan struct{})
	defer close(end)
	for name, stop := range map[string]func(*Node, *library){
		"another took its place":       func(_ *Node, l *library) { close(l.gone) },
		"the node was closed":          func(n *Node, _ *library) { close(n.closed) },
		"the node has stopped itself ": func(n *Node, _ *library) { n.fail.fail(errors.New("disk")) },
	} {
		n := bare()
		e := &entry{library: &library{gone: make(chan struct{})}, future: never{end: end}}
		stop(n, e.library)
		got := make(chan error, 1)
		go func() { got <- n.outcomeOf(e) }()
		select {
		case err := <-got:
			if err = outcome(err); !errors.Is(err, ErrUnknown) {
				t.Errorf("%s: the entry may be in the log, and its callers hear %v", name, err)
			}
		case <-time.After(within):
			t.Fatalf("%s: nobody is answered", name)
		}
	}
}

// Of entries that are applied together each caller hears the results of its own
// commands, whatever stands between them, and all of them do.
func TestFlights_SeveralAppliedTogether(t *testing.T) {
	n := bare()
	var logs []*raft.Log
	var answers []any
	var calls []*call
	for i := range 5 {
		l := &raft.Log{Index: uint64(10 + i), Term: 3, Type: raft.LogCommand, Data: fmt.Appendf(nil, "entry %d", i)}
		logs = append(logs, l)
		if i == 2 {
			l.Type = raft.LogConfiguration
			answers = append(answers, nil)
			continue
		}
		first, second := n.aCall(1), n.aCall(2)
		e := &entry{data: l.Data}
		e.add(first)
		e.add(second)
		n.slots <- struct{}{}
		n.flights.add(e)
		calls = append(calls, first, second)
		results := make([]fsm.Result, 3)
		for k := range results {
			results[k].Detail = fmt.Sprint(l.Index, k)
		}
		answers = append(answers, applied{results: results, index: l.Index, term: l.Term})
	}
	n.flights.committed(logs)
	if taken := len(n.slots); taken != 0 {
		t.Errorf("%d slots are taken by entries that are committed", taken)
	}
	n.flights.applied(logs, answers)
	for i, c := range calls {
		select {
		case <-c.done:
		default:
			t.Errorf("call %d is not answered", i)
			continue
		}
		p, index := c.proposed, []uint64{10, 11, 13, 14}[i/2]
		if c.err != nil || p.Index != index || p.Term != 3 || len(p.Results) != len(c.commands) {
			t.Fatalf("call %d: %+v, %v", i, p, c.err)
		}
		for k, r := range p.Results {
			if want := fmt.Sprint(index, i%2+k); r.Detail != want {
				t.Errorf("call %d, command %d: the result of %s, not of %s", i, k, r.Detail, want)
			}
		}
		if cap(p.Results) != len(p.Results) {
			t.Errorf("call %d: a result added to its own would be the next call's", i)
		}
	}
	if pending := n.counters.pending.Load(); pending != 0 {
		t.Errorf("%d calls are pending", pending)
	}
}

// A queue that was closed says why, and keeps nothing.
func TestQueue_Closed(t *testing.T) {
	n := bare()
	c := n.aCall(1)
	must(t, n.queue.push(c))
	n.refuseQueued(ErrFailed)
	if <-c.done; !errors.Is(c.err, ErrFailed) {
		t.Errorf("who waited hears %v", c.err)
	}
	if err := n.queue.push(n.aCall(1)); !errors.Is(err, ErrFailed) || n.queue.waiting() != 0 {
		t.Errorf("who comes later: %v, and %d wait", err, n.queue.waiting())
	}
}

// Entries say what their readers must understand, and when: by the machine, and by the
// clock of the reign.
func TestEncode_LevelAndClock(t *testing.T) {
	n := bare()
	n.machine.level.Store(7)
	n.cfg.Wall = func() time.Time { return time.UnixMilli(77) }
	batch, err := fsm.DecodeEntry(n.encode(777, [][]byte{set("a", "1"), set("b", "1")}))
	must(t, err)
	if batch.GetFeatureLevel() != 7 || batch.GetClockMs() != 777 || batch.GetWallMs() != 77 || len(batch.GetCommands()) != 2 {
		t.Errorf("%v", batch)
	}
}

// Close waits for what is under way as long as the node leads: nobody is told that he
// cannot know what is known a moment later.
func TestClose_WaitsForWhatIsUnderWay(t *testing.T) {
	var d disk
	c := newCluster(t, 1, func(_ int, cfg *Config) { d.on(cfg) })
	leader := c.leader()
	release := heldDisk(t, &d)
	answer, closed := make(chan error, 1), make(chan error, 1)
	entries := leader.Metrics().Entries
	go func() { _, err := leader.Propose(c.ctx(), set("x", "1")); answer <- err }()
	testkit.Eventually(t, within, func() bool { return leader.Metrics().Entries > entries })
	leader.running = false
	go func() { closed <- leader.Close() }()
	testkit.Eventually(t, within, leader.isClosing)
	time.AfterFunc(20*time.Millisecond, release) // as long as a close that does not wait takes
	must(t, <-answer)
	must(t, <-closed)
}

// What became of a call is counted as what its caller heard.
func TestPropose_IsCountedAsItEnded(t *testing.T) {
	n := bare()
	c := n.aCall(3)
	n.counters.pending.Store(6)
	for _, err := range []error{nil, fmt.Errorf("%w: %w", ErrUnknown, ErrClosed), ErrUnknown, ErrNotLeader, ErrBusy, ErrClosed} {
		n.count(c, err)
	}
	k := &n.counters
	if k.committed.Load() != 3 || k.unknown.Load() != 6 || k.refused.Load() != 9 || k.pending.Load() != 0 {
		t.Errorf("%d committed, %d unknown, %d refused, %d pending", k.committed.Load(), k.unknown.Load(), k.refused.Load(), k.pending.Load())
	}
}
