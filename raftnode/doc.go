// Package raftnode is how Quorate's nodes agree: one replicated log of commands,
// kept by hashicorp/raft over TCP, in bbolt or raft-wal.
//
// A [Node] hides the library behind a few calls. [Node.Propose] packs commands
// of many callers into one entry and answers after that entry was applied.
// [Node.ReadIndex] makes a read linearizable. [Node.View] reads the machine.
// [Node.Leadership] tells when this node begins and ceases to lead. The rest is
// membership, status and an orderly end.
//
// The package has no opinion about transactions: what an entry means is the
// business of the [Machine]. Three commands alone are built here, because only
// the node knows when they are due: Found (a new cluster), Tick (the first of
// each term) and Recover (after a forced recovery).
//
// # What the library needs from us
//
// Reading and measuring hashicorp/raft v1.7.3 showed facts that each need a
// wrapper. Each has its place here, named with the library's issue:
//
//   - heartbeats take the main path (#695): transport.go
//   - linearizable reads across pauses, which VerifyLeader is not: readindex.go
//   - no pipelining (#612, #611): transport.go
//   - a leader's disk and its followers' take turns: behind.go
//   - a store that errs or stalls ends the process (#503, #666, #614): failstop.go
//   - leadership transfer only under our own time (#696): transfer.go
//   - an installed snapshot drops the old log (#697): logstore.go
//   - the vote is one value on disk (#661): stablestore.go
//   - a deposed leader sends its successor's log in its own name: deposed.go
//   - a follower commits what was not compared: deposed.go
//   - a snapshot's end is no place to go on from, with a log behind it: snapshotend.go
//   - a snapshot that comes late takes away what came after it: latesnapshot.go
//
// # Unknown
//
// An answer is a success, a definite failure, or unknown. [ErrNotLeader],
// [ErrBusy], [ErrTooLarge] and [ErrClosed] are definite: nothing was appended.
// [ErrUnknown] says that the entry may or may not be in the log now or later;
// the caller repeats its command, which is idempotent by content.
//
// # Files
//
// A data directory belongs to one node of one cluster for ever:
//
//	identity.json   node id, cluster id
//	LOCK            held while a process uses the directory
//	wal/            the log, term and vote (log store "wal", the default)
//	log.db          the same (log store "boltdb")
//	highwater       how far log, term and vote had come, see highwater.go
//	snapshots/      the latest snapshots, each with its checksum
//	peers.json      put there by an operator to force a recovery, see recovery.go
//
// Losing it means losing the node, not the cluster: start an empty directory,
// which makes a new node id, and join again.
package raftnode
