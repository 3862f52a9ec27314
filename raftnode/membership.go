package raftnode

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/failpoint"
)

// Bootstrap founds a new cluster of this node alone, and returns when it leads
// and serves. It is for one node, once: a node that belongs to a cluster is
// refused with ErrBootstrapped. The caller makes sure that the cluster does not
// exist already, with this node's disk wiped.
func (n *Node) Bootstrap(ctx context.Context) error {
	if servers := n.servers(); len(servers) > 0 {
		return fmt.Errorf("bootstrap: %w of %d nodes", ErrBootstrapped, len(servers))
	}
	if err := n.id.found(newClusterID(uint64(n.cfg.Wall().UnixMilli()))); err != nil {
		return err
	}
	alone := raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: n.self, Address: raft.ServerAddress(n.cfg.Address)}}}
	if err := n.await(ctx, n.raft().BootstrapCluster(alone)); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	n.stand() // there is nobody whose heartbeat it could wait for
	return n.waitLeader(ctx)
}

// waitLeader returns when some node leads and serves.
func (n *Node) waitLeader(ctx context.Context) error {
	for {
		if _, ok := n.Leader(); ok {
			return nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		case <-n.closing:
			return ErrClosed
		case <-n.fail.failed:
			return errors.Join(ErrFailed, n.fail.cause())
		}
	}
}

// AddNonvoter admits a node, which then receives the log but has no vote.
// Repeating it is harmless, and for a node that is in updates the address. cluster is
// the cluster that the node belongs to already, or zero.
func (n *Node) AddNonvoter(ctx context.Context, id, address string, cluster fsm.GID) error {
	if _, err := parseUUID(id); err != nil {
		return fmt.Errorf("add a node: %w", err)
	}
	if _, _, err := net.SplitHostPort(address); err != nil {
		return fmt.Errorf("add node %s: address %q is no host:port: %w", id, address, err)
	}
	// Before the cluster's id is compared: a node that is only just joining has none
	// yet, and must not call another one foreign.
	if err := n.mustLead(); err != nil {
		return err
	}
	if us := n.Identity().ClusterID; !cluster.IsZero() && cluster != us {
		return fmt.Errorf("add node %s: %w: %s, and this is %s; start it with an empty data directory", id, ErrOtherCluster, cluster, us)
	}
	for _, s := range n.servers() {
		switch {
		case s.ID == raft.ServerID(id) && s.Address == raft.ServerAddress(address):
			return n.mustLead()
		case s.ID != raft.ServerID(id) && s.Address == raft.ServerAddress(address):
			return fmt.Errorf("add node %s: its address %s is that of node %s; if the disk of that node is gone, remove it first: quorate cluster remove %s", id, address, s.ID, s.ID)
		}
	}
	return n.change(ctx, changeAdd, id, func() raft.IndexFuture {
		return n.raft().AddNonvoter(raft.ServerID(id), raft.ServerAddress(address), 0, enqueueMax)
	})
}

// Promote gives a non-voter its vote. It is refused with ErrBehind, saying how
// far, until the node has caught up: a voter that is behind lets entries wait.
func (n *Node) Promote(ctx context.Context, id string) error {
	s, ok := n.server(id)
	if !ok {
		return fmt.Errorf("promote node %s: %w", id, ErrUnknownNode)
	}
	if s.Suffrage == raft.Voter {
		return n.mustLead()
	}
	reign := n.reign.Load()
	if reign == nil {
		return ErrNotLeader
	}
	last := n.raft().LastIndex()
	p, heard := n.peers.get(s.ID, reign.term)
	switch {
	case !heard:
		return fmt.Errorf("promote node %s: %w: nothing was heard from it at %s in this term", id, ErrBehind, s.Address)
	case p.match+n.cfg.CatchUpEntriesMax < last:
		return fmt.Errorf("promote node %s: %w: it has %d of %d entries", id, ErrBehind, p.match, last)
	case time.Since(p.lastContact) > n.cfg.Profile.HeartbeatTimeout:
		return fmt.Errorf("promote node %s: %w: nothing was heard from it for %v", id, ErrBehind, time.Since(p.lastContact).Round(time.Millisecond))
	}
	return n.change(ctx, changePromote, id, func() raft.IndexFuture {
		return n.raft().AddVoter(s.ID, s.Address, 0, enqueueMax)
	})
}

// Remove takes a node out of the cluster. The leader does not remove itself.
// Without force it is refused with ErrQuorum when the voters that remain and
// answer are no quorum.
func (n *Node) Remove(ctx context.Context, id string, force bool) error {
	s, ok := n.server(id)
	if !ok {
		return fmt.Errorf("remove node %s: %w", id, ErrUnknownNode)
	}
	reign := n.reign.Load()
	if reign == nil {
		return ErrNotLeader
	}
	if s.ID == n.self {
		return fmt.Errorf("remove node %s: %w: it is the leader; hand leadership over first: quorate cluster transfer-leader", id, ErrQuorum)
	}
	if s.Suffrage == raft.Voter && !force {
		remaining, healthy := 0, 0
		for _, other := range n.servers() {
			if other.Suffrage != raft.Voter || other.ID == s.ID {
				continue
			}
			remaining++
			if n.healthy(other.ID, reign.term) {
				healthy++
			}
		}
		if healthy <= remaining/2 {
			return fmt.Errorf("remove node %s: %w: of the %d voters that would remain %d answer", id, ErrQuorum, remaining, healthy)
		}
	}
	return n.change(ctx, changeRemove, id, func() raft.IndexFuture {
		return n.raft().RemoveServer(s.ID, 0, enqueueMax)
	})
}

// The changes of membership.
const (
	changeAdd     = "add"
	changePromote = "promote"
	changeRemove  = "remove"
)

// change makes one change of membership. It is unknown, like a command, when
// it was begun and not seen to end.
func (n *Node) change(ctx context.Context, kind, id string, begin func() raft.IndexFuture) error {
	what := kind + " node " + id
	if err := n.mustLead(); err != nil {
		return err
	}
	if err := failpoint.Hit(failpoint.MemberChange, kind); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	err := n.await(ctx, begin())
	switch {
	case err == nil:
		if err := failpoint.Hit(failpoint.MemberChanged, kind); err != nil {
			return fmt.Errorf("%s: %w: %w", what, ErrUnknown, err)
		}
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return ErrNotLeader
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return fmt.Errorf("%s: %w: another change of membership is not done yet", what, ErrBusy)
	case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrRaftShutdown),
		ctx.Err() != nil, errors.Is(err, ErrClosed), errors.Is(err, ErrFailed):
		return fmt.Errorf("%s: %w: %w", what, ErrUnknown, err)
	default:
		return fmt.Errorf("%s: %w", what, err)
	}
}

func (n *Node) mustLead() error {
	if n.reign.Load() == nil {
		return ErrNotLeader
	}
	return nil
}

// servers returns the latest configuration, committed or not.
func (n *Node) servers() []raft.Server {
	return n.raft().GetConfiguration().Configuration().Servers
}

func (n *Node) server(id string) (raft.Server, bool) {
	for _, s := range n.servers() {
		if s.ID == raft.ServerID(id) {
			return s, true
		}
	}
	return raft.Server{}, false
}

func (n *Node) voters() (count int) {
	for _, s := range n.servers() {
		if s.Suffrage == raft.Voter {
			count++
		}
	}
	return count
}

// healthy says whether this node, leading in term, has lately heard from another.
func (n *Node) healthy(id raft.ServerID, term uint64) bool {
	if id == n.self {
		return true
	}
	p, ok := n.peers.get(id, term)
	return ok && time.Since(p.lastContact) <= n.cfg.Profile.HeartbeatTimeout
}
