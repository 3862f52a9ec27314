package raftnode

import "errors"

// Errors of this package. Those of the first block are definite: nothing was
// appended to the log by the call, which may be repeated freely.
var (
	// ErrNotLeader means that this node does not lead, or does not serve yet
	// because no entry of its own term has been applied. See [Node.Leader].
	ErrNotLeader = errors.New("this node is not the leader")
	// ErrBusy means that the queue of commands is full.
	ErrBusy = errors.New("too many commands are waiting to be replicated")
	// ErrTooLarge means that a command, or the commands of one call together,
	// exceed the limit of an entry.
	ErrTooLarge = errors.New("the command is too large")
	// ErrClosed means that the node has been closed.
	ErrClosed = errors.New("the node is closed")
)

// ErrUnknown means that the command may or may not have taken effect, now or
// later. Repeating it is safe, since commands are idempotent by content.
var ErrUnknown = errors.New("the outcome is unknown: the command may or may not have taken effect")

// Errors of opening a node and of membership.
var (
	// ErrDirectoryLocked means that another process uses the data directory.
	ErrDirectoryLocked = errors.New("the data directory is in use by another process")
	// ErrOtherNode means that the data directory belongs to another node.
	ErrOtherNode = errors.New("the data directory belongs to another node")
	// ErrOtherCluster means that a data directory or a node belongs to another cluster.
	ErrOtherCluster = errors.New("it belongs to another cluster")
	// ErrBootstrapped means that the node already belongs to a cluster.
	ErrBootstrapped = errors.New("the node already belongs to a cluster")
	// ErrDamaged means that a log entry, a snapshot or a value on disk does not
	// have the bytes that were written.
	ErrDamaged = errors.New("the data on disk is damaged")
	// ErrUnknownNode means that the cluster has no such node.
	ErrUnknownNode = errors.New("the cluster has no such node")
	// ErrBehind means that a node cannot be promoted before it has caught up.
	ErrBehind = errors.New("the node has not caught up")
	// ErrQuorum means that a change of membership would endanger the quorum.
	ErrQuorum = errors.New("the change would endanger the quorum")
	// ErrFailed means that the node stopped itself after a failure of its disk
	// or of its state machine; nothing works any more.
	ErrFailed = errors.New("the node has stopped itself")
)
