package raftnode

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/internal/testkit"
)

// A leader reads the next entry for a follower, and is deposed meanwhile: what it
// reads then is its successor's, at a place where its own log has another. Sent in
// its own name to a follower that has not heard of the successor, the entry would
// come to stand behind entries that were never committed; the successor would find
// its own entry there, take everything before it for equal, and have it applied.
func TestDeposed_WhatASuccessorWroteIsNotSent(t *testing.T) {
	var rule rule
	gate := newGate()
	c := newCluster(t, 5, func(_ int, cfg *Config) {
		cfg.TrailingEntries = 8
		cfg.StoreOperationMax = time.Minute // one is held
		cfg.WrapTransport = rule.wrap
		cfg.WrapLogStore = func(inner raft.LogStore) raft.LogStore { return &gatedLog{inner, gate} }
	})
	t.Cleanup(gate.release)
	c.set("before", "1")
	c.converge("before", "1")
	old := c.leader()
	follower, rest := c.others(old)[0], c.others(old)[1:]
	term := old.raft().CurrentTerm()

	// The old leader's entries reach one follower, which hears nobody else; the rest
	// hear that it lives. The last entry is sent to nobody.
	var mute atomic.Bool
	hang := make(chan struct{})
	free := sync.OnceFunc(func() { close(hang) })
	t.Cleanup(free)
	rule.set(func(from, to raft.ServerID, message any, send func() error) error {
		entries, ok := message.(*raft.AppendEntriesRequest)
		heartbeat := ok && entries.PrevLogEntry == 0 && len(entries.Entries) == 0
		switch {
		case from == follower.self, to == follower.self && from != old.self, to == follower.self && mute.Load() && !heartbeat:
			return errCut
		case from == old.self && to != follower.self && !heartbeat:
			<-hang
			return errCut
		}
		return send()
	})
	lose := func(register string) (index uint64) {
		index = old.stores.log.last.Load() + 1
		go old.Propose(c.ctx(), set(register, "1")) // it is never acknowledged
		testkit.Eventually(t, within, func() bool { return old.stores.log.last.Load() == index }, "%s is in the leader's log", register)
		return index
	}
	lose("lost0")
	known := lose("lost1")
	testkit.Eventually(t, within, func() bool {
		p, ok := old.peers.get(follower.self, term)
		return ok && p.match == known
	}, "the follower has both")
	mute.Store(true)
	next := lose("lost2")
	old.stores.logs.forgetAll() // it reads from its disk, as for a node that is far behind
	gate.at.Store(next)
	select {
	case <-gate.reached:
	case <-time.After(within):
		t.Fatal("the old leader does not read the next entry")
	}

	// The rest elect another, whose entries replace the old leader's.
	delivered := make(chan struct{})
	var once sync.Once
	rule.set(func(from, to raft.ServerID, message any, send func() error) error {
		entries, ok := message.(*raft.AppendEntriesRequest)
		if from == old.self && to == follower.self && ok && len(entries.Entries) > 0 {
			defer once.Do(func() { close(delivered) })
			return send()
		}
		if from == old.self || from == follower.self || to == follower.self {
			return errCut
		}
		return send()
	})
	free()
	var leader *member
	testkit.Eventually(t, within, func() bool {
		for _, m := range rest {
			if m.reign.Load() != nil {
				leader = m
			}
		}
		return leader != nil
	}, "another leader")
	for _, register := range []string{"kept0", "kept1", "kept2"} {
		_, err := leader.Propose(c.ctx(), set(register, "1"))
		must(t, err)
	}
	testkit.Eventually(t, within, func() bool {
		end, err := old.stores.end()
		return err == nil && end.term > term && end.index >= next
	}, "the old leader has the new one's entries")
	gate.release()
	testkit.Eventually(t, within, func() bool {
		select {
		case <-delivered:
			return true
		default:
			return old.trans.deposed.Load() > 0
		}
	}, "what the old leader has read is sent, or not")
	if err := follower.stores.verifyTerm(); err != nil {
		t.Errorf("a follower took an entry before its term: %v", err)
	}

	// One of the next term looks from the log's end backwards for what they share.
	must(t, leader.TransferLeadership(c.ctx(), ""))
	rule.set(nil)
	c.set("after", "1")
	c.converge("after", "1")
	for _, m := range c.members {
		if m.get("lost0") != "" || m.get("lost1") != "" || m.get("kept0") != "1" || m.get("kept2") != "1" {
			t.Errorf("node %s has applied what was never committed: lost0=%q lost1=%q kept0=%q", m.self, m.get("lost0"), m.get("lost1"), m.get("kept0"))
		}
	}
}

// The first message of a new leader is read in steps: its log's end, then what is
// committed, which by then may be further. It names an entry that the follower has
// as well, and a commit index beyond; what the follower has behind that entry is
// an older leader's, and not what was committed there.
func TestDeposed_AFollowerCommitsNoMoreThanWasCompared(t *testing.T) {
	var rule rule
	c := newCluster(t, 3, func(_ int, cfg *Config) { cfg.WrapTransport = rule.wrap })
	c.set("before", "1")
	c.converge("before", "1")
	old := c.leader()
	end, err := old.stores.end()
	must(t, err)
	rule.set(func(from, to raft.ServerID, _ any, send func() error) error {
		if from == old.self || to == old.self {
			return errCut
		}
		return send()
	})
	go old.Propose(c.ctx(), set("lost", "1")) // it is never acknowledged
	testkit.Eventually(t, within, func() bool { return old.stores.log.last.Load() > end.index }, "the old leader has an entry of its own")
	var leader *member
	testkit.Eventually(t, within, func() bool { leader = c.tryLeader(); return leader != nil && leader != old }, "another leader")
	if now := leader.raft().CommitIndex(); now <= end.index {
		t.Fatalf("it leads, and has committed nothing in its term: %d after %d", now, end.index)
	}

	first := &raft.AppendEntriesRequest{
		RPCHeader:    raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(leader.self), Addr: []byte(leader.cfg.Address)},
		Term:         leader.raft().CurrentTerm(),
		PrevLogEntry: end.index, PrevLogTerm: end.term, LeaderCommitIndex: leader.raft().CommitIndex(),
	}
	var answer raft.AppendEntriesResponse
	wire := leader.trans.Transport.(*ruled).Transport
	must(t, wire.AppendEntries(old.self, raft.ServerAddress(old.cfg.Address), first, &answer))
	if !answer.Success {
		t.Fatalf("the message was refused: %+v", answer)
	}
	if now := old.raft().CommitIndex(); now > end.index {
		t.Errorf("entry %d is committed, and it was compared up to %d", now, end.index)
	}
	rule.set(nil)
	c.set("after", "1")
	c.converge("after", "1")
	if old.get("lost") != "" {
		t.Error("an entry that was never committed was applied")
	}
}

// gate holds the first reader of one entry until it is released.
type gate struct {
	at      atomic.Uint64
	reached chan struct{}
	opened  chan struct{}
	release func()
}

func newGate() *gate {
	g := &gate{reached: make(chan struct{}), opened: make(chan struct{})}
	g.release = sync.OnceFunc(func() { close(g.opened) })
	return g
}

type gatedLog struct {
	raft.LogStore
	gate *gate
}

func (l *gatedLog) GetLog(index uint64, entry *raft.Log) error {
	if index != 0 && l.gate.at.CompareAndSwap(index, 0) {
		close(l.gate.reached)
		<-l.gate.opened
	}
	return l.LogStore.GetLog(index, entry)
}
