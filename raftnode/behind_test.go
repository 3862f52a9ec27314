package raftnode

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/internal/testkit"
)

// unhurried is the profile of a leader that stays, whatever the test holds up.
var unhurried = Profile{Name: "unhurried", HeartbeatTimeout: within, ElectionTimeout: within, LeaseTimeout: within, RPCTimeout: within}

// heldDisk lets no append through until it is released.
func heldDisk(t *testing.T, d *disk) (release func()) {
	hold := make(chan struct{})
	d.break_(func(operation string) error {
		if operation == "append" {
			<-hold
		}
		return nil
	})
	release = sync.OnceFunc(func() { close(hold) })
	t.Cleanup(release)
	return release
}

// "As long as it does not count itself before its own disk has the entry": both
// followers have it on their disks, and nobody is told so.
func TestBehind_NothingIsCommittedBeforeTheLeadersDiskHasIt(t *testing.T) {
	c, disks := brokenCluster(t, steady)
	c.set("x", "0")
	leader := c.leader()
	release := heldDisk(t, disks[c.index(leader)])
	answer := make(chan error, 1)
	go func() { _, err := leader.Propose(c.ctx(), set("x", "1")); answer <- err }()
	testkit.Eventually(t, within, func() bool {
		for _, m := range c.others(leader) {
			if m.stores.log.onDisk.index.Load() != leader.raft().LastIndex() {
				return false
			}
		}
		return leader.raft().LastIndex() > leader.stores.log.onDisk.index.Load()
	}, "the followers' disks have what the leader's has not")
	// Heartbeats and reads go on meanwhile, and see nothing of it.
	for range 10 {
		if _, err := leader.ReadIndex(c.ctx()); err != nil {
			t.Fatal(err)
		}
	}
	if brief := leader.Brief(); brief.CommitIndex > leader.stores.log.onDisk.index.Load() || brief.LastLogIndex != leader.raft().LastIndex() {
		t.Errorf("it says %+v", brief)
	}
	if got := leader.get("x"); got != "0" || leader.raft().CommitIndex() > leader.stores.log.onDisk.index.Load() {
		t.Fatalf("x=%s, and entry %d is committed: the leader's disk has %d", got, leader.raft().CommitIndex(), leader.stores.log.onDisk.index.Load())
	}
	select {
	case err := <-answer:
		t.Fatalf("answered before the leader's disk had it: %v", err)
	default:
	}
	release()
	must(t, <-answer)
	c.converge("x", "1")
}

// A message may bring several entries of which the leader's disk has the first alone: it
// counts itself for no more than that.
func TestBehind_OfAMessageTheLastEntryCounts(t *testing.T) {
	net := newNetwork()
	disks := []*disk{{}, {}, {}}
	c := newCluster(t, 3, func(i int, cfg *Config) {
		cfg.Profile = unhurried
		cfg.StoreOperationMax = 2 * within
		cfg.WrapTransport = net.wire()
		disks[i].on(cfg)
	})
	t.Cleanup(net.heal)
	c.set("x", "0")
	leader := c.leader()
	log := leader.stores.log
	answers := make(chan error, 3)
	propose := func(register string) {
		index := leader.raft().LastIndex()
		go func() { _, err := leader.Propose(c.ctx(), set(register, "1")); answers <- err }()
		// The log has it a moment before the library knows, which else would send a part.
		testkit.Eventually(t, within, func() bool { return leader.raft().LastIndex() > index })
	}
	// While the one before it waits to be sent, both entries come to the same message.
	net.change(func() { net.muted[leader.self] = true })
	propose("before")
	testkit.Eventually(t, within, func() bool { return log.onDisk.index.Load() == log.last.Load() })
	next, begun := make(chan struct{}), make(chan struct{}, 8)
	disks[c.index(leader)].break_(func(operation string) error {
		if operation == "append" {
			begun <- struct{}{}
			<-next
		}
		return nil
	})
	release := sync.OnceFunc(func() { close(next) })
	t.Cleanup(release)
	propose("first")
	<-begun // the disk is at work on the first, so the last is written behind it
	propose("last")
	last := log.last.Load()
	net.change(func() { delete(net.muted, leader.self) })
	testkit.Eventually(t, within, func() bool {
		for _, m := range c.others(leader) {
			if m.stores.log.onDisk.index.Load() < last {
				return false
			}
		}
		return true
	}, "the followers' disks have both")
	next <- struct{}{}
	testkit.Eventually(t, within, func() bool { return log.onDisk.index.Load() == last-1 }, "the leader's disk has the first")
	for range 10 {
		if _, err := leader.ReadIndex(c.ctx()); err != nil {
			t.Fatal(err)
		}
	}
	if committed, disk := leader.raft().CommitIndex(), log.onDisk.index.Load(); committed > disk {
		t.Fatalf("entry %d is committed, and the leader's disk has %d", committed, disk)
	}
	release()
	for range cap(answers) {
		must(t, <-answers)
	}
	c.converge("last", "1")
}

// A leader alone is a quorum alone: it waits for its disk. So it is with nodes beside it
// that have no vote.
func TestBehind_NotAlone(t *testing.T) {
	for _, nonvoters := range []int{0, 1, 2} {
		t.Run(fmt.Sprintf("%d without a vote", nonvoters), func(t *testing.T) {
			var d disk
			c := newCluster(t, 1, func(i int, cfg *Config) {
				if i == 0 {
					d.on(cfg)
				}
			})
			node := c.leader()
			for range nonvoters {
				m := c.add()
				must(t, node.AddNonvoter(c.ctx(), m.Identity().NodeID, m.cfg.Address, m.Identity().ClusterID))
			}
			c.set("x", "0")
			c.converge("x", "0")
			release := heldDisk(t, &d)
			answer := make(chan error, 1)
			entries := node.Metrics().Entries
			go func() { _, err := node.Propose(c.ctx(), set("x", "1")); answer <- err }()
			testkit.Eventually(t, within, func() bool { return node.Metrics().Entries > entries })
			select {
			case err := <-answer:
				t.Fatalf("answered before the disk had it: %v", err)
			case <-time.After(50 * time.Millisecond):
			}
			if node.raft().CommitIndex() > node.stores.log.onDisk.index.Load() {
				t.Fatal("committed before the disk had it")
			}
			release()
			must(t, <-answer)
		})
	}
}

// A leader that was deposed is soon asked whether it has what it accepted. It does
// not say so before it is true of its disk.
func TestBehind_ADeposedLeaderAnswersForItsDisk(t *testing.T) {
	net := newNetwork()
	disks := []*disk{{}, {}, {}}
	c := newCluster(t, 3, func(i int, cfg *Config) { cfg.WrapTransport = net.wire(); disks[i].on(cfg) })
	t.Cleanup(net.heal)
	c.set("x", "0")
	deposed := c.leader()
	release := heldDisk(t, disks[c.index(deposed)])
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	answer := make(chan error, 1)
	go func() { _, err := deposed.Propose(ctx, set("x", "1")); answer <- err }()
	testkit.Eventually(t, within, func() bool {
		for _, m := range c.others(deposed) {
			if m.stores.log.onDisk.index.Load() != deposed.raft().LastIndex() {
				return false
			}
		}
		return deposed.raft().LastIndex() > deposed.stores.log.onDisk.index.Load()
	}, "the followers' disks have what the leader's has not")
	accepted := deposed.raft().LastIndex()
	net.isolate(deposed.self)
	var next *member
	testkit.Eventually(t, within, func() bool {
		for _, m := range c.others(deposed) {
			if m.reign.Load() != nil {
				next = m
			}
		}
		return next != nil
	}, "another leader")
	if next.get("x") != "1" {
		t.Fatal("the next leader has the entry")
	}
	// Its successor may send no more than what it accepted, where there is much of it.
	var before, entry raft.Log
	must(t, next.stores.logs.GetLog(accepted-1, &before))
	must(t, next.stores.logs.GetLog(accepted, &entry))
	heard := make(chan raft.RPCResponse, 1)
	deposed.trans.incoming <- raft.RPC{RespChan: heard, Command: &raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(next.self), Addr: []byte(next.cfg.Address)},
		Term:      next.raft().CurrentTerm(), PrevLogEntry: before.Index, PrevLogTerm: before.Term, Entries: []*raft.Log{&entry},
	}}
	testkit.Eventually(t, within, func() bool { return deposed.raft().CurrentTerm() == next.raft().CurrentTerm() }, "it has heard of its successor")
	select {
	case r := <-heard:
		t.Fatalf("it answered %+v for entry %d, and its disk has %d", r.Response, accepted, deposed.stores.log.onDisk.index.Load())
	case <-time.After(50 * time.Millisecond):
	}
	release()
	if r, ok := (<-heard).Response.(*raft.AppendEntriesResponse); !ok || !r.Success {
		t.Errorf("its disk has the entry, and it says %+v", r)
	}
	net.heal()
	cancel()
	if err := <-answer; err != nil && !errors.Is(err, ErrUnknown) {
		t.Errorf("its caller heard %v", err)
	}
	c.set("y", "1")
	c.converge("y", "1")
	c.converge("x", "1")
}

// A write that fails behind a leader's back ends the node as any other does.
func TestBehind_AFailedWriteEndsTheLeader(t *testing.T) {
	c, disks := brokenCluster(t, nil)
	c.set("x", "0")
	leader := c.leader()
	broken := errors.New("input/output error")
	disks[c.index(leader)].break_(only("append", broken))
	if _, err := leader.Propose(c.ctx(), set("x", "1")); !errors.Is(err, ErrUnknown) {
		t.Errorf("the caller heard %v", err)
	}
	if err := leader.stopped(t); !errors.Is(err, broken) {
		t.Fatalf("it stopped for %v", err)
	}
	c.stop(leader)
	c.set("x", "2")
}

// What was accepted and is not written is not found, nor is it forgotten when the
// log is shortened at its beginning meanwhile.
func TestBehind_ALogThatIsShortenedMeanwhile(t *testing.T) {
	cfg := testConfig(t)
	must(t, makeDir(cfg.DataDir))
	stores, err := openStores(&cfg, newFailStop(func(err error) { t.Error(err) }), new(histogram))
	must(t, err)
	defer func() { must(t, stores.close()) }()
	log := func(index uint64) *raft.Log {
		return &raft.Log{Index: index, Term: 1, Type: raft.LogCommand, Data: []byte{byte(index)}}
	}
	for index := uint64(1); index <= 10; index++ {
		must(t, stores.logs.StoreLog(log(index)))
	}
	stores.log.behind.may = func([]*raft.Log) bool { return true }
	must(t, stores.logs.StoreLogs([]*raft.Log{log(11), log(12)}))
	if on := stores.log.onDisk.index.Load(); on != 10 {
		t.Fatalf("the disk has %d", on)
	}
	must(t, stores.logs.DeleteRange(1, 5))
	must(t, stores.logs.StoreLog(log(13)))
	stores.log.catchUp()
	for index := uint64(6); index <= 13; index++ {
		var l raft.Log
		must(t, stores.log.GetLog(index, &l))
		if len(l.Data) != 1 || l.Data[0] != byte(index) {
			t.Errorf("entry %d holds %v", index, l.Data)
		}
	}
	// Its end dropped, whoever waits for it is told.
	must(t, stores.logs.DeleteRange(12, 13))
	if err := stores.log.reaches(12); !errors.Is(err, raft.ErrLogNotFound) {
		t.Errorf("entry 12 was dropped: %v", err)
	}
	stores.log.behind.may = nil
	must(t, stores.logs.StoreLog(log(12)))
	must(t, stores.log.reaches(12))
}
