package raftnode

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/internal/testkit"
)

// "VerifyLeader is not linearizable across pauses": it takes answers to messages
// that were sent before the read began. The same network shows that ReadIndex
// does not.
//
// The leader is as good as stopped: its timers are long, what it
// hears is held back, and so is what it sends. Another node is elected and
// acknowledges a write. Then the old answers arrive.
func TestReadIndex_NoStaleReadWhereVerifyLeaderGivesOne(t *testing.T) {
	c, net, old := stubbornLeader(t)
	c.set("x", "1")
	c.converge("x", "1")

	// Answers to both kinds of messages, entries and heartbeats, wait for the old
	// leader; the followers gave them while it led. Nothing new leaves it.
	net.change(func() { net.deaf[old.self] = true })
	old.raft().VerifyLeader() // sends heartbeats at once, and their answers wait
	testkit.Eventually(t, within, func() bool { return net.answersHeld(old.self) >= 4 }, "answers wait for the old leader")
	net.change(func() { net.muted[old.self], net.sealed[old.self] = true, true })

	var leader *member
	testkit.Eventually(t, within, func() bool {
		for _, m := range c.others(old) {
			if m.reign.Load() != nil {
				leader = m
			}
		}
		return leader != nil
	}, "another leader")
	if _, err := leader.Propose(c.ctx(), set("x", "2")); err != nil {
		t.Fatal(err)
	}

	// Both reads begin now, after the write was acknowledged.
	verified := old.raft().VerifyLeader()
	ours := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, err := old.ReadIndex(ctx)
		ours <- err
	}()
	testkit.Eventually(t, within, func() bool { return old.rounds.stamp() > 0 }, "our read has begun")
	passThroughMain(t, old)
	net.change(func() { delete(net.deaf, old.self) })

	if err := verified.Error(); err != nil {
		t.Fatalf("VerifyLeader saw through it (%v): this test no longer shows why ReadIndex is ours", err)
	}
	if got := old.get("x"); got != "1" {
		t.Fatalf("the old leader already has x=%s", got)
	}
	select {
	case err := <-ours:
		t.Fatalf("ReadIndex answered (%v) on the word of old answers", err)
	default:
	}
	net.heal()
	if err := <-ours; !errors.Is(err, ErrNotLeader) {
		t.Fatalf("ReadIndex: %v, want ErrNotLeader", err)
	}
	c.converge("x", "2")
}

// stubbornLeader makes a cluster of three whose leader does not notice for a
// long time that it has lost its followers; these are fast.
func stubbornLeader(t *testing.T) (*cluster, *network, *member) {
	t.Helper()
	net := newNetwork()
	c := newCluster(t, 3, func(i int, cfg *Config) {
		cfg.WrapTransport = net.wire()
		if i == 1 {
			cfg.Profile.HeartbeatTimeout = 2 * within
			cfg.Profile.ElectionTimeout = 2 * within
			cfg.Profile.LeaseTimeout = 2 * within
		}
	})
	t.Cleanup(net.heal)
	stubborn := c.members[1]
	c.retry(func(leader *member) error {
		if leader == stubborn {
			return nil
		}
		return leader.TransferLeadership(c.ctx(), string(stubborn.self))
	})
	testkit.Eventually(t, within, func() bool { return stubborn.reign.Load() != nil })
	return c, net, stubborn
}

// passThroughMain returns when the library's main goroutine has taken what was
// sent to it before: it takes what waits in random order, so 64 further
// messages leave no doubt.
func passThroughMain(t *testing.T, m *member) {
	t.Helper()
	for range 64 {
		if err := m.raft().BootstrapCluster(raft.Configuration{}).Error(); !errors.Is(err, raft.ErrCantBootstrap) {
			t.Fatal(err)
		}
	}
}

// On an idle cluster a read does not wait for the next heartbeat, which with
// the default profile comes after 100 to 200 ms. On a busy machine one of many shows
// it: each begins where one has just ended, which would be at a heartbeat.
func TestReadIndex_IdleClusterNeedNotWaitForAHeartbeat(t *testing.T) {
	c := newCluster(t, 3, func(_ int, cfg *Config) { cfg.Profile = Default() })
	c.set("x", "1")
	leader := c.leader()
	best := time.Hour
	const reads = 100
	for i := 0; i < reads && best > 50*time.Millisecond; i++ {
		begun := time.Now()
		if _, err := leader.ReadIndex(c.ctx()); err != nil {
			t.Fatal(err)
		}
		best = min(best, time.Since(begun))
	}
	if best > 50*time.Millisecond {
		t.Fatalf("the fastest of %d reads took %v", reads, best)
	}
}

// Reads that wait at a time share one confirmation.
func TestReadIndex_SharesConfirmations(t *testing.T) {
	c := newCluster(t, 3, func(_ int, cfg *Config) { steady(cfg) })
	c.set("x", "1")
	leader := c.leader()
	before := leader.rounds.stamp()
	var wait sync.WaitGroup
	const reads = 500
	for range reads {
		wait.Add(1)
		go func() {
			defer wait.Done()
			if index, err := leader.ReadIndex(c.ctx()); err != nil || index == 0 {
				t.Errorf("read: %d, %v", index, err)
			}
		}()
	}
	wait.Wait()
	if rounds := leader.rounds.stamp() - before; rounds > reads/5 {
		t.Fatalf("%d reads took %d confirmations", reads, rounds)
	}
}

// A read that comes while a confirmation is under way is not answered by it: the
// messages that confirm were sent before the read began.
func TestReadIndex_AReadDuringAConfirmationWaitsForTheNext(t *testing.T) {
	c, net, leader := stubbornLeader(t)
	c.set("x", "1")
	net.change(func() { net.deaf[leader.self] = true }) // no confirmation ends
	before := leader.rounds.stamp()
	answers := make(chan error, 2)
	read := func() {
		_, err := leader.ReadIndex(c.ctx())
		answers <- err
	}
	go read()
	testkit.Eventually(t, within, func() bool { return leader.rounds.stamp() > before }, "a confirmation is under way")
	go read()
	testkit.Eventually(t, within, func() bool { return readsWaiting() == 2 }, "a second read waits")
	net.heal()
	for range 2 {
		must(t, <-answers)
	}
	if got := leader.rounds.stamp() - before; got != 2 {
		t.Errorf("two reads, the second one during the first one's confirmation, took %d confirmations, want 2", got)
	}
}

// readsWaiting counts the goroutines that wait in ReadIndex.
func readsWaiting() (n int) {
	stacks := make([]byte, 1<<20)
	for _, g := range strings.Split(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
		head, frames, _ := strings.Cut(g, "\n")
		if strings.Contains(head, "[select") && strings.Contains(frames, "(*Node).ReadIndex(") {
			n++
		}
	}
	return n
}

// A follower cannot tell what is committed.
func TestReadIndex_FollowerRefuses(t *testing.T) {
	c := newCluster(t, 3, nil)
	for _, follower := range c.others(c.leader()) {
		if _, err := follower.ReadIndex(c.ctx()); !errors.Is(err, ErrNotLeader) {
			t.Fatalf("a follower: %v", err)
		}
	}
}

func TestReadIndex_EndsWithItsContextAndItsNode(t *testing.T) {
	c, net, leader := stubbornLeader(t)
	net.isolate(leader.self)
	ctx, cancel := context.WithCancel(context.Background())
	cancelled, closed := make(chan error, 1), make(chan error, 1)
	go func() { _, err := leader.ReadIndex(ctx); cancelled <- err }()
	go func() { _, err := leader.ReadIndex(context.Background()); closed <- err }()
	testkit.Eventually(t, within, func() bool { return leader.rounds.stamp() > 0 })
	cancel()
	if err := <-cancelled; !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled: %v", err)
	}
	c.stop(leader)
	if err := <-closed; !errors.Is(err, ErrClosed) {
		t.Fatalf("closed: %v", err)
	}
	if _, err := leader.ReadIndex(context.Background()); !errors.Is(err, ErrClosed) {
		t.Fatalf("after the close: %v", err)
	}
}
