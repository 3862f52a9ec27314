package raftnode

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/internal/failpoint"
)

// transferProbeInterval is how often a transfer that has ended is looked after.
const transferProbeInterval = 50 * time.Millisecond

// TransferLeadership hands leadership to the voter id, or to the most advanced
// one when id is empty, and returns when this node has lost it.
//
// A transfer whose last message hangs leaves the library refusing every
// proposal while it goes on leading (hashicorp/raft #696). So it is used only
// when an operator asks or the node stops, it is bounded by Config.TransferMax,
// and a leader that goes on refusing for Config.TransferRefusalMax after that
// stops itself: the others then elect one that works.
func (n *Node) TransferLeadership(ctx context.Context, id string) error {
	reign := n.reign.Load()
	if reign == nil {
		return ErrNotLeader
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.TransferMax)
	defer cancel()
	if err := failpoint.Hit(failpoint.TransferBegun, ""); err != nil {
		return fmt.Errorf("transfer leadership: %w", err)
	}
	var future raft.Future
	if id == "" {
		future = n.raft().LeadershipTransfer()
	} else {
		s, ok := n.server(id)
		if !ok {
			return fmt.Errorf("transfer leadership to %s: %w", id, ErrUnknownNode)
		}
		if s.Suffrage != raft.Voter {
			return fmt.Errorf("transfer leadership to %s: it has no vote; promote it first: quorate cluster promote %s", id, id)
		}
		if s.ID == n.self {
			return nil
		}
		future = n.raft().LeadershipTransferToServer(s.ID, s.Address)
	}
	err := n.await(ctx, future)
	if err == nil {
		select {
		case <-reign.over:
			return failpoint.Hit(failpoint.Transferred, "")
		case <-ctx.Done():
			err = ctx.Err()
		case <-n.closing:
			return ErrClosed
		}
	}
	n.spawn(func() { n.watchTransfer(reign) })
	return fmt.Errorf("transfer leadership: %w", err)
}

// watchTransfer makes sure that a leader whose transfer failed takes proposals
// again.
func (n *Node) watchTransfer(reign *reign) {
	ctx, cancel := context.WithTimeout(context.Background(), n.cfg.TransferRefusalMax)
	defer cancel()
	for {
		err := n.await(ctx, n.raft().Barrier(n.cfg.TransferRefusalMax))
		if !errors.Is(err, raft.ErrLeadershipTransferInProgress) && ctx.Err() == nil {
			return
		}
		select {
		case <-time.After(transferProbeInterval):
		case <-reign.over:
			return
		case <-n.closing:
			return
		case <-ctx.Done():
			n.fail.fail(fmt.Errorf("leadership was to be transferred, and the node has refused proposals for %v since: start it again", n.cfg.TransferRefusalMax))
			return
		}
	}
}
