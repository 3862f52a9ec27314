package raftnode

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/testkit"
)

// What a node says it has applied can be read there.
func TestStatus_AppliedIsWhatCanBeRead(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.set("x", "1")
	leader := c.leader()
	answer := make(chan error, 1)
	leader.View(func() { // nothing is applied meanwhile
		before := leader.machine.state.Index
		go func() { _, err := leader.Propose(c.ctx(), set("x", "2")); answer <- err }()
		testkit.Eventually(t, within, func() bool { return leader.raft().AppliedIndex() > before }, "the library has handed it over")
		if brief, all := leader.Brief().AppliedIndex, leader.Status().AppliedIndex; brief != before || all != before {
			t.Errorf("%d is applied, and the node says %d and %d", before, brief, all)
		}
		if lag := leader.Metrics().ApplyLag; lag == 0 {
			t.Error("nothing is said to wait to be applied")
		}
		if index, wait := leader.progress.applied(), before+1; index >= wait {
			t.Errorf("%d is applied, and who waits for %d goes on", before, wait)
		}
	})
	must(t, <-answer)
}

// A node that was elected is no leader to anybody before it serves.
func TestLeader_IsNoneBeforeItServes(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.set("x", "1")
	c.converge("x", "1")
	m := c.others(c.leader())[0]
	m.View(func() { // so it cannot apply the first entries of its term
		m.stand()
		testkit.Eventually(t, within, func() bool { return m.raft().State() == raft.Leader }, "elected")
		if l, ok := m.Leader(); ok {
			t.Errorf("it serves nobody yet, and the leader is %+v", l)
		}
		if _, err := m.Propose(c.ctx(), set("y", "1")); !errors.Is(err, ErrNotLeader) {
			t.Errorf("it takes commands: %v", err)
		}
		if _, err := m.ReadIndex(c.ctx()); !errors.Is(err, ErrNotLeader) {
			t.Errorf("it answers reads: %v", err)
		}
	})
	testkit.Eventually(t, within, func() bool { return m.reign.Load() != nil }, "it serves")
}

// A reign is of the term whose entries it is behind: a node that was elected again
// meanwhile does not begin the one that is over, and tries once more.
func TestLeadership_BegunInOneTermAndDoneInTheNext(t *testing.T) {
	var again atomic.Pointer[func()]
	c := newCluster(t, 1, func(_ int, cfg *Config) {
		clock := cfg.Clock
		cfg.Clock = func() time.Duration {
			if f := again.Swap(nil); f != nil {
				(*f)()
			}
			return clock()
		}
	})
	m := c.leader()
	m.next(t)
	leads := make(chan bool) // what the library itself says goes unheard
	old := m.raft()
	m.current.Store(&library{Raft: old.Raft, leads: leads, gone: make(chan struct{})})
	close(old.gone)
	testkit.Eventually(t, within, func() bool { return m.reign.Load() == nil })
	elect := func() {
		term := m.raft().CurrentTerm()
		m.stand()
		testkit.Eventually(t, within, func() bool { return m.raft().CurrentTerm() > term && m.raft().State() == raft.Leader }, "elected again")
	}
	again.Store(&elect)
	if r, err := m.begin(c.ctx()); err == nil {
		t.Errorf("a reign of term %d begins in term %d", r.term, m.raft().CurrentTerm())
	}
	again.Store(&elect)
	leads <- true
	if l := m.next(t); l.Leader { // the reign before, which nobody has ended in words
		t.Errorf("%+v", l)
	}
	if l := m.next(t); !l.Leader || l.Term != m.raft().CurrentTerm() || again.Load() != nil {
		t.Errorf("the attempt after one that failed: %+v in term %d", l, m.raft().CurrentTerm())
	}
}

// That the founding was refused is noticed, and that it was done is noted for good.
func TestLeadership_WhatBecameOfTheFounding(t *testing.T) {
	for _, test := range []struct {
		code fsm.Code
		own  bool
		ok   bool
	}{{fsm.OK, true, true}, {fsm.AlreadyFounded, true, true}, {fsm.AlreadyFounded, false, false}, {fsm.Invalid, true, false}} {
		dir := t.TempDir()
		id, err := openIdentity(dir, "")
		must(t, err)
		must(t, id.found(testCluster))
		n := &Node{id: id}
		first, err := n.firstCommands()
		must(t, err)
		result := fsm.Result{Code: test.code, GID: newClusterID(9)}
		if test.own {
			result.GID = testCluster
		}
		if err := n.foundedBy([]fsm.Result{result, {}}); (err == nil) != test.ok {
			t.Errorf("%+v: %v", test, err)
		}
		id, err = openIdentity(dir, "")
		must(t, err)
		n.id = id
		then, err := n.firstCommands()
		must(t, err)
		if now, founding := id.get(); now.ClusterID != testCluster || founding == test.ok || len(first) != 2 || (len(then) == 1) != test.ok {
			t.Errorf("%+v: after a restart %v, founding %v, %d commands", test, now, founding, len(then))
		}
	}
}

// A read waits for what is committed to be applied here.
func TestReadIndex_WaitsForWhatIsCommitted(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.set("x", "1")
	leader := c.leader()
	answer := make(chan error, 1)
	leader.View(func() { // nothing is applied meanwhile
		before := leader.progress.applied()
		go func() { _, err := leader.Propose(c.ctx(), set("x", "2")); answer <- err }()
		testkit.Eventually(t, within, func() bool { return leader.raft().CommitIndex() > before }, "it is committed")
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		if index, err := leader.ReadIndex(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a read at %d: %v, and %d is applied", index, err, leader.progress.applied())
		}
	})
	must(t, <-answer)
}

// An entry is known before it can be applied: else its callers would be told that nobody
// knows what became of it.
func TestFlights_AnEntryIsKnownBeforeItIsProposed(t *testing.T) {
	c := newCluster(t, 1, nil)
	leader := c.leader()
	c.set("x", "1")
	testkit.Eventually(t, within, func() bool { return leader.flights.count.Load() == 0 })
	leader.flights.mu.Lock()
	last := leader.raft().LastIndex()
	answer := make(chan error, 1)
	go func() { _, err := leader.Propose(c.ctx(), set("x", "2")); answer <- err }()
	testkit.Eventually(t, within, func() bool { return leader.Node.machine.awaited.Load() == 1 }, "it is about to be proposed")
	time.Sleep(20 * time.Millisecond) // as long as a proposal takes that does not wait
	if now := leader.raft().LastIndex(); now != last {
		t.Errorf("entry %d was proposed before it was known", now)
	}
	leader.flights.mu.Unlock()
	must(t, <-answer)
}

// A new cluster's clock begins at 1: what is born at 0 would be from before it.
func TestClock_BeginsAtOne(t *testing.T) {
	c := newCluster(t, 1, nil)
	if ms := c.leader().clockMS(); ms == 0 {
		t.Error("the first entry's clock is 0")
	}
}

// A snapshot that could not be taken is taken when the next one is due.
func TestSnapshots_OneThatFailsIsNotTheLast(t *testing.T) {
	c := newCluster(t, 1, nil)
	node := c.leader()
	c.set("x", "1")
	latest := node.stores.snapshots.latest.Load()
	node.stores.snapshots.latest.Store(&saved{place: place{index: 1 << 40}}) // whatever is made now is overtaken
	node.Node.machine.grown <- struct{}{}
	testkit.Eventually(t, within, func() bool { return len(node.Node.machine.grown) == 0 })
	if err := node.Snapshot(c.ctx()); err == nil {
		t.Fatal("it was to fail")
	}
	node.stores.snapshots.latest.Store(latest)
	c.set("x", "2")
	node.Node.machine.grown <- struct{}{}
	testkit.Eventually(t, within, func() bool { return len(node.Node.machine.grown) == 0 && node.Status().SnapshotIndex > 0 }, "a snapshot")
}
