package raftnode

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/internal/testkit"
)

// patient is a profile whose followers take ten seconds and more to notice a
// silent leader, and two for each turn.
func patient(_ int, cfg *Config) {
	cfg.Profile = Profile{Name: "patient", HeartbeatTimeout: 10 * time.Second, ElectionTimeout: 10 * time.Second, LeaseTimeout: 5 * time.Second, RPCTimeout: time.Second}
}

// hurried starts the first node of a patient cluster, which elects itself by
// the timeout, in less time than the others wait.
func hurried(i int, cfg *Config) {
	if patient(i, cfg); i == 0 {
		cfg.Profile.HeartbeatTimeout, cfg.Profile.ElectionTimeout, cfg.Profile.LeaseTimeout = 300*time.Millisecond, 300*time.Millisecond, 300*time.Millisecond
	}
}

// A leader whose process is gone is succeeded at once, not at the heartbeat
// timeout; and again, with whoever is left.
func TestDeadLeaderIsSucceededAtOnce(t *testing.T) {
	c := newCluster(t, 5, hurried)
	if c.leader().everyVoteCounts() {
		t.Error("of five one may miss")
	}
	for round, value := range []string{"one", "two"} {
		leader := c.leader()
		c.set("before", value)
		c.stop(leader)
		next := c.leader()
		if got := next.Metrics().LeadersFoundDead; got == 0 {
			t.Errorf("round %d: the new leader did not find the old one dead: it was elected some other way", round)
		}
		c.set("after", value)
		c.converge("after", value)
	}
}

// Connections that end say nothing about a leader whose machine still answers
// on its port: it goes on leading.
func TestLivingLeaderIsNotSucceeded(t *testing.T) {
	c := newCluster(t, 3, hurried)
	leader := c.leader()
	c.set("r", "before")
	term := leader.Status().Term
	id := raft.ServerID(leader.Identity().NodeID)
	for _, m := range c.others(leader) {
		m.trans.layer.endIncoming()
		m.succeed(id) // what the end of each connection starts, waited for
		if got := m.Metrics().LeadersFoundDead; got != 0 {
			t.Errorf("a follower found a living leader dead %d times", got)
		}
	}
	c.set("r", "after")
	c.converge("r", "after")
	if now := c.leader().Status().Term; now != term {
		t.Errorf("term %d became %d: an election was held", term, now)
	}
}

// A node without a vote, and one that sees another leader by now, start nothing.
func TestWhoDoesNotSucceedADeadLeader(t *testing.T) {
	c := newCluster(t, 3, hurried)
	leader := c.leader()
	outsider := c.add()
	c.retry(func(l *member) error {
		return l.AddNonvoter(c.ctx(), outsider.Identity().NodeID, outsider.cfg.Address, l.Identity().ClusterID)
	})
	c.set("r", "seen")
	c.converge("r", "seen")
	if !leader.everyVoteCounts() {
		t.Error("of three without the leader nobody may miss, whoever has no vote")
	}
	id := raft.ServerID(leader.Identity().NodeID)
	if turn := outsider.turn(id); turn != -1 {
		t.Errorf("a node without a vote has turn %d", turn)
	}
	turns := map[int]bool{}
	for _, m := range c.others(leader) {
		if m != outsider {
			turns[m.turn(id)] = true
		}
	}
	if !turns[0] || !turns[1] {
		t.Errorf("the voters that are left have turns %v, want 0 and 1", turns)
	}
	c.stop(leader)
	next := c.leader()
	next.succeed(id)
	if next.reign.Load() == nil {
		t.Error("a leader gave up its reign for a predecessor that is dead")
	}
	testkit.Eventually(t, within, func() bool { l, ok := outsider.Leader(); return ok && l.ID == next.Identity().NodeID }, "the outsider to follow")
	if got := outsider.Metrics().LeadersFoundDead; got != 0 {
		t.Errorf("a node without a vote started %d elections", got)
	}
}

// endIncoming cuts every incoming connection, as a network may.
func (s *stream) endIncoming() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.open {
		conn.(*incoming).Conn.Close()
	}
}
