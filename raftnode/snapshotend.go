package raftnode

import "github.com/hashicorp/raft"

// The library looks for the entry that a message goes on from at the end of its
// log, and in its log; in its snapshot only where the log does not go on behind
// it. A deposed leader that has taken a snapshot, keeps few entries behind one
// (raft.trailing_logs), and has entries that were never committed, so refuses every
// message: the place where its log and its successor's agree is the snapshot's last
// entry. It gets on once its successor has a later snapshot to send.

// knowsPrevious answers for the entry that a message goes on from where the
// snapshot ends with it. The library asks no more of a message from the beginning.
func (n *Node) knowsPrevious(request *raft.AppendEntriesRequest) {
	if request.PrevLogEntry == 0 || request.PrevLogEntry >= n.stores.log.first.Load() {
		return // it is in the log, or there is none
	}
	if n.stores.snapshots.latest.Load().place == (place{request.PrevLogEntry, request.PrevLogTerm}) {
		request.PrevLogEntry, request.PrevLogTerm = 0, 0
	}
}
