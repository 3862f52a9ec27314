package raftnode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/testkit"
)

// next receives the next change of leadership.
func (m *member) next(t *testing.T) Leadership {
	t.Helper()
	select {
	case l, ok := <-m.Leadership():
		if !ok {
			t.Fatal("the channel is closed")
		}
		return l
	case <-time.After(within):
		t.Fatal("no change of leadership")
		return Leadership{}
	}
}

// A new leader serves after an entry of its own term was applied, and the first
// command of each term is a Tick; in a new cluster Found stands before it.
func TestLeadership_TheFirstCommandOfATermIsATick(t *testing.T) {
	c := newCluster(t, 3, nil)
	for range 3 {
		leader := c.leader()
		if l, ok := leader.Leader(); !ok || l.ID != string(leader.self) || l.Term != leader.raft().CurrentTerm() || l.Address != leader.cfg.Address {
			t.Fatalf("the leader is %+v, %v", l, ok)
		}
		must(t, leader.TransferLeadership(c.ctx(), ""))
		testkit.Eventually(t, within, func() bool { return c.tryLeader() != nil && c.tryLeader() != leader })
		testkit.Eventually(t, within, func() bool { l, ok := leader.Leader(); return ok && l.ID == string(c.leader().self) },
			"the old leader knows the new one")
	}
	leader := c.leader()
	leader.View(func() {
		first := leader.machine.state.FirstOfTerm
		if len(first) < 4 || first[0] != "*logpb.Command_Found" {
			t.Fatalf("the terms began with %v", first)
		}
		for _, kind := range first[1:] {
			if kind != "*logpb.Command_Tick" {
				t.Errorf("the terms began with %v", first)
			}
		}
		if want := leader.Identity().ClusterID.String(); leader.machine.state.Cluster != want {
			t.Errorf("the cluster in the log is %s, in the directory %s", leader.machine.state.Cluster, want)
		}
	})
}

// Events come in pairs, and what was not received in time is dropped.
func TestLeadership_Events(t *testing.T) {
	c := newCluster(t, 3, nil)
	first := c.members[0]
	if l := first.next(t); !l.Leader || l.Term != first.raft().CurrentTerm() {
		t.Fatalf("%+v", l)
	}
	must(t, first.TransferLeadership(c.ctx(), string(c.members[1].self)))
	if l := first.next(t); l != (Leadership{}) {
		t.Fatalf("%+v", l)
	}
	second := c.members[1]
	testkit.Eventually(t, within, func() bool { return second.reign.Load() != nil })
	// Nobody listens to the second node while it wins, loses and wins.
	for _, to := range []*member{c.members[2], second} {
		c.retry(func(leader *member) error {
			if leader == to {
				return nil
			}
			return leader.TransferLeadership(c.ctx(), string(to.self))
		})
		testkit.Eventually(t, within, func() bool { return to.reign.Load() != nil })
	}
	if l := second.next(t); !l.Leader || l.Term != second.raft().CurrentTerm() {
		t.Fatalf("%+v in term %d", l, second.raft().CurrentTerm())
	}
	c.stop(second)
	// Whether or not the loss is still told, the channel ends.
	for range second.Leadership() {
		continue
	}
}

// "Two true in a row are lost-and-regained": the library overwrites what nobody
// took.
func TestLeadership_TwoTrueInARowAreLostAndRegained(t *testing.T) {
	c := newCluster(t, 1, nil)
	node := c.leader()
	won := node.next(t)
	// An instance that is the same but for its channel takes the place.
	leads := make(chan bool)
	old := node.raft()
	node.current.Store(&library{Raft: old.Raft, leads: leads, gone: make(chan struct{})})
	close(old.gone)
	if l := node.next(t); l.Leader {
		t.Fatalf("%+v", l)
	}
	leads <- true
	if l := node.next(t); !l.Leader || l.Term != won.Term {
		t.Fatalf("%+v", l)
	}
	reign := node.reign.Load()
	leads <- true
	if l := node.next(t); l.Leader {
		t.Fatalf("%+v: leadership was lost in between", l)
	}
	if l := node.next(t); !l.Leader {
		t.Fatalf("%+v", l)
	}
	select {
	case <-reign.over:
	default:
		t.Fatal("the first reign goes on")
	}
}

// Lost, regained and lost again, and nobody has listened: the first loss is still
// news to who heard of the first reign, the second reign is not.
func TestLeadership_ALossIsToldThoughTheRegainIsDropped(t *testing.T) {
	c := newCluster(t, 1, nil)
	node := c.leader()
	node.next(t)
	leads := make(chan bool)
	old := node.raft()
	node.current.Store(&library{Raft: old.Raft, leads: leads, gone: make(chan struct{})})
	first := node.reign.Load()
	close(old.gone) // lost
	testkit.Eventually(t, within, func() bool { return node.reign.Load() == nil }, "the first reign is over")
	leads <- true
	testkit.Eventually(t, within, func() bool { r := node.reign.Load(); return r != nil && r != first }, "a second reign")
	leads <- false
	testkit.Eventually(t, within, func() bool { return node.reign.Load() == nil }, "the second reign is over")
	if l := node.next(t); l != (Leadership{}) {
		t.Fatalf("%+v, want the loss", l)
	}
}

// A node that loses leadership at the very moment at which it is ready to serve
// does not begin: it would take itself for the leader for ever, and every read
// that it is asked for afterwards would wait for a quorum of a term that is over.
func TestLeadership_AReignThatCameTooLateIsNotBegun(t *testing.T) {
	c := newCluster(t, 3, nil)
	leader := c.leader()
	follower := c.members[1]
	if follower == leader {
		follower = c.members[2]
	}
	ctx, lost := context.WithCancel(c.ctx())
	lost()
	select {
	case follower.settled <- settlement{ctx, &reign{term: leader.raft().CurrentTerm(), over: make(chan struct{})}}:
	case <-time.After(within):
		t.Fatal("nobody takes what was settled")
	}
	index := c.set("x", "1")
	must(t, follower.WaitApplied(c.ctx(), index))
	if l, ok := follower.Leader(); !ok || l.ID != string(leader.self) {
		t.Errorf("the leader is %+v, %v, want %s", l, ok, leader.self)
	}
	if _, err := follower.ReadIndex(c.ctx()); !errors.Is(err, ErrNotLeader) {
		t.Errorf("a read at a follower: %v, want %v", err, ErrNotLeader)
	}
}

// "Each batch carries the leader's clock: the state machine's clock at election
// and the leader's monotonic elapsed. Never wall time." A leader change never
// sets it back.
func TestClock(t *testing.T) {
	c := newCluster(t, 3, func(i int, cfg *Config) {
		start := time.Now()
		cfg.Clock = func() time.Duration { return time.Duration(i)*time.Hour + 1000*time.Since(start) } // a thousand times as fast
		cfg.Wall = func() time.Time { return time.Now().AddDate(i, 0, 0) }                              // and years apart
	})
	var last uint64
	for round := range 6 {
		index := c.set("x", fmt.Sprint(round))
		leader := c.leader()
		var l raft.Log
		must(t, leader.stores.logs.GetLog(index, &l))
		batch, err := fsm.DecodeEntry(l.Data)
		must(t, err)
		if batch.GetClockMs() < last {
			t.Fatalf("the clock went back from %d to %d", last, batch.GetClockMs())
		}
		if batch.GetClockMs()-last > uint64(time.Hour/time.Millisecond) {
			t.Fatalf("the clock jumped from %d to %d", last, batch.GetClockMs())
		}
		last = batch.GetClockMs()
		if wall := time.UnixMilli(int64(batch.GetWallMs())); wall.Before(time.Now().Add(-time.Hour)) {
			t.Fatalf("the wall clock says %v", wall)
		}
		if round%2 == 1 {
			must(t, leader.TransferLeadership(c.ctx(), ""))
			testkit.Eventually(t, within, func() bool { return c.tryLeader() != nil && c.tryLeader() != leader })
		}
	}
	if last == 0 {
		t.Fatal("the clock stands")
	}
}

// A clock that an odd monotonic source turns back stands meanwhile.
func TestReignClockNeverGoesBelowItsBase(t *testing.T) {
	r := &reign{baseMS: 1000, start: 5 * time.Second}
	var got []uint64
	for _, now := range []time.Duration{0, 5 * time.Second, 5*time.Second + 1500*time.Microsecond, 6 * time.Second} {
		got = append(got, r.clockMS(now))
	}
	if want := []uint64{1000, 1000, 1001, 2000}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
