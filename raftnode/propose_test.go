package raftnode

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/testkit"
)

// Each caller gets the results of its own commands, and the entry, not the
// command, pays for the disk.
func TestPropose_BatchesAndAnswersEachItsOwn(t *testing.T) {
	c := newCluster(t, 3, func(_ int, cfg *Config) { steady(cfg) })
	leader := c.leader()
	before := leader.Status().Metrics
	var wait sync.WaitGroup
	const callers, each = 50, 20
	for i := range callers {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for k := range each {
				a, b := fmt.Sprintf("a%d.%d", i, k), fmt.Sprintf("b%d.%d", i, k)
				p, err := leader.Propose(c.ctx(), set(a, "1"), set(b, "1"))
				if err != nil || len(p.Results) != 2 || p.Results[0].Detail != a || p.Results[1].Detail != b || p.Index == 0 || p.Term == 0 {
					t.Errorf("%s: %+v, %v", a, p, err)
				}
			}
		}()
	}
	wait.Wait()
	after := leader.Status().Metrics
	if got := after.Committed - before.Committed; got != 2*callers*each {
		t.Errorf("%d commands are counted as committed, not %d", got, 2*callers*each)
	}
	if got := after.Entries - before.Entries; got > callers*each/2 {
		t.Errorf("%d calls made %d entries", callers*each, got)
	}
	if after.Pending != 0 {
		t.Errorf("%d calls are counted as pending", after.Pending)
	}
}

// Entries stay within their bounds, whatever waits.
func TestPropose_EntriesAreCapped(t *testing.T) {
	c := newCluster(t, 1, func(_ int, cfg *Config) {
		cfg.EntryCommandsMax = 8
		cfg.EntryBytesMax = 4096
		cfg.CommandBytesMax = 4096
		cfg.EntriesInFlightMax = 1
	})
	node := c.leader()
	var wait sync.WaitGroup
	for i := range 200 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			c.set(fmt.Sprint(i), strings.Repeat("v", i*7))
		}()
	}
	wait.Wait()
	batches := 0
	for index := uint64(1); index <= node.raft().LastIndex(); index++ {
		var l raft.Log
		must(t, node.stores.logs.GetLog(index, &l))
		if l.Type != raft.LogCommand {
			continue
		}
		batch, err := fsm.DecodeEntry(l.Data)
		must(t, err)
		if n := len(batch.GetCommands()); n > 8 {
			t.Errorf("entry %d holds %d commands", index, n)
		} else if n > 1 {
			batches++
		}
		if len(l.Data) > 4096+128 {
			t.Errorf("entry %d has %d bytes", index, len(l.Data))
		}
	}
	if batches == 0 {
		t.Error("nothing was batched: the test shows nothing")
	}
}

func TestPropose_Refusals(t *testing.T) {
	c := newCluster(t, 3, func(_ int, cfg *Config) { cfg.CommandBytesMax, cfg.EntryCommandsMax = 1000, 4 })
	leader := c.leader()
	last := leader.raft().LastIndex()
	small := set("x", "1")
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	for _, test := range []struct {
		name     string
		node     *member
		ctx      context.Context
		commands [][]byte
		want     error
	}{
		{"a large command", leader, c.ctx(), [][]byte{make([]byte, 1001)}, ErrTooLarge},
		{"many commands", leader, c.ctx(), [][]byte{small, small, small, small, small}, ErrTooLarge},
		{"no command", leader, c.ctx(), nil, ErrTooLarge},
		{"a follower", c.others(leader)[0], c.ctx(), [][]byte{small}, ErrNotLeader},
		{"an ended context", leader, cancelled, [][]byte{small}, context.Canceled},
	} {
		if _, err := test.node.Propose(test.ctx, test.commands...); !errors.Is(err, test.want) || errors.Is(err, ErrUnknown) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
	if now := leader.raft().LastIndex(); now != last {
		t.Errorf("a refusal was appended: the log went from %d to %d", last, now)
	}
}

// A call that was not packed yet when its caller left is not appended, and its
// error does not say unknown; one that was packed is unknown.
func TestPropose_GivenUpBeforeAndAfterPacking(t *testing.T) {
	c, net, leader := stubbornLeader(t)
	net.isolate(leader.self)
	packed, leave := context.WithCancel(context.Background())
	answers := make(chan error, 64)
	for i := range leader.cfg.EntriesInFlightMax {
		go func() { _, err := leader.Propose(packed, set(fmt.Sprintf("packed%d", i), "1")); answers <- err }()
		testkit.Eventually(t, within, func() bool { return len(leader.slots) == i+1 })
	}
	waiting, leaveToo := context.WithCancel(context.Background())
	queued := make(chan error, 1)
	go func() { _, err := leader.Propose(waiting, set("queued", "1")); queued <- err }()
	testkit.Eventually(t, within, func() bool { return leader.queue.waiting() == 1 })
	leaveToo()
	if err := <-queued; !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnknown) {
		t.Fatalf("a call that only waited: %v", err)
	}
	leave()
	for range leader.cfg.EntriesInFlightMax {
		if err := <-answers; !errors.Is(err, ErrUnknown) || !errors.Is(err, context.Canceled) {
			t.Fatalf("a packed call: %v, want ErrUnknown", err)
		}
	}
	// With its network again the leader goes on, as nobody noticed, or steps down.
	net.heal()
	c.set("after", "1")
	c.converge("after", "1")
	if c.leader().get("queued") != "" {
		t.Fatal("a call that was definitely not appended took effect")
	}
}

// Beyond its bounds the queue refuses before anything is appended.
func TestPropose_TheQueueIsBounded(t *testing.T) {
	for name, adjust := range map[string]func(*Config){
		"calls": func(cfg *Config) { cfg.QueueCallsMax = 3 },
		"bytes": func(cfg *Config) { cfg.QueueBytesMax = 500 },
	} {
		t.Run(name, func(t *testing.T) {
			release := make(chan struct{})
			var d disk
			c := newCluster(t, 1, func(_ int, cfg *Config) {
				adjust(cfg)
				d.on(cfg)
				cfg.EntriesInFlightMax = 1
				cfg.EntryCommandsMax = 1
			})
			node := c.leader()
			d.break_(func(operation string) error {
				if operation == "append" {
					<-release
				}
				return nil
			})
			var mu sync.Mutex
			var acknowledged, busy []string
			var wait sync.WaitGroup
			for i := range 50 {
				wait.Add(1)
				go func() {
					defer wait.Done()
					register := fmt.Sprint("r", i)
					_, err := node.Propose(c.ctx(), set(register, strings.Repeat("v", 100)))
					mu.Lock()
					defer mu.Unlock()
					switch {
					case err == nil:
						acknowledged = append(acknowledged, register)
					case errors.Is(err, ErrBusy):
						busy = append(busy, register)
					default:
						t.Errorf("%s: %v", register, err)
					}
				}()
			}
			testkit.Eventually(t, within, func() bool { mu.Lock(); defer mu.Unlock(); return len(busy) > 0 })
			close(release)
			wait.Wait()
			if len(acknowledged) == 0 || node.Metrics().Busy != uint64(len(busy)) {
				t.Errorf("%d acknowledged, %d busy, counted %d", len(acknowledged), len(busy), node.Metrics().Busy)
			}
			for _, register := range busy {
				if node.get(register) != "" {
					t.Errorf("%s was refused and took effect", register)
				}
			}
			for _, register := range acknowledged {
				if node.get(register) == "" {
					t.Errorf("%s was acknowledged and is lost", register)
				}
			}
		})
	}
}

// Unknown may mean that it took effect: the followers have the entry, the
// leader that never heard so is gone.
func TestPropose_UnknownThatTookEffect(t *testing.T) {
	c, net, leader := stubbornLeader(t)
	net.change(func() { net.deaf[leader.self] = true })
	ctx, cancel := context.WithCancel(context.Background())
	answer := make(chan error, 1)
	go func() { _, err := leader.Propose(ctx, set("x", "1")); answer <- err }()
	index := leader.raft().LastIndex() + 1
	testkit.Eventually(t, within, func() bool {
		for _, m := range c.others(leader) {
			if m.raft().LastIndex() >= index {
				return true
			}
		}
		return false
	}, "a follower has the entry")
	cancel()
	if err := <-answer; !errors.Is(err, ErrUnknown) {
		t.Fatalf("%v, want ErrUnknown", err)
	}
	net.isolate(leader.self)
	var next *member
	testkit.Eventually(t, within, func() bool {
		for _, m := range c.others(leader) {
			if m.reign.Load() != nil {
				next = m
			}
		}
		return next != nil
	}, "another leader")
	if got := next.get("x"); got != "1" {
		t.Fatalf("x=%q: a follower had the entry, so the next leader has it", got)
	}
	net.heal()
}

// And it may mean that it never will: the entry was only in the log of a leader
// that lost its followers.
func TestPropose_UnknownThatWasLost(t *testing.T) {
	net := newNetwork()
	c := newCluster(t, 3, func(_ int, cfg *Config) { cfg.WrapTransport = net.wire() })
	t.Cleanup(net.heal)
	c.set("x", "0")
	leader := c.leader()
	net.isolate(leader.self)
	_, err := leader.Propose(c.ctx(), set("x", "lost"))
	if !errors.Is(err, ErrUnknown) || !errors.Is(err, raft.ErrLeadershipLost) {
		t.Fatalf("%v, want ErrUnknown for the lost leadership", err)
	}
	c.set("y", "1")
	net.heal()
	c.converge("y", "1")
	for _, m := range c.members {
		if got := m.get("x"); got != "0" {
			t.Errorf("x=%s on %s", got, m.self)
		}
	}
}

// What each of the library's errors says about the log. A wrong line here makes
// a client believe that its command had no effect.
func TestOutcomeOfTheLibrarysErrors(t *testing.T) {
	for _, test := range []struct {
		err     error
		want    error
		unknown bool
	}{
		{raft.ErrNotLeader, ErrNotLeader, false},
		{raft.ErrLeadershipTransferInProgress, ErrNotLeader, false},
		{raft.ErrEnqueueTimeout, ErrBusy, false},
		{raft.ErrLeadershipLost, raft.ErrLeadershipLost, true},
		{raft.ErrRaftShutdown, raft.ErrRaftShutdown, true},
		{ErrClosed, ErrClosed, true},
		{ErrFailed, ErrFailed, true},
		{raft.ErrAbortedByRestore, raft.ErrAbortedByRestore, true},
		{errors.New("a store's error"), ErrUnknown, true},
	} {
		got := outcome(test.err)
		if !errors.Is(got, test.want) || errors.Is(got, ErrUnknown) != test.unknown {
			t.Errorf("%v means %v", test.err, got)
		}
	}
}

// Whoever waits when the node closes is answered, and definitely where that is
// possible.
func TestPropose_ClosingAnswersEverybody(t *testing.T) {
	c := newCluster(t, 3, nil)
	leader := c.leader()
	var mu sync.Mutex
	acknowledged := map[string]bool{}
	var wait sync.WaitGroup
	for i := range 20 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for k := 0; ; k++ {
				register := fmt.Sprintf("r%d.%d", i, k)
				_, err := leader.Propose(context.Background(), set(register, "1"))
				if err != nil {
					if !errors.Is(err, ErrClosed) && !errors.Is(err, ErrUnknown) && !errors.Is(err, ErrNotLeader) {
						t.Errorf("%s: %v", register, err)
					}
					return
				}
				mu.Lock()
				acknowledged[register] = true
				mu.Unlock()
			}
		}()
	}
	testkit.Eventually(t, within, func() bool { mu.Lock(); defer mu.Unlock(); return len(acknowledged) > 100 })
	c.stop(leader)
	wait.Wait()
	next := c.leader()
	for register := range acknowledged {
		if next.get(register) != "1" {
			t.Fatalf("%s was acknowledged and is lost", register)
		}
	}
	if _, err := leader.Propose(context.Background(), set("x", "1")); !errors.Is(err, ErrClosed) {
		t.Fatalf("a closed node answers %v", err)
	}
	if err := leader.WaitApplied(context.Background(), 1<<40); !errors.Is(err, ErrClosed) {
		t.Fatalf("a closed node answers %v", err)
	}
}

func TestWaitApplied(t *testing.T) {
	c := newCluster(t, 3, nil)
	index := c.set("x", "1")
	for _, m := range c.members {
		must(t, m.WaitApplied(c.ctx(), index))
		if m.get("x") != "1" {
			t.Errorf("node %s does not hold what it says it has applied", m.self)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := c.members[0].WaitApplied(ctx, index+100); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}
