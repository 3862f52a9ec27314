package main

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/internal/failpoint"
	"github.com/quorate/quorate/raftnode"
)

const (
	// echoEvery is the share of the messages between nodes that may be sent again:
	// one in so many.
	echoEvery = 10
	// echoesMax bounds the copies that are due at once.
	echoesMax = 256
)

// echoDelays are how late copies come, one after the other: at once, within a
// heartbeat, after a failover. What is sent after a failover is of an old term.
var echoDelays = []time.Duration{0, 20 * time.Millisecond, 150 * time.Millisecond, 700 * time.Millisecond, 0, 3 * time.Second}

// injectEchoes puts a failpoint into the transport: where it is armed with `error`,
// a tenth of the messages to other nodes is sent once more, at once or late.
func injectEchoes(cfg *raftnode.Config) {
	if !failpoint.Armed() {
		return
	}
	cfg.WrapTransport = func(inner raftnode.Transport) raftnode.Transport {
		return &echoing{Transport: inner, slots: make(chan struct{}, echoesMax)}
	}
}

// echoing is a transport that repeats itself. Who sent the first copy waits for
// its answer alone.
type echoing struct {
	raftnode.Transport
	sent  atomic.Uint64
	slots chan struct{}
}

// AppendEntries of an old term, or of entries that are there, must change nothing.
func (e *echoing) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	err := e.Transport.AppendEntries(id, target, args, resp)
	e.echo(failpoint.KeyAppend, func() func() {
		late := *args
		late.Entries = slices.Clone(args.Entries) // the library may use the slice again
		return func() { _ = e.Transport.AppendEntries(id, target, &late, new(raft.AppendEntriesResponse)) }
	})
	return err
}

// RequestVote of an old term must win nothing.
func (e *echoing) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	err := e.Transport.RequestVote(id, target, args, resp)
	e.echo(failpoint.KeyVote, func() func() {
		late := *args
		return func() { _ = e.Transport.RequestVote(id, target, &late, new(raft.RequestVoteResponse)) }
	})
	return err
}

// RequestPreVote changes nothing at any time.
func (e *echoing) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	err := e.Transport.RequestPreVote(id, target, args, resp)
	e.echo(failpoint.KeyVote, func() func() {
		late := *args
		return func() { _ = e.Transport.RequestPreVote(id, target, &late, new(raft.RequestPreVoteResponse)) }
	})
	return err
}

// echo sends a message again if its turn has come; capture keeps what it needs.
func (e *echoing) echo(kind string, capture func() func()) {
	turn := e.sent.Add(1)
	if turn%echoEvery != 0 && kind != failpoint.KeyVote { // votes are few: each of them
		return
	}
	if failpoint.Hit(failpoint.RaftSent, kind) == nil {
		return
	}
	select {
	case e.slots <- struct{}{}:
	default:
		return
	}
	again := capture()
	time.AfterFunc(echoDelays[turn/echoEvery%uint64(len(echoDelays))], func() {
		again()
		<-e.slots
	})
}
