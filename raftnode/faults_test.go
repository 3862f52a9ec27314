package raftnode

import (
	"errors"
	"io"
	"sync"

	"github.com/hashicorp/raft"
)

// network is the wire between the nodes of a test: it can cut nodes off and
// hold what they send or hear.
type network struct {
	mu      sync.Mutex
	changed *sync.Cond
	cut     map[raft.ServerID]bool // neither sends nor receives
	muted   map[raft.ServerID]bool // what it sends waits here
	sealed  map[raft.ServerID]bool // what is sent to it is refused
	deaf    map[raft.ServerID]bool // answers to it wait here
	held    map[raft.ServerID]int  // answers that wait
	stuck   bool                   // TimeoutNow never ends
	freed   bool                   // nothing is held any more
}

func newNetwork() *network {
	n := &network{cut: map[raft.ServerID]bool{}, muted: map[raft.ServerID]bool{}, sealed: map[raft.ServerID]bool{}, deaf: map[raft.ServerID]bool{}, held: map[raft.ServerID]int{}}
	n.changed = sync.NewCond(&n.mu)
	return n
}

// change changes the network's state under its lock.
func (n *network) change(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
	n.changed.Broadcast()
}

func (n *network) isolate(id raft.ServerID) { n.change(func() { n.cut[id] = true }) }

// heal ends every fault for good.
func (n *network) heal() {
	n.change(func() {
		n.freed = true
		clear(n.cut)
		clear(n.sealed)
	})
}

func (n *network) rejoin(id raft.ServerID) { n.change(func() { delete(n.cut, id) }) }

// answersHeld returns how many answers to a node wait.
func (n *network) answersHeld(id raft.ServerID) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.held[id]
}

var errCut = errors.New("the network is cut")

// send waits until a message from one node to another may go.
func (n *network) send(from, to raft.ServerID) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for n.muted[from] && !n.freed {
		n.changed.Wait()
	}
	if n.cut[from] || n.cut[to] || n.sealed[to] {
		return errCut
	}
	return nil
}

// receive waits until an answer to a node may arrive.
func (n *network) receive(at raft.ServerID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.held[at]++
	for n.deaf[at] && !n.freed {
		n.changed.Wait()
	}
	n.held[at]--
}

// wire returns the hook for one node's configuration. The node's id is known
// only later: every message carries it.
func (n *network) wire() func(Transport) Transport {
	return func(inner Transport) Transport { return &wire{Transport: inner, net: n} }
}

// wire is one node's end of the network.
type wire struct {
	Transport
	net *network
}

func (w *wire) exchange(from []byte, to raft.ServerID, rpc func() error) error {
	self := raft.ServerID(from)
	if err := w.net.send(self, to); err != nil {
		return err
	}
	err := rpc()
	w.net.receive(self)
	return err
}

func (w *wire) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	return w.exchange(args.ID, id, func() error { return w.Transport.AppendEntries(id, target, args, resp) })
}

func (w *wire) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return w.exchange(args.ID, id, func() error { return w.Transport.RequestVote(id, target, args, resp) })
}

func (w *wire) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return w.exchange(args.ID, id, func() error { return w.Transport.RequestPreVote(id, target, args, resp) })
}

func (w *wire) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	return w.exchange(args.ID, id, func() error { return w.Transport.InstallSnapshot(id, target, args, resp, data) })
}

func (w *wire) TimeoutNow(id raft.ServerID, target raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	w.net.mu.Lock()
	for w.net.stuck && !w.net.freed {
		w.net.changed.Wait()
	}
	w.net.mu.Unlock()
	return w.exchange(args.ID, id, func() error { return w.Transport.TimeoutNow(id, target, args, resp) })
}
