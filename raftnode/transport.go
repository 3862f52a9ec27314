package raftnode

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/hashicorp/raft"
)

// Transport is what the library needs of a transport, whole.
type Transport interface {
	raft.Transport
	raft.WithPreVote
	raft.WithClose
}

// transport is what the library sees of the network. It stamps a round on each
// AppendEntries, for ReadIndex, and notes how far each node has come.
type transport struct {
	Transport
	address raft.ServerAddress
	layer   *stream
	rounds  *rounds
	peers   *peers

	election  func(raft.RPC) bool // looks at each incoming message, see election.go
	term      func() uint64       // the library's, see deposed.go
	onDisk    func(uint64) error  // returns once the own log is on the disk up to there, see behind.go
	settle    func()              // and once all of it is
	deposed   atomic.Uint64       // messages that were not sent for it
	incoming  chan raft.RPC
	closing   chan struct{}
	relayed   chan struct{} // closed when the relay has ended
	closeOnce sync.Once
}

var (
	_ Transport = (*transport)(nil)
	_ Transport = (*addressed)(nil)
)

// newTransport builds the transport over a stream layer.
//
// MaxRPCsInFlight is 1: with pipelining a leader that steps down, or a follower
// that is removed, can leave the library's goroutines waiting for each other
// (hashicorp/raft #612, #611).
func newTransport(cfg *Config, layer *stream, rounds *rounds, peers *peers, election func(raft.RPC) bool, term func() uint64) *transport {
	network := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream:          layer,
		MaxPool:         connectionsKept,
		MaxRPCsInFlight: 1,
		Timeout:         cfg.Profile.RPCTimeout,
		Logger:          libraryLogger(cfg.Logger, "raft-net"),
	})
	var inner Transport = &addressed{network}
	if cfg.WrapTransport != nil {
		inner = cfg.WrapTransport(inner)
	}
	t := &transport{
		Transport: inner, address: raft.ServerAddress(cfg.Address), layer: layer, rounds: rounds, peers: peers,
		election: election, term: term, incoming: make(chan raft.RPC), closing: make(chan struct{}), relayed: make(chan struct{}),
	}
	go t.relay()
	return t
}

// LocalAddr is the address that other nodes use, not the one listened on.
func (t *transport) LocalAddr() raft.ServerAddress { return t.address }

// SetHeartbeatHandler does nothing, so that heartbeats take the main path. The
// library's short cut handles them on the connection's goroutine, where they
// change term and role beside the main goroutine: logs can diverge when a
// partition heals under writes (hashicorp/raft #695).
func (t *transport) SetHeartbeatHandler(func(raft.RPC)) {}

// AppendEntries notes before sending which round of reads it can confirm.
func (t *transport) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if err := t.leadsIn(args.Term); err != nil {
		return err
	}
	boundMessage(args)
	round := t.rounds.stamp()
	before, known := t.peers.get(id, args.Term)
	if err := t.Transport.AppendEntries(id, target, args, resp); err != nil {
		return err
	}
	if resp.Term == args.Term {
		if known && resp.LastLog < before.match {
			return t.tellSetBack(id, target, args, before.match, resp.LastLog)
		}
		t.rounds.answered(id, args.Term, round)
		t.peers.heard(id, args.Term, matched(args, resp))
	}
	if n := len(args.Entries); resp.Success && n > 0 && t.onDisk != nil {
		return t.onDisk(args.Entries[n-1].Index)
	}
	return nil
}

// messageBytesMax bounds the entries of one message, which the library bounds by
// their number alone: a node that is behind would be sent a hundred megabytes at
// once, and heartbeats would wait behind them.
const messageBytesMax = 4 << 20

// boundMessage cuts off the entries that are too many. The library goes on from the
// last one that was sent.
func boundMessage(args *raft.AppendEntriesRequest) {
	bytes := 0
	for i, l := range args.Entries {
		if bytes += len(l.Data); bytes > messageBytesMax && i > 0 {
			args.Entries = args.Entries[:i]
			return
		}
	}
}

// DecodePeer tells a leader's address. The library asks for it on its main goroutine
// before it looks at what a leader has sent: what it answers is true of the disk.
func (t *transport) DecodePeer(encoded []byte) raft.ServerAddress {
	if t.settle != nil {
		t.settle()
	}
	return t.Transport.DecodePeer(encoded)
}

// RequestVote asks once more where the connection turns out to have ended.
func (t *transport) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return overLiving(func() error {
		*resp = raft.RequestVoteResponse{}
		return t.Transport.RequestVote(id, target, args, resp)
	})
}

// RequestPreVote asks once more where the connection turns out to have ended.
func (t *transport) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return overLiving(func() error {
		*resp = raft.RequestPreVoteResponse{}
		return t.Transport.RequestPreVote(id, target, args, resp)
	})
}

// connectionsKept is how many idle connections to a node the library keeps:
// entries, heartbeats and votes go at the same time.
const connectionsKept = 3

// overLiving asks for a vote again where the connection was an old one whose other
// end is gone: a node that was started anew since, as all are one after the other in
// an upgrade, is asked over the connections of its life before. The library takes the
// error for an answer that does not come, the vote is lost, and where it was needed
// two election timeouts go by. A vote may be asked for twice: the answer is the same.
func overLiving(ask func() error) error {
	for range connectionsKept {
		if err := ask(); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
			return err
		}
	}
	return ask()
}

// InstallSnapshot notes how far the snapshot brings the node.
func (t *transport) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if err := t.leadsIn(args.Term); err != nil {
		return err
	}
	if err := t.Transport.InstallSnapshot(id, target, args, resp, data); err != nil {
		return err
	}
	if resp.Success && resp.Term == args.Term {
		t.peers.heard(id, args.Term, args.LastLogIndex)
		t.peers.installed(id, args.LastLogIndex)
	}
	return nil
}

// matched returns the index up to which an answer shows the logs to be equal,
// 0 when it shows nothing.
func matched(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) uint64 {
	switch n := len(args.Entries); {
	case !resp.Success:
		return 0
	case n > 0:
		return args.Entries[n-1].Index
	default:
		return args.PrevLogEntry
	}
}

// addressed puts the node's id before the address, ID@HOST:PORT, so that the
// stream layer can tell whom it means to reach. The library pools connections
// by this name.
type addressed struct{ *raft.NetworkTransport }

func (a *addressed) to(id raft.ServerID, target raft.ServerAddress) raft.ServerAddress {
	return raft.ServerAddress(string(id) + "@" + string(target))
}

func (a *addressed) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	return a.NetworkTransport.AppendEntries(id, a.to(id, target), args, resp)
}

func (a *addressed) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	return a.NetworkTransport.AppendEntriesPipeline(id, a.to(id, target))
}

func (a *addressed) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return a.NetworkTransport.RequestVote(id, a.to(id, target), args, resp)
}

func (a *addressed) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return a.NetworkTransport.RequestPreVote(id, a.to(id, target), args, resp)
}

func (a *addressed) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	return a.NetworkTransport.InstallSnapshot(id, a.to(id, target), args, resp, data)
}

func (a *addressed) TimeoutNow(id raft.ServerID, target raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return a.NetworkTransport.TimeoutNow(id, a.to(id, target), args, resp)
}

// Close stops listening and closes all connections, pooled ones too.
func (a *addressed) Close() error {
	err := a.NetworkTransport.Close()
	a.CloseStreams()
	return err
}
