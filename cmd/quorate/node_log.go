package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/raftnode"
)

// replicatedLog is the Raft node as the coordinator sees it: commands instead
// of bytes, and who leads by the addresses of its API.
type replicatedLog struct {
	node *raftnode.Node
	// state is read under node.View only.
	state *fsm.State
	// limits are the state's, as they were viewed last.
	limits atomic.Pointer[logpb.Limits]
}

var _ coordinator.Log = (*replicatedLog)(nil)

// Propose appends the commands in one entry.
func (l *replicatedLog) Propose(ctx context.Context, commands ...*logpb.Command) ([]fsm.Result, uint64, error) {
	var few [4][]byte // the node keeps the bytes, not the list
	marshalled := few[:0]
	for _, c := range commands {
		marshalled = append(marshalled, fsm.MarshalCommand(c))
	}
	proposed, err := l.node.Propose(ctx, marshalled...)
	if err != nil {
		return nil, 0, l.translate(err)
	}
	return proposed.Results, proposed.Index, nil
}

// ReadIndex confirms that this node leads and has applied what that implies.
func (l *replicatedLog) ReadIndex(ctx context.Context) (uint64, error) {
	index, err := l.node.ReadIndex(ctx)
	return index, l.translate(err)
}

// WaitApplied returns once the index is applied here.
func (l *replicatedLog) WaitApplied(ctx context.Context, index uint64) error {
	return l.translate(l.node.WaitApplied(ctx, index))
}

// View reads the state machine while nothing is applied.
func (l *replicatedLog) View(f func(*fsm.State)) {
	l.node.View(func() {
		if limits := l.state.Limits(); l.limits.Load() != limits {
			l.limits.Store(limits)
		}
		f(l.state)
	})
}

// Limits are the replicated limits. Every request asks for them, and none should wait for
// what is being applied: the coordinator views the state after each entry.
func (l *replicatedLog) Limits() *logpb.Limits {
	if limits := l.limits.Load(); limits != nil {
		return limits
	}
	l.View(func(*fsm.State) {})
	return l.limits.Load()
}

// Leader tells who leads and, once it has put them into the log, where its API
// listens.
func (l *replicatedLog) Leader() (coordinator.LeaderInfo, bool) {
	leader, ok := l.node.Leader()
	if !ok {
		return coordinator.LeaderInfo{}, false
	}
	info := coordinator.LeaderInfo{ID: leader.ID, Term: leader.Term}
	l.View(func(s *fsm.State) {
		for _, n := range s.Nodes() {
			if n.GetId() == leader.ID {
				info.Name, info.GRPCAddress, info.HTTPAddress = n.GetName(), n.GetGrpcAddress(), n.GetHttpAddress()
			}
		}
	})
	return info, true
}

// translate gives the node's errors the coordinator's names. What is definite
// stays definite: a closed node appended nothing, so another one may be asked.
func (l *replicatedLog) translate(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raftnode.ErrUnknown):
		return err
	case errors.Is(err, raftnode.ErrNotLeader), errors.Is(err, raftnode.ErrClosed):
		leader, _ := l.Leader()
		return &coordinator.NotLeaderError{Leader: leader}
	case errors.Is(err, raftnode.ErrBusy):
		return fmt.Errorf("%w: %w", coordinator.ErrOverload, err)
	case errors.Is(err, raftnode.ErrTooLarge):
		return fmt.Errorf("%w: %w", coordinator.ErrTooLarge, err)
	}
	return err
}
