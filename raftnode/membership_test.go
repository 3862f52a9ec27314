package raftnode

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/testkit"
)

// Clusters of each size take commands and survive the loss of a minority.
func TestMembership_Sizes(t *testing.T) {
	for _, size := range []int{1, 3, 5} {
		for _, store := range []string{LogStoreBolt, LogStoreWAL} {
			t.Run(fmt.Sprintf("%d nodes in %s", size, store), func(t *testing.T) {
				c := newCluster(t, size, func(_ int, cfg *Config) { cfg.LogStore = store })
				c.fill("x", 50)
				c.set("last", "1")
				c.converge("last", "1")
				for range (size - 1) / 2 {
					c.stop(c.leader())
					c.set("last", "2")
				}
				for _, m := range c.members {
					if !m.running {
						c.start(m)
					}
				}
				c.set("last", "3")
				c.converge("last", "3")
				status := c.leader().Status()
				if len(status.Servers) != size || status.Role != RoleLeader || status.LogStore != store {
					t.Errorf("%+v", status)
				}
				testkit.Eventually(t, within, func() bool {
					for _, s := range c.leader().Status().Servers {
						if !s.Voter || !s.Healthy || !s.Heard || s.MatchIndex == 0 {
							return false
						}
					}
					return true
				}, "all nodes healthy")
			})
		}
	}
}

// A node is admitted without a vote, is promoted only when it has caught up, and
// is told how far it is behind.
func TestMembership_AddPromoteRemove(t *testing.T) {
	net := newNetwork()
	c := newCluster(t, 3, func(_ int, cfg *Config) {
		cfg.WrapTransport = net.wire()
		cfg.CatchUpEntriesMax = 5
		cfg.EntryCommandsMax = 1
	})
	t.Cleanup(net.heal)
	c.fill("x", 50)
	leader := c.leader()
	m := c.add()
	id := m.Identity().NodeID
	if role := m.Status().Role; role != RoleNonvoter {
		t.Errorf("a node that is in no cluster is a %s", role)
	}
	if _, ok := m.Leader(); ok {
		t.Error("it knows a leader")
	}
	must(t, m.Snapshot(c.ctx())) // of nothing
	net.isolate(m.self)
	must(t, leader.AddNonvoter(c.ctx(), id, m.cfg.Address, m.Identity().ClusterID))
	must(t, leader.AddNonvoter(c.ctx(), id, m.cfg.Address, m.Identity().ClusterID)) // again
	if err := leader.Promote(c.ctx(), id); !errors.Is(err, ErrBehind) || !strings.Contains(err.Error(), "nothing was heard") {
		t.Fatalf("promoted unheard: %v", err)
	}
	net.rejoin(m.self)
	testkit.Eventually(t, within, func() bool { return leader.Promote(c.ctx(), id) == nil })
	must(t, leader.Promote(c.ctx(), id)) // again
	if got, want := m.Identity().ClusterID, leader.Identity().ClusterID; got != want {
		t.Errorf("the node believes to be in %s, not in %s", got, want)
	}
	c.set("y", "1")
	c.converge("y", "1")

	if err := leader.TransferLeadership(c.ctx(), "00000000-0000-4000-8000-000000000000"); !errors.Is(err, ErrUnknownNode) {
		t.Errorf("transfer to a stranger: %v", err)
	}
	must(t, leader.TransferLeadership(c.ctx(), string(leader.self))) // it has it
	must(t, leader.Remove(c.ctx(), id, false))
	if len(leader.Status().Servers) != 3 {
		t.Errorf("%d nodes after the removal", len(leader.Status().Servers))
	}
	if err := leader.Remove(c.ctx(), id, false); !errors.Is(err, ErrUnknownNode) {
		t.Errorf("removed twice: %v", err)
	}
	// Its elections disturb nobody.
	term := leader.raft().CurrentTerm()
	c.set("z", "1")
	if now := leader.raft().CurrentTerm(); now != term {
		t.Errorf("a removed node caused elections: term %d, was %d", now, term)
	}
}

// A node that was away too long is behind, and the error says how far.
func TestMembership_PromoteSaysHowFarBehind(t *testing.T) {
	net := newNetwork()
	c := newCluster(t, 1, func(_ int, cfg *Config) {
		cfg.WrapTransport = net.wire()
		cfg.CatchUpEntriesMax = 5
		cfg.EntryCommandsMax = 1
	})
	t.Cleanup(net.heal)
	leader, m := c.leader(), c.add()
	must(t, leader.AddNonvoter(c.ctx(), m.Identity().NodeID, m.cfg.Address, m.Identity().ClusterID))
	c.set("x", "1")
	c.converge("x", "1")
	testkit.Eventually(t, within, func() bool { _, heard := leader.peers.get(m.self, leader.reign.Load().term); return heard })
	if err := leader.TransferLeadership(c.ctx(), m.Identity().NodeID); err == nil || !strings.Contains(err.Error(), "promote it first") {
		t.Errorf("transfer to a non-voter: %v", err)
	}
	net.isolate(m.self)
	c.fill("y", 50)
	err := leader.Promote(c.ctx(), m.Identity().NodeID)
	if !errors.Is(err, ErrBehind) || !strings.Contains(err.Error(), fmt.Sprintf("of %d entries", leader.raft().LastIndex())) {
		t.Errorf("%v", err)
	}
	net.rejoin(m.self)
	c.retry(func(leader *member) error { return leader.Promote(c.ctx(), m.Identity().NodeID) })
	must(t, leader.TransferLeadership(c.ctx(), m.Identity().NodeID))
	testkit.Eventually(t, within, func() bool { return m.reign.Load() != nil })
}

// No change that would leave the cluster without a quorum, and only by the leader.
func TestMembership_Refusals(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.set("x", "1")
	leader := c.leader()
	others := c.others(leader)
	a, b := others[0].Identity().NodeID, others[1].Identity().NodeID
	stranger := "00000000-0000-4000-8000-000000000000"
	for _, test := range []struct {
		name string
		err  error
		want error
		says string
	}{
		{"no uuid", leader.AddNonvoter(c.ctx(), "n1", "127.0.0.1:1", testCluster), nil, "is no UUID"},
		{"no port", leader.AddNonvoter(c.ctx(), stranger, "127.0.0.1", testCluster), nil, "no host:port"},
		{"another cluster's", leader.AddNonvoter(c.ctx(), stranger, "127.0.0.1:1", testCluster), ErrOtherCluster, "empty data directory"},
		{"a taken address", leader.AddNonvoter(c.ctx(), stranger, others[0].cfg.Address, leader.Identity().ClusterID), nil, "quorate cluster remove " + a},
		{"promote a stranger", leader.Promote(c.ctx(), stranger), ErrUnknownNode, ""},
		{"remove the leader", leader.Remove(c.ctx(), string(leader.self), true), ErrQuorum, "transfer-leader"},
		{"a follower adds", others[0].AddNonvoter(c.ctx(), stranger, "127.0.0.1:1", leader.Identity().ClusterID), ErrNotLeader, ""},
		{"a follower removes", others[0].Remove(c.ctx(), b, false), ErrNotLeader, ""},
		{"a follower hands over", others[0].TransferLeadership(c.ctx(), ""), ErrNotLeader, ""},
		{"bootstrap again", leader.Bootstrap(c.ctx()), ErrBootstrapped, "3 nodes"},
	} {
		if test.err == nil || (test.want != nil && !errors.Is(test.err, test.want)) || !strings.Contains(test.err.Error(), test.says) {
			t.Errorf("%s: %v", test.name, test.err)
		}
	}
	c.stop(others[0])
	testkit.Eventually(t, within, func() bool { return !leader.healthy(others[0].self, leader.reign.Load().term) })
	if err := leader.Remove(c.ctx(), b, false); !errors.Is(err, ErrQuorum) {
		t.Errorf("removing one of the two nodes that answer: %v", err)
	}
	must(t, leader.Remove(c.ctx(), a, false))
	c.set("x", "2")
}

// A node with a wiped disk is a new node: it cannot take the place of the one
// that it was, whatever its address.
func TestMembership_AWipedNodeIsANewNode(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.set("x", "1")
	leader := c.leader()
	wiped := c.others(leader)[0]
	was := wiped.Identity().NodeID
	c.stop(wiped)
	must(t, os.RemoveAll(wiped.cfg.DataDir))
	c.start(wiped)
	if is := wiped.Identity().NodeID; is == was {
		t.Fatal("it has its old id")
	}
	// The leader goes on calling at the old address, and is refused there.
	c.fill("y", 20)
	if last := wiped.raft().LastIndex(); last != 0 {
		t.Fatalf("the wiped node took %d entries meant for the one that it was", last)
	}
	if vote := wiped.raft().CurrentTerm(); vote != 0 {
		t.Fatalf("the wiped node took part in term %d", vote)
	}
	err := leader.AddNonvoter(c.ctx(), wiped.Identity().NodeID, wiped.cfg.Address, wiped.Identity().ClusterID)
	if err == nil || !strings.Contains(err.Error(), "quorate cluster remove "+was) {
		t.Fatalf("it was added beside its old self: %v", err)
	}
	must(t, leader.Remove(c.ctx(), was, false))
	c.join(wiped)
	c.set("z", "1")
	c.converge("z", "1")
}

// A node that moved keeps its id and its vote, and is reached at its new address.
func TestMembership_ANodeMoves(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.set("x", "1")
	moving := c.others(c.leader())[0]
	c.stop(moving)
	moving.cfg.Address = fmt.Sprintf("localhost:%d", testkit.FreePort(t))
	c.start(moving)
	c.retry(func(leader *member) error {
		return leader.AddNonvoter(c.ctx(), moving.Identity().NodeID, moving.cfg.Address, moving.Identity().ClusterID)
	})
	c.set("x", "2")
	c.converge("x", "2")
	for _, s := range c.leader().Status().Servers {
		if s.ID == moving.Identity().NodeID && (!s.Voter || s.Address != moving.cfg.Address) {
			t.Errorf("%+v", s)
		}
	}
}

// A node of another cluster is refused, by the leader that it asks and by every
// node that it calls.
func TestMembership_AnotherClustersNode(t *testing.T) {
	ours, theirs := newCluster(t, 1, nil), newCluster(t, 1, nil)
	stranger := theirs.members[0]
	err := ours.leader().AddNonvoter(ours.ctx(), stranger.Identity().NodeID, stranger.cfg.Address, stranger.Identity().ClusterID)
	if !errors.Is(err, ErrOtherCluster) {
		t.Fatalf("a node of another cluster was added: %v", err)
	}
	if err := stranger.AdoptCluster(ours.leader().Identity().ClusterID); !errors.Is(err, ErrOtherCluster) {
		t.Fatalf("a node changed its cluster: %v", err)
	}
	// Even when someone lies about it, nothing gets through.
	must(t, ours.leader().AddNonvoter(ours.ctx(), stranger.Identity().NodeID, stranger.cfg.Address, ours.leader().Identity().ClusterID))
	before := stranger.raft().LastIndex()
	ours.fill("x", 20)
	if got := stranger.get("x1"); got != "" || stranger.raft().LastIndex() != before {
		t.Fatal("a node took entries of another cluster")
	}
	if err := ours.leader().Promote(ours.ctx(), stranger.Identity().NodeID); !errors.Is(err, ErrBehind) {
		t.Fatalf("it was promoted: %v", err)
	}
	theirs.set("x", "1")
}

// Bootstrap survives a crash between its steps: Found is proposed until it is in.
func TestMembership_BootstrapIsFinishedAfterARestart(t *testing.T) {
	c := &cluster{t: t}
	m := c.add()
	must(t, m.id.found(newClusterID(1))) // and the process ends
	c.stop(m)
	if content, err := os.ReadFile(filepath.Join(m.cfg.DataDir, "identity.json")); err != nil || !strings.Contains(string(content), "founding") {
		t.Fatalf("%s %v", content, err)
	}
	c.start(m)
	must(t, m.Bootstrap(c.ctx()))
	m.View(func() {
		if m.machine.state.Cluster != m.Identity().ClusterID.String() {
			t.Errorf("the cluster in the log is %q", m.machine.state.Cluster)
		}
	})
	c.stop(m)
	c.start(m)
	c.set("x", "1")
}

// A graceful stop hands leadership over first: nobody waits for an election.
func TestShutdownHandsOver(t *testing.T) {
	c := newCluster(t, 3, func(_ int, cfg *Config) { cfg.Profile = Default() })
	c.set("x", "1")
	leader := c.leader()
	library := leader.raft()
	term := library.CurrentTerm()
	leader.running = false
	must(t, leader.Shutdown(c.ctx()))
	if library.CurrentTerm() == term {
		t.Errorf("it ended as the leader of term %d: nobody was asked to follow it", term)
	}
	c.set("x", "2")
	two := newCluster(t, 2, nil)
	leader = two.leader()
	library, term = leader.raft(), leader.raft().CurrentTerm()
	leader.running = false
	must(t, leader.Shutdown(two.ctx()))
	if library.CurrentTerm() == term {
		t.Errorf("of two, it ended as the leader of term %d", term)
	}
	alone := newCluster(t, 1, nil)
	alone.members[0].running = false
	must(t, alone.members[0].Shutdown(alone.ctx()))
}

// A node that was away while the log was shortened is sent a snapshot.
func TestSnapshotAndInstall(t *testing.T) {
	for _, store := range []string{LogStoreBolt, LogStoreWAL} {
		t.Run(store, func(t *testing.T) {
			c := newCluster(t, 3, func(_ int, cfg *Config) {
				cfg.LogStore = store
				cfg.TrailingEntries = 2
				cfg.EntryCommandsMax = 1
			})
			c.set("x", "1")
			away := c.others(c.leader())[0]
			c.stop(away)
			c.fill("y", 60)
			leader := c.leader()
			for _, m := range c.others(nil) {
				must(t, m.WaitApplied(c.ctx(), leader.Status().AppliedIndex))
				must(t, m.Snapshot(c.ctx()))
				must(t, m.Snapshot(c.ctx())) // nothing new
			}
			status := leader.Status()
			if status.SnapshotIndex < 60 || status.Metrics.Snapshot.Count == 0 {
				t.Errorf("%+v", status)
			}
			first, err := leader.stores.logs.FirstIndex()
			if err != nil || first < 50 {
				t.Fatalf("the log begins at %d (%v): it was not shortened", first, err)
			}
			c.start(away)
			c.set("z", "1")
			c.converge("z", "1")
			if got := away.Status().SnapshotIndex; got < 60 {
				t.Errorf("the node has a snapshot of %d: none was installed", got)
			}
			// And all of it stands after a restart of everything.
			for _, m := range c.members {
				c.stop(m)
			}
			for _, m := range c.members {
				c.start(m)
			}
			c.set("again", "1")
			c.converge("again", "1")
			c.converge("y59", "x")
		})
	}
}

// A snapshot is due by the log's bytes, however few entries they are in, and the
// next one not before as many as it has: a node that comes back has little
// to apply, and snapshots are not written more than the log is.
func TestSnapshotsAreDueByBytes(t *testing.T) {
	const due = 16 << 10
	c := newCluster(t, 1, func(_ int, cfg *Config) { cfg.SnapshotBytes = due })
	node := c.leader()
	value := strings.Repeat("x", 1<<10)
	taken := func() uint64 { return node.Status().Metrics.Snapshot.Count }
	for i := range due>>10 - 1 {
		c.set(fmt.Sprint("a", i), value)
	}
	if n := taken(); n != 0 {
		t.Fatalf("%d snapshots were taken of a log shorter than %d bytes", n, due)
	}
	for i := range 16 * due >> 10 {
		c.set(fmt.Sprint("b", i), value)
	}
	// After 16 KiB, 32, 64, 128 and 256: each doubles what stands.
	testkit.Eventually(t, within, func() bool { return taken() >= 2 })
	if n := taken(); n > 6 {
		t.Errorf("%d snapshots of a log of %d bytes: too much is written for them", n, 17*due)
	}
	if size := node.stores.snapshots.latest.Load().bytes; size < due {
		t.Errorf("the snapshot counts %d bytes of values of %d", size, due)
	}
	end := node.Status().AppliedIndex
	c.stop(node)
	c.start(node)
	node = c.leader()
	if got := node.Status().AppliedIndex; got < end {
		t.Fatalf("applied up to %d after the restart, %d before", got, end)
	}
	if size := node.stores.snapshots.latest.Load().bytes; size < due || node.snapshotDue() != max(due, size) {
		t.Errorf("after the restart the snapshot has %d bytes, the next is due after %d", size, node.snapshotDue())
	}
}

// A large state is not written anew for every few entries: as it grows, so does the
// number that makes a snapshot due, also after a restart.
func TestSnapshotsOfALargeStateAreDueByMoreEntries(t *testing.T) {
	const due, entries = 4 << 10, 10
	c := newCluster(t, 1, func(_ int, cfg *Config) { cfg.SnapshotBytes, cfg.SnapshotEntries = due, entries })
	node := c.leader()
	threshold := func() uint64 { return node.raft().ReloadableConfig().SnapshotThreshold }
	if n := threshold(); n != entries {
		t.Errorf("without a snapshot %d entries make one due", n)
	}
	for i := range 40 {
		c.set(fmt.Sprint("k", i), strings.Repeat("x", 1<<10))
	}
	for i := range 2 { // the first one's size counts from the second on
		c.set(fmt.Sprint("last", i), "1")
		if err := node.Snapshot(c.ctx()); err != nil {
			t.Fatal(err)
		}
	}
	if n := threshold(); n < 9*entries {
		t.Errorf("%d entries make a snapshot of more than 40 KiB due", n)
	}
	c.stop(node)
	c.start(node)
	node = c.leader()
	if n := threshold(); n < 9*entries {
		t.Errorf("%d entries make a snapshot of more than 40 KiB due after the restart", n)
	}
}

// Snapshots are taken by themselves, while commands are applied.
func TestSnapshotsAreTakenByThemselves(t *testing.T) {
	c := newCluster(t, 1, func(_ int, cfg *Config) {
		cfg.SnapshotEntries = 10
		cfg.SnapshotInterval = 20 * time.Millisecond
		cfg.TrailingEntries = 5
		cfg.EntryCommandsMax = 1
	})
	node := c.leader()
	testkit.Eventually(t, within, func() bool {
		c.fill("x", 20)
		return node.Status().Metrics.Snapshot.Count >= 3
	})
	entries, err := os.ReadDir(filepath.Join(node.cfg.DataDir, "snapshots"))
	if err != nil || len(entries) > node.cfg.SnapshotsKept+1 {
		t.Errorf("%d snapshots are kept (%v)", len(entries), err)
	}
}
