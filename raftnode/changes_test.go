package raftnode

import (
	"context"
	"errors"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/internal/testkit"
)

// told is the library's answer to a change of membership.
type told struct {
	raft.IndexFuture
	err error
}

func (f told) Error() error { return f.err }

// What is not known of a change of membership is said so, and only that.
func TestMembership_OutcomeOfAChange(t *testing.T) {
	c := newCluster(t, 1, nil)
	leader := c.leader()
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	odd := errors.New("odd")
	end := make(chan struct{})
	defer close(end)
	for _, test := range []struct {
		ctx     context.Context
		future  raft.IndexFuture
		want    error
		unknown bool
	}{
		{c.ctx(), told{err: raft.ErrNotLeader}, ErrNotLeader, false},
		{c.ctx(), told{err: raft.ErrLeadershipTransferInProgress}, ErrNotLeader, false},
		{c.ctx(), told{err: raft.ErrEnqueueTimeout}, ErrBusy, false},
		{c.ctx(), told{err: raft.ErrLeadershipLost}, raft.ErrLeadershipLost, true},
		{c.ctx(), told{err: raft.ErrRaftShutdown}, raft.ErrRaftShutdown, true},
		{c.ctx(), told{err: ErrClosed}, ErrClosed, true},
		{c.ctx(), told{err: ErrFailed}, ErrFailed, true},
		{c.ctx(), told{err: odd}, odd, false},
		{ended, never{end: end}, context.Canceled, true},
	} {
		err := leader.change(test.ctx, changeAdd, "a", func() raft.IndexFuture { return test.future })
		if !errors.Is(err, test.want) || errors.Is(err, ErrUnknown) != test.unknown || errors.Is(err, ErrNotLeader) && test.unknown {
			t.Errorf("%+v: %v, want %v, unknown %v", test.future, err, test.want, test.unknown)
		}
	}
}

// A node that was removed and is added again gets on as before.
func TestMembership_RemovedAndAddedAgain(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.set("x", "1")
	leader := c.leader()
	m := c.others(leader)[0]
	must(t, leader.Remove(c.ctx(), string(m.self), false))
	c.set("x", "2")
	c.join(m)
	c.set("x", "3")
	c.converge("x", "3")
	if err := m.fail.cause(); err != nil {
		t.Error(err)
	}
}

// A node that had caught up and has fallen silent is given no vote: entries would wait
// for it.
func TestMembership_ASilentNodeIsNotPromoted(t *testing.T) {
	net := newNetwork()
	c := newCluster(t, 1, func(_ int, cfg *Config) { cfg.WrapTransport = net.wire() })
	t.Cleanup(net.heal)
	leader, m := c.leader(), c.add()
	must(t, leader.AddNonvoter(c.ctx(), string(m.self), m.cfg.Address, m.Identity().ClusterID))
	c.set("x", "1")
	c.converge("x", "1")
	net.isolate(m.self)
	term := leader.reign.Load().term
	testkit.Eventually(t, within, func() bool {
		_, heard := leader.peers.get(m.self, term)
		return heard && !leader.healthy(m.self, term)
	}, "it has fallen silent")
	if err := leader.Promote(c.ctx(), string(m.self)); !errors.Is(err, ErrBehind) {
		t.Errorf("it was promoted: %v", err)
	}
	if s, _ := leader.server(string(m.self)); s.Suffrage == raft.Voter {
		t.Error("it has a vote")
	}
}

// Who remains is counted without who is to go.
func TestMembership_RemainingVotersAreTheOthers(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.set("x", "1")
	leader := c.leader()
	others := c.others(leader)
	c.stop(others[0])
	term := leader.reign.Load().term
	testkit.Eventually(t, within, func() bool { return !leader.healthy(others[0].self, term) })
	testkit.Eventually(t, within, func() bool { return leader.healthy(others[1].self, term) })
	if err := leader.Remove(c.ctx(), string(others[1].self), false); !errors.Is(err, ErrQuorum) {
		t.Errorf("one of the two that would remain is gone: %v", err)
	}
}

// A transfer that returns is done: the node leads no more.
func TestTransfer_IsOverWhenItReturns(t *testing.T) {
	c := newCluster(t, 3, nil)
	for range 3 {
		leader := c.leader()
		to := c.others(leader)[0]
		reign := leader.reign.Load()
		must(t, leader.TransferLeadership(c.ctx(), string(to.self)))
		select {
		case <-reign.over:
		default:
			t.Error("it still serves")
		}
		testkit.Eventually(t, within, func() bool { return to.reign.Load() != nil }, "the node that was named leads")
	}
}

// A leader may die, come back, and die again: the second time is noticed as the first.
func TestDeadLeader_IsLookedAtEachTime(t *testing.T) {
	c := newCluster(t, 3, hurried)
	c.set("x", "1")
	c.converge("x", "1")
	leader := c.leader()
	m := c.others(leader)[0]
	for range 2 {
		m.connectionEnded(string(leader.self))
		if _, looking := m.dying.Load(string(leader.self)); !looking {
			t.Fatal("nobody looks whether the leader is alive")
		}
		testkit.Eventually(t, within, func() bool { _, looking := m.dying.Load(string(leader.self)); return !looking }, "it has been looked at")
	}
}
