package raftnode

import (
	"io"

	"github.com/hashicorp/raft"
)

// A message whose sender has given up may still arrive: a kernel goes on sending
// what a closed connection had taken, and TCP may wait for many seconds after a
// link is back. For entries that does no harm, since a follower skips what it has.
// A snapshot, though, the library installs whatever it has: its machine goes back,
// and its log is dropped with all that it has acknowledged since. The node then
// has less than a leader counts on, and would vote with it.
//
// In Raft a follower keeps its log, and does no more, where it holds the snapshot's
// last entry (section 7). So a snapshot is looked at before it reaches the library.

// answerLateSnapshot answers a snapshot that this node has, and says whether it did.
func (n *Node) answerLateSnapshot(rpc raft.RPC, request *raft.InstallSnapshotRequest) bool {
	if request.Term != n.currentTerm() || !n.holds(place{request.LastLogIndex, request.LastLogTerm}) {
		return false
	}
	n.spawn(func() {
		io.Copy(io.Discard, rpc.Reader) //nolint:errcheck // the connection's next message comes behind it, or none does
		rpc.Respond(&raft.InstallSnapshotResponse{Term: request.Term, Success: true}, nil)
	})
	return true
}

// holds says whether the log up to a place that was committed is here, as entries
// or in a snapshot.
func (n *Node) holds(committed place) bool {
	if n.stores.snapshots.latest.Load().index >= committed.index {
		return true
	}
	var l raft.Log
	err := n.stores.logs.GetLog(committed.index, &l)
	return err == nil && l.Term == committed.term
}
