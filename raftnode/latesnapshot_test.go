package raftnode

import (
	"bytes"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/internal/testkit"
)

// A snapshot whose sender gave up waiting arrives after all, as TCP has it once a
// link is back: the node was sent another meanwhile and has acknowledged entries
// behind it. Installed, it would take them away again.
func TestLateSnapshot_TakesNothingAway(t *testing.T) {
	for _, test := range []struct {
		name      string
		shortened bool // the node's own log does not reach back to the snapshot any more
	}{{"in the log", false}, {"before the log", true}} {
		t.Run(test.name, func(t *testing.T) { lateSnapshot(t, test.shortened) })
	}
}

func lateSnapshot(t *testing.T, shortened bool) {
	var rule rule
	c := newCluster(t, 3, func(_ int, cfg *Config) {
		cfg.TrailingEntries = 4
		cfg.EntryCommandsMax = 1
		cfg.WrapTransport = rule.wrap
		steady(cfg)
	})
	leader := c.leader()
	follower := c.others(leader)[0]
	c.stop(follower)
	for range 12 {
		c.set("x", "1")
	}
	must(t, leader.Snapshot(c.ctx()))
	sent := make(chan installation, 16)
	rule.set(func(_, _ raft.ServerID, message any, send func() error) error {
		if i, ok := message.(installation); ok {
			sent <- i
		}
		return send()
	})
	c.start(follower)
	c.set("behind", "1")
	c.converge("behind", "1")
	var late installation
	select {
	case late = <-sent:
	case <-time.After(within):
		t.Fatal("no snapshot was sent")
	}
	if shortened {
		for range 12 {
			c.set("behind", "2")
		}
		c.converge("behind", "2")
		must(t, follower.Snapshot(c.ctx()))
		if first := follower.stores.log.first.Load(); first <= late.LastLogIndex {
			t.Fatalf("its log begins at %d, and the snapshot ends at %d", first, late.LastLogIndex)
		}
	}

	before, err := follower.stores.end()
	must(t, err)
	wire := leader.trans.Transport.(*ruled).Transport
	var answer raft.InstallSnapshotResponse
	must(t, wire.InstallSnapshot(follower.self, raft.ServerAddress(follower.cfg.Address), late.InstallSnapshotRequest, &answer, bytes.NewReader(late.content)))
	after, err := follower.stores.end()
	must(t, err)
	if after.index < before.index || after.term < before.term {
		t.Errorf("its log ended at %v, and ends at %v now", before, after)
	}
	if follower.get("behind") == "" {
		t.Error("its machine has gone back")
	}
	if !answer.Success {
		t.Errorf("what it has was refused: %+v", answer)
	}
	// It is read to its end, since the connection's next message comes behind it, and
	// answered in its own term alone: of another one the library has to hear.
	content, answers := bytes.NewReader(late.content), make(chan raft.RPCResponse, 4)
	rpc := raft.RPC{Command: late.InstallSnapshotRequest, Reader: content, RespChan: answers}
	if !follower.answerLateSnapshot(rpc, late.InstallSnapshotRequest) {
		t.Error("it is not answered")
	} else if <-answers; content.Len() != 0 {
		t.Errorf("%d bytes of it are taken for the next message", content.Len())
	}
	for _, term := range []uint64{late.Term - 1, late.Term + 1} {
		request := *late.InstallSnapshotRequest
		request.Term = term
		if follower.answerLateSnapshot(rpc, &request) {
			t.Errorf("a snapshot of term %d is answered in term %d", term, late.Term)
		}
	}
	for where, want := range map[place]bool{after: true, {after.index, after.term + 1}: follower.stores.snapshots.latest.Load().index >= after.index, {after.index + 1, after.term}: false} {
		if holds := follower.holds(where); holds != want {
			t.Errorf("its log ends at %v, and it holds %v: %v", after, where, holds)
		}
	}
	c.set("after", "1")
	c.converge("after", "1")
	testkit.Eventually(t, within, func() bool { return follower.fail.cause() == nil && leader.Metrics().NodesSetBack == 0 }, "nobody was set back")
}
