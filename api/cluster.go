package api

import (
	"context"
	"time"

	"github.com/quorate/quorate/fsm/logpb"
)

// Cluster is what the API needs of the node it runs in: its view of the other
// nodes, and the changes an operator asks for. cmd implements it over raftnode.
//
// Methods are called concurrently. Errors must be *Error, one of package
// coordinator's, or a context's; every other error of a change is answered as
// OUTCOME_UNKNOWN, because the change may have taken effect.
type Cluster interface {
	// Status tells what this node knows. It must not block.
	Status() ClusterStatus
	// Brief is of Status the leader's id, the term, and the indexes of the log and of
	// what is applied of it. It is asked all the time, and must cost nothing.
	Brief() ClusterStatus
	// DigestAt waits until the index is applied here, and returns the state's
	// digest right after it, in hexadecimal; empty where it is no longer known.
	DigestAt(ctx context.Context, index uint64) (string, error)
	// AddNode admits a node as non-voter and, unless nonVoter, lets it be
	// promoted once it has caught up; voter tells whether it votes already.
	// Repeating it is safe: a joining node asks until it is in.
	AddNode(ctx context.Context, node Node, nonVoter bool) (voter bool, err error)
	// Promote makes a caught-up non-voter a voter. node is an id or a name.
	Promote(ctx context.Context, node string) error
	// Remove takes a node out for ever. Without force it refuses a removal that
	// leaves the quorum without a spare node it has now.
	Remove(ctx context.Context, node string, force bool) error
	// TransferLeader hands leadership to node (an id or a name), or to the most
	// caught-up voter when node is empty, and returns the new leader's id.
	TransferLeader(ctx context.Context, node string) (leaderID string, err error)
	// Limits are the replicated limits as applied here. They must not be edited.
	Limits() *logpb.Limits
	// SetLimits changes those that are set in change, in operator's name.
	SetLimits(ctx context.Context, change *logpb.Limits, operator string) error
}

// Role is a node's part in Raft.
type Role uint8

// The roles.
const (
	RoleUnknown Role = iota
	RoleLeader
	RoleFollower
	RoleCandidate
	RoleNonVoter
)

// Node names one node of the cluster and where it listens.
type Node struct {
	// ID is the UUID made in the data directory at first start; Name is a label.
	ID, Name string
	// RaftAddress, GRPCAddress and HTTPAddress are host:port as others dial them.
	RaftAddress, GRPCAddress, HTTPAddress string
	Version                               string
	// FeatureLevel is the newest one of the log that it applies; 0: it does not say.
	FeatureLevel uint32
	// ClusterID is what a joining node says it belonged to before, or empty.
	ClusterID string
}

// NodeStatus is one node as the asked node sees it.
type NodeStatus struct {
	Node
	Voter, Leader bool
	// LastContact is the time since the leader heard of it, MatchIndex the last
	// log index known to be on its disk. Both are known on the leader only.
	LastContact time.Duration
	MatchIndex  uint64
	// Healthy: the leader has heard from it lately.
	Healthy bool
}

// ClusterStatus is one node's view. Indexes are Raft's.
type ClusterStatus struct {
	NodeID, Name, ClusterID string
	Role                    Role
	// LeaderID is empty while no leader is known.
	LeaderID string
	Term     uint64

	CommitIndex, AppliedIndex, LastLogIndex, SnapshotIndex uint64

	Nodes []NodeStatus

	DataDir, LogStore string
	// LogWrite is of appends to the log, fsync included; Snapshot of writing
	// snapshots.
	LogWrite, Snapshot Histogram
	// LogBytes counts the bytes of the entries written to the log since the start.
	LogBytes uint64
	// Proposals since the start that were applied, refused before they were
	// appended, and whose outcome was unknown; Pending wait now.
	Committed, Refused, Unknown uint64
	Pending                     int64
	// LeaderChanges counts the changes of leader this node has seen since its
	// start.
	LeaderChanges uint64
	// Digest is the state machine's at AppliedIndex, in hexadecimal.
	Digest string
}

// Histogram is a copy of a histogram at one moment.
type Histogram struct {
	// Bounds are the upper bounds of the buckets in seconds, ascending.
	Bounds []float64
	// Counts are the observations of each bucket, not cumulated; the last is of
	// those above every bound.
	Counts []uint64
	// Count and SumSeconds are over all observations.
	Count      uint64
	SumSeconds float64
	// P50, P90, P99 and Max are of the latest observations.
	P50, P90, P99, Max time.Duration
}

// Leader returns the leading node's entry, if it is known.
func (s ClusterStatus) Leader() (NodeStatus, bool) {
	for _, node := range s.Nodes {
		if s.LeaderID != "" && node.ID == s.LeaderID {
			return node, true
		}
	}
	return NodeStatus{}, false
}
