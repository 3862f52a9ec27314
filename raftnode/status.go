package raftnode

import (
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// Role is what a node does in its term.
type Role string

// The roles.
const (
	RoleLeader    Role = "leader"
	RoleFollower  Role = "follower"
	RoleCandidate Role = "candidate"
	RoleNonvoter  Role = "non-voter"
)

// Status is what a node knows of itself and its cluster at one moment.
type Status struct {
	Identity      Identity
	Role          Role
	Leader        Leader // zero when none is known
	Term          uint64
	CommitIndex   uint64
	AppliedIndex  uint64 // by the machine
	LastLogIndex  uint64
	SnapshotIndex uint64
	Servers       []Server
	LogStore      string
	DataDir       string
	Metrics       Metrics
}

// Server is one node of the cluster's configuration.
type Server struct {
	ID      string
	Address string
	Voter   bool
	Leader  bool
	// Self marks the node that answers.
	Self bool
	// Heard says that the answering node leads and has heard from this one in its
	// term; only then are LastContact and MatchIndex known.
	Heard       bool
	LastContact time.Duration
	MatchIndex  uint64
	// Healthy says that it was heard from within the heartbeat timeout.
	Healthy bool
}

// Metrics are the node's own figures. Counts are since the node was opened.
type Metrics struct {
	// LogWrite is of appends to the log, fsync included.
	LogWrite Histogram
	// LogBytes counts the bytes of the entries written to the log.
	LogBytes uint64
	// Snapshot is of writing snapshots.
	Snapshot Histogram
	// Commands that were applied, refused before they were appended, and whose
	// outcome was unknown to their caller.
	Committed, Refused, Unknown uint64
	// Busy counts calls refused because the queue was full.
	Busy uint64
	// Pending are the calls of Propose that wait now.
	Pending int64
	// Entries counts the log entries proposed.
	Entries uint64
	// LeaderChanges counts the changes of leader seen, Elections those won.
	LeaderChanges, Elections uint64
	// InstallAlarms counts snapshots sent again and again to one node.
	InstallAlarms uint64
	// LogsReplaced counts how often this node's log had diverged and gave way to
	// a snapshot of the leader's.
	LogsReplaced uint64
	// NodesSetBack counts the nodes that were found, by this one as leader, to
	// have forgotten what they acknowledged.
	NodesSetBack uint64
	// LeadersFoundDead counts the elections that this node started because the
	// leader's process was gone.
	LeadersFoundDead uint64
	// ApplyLag is how many committed entries are not applied yet.
	ApplyLag uint64
}

// counters are the node's own counts.
type counters struct {
	committed, refused, unknown, busy atomic.Uint64
	entries                           atomic.Uint64
	leaderChanges, elections          atomic.Uint64
	installAlarms, logsReplaced       atomic.Uint64
	leadersFoundDead, nodesSetBack    atomic.Uint64
	pending                           atomic.Int64
}

// Status returns what the node knows now. It asks nobody.
func (n *Node) Status() Status {
	s := n.Brief()
	s.Role, s.Metrics = n.role(), n.Metrics()
	s.LogStore, s.DataDir = n.cfg.LogStore, n.cfg.DataDir
	s.SnapshotIndex = n.stores.snapshots.latest.Load().index
	reign := n.reign.Load()
	for _, server := range n.servers() {
		s.Servers = append(s.Servers, n.describe(server, s.Leader, reign, s.LastLogIndex))
	}
	return s
}

// Brief is of Status what costs nothing to know: the leader, the term, and how far
// the log has come. It may be asked often.
func (n *Node) Brief() Status {
	leader, _ := n.Leader()
	return Status{
		Identity:     n.Identity(),
		Leader:       leader,
		Term:         n.raft().CurrentTerm(),
		CommitIndex:  n.raft().CommitIndex(),
		AppliedIndex: n.progress.applied(),
		LastLogIndex: n.raft().LastIndex(),
	}
}

// describe tells what is known of one node.
func (n *Node) describe(server raft.Server, leader Leader, reign *reign, last uint64) Server {
	d := Server{
		ID: string(server.ID), Address: string(server.Address), Voter: server.Suffrage == raft.Voter,
		Leader: string(server.ID) == leader.ID, Self: server.ID == n.self,
	}
	if reign == nil {
		return d
	}
	d.Healthy = n.healthy(server.ID, reign.term)
	if d.Self {
		d.Heard, d.MatchIndex = true, last
		return d
	}
	if p, ok := n.peers.get(server.ID, reign.term); ok {
		d.Heard, d.MatchIndex, d.LastContact = true, p.match, time.Since(p.lastContact)
	}
	return d
}

func (n *Node) role() Role {
	switch n.raft().State() {
	case raft.Leader:
		return RoleLeader
	case raft.Candidate:
		return RoleCandidate
	}
	if s, ok := n.server(string(n.self)); !ok || s.Suffrage != raft.Voter {
		return RoleNonvoter
	}
	return RoleFollower
}

// Metrics returns the node's figures.
func (n *Node) Metrics() Metrics {
	c := &n.counters
	pending := c.pending.Load() // first: what is not pending any more is counted below
	m := Metrics{
		LogWrite:      n.write.snapshot(),
		LogBytes:      n.stores.log.written.Load(),
		Snapshot:      n.stores.snapshots.duration.snapshot(),
		Committed:     c.committed.Load(),
		Refused:       c.refused.Load(),
		Unknown:       c.unknown.Load(),
		Busy:          c.busy.Load(),
		Pending:       pending,
		Entries:       c.entries.Load(),
		LeaderChanges: c.leaderChanges.Load(),
		Elections:     c.elections.Load(),
		InstallAlarms: c.installAlarms.Load(),
		LogsReplaced:  c.logsReplaced.Load(),
		NodesSetBack:  c.nodesSetBack.Load(),

		LeadersFoundDead: c.leadersFoundDead.Load(),
	}
	if handed, done := n.raft().AppliedIndex(), n.progress.applied(); n.raft().CommitIndex() > handed || handed > done {
		m.ApplyLag = n.raft().CommitIndex() - min(done, n.raft().CommitIndex())
	}
	return m
}
