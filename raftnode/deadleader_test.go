package raftnode

import (
	"context"
	"net"
	"sync/atomic"
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

// Whether a candidate is behind is a matter of the last entry's term first. What was heard
// of an earlier election says nothing of this one.
func TestDeadLeader_WhoIsBehind(t *testing.T) {
	c := newCluster(t, 3, patient)
	c.set("x", "1")
	c.converge("x", "1")
	leader := c.leader()
	m := c.others(leader)[0]
	end, err := m.stores.end()
	must(t, err)
	for _, test := range []struct {
		last   place
		behind bool
	}{
		{end, false}, {place{end.index + 1, end.term}, false}, {place{1, end.term + 1}, false},
		{place{end.index - 1, end.term}, true}, {place{end.index + 9, end.term - 1}, true},
	} {
		for term := uint64(8); term < 10; term++ { // the later one counts
			m.noteBehind(&raft.RequestVoteRequest{Term: term, LastLogIndex: test.last.index, LastLogTerm: test.last.term})
		}
		select {
		case term := <-m.behind:
			if !test.behind || term != 9 {
				t.Errorf("a candidate whose log ends at %v, in term %d, is behind %v", test.last, term, end)
			}
		default:
			if test.behind {
				t.Errorf("a candidate whose log ends at %v is not behind %v", test.last, end)
			}
		}
	}
	term := m.raft().CurrentTerm()
	m.behind <- term - 1
	turn := make(chan bool, 1)
	go func() { turn <- m.awaitTurn(m.raft(), leader.self, 1) }()
	testkit.Eventually(t, within, func() bool { return len(m.behind) == 0 })
	select {
	case <-turn:
		t.Error("its turn has come by what was heard of an earlier election")
	case <-time.After(50 * time.Millisecond): // a turn takes two seconds
	}
	m.behind <- term + 1
	if !<-turn {
		t.Error("the one before cannot win, and it does not stand")
	}
}

// openConn is a connection that is counted.
type openConn struct {
	net.Conn
	open *atomic.Int64
}

func (c openConn) Close() error { c.open.Add(-1); return nil }

// Who calls a leader to see whether it lives leaves no call open.
func TestDeadLeader_CallsAreEnded(t *testing.T) {
	n := bare()
	var open, calls atomic.Int64
	n.cfg.Dial = func(context.Context, string, string) (net.Conn, error) {
		calls.Add(1)
		open.Add(1)
		return openConn{open: &open}, nil
	}
	if n.refuses("a:1") || calls.Load() < 2 || open.Load() != 0 {
		t.Errorf("of %d calls %d are open", calls.Load(), open.Load())
	}
}
