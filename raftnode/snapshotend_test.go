package raftnode

import (
	"testing"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/internal/testkit"
)

// A deposed leader whose log begins with what was never committed, right behind
// its snapshot, takes its successor's entries there.
func TestSnapshotEnd_IsAPlaceToGoOnFrom(t *testing.T) {
	var rule rule
	c := newCluster(t, 3, func(_ int, cfg *Config) {
		cfg.TrailingEntries = 1
		cfg.WrapTransport = rule.wrap
	})
	c.set("before", "1")
	c.converge("before", "1")
	old := c.leader()
	committed := old.raft().LastIndex()
	rule.set(func(from, to raft.ServerID, message any, send func() error) error {
		entries, ok := message.(*raft.AppendEntriesRequest)
		if from == old.self && ok && (entries.PrevLogEntry > 0 || len(entries.Entries) > 0) {
			return errCut // it leads on, and what it appends reaches nobody
		}
		return send()
	})
	for range 3 {
		last := old.stores.log.last.Load()
		go old.Propose(c.ctx(), set("lost", "1")) // it is never acknowledged
		testkit.Eventually(t, within, func() bool { return old.stores.log.last.Load() > last }, "an entry of its own")
	}
	must(t, old.Snapshot(c.ctx()))
	if first := old.stores.log.first.Load(); first != committed+1 {
		t.Fatalf("its log begins at %d, and was committed up to %d", first, committed)
	}
	rule.set(func(from, to raft.ServerID, _ any, send func() error) error {
		if from == old.self || to == old.self {
			return errCut
		}
		return send()
	})
	var leader *member
	testkit.Eventually(t, within, func() bool { leader = c.tryLeader(); return leader != nil && leader != old }, "another leader")
	_, err := leader.Propose(c.ctx(), set("after", "1"))
	must(t, err)
	rule.set(nil)
	c.converge("after", "1")
	if old.get("lost") != "" {
		t.Error("an entry that was never committed was applied")
	}
	if leader.stores.snapshots.latest.Load().index != 0 {
		t.Error("it took a snapshot")
	}
}
