package coordinator

import (
	"context"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// Log is the replicated log as the coordinator needs it. Its methods are called
// from many goroutines at once.
type Log interface {
	// Propose appends the commands, in order and in one entry, and returns their
	// results once the entry is applied, with its index. It must fail with an
	// error that matches ErrNotLeader, ErrOverload or ErrTooLarge where nothing
	// was appended; every other error is taken as unknown. It keeps nothing of the
	// commands once it has returned: their memory is used for others.
	Propose(ctx context.Context, commands ...*logpb.Command) ([]fsm.Result, uint64, error)
	// ReadIndex returns an index that is applied here and not older than any
	// write acknowledged before the call. Off the leader: ErrNotLeader.
	ReadIndex(ctx context.Context) (uint64, error)
	// WaitApplied returns once the index is applied here.
	WaitApplied(ctx context.Context, index uint64) error
	// View runs f while nothing is applied. f must not keep the state, nor block.
	View(f func(*fsm.State))
	// Leader tells who leads, as far as this node knows.
	Leader() (LeaderInfo, bool)
}

// LeaderInfo names a leader and where its API listens.
type LeaderInfo struct {
	ID, Name                 string
	GRPCAddress, HTTPAddress string
	Term                     uint64
}
