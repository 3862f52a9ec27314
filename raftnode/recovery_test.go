package raftnode

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/failpoint"
	"github.com/quorate/quorate/internal/testkit"
)

// writePeers is what an operator does.
func writePeers(t *testing.T, m *member, content string) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(m.cfg.DataDir, peersFile), []byte(content), 0o600))
}

func (m *member) asPeer() string {
	return fmt.Sprintf(`[{"id": %q, "address": %q}]`, m.self, m.cfg.Address)
}

// Two of three nodes are lost for ever. The third goes on alone with everything
// that it has, in a new incarnation, and new nodes join it.
func TestRecovery_OneNodeIsLeft(t *testing.T) {
	for _, snapshot := range []bool{false, true} {
		t.Run(fmt.Sprintf("snapshot=%v", snapshot), func(t *testing.T) {
			c := newCluster(t, 3, func(_ int, cfg *Config) { cfg.TrailingEntries = 2 })
			c.fill("x", 30)
			c.set("last", "1")
			c.converge("last", "1")
			left := c.members[2]
			if snapshot {
				must(t, left.Snapshot(c.ctx()))
				c.set("last", "2")
				c.converge("last", "2")
			}
			clock, cluster := left.clockMS(), left.Identity().ClusterID
			for _, m := range c.members {
				c.stop(m)
			}
			c.members = []*member{left}
			writePeers(t, left, left.asPeer())
			c.start(left)
			c.set("after", "1")
			left.View(func() {
				s := left.machine.state
				if s.Incarnation != 1 {
					t.Errorf("the incarnation is %d", s.Incarnation)
				}
				if s.Clock < clock+RecoveryMarginMS {
					t.Errorf("the clock is %d, it was %d: clients may have heard later ones", s.Clock, clock)
				}
				if s.Values["x29"] != "x" || s.Values["last"] == "" {
					t.Errorf("entries were lost: %v", s.Values)
				}
			})
			if left.Identity().ClusterID != cluster {
				t.Error("the cluster has another id")
			}
			if servers := left.Status().Servers; len(servers) != 1 {
				t.Errorf("the cluster has %d nodes", len(servers))
			}
			if _, err := os.Stat(filepath.Join(left.cfg.DataDir, peersFileUsed)); err != nil {
				t.Error(err)
			}
			// A restart does not do it again, and new nodes join.
			c.stop(left)
			c.start(left)
			for range 2 {
				c.join(c.add())
			}
			c.set("joined", "1")
			c.converge("joined", "1")
			c.converge("after", "1")
			for _, m := range c.members {
				m.View(func() {
					if m.machine.state.Incarnation != 1 {
						t.Errorf("node %s is in incarnation %d", m.self, m.machine.state.Incarnation)
					}
				})
			}
		})
	}
}

// Interrupted before it was noted as done, it is done again; nothing is lost.
func TestRecovery_MayBeRepeated(t *testing.T) {
	c := newCluster(t, 1, nil)
	node := c.members[0]
	c.set("x", "1")
	for range 2 {
		c.stop(node)
		writePeers(t, node, node.asPeer())
		c.start(node)
	}
	c.set("y", "1")
	node.View(func() {
		if s := node.machine.state; s.Incarnation != 2 || s.Values["x"] != "1" {
			t.Errorf("%+v", s)
		}
	})
}

// Interrupted once the log is gone: the snapshot of the new incarnation stands
// already, with everything.
func TestRecovery_InterruptedWhereTheLogIsGone(t *testing.T) {
	c := newCluster(t, 1, nil)
	node := c.members[0]
	c.fill("x", 30)
	c.stop(node)
	writePeers(t, node, node.asPeer())
	t.Cleanup(func() { must(t, failpoint.Arm("")) })
	must(t, failpoint.Arm(failpoint.LogShortened+"=error"))
	if err := c.open(node); !errors.Is(err, failpoint.ErrInjected) {
		t.Fatalf("it was not interrupted: %v", err)
	}
	must(t, failpoint.Arm(""))
	c.start(node)
	c.set("y", "1")
	if node.get("x29") != "x" {
		t.Error("entries were lost")
	}
}

func TestRecovery_Refusals(t *testing.T) {
	c := newCluster(t, 1, nil)
	node := c.members[0]
	c.set("x", "1")
	c.stop(node)
	for content, says := range map[string]string{
		"nonsense": `must read [{"id"`,
		"[]":       `must read [{"id"`,
		`[{"id": "a", "address": "127.0.0.1:1"}]`:                                                            "this node alone",
		fmt.Sprintf(`[{"id": %q, "address": "127.0.0.1:1"}]`, node.self):                                     "this node alone",
		fmt.Sprintf(`[{"id": %q, "address": %q}, {"id": "a", "address": "b"}]`, node.self, node.cfg.Address): "wipe the other nodes",
		fmt.Sprintf(`[{"id": %q, "address": %q, "non_voter": true}]`, node.self, node.cfg.Address):           `must read [{"id"`,
	} {
		writePeers(t, node, content)
		if err := c.open(node); err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), peersFile) {
			t.Errorf("%s: %v", content, err)
		}
	}
	must(t, os.Remove(filepath.Join(node.cfg.DataDir, peersFile)))
	c.start(node)

	fresh := c.add()
	c.stop(fresh)
	writePeers(t, fresh, fresh.asPeer())
	if err := c.open(fresh); err == nil || !strings.Contains(err.Error(), "nothing to recover") {
		t.Errorf("a node of no cluster: %v", err)
	}
	must(t, fresh.idle(t).adopt(testCluster))
	if err := c.open(fresh); err == nil || !strings.Contains(err.Error(), "holds no log") {
		t.Errorf("a node without a log: %v", err)
	}
}

// idle is the identity of a node that is not running.
func (m *member) idle(t *testing.T) *identity {
	id, err := openIdentity(m.cfg.DataDir, "")
	must(t, err)
	return id
}

// The transactions' own state machine: what is undecided is withheld.
func TestRecovery_OfTransactions(t *testing.T) {
	cfg := testConfig(t)
	machine := fsm.New()
	open := func() *Node {
		cfg.Fatal = func(err error) { t.Error(err) }
		machine = fsm.New()
		n, err := Open(cfg, State(machine))
		must(t, err)
		t.Cleanup(func() { n.Close() })
		testkit.Eventually(t, within, func() bool { return n.reign.Load() != nil || len(n.servers()) == 0 })
		return n
	}
	c := &cluster{t: t}
	n := open()
	must(t, n.Bootstrap(c.ctx()))
	gid := fsm.NewGID(n.clockMS(), [10]byte{1})
	p, err := n.Propose(c.ctx(), fsm.MarshalCommand(&logpb.Command{Kind: &logpb.Command_Begin{Begin: &logpb.Begin{
		Gid: gid.Bytes(), Namespace: "default", Mode: logpb.Mode_MODE_TWO_PHASE, Entry: logpb.Entry_ENTRY_EXPLICIT, TimeoutMs: 30_000}}}))
	must(t, err)
	if p.Results[0].Code != fsm.OK {
		t.Fatalf("%+v", p.Results[0])
	}
	id := n.Identity()
	must(t, n.Close())

	must(t, os.WriteFile(filepath.Join(cfg.DataDir, peersFile), fmt.Appendf(nil, `[{"id": %q, "address": %q}]`, id.NodeID, cfg.Address), 0o600))
	n = open()
	n.View(func() {
		if clock := machine.Clock(); clock.Incarnation != 2 || clock.HoldBeforeMS < RecoveryMarginMS {
			t.Errorf("%+v", clock)
		}
		if machine.ClusterID() != id.ClusterID {
			t.Errorf("the cluster is %s, was %s", machine.ClusterID(), id.ClusterID)
		}
		tx, ok := machine.Get(gid)
		if !ok || !tx.GetWithheld() {
			t.Errorf("the undecided transaction is not withheld: %v", tx)
		}
	})
}

// Without a clock in the log the margin alone counts; with a wall clock that
// went back, too.
func TestRecovery_TimePassed(t *testing.T) {
	c := newCluster(t, 1, nil)
	node := c.members[0]
	c.set("x", "1")
	clock := node.clockMS()
	c.stop(node)
	writePeers(t, node, node.asPeer())
	node.cfg.Wall = func() time.Time { return time.Now().Add(2 * time.Hour) }
	c.start(node)
	if got := node.clockMS() - clock; got < 7_200_000 || got > 7_200_000+3*RecoveryMarginMS {
		t.Errorf("after two hours the clock went on by %d ms", got)
	}
	clock = node.clockMS()
	c.leader()
	c.stop(node)
	writePeers(t, node, node.asPeer())
	node.cfg.Wall = func() time.Time { return time.Now().Add(-2 * time.Hour) }
	c.start(node)
	if got := node.clockMS() - clock; got < RecoveryMarginMS || got > 2*RecoveryMarginMS {
		t.Errorf("with a wall clock that went back the clock went on by %d ms", got)
	}
	// Where all of the log is in a snapshot, its name says when.
	c.leader()
	must(t, node.Snapshot(c.ctx()))
	clock = node.clockMS()
	c.stop(node)
	writePeers(t, node, node.asPeer())
	node.cfg.Wall = func() time.Time { return time.Now().Add(3 * time.Hour) }
	c.start(node)
	if got := node.clockMS() - clock; got < 3*3_600_000 || got > 3*3_600_000+3*RecoveryMarginMS {
		t.Errorf("three hours after a snapshot the clock went on by %d ms", got)
	}
}
