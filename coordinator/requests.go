package coordinator

import (
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// Ref names a transaction by its GID, or, where Key is set, by the caller's own
// id in a namespace.
type Ref struct {
	GID            fsm.GID
	Namespace, Key string
}

// ByGID refers to a transaction by its id.
func ByGID(gid fsm.GID) Ref { return Ref{GID: gid} }

// ByKey refers to a transaction by its caller's own id.
func ByKey(namespace, key string) Ref { return Ref{Namespace: namespace, Key: key} }

// Wait says how long a call that decides waits.
type Wait uint8

// The zero Wait waits for the decision.
const (
	WaitDecision Wait = iota
	// WaitFinish waits until every branch has ended.
	WaitFinish
	// WaitNone does not wait: the request is in the log.
	WaitNone
)

// Status is the answer of a call on a transaction: what stands once it was
// applied.
type Status struct {
	GID fsm.GID
	// Created is false where the GID, or the key, stood already.
	Created  bool
	Decision fsm.Decision
	State    fsm.TxState
	Reason   fsm.Reason
	// Index of the decision's log entry, 0 while there is none.
	Index uint64
	// Verdict is the answer to the branch that asked, where one did.
	Verdict fsm.Verdict
	Detail  string
}

// CommitRequest asks for a commit and so seals the set.
type CommitRequest struct {
	Transaction Ref
	// Set is the exact set of branches; nil for a bare commit.
	Set  *logpb.BranchSet
	Wait Wait
	// Result of a workflow: what its code returned, kept with the transaction.
	Result []byte
	// DelayMS of a message's actions since its begin; 0: the plan's.
	DelayMS uint64
}

// RollbackRequest decides rollback.
type RollbackRequest struct {
	Transaction Ref
	// Branches that were called and may not have been heard of.
	Branches []*logpb.BranchSpec
	Detail   string
	Wait     Wait
	// Operator and Detail make it an operator's reasoned decision, which a
	// withheld or quarantined transaction needs.
	Operator string
	// Participant: the caller is a participant that found the branch prepared,
	// past PROTOCOL.md section 5's time.
	Participant bool
	// Result of a workflow: what its code returned, kept with the transaction.
	Result []byte
}

// SubmitRequest is a whole transaction in one entry: two-phase, it begins, votes
// and asks commit; a saga, a message or best effort is begun and under way.
type SubmitRequest struct {
	Submit *logpb.Submit
	Wait   Wait
}

// ReportRequest is a branch's own word on what it did.
type ReportRequest struct {
	GID     fsm.GID
	Branch  string
	Outcome fsm.Outcome
	Detail  string
	// Attempt of the delivery that is answered, 0 when unasked.
	Attempt uint32
	Holder  []byte
	// Busy: not done yet, ask again. Outcome is then unspecified.
	Busy bool
}

// ResolveRequest is an operator's word on a branch that cannot report.
type ResolveRequest struct {
	Transaction      Ref
	Branch           string
	Outcome          fsm.Outcome
	Operator, Reason string
}

// RecordRequest keeps a step of a workflow's code. The first word on (branch,
// operation) stands: the same again is OK, another is VOTE_CONFLICT.
type RecordRequest struct {
	Transaction Ref
	// Branch is the step's id, with whatever names it for people.
	Branch *logpb.BranchSpec
	// Operation is the code's own word for the step, or empty.
	Operation string
	Failed    bool
	Result    []byte
	Detail    string
}

// StopRequest ends a transaction by an operator's word, whatever its branches
// did: an undecided one rolls back, and no branch is called any more.
type StopRequest struct {
	Transaction      Ref
	Operator, Reason string
}

// TopicsRequest reads topics, by name.
type TopicsRequest struct {
	// Namespace is empty for the default one.
	Namespace string
	// Name reads this topic only; empty for all.
	Name string
	// PageSize is at most PageSizeMax; 0 stands for PageSizeDefault.
	PageSize int
	// PageToken is empty, or the NextPageToken of the page before.
	PageToken   string
	Consistency Consistency
	MinIndex    uint64
}

// TopicPage is one page of topics. They must not be edited.
type TopicPage struct {
	Topics        []*logpb.Topic
	NextPageToken string
	// At is where the log stood when the page was read.
	At Header
}

// InquireRequest asks for the verdict on one branch.
type InquireRequest struct {
	GID              fsm.GID
	Branch, Resource string
	Holder           []byte
	// Timeout of the transaction, as the branch's xid holds it. An unseen GID is
	// ended once the cluster clock has passed born + ClockStaleMax + Timeout.
	// Zero stands for the longest timeout that the cluster allows.
	Timeout time.Duration
}

// Inquired answers an inquiry.
type Inquired struct {
	Verdict fsm.Verdict
	// Unseen: the log holds nothing of the GID: it was never seen, or was dropped. With
	// a rollback, that is presumed from the horizon.
	Unseen bool
}

// Consistency of a read.
type Consistency uint8

// The zero Consistency is linearizable.
const (
	Linearizable Consistency = iota
	// Local reads what this node has applied.
	Local
)

// GetRequest reads one transaction.
type GetRequest struct {
	Transaction Ref
	Consistency Consistency
	// MinIndex: the answer is at least this fresh, or the call waits.
	MinIndex uint64
}

// View is one transaction as it stands, with what only the leader knows.
type View struct {
	// Transaction must not be edited.
	Transaction *logpb.Transaction
	// Deliveries of the branches that are due, in the order of their ids; empty
	// on other nodes than the leader.
	Deliveries []DeliveryStatus
	// Callback is the check-back or resume that is due, nil for none.
	Callback *DeliveryStatus
	// At is where the log stood when the transaction was read, not a moment later:
	// a watch from it on misses nothing. In a page it stands in Page.At.
	At Header
}

// DeliveryStatus is the leader's volatile knowledge about a branch that is due.
type DeliveryStatus struct {
	// Branch is empty for a check-back and a resume.
	Branch    string
	Operation fsm.Operation
	Attempts  uint32
	// LastAttempt and NextAttempt are wall times, zero where there is none.
	LastAttempt, NextAttempt time.Time
	LastError                string
	// DueFor is how long the branch has been due under this leader.
	DueFor time.Duration
	// Stuck: due for longer than Settings.StuckAfter.
	Stuck bool
	// Attached: a session of its resource is attached.
	Attached bool
	// InFlight: an attempt is under way.
	InFlight bool
}

// Filter selects transactions; every field that is set must match.
type Filter struct {
	Namespace string
	States    []fsm.TxState
	Modes     []fsm.Mode
	// InDoubt: decided and a branch has not ended, or voted and undecided.
	InDoubt bool
	// Stuck: a branch is stuck. Only the leader can tell.
	Stuck bool
	// OlderThan by the cluster clock, since born.
	OlderThan time.Duration
	Resource  string
	KeyPrefix string
	Labels    []*logpb.Label
	// IncludeFinished adds finished transactions.
	IncludeFinished bool
}

// ListRequest reads a page of transactions, oldest first.
type ListRequest struct {
	// PageSize is at most PageSizeMax; 0 stands for PageSizeDefault.
	PageSize int
	// PageToken is empty, or the NextPageToken of the page before.
	PageToken   string
	Filter      Filter
	Consistency Consistency
	MinIndex    uint64
}

// Page is one page of a list.
type Page struct {
	Transactions []View
	// NextPageToken is empty on the last page.
	NextPageToken string
	// At is where the log stood when the page's first transaction was looked at: a
	// watch from there on misses nothing that the page does not show.
	At Header
}

// ListInDoubtRequest reads the branches of a resource that have not reported.
type ListInDoubtRequest struct {
	Namespace string
	// Resource is empty for all.
	Resource  string
	PageSize  int
	PageToken string
}

// InDoubt is a branch that voted prepared and has not reported.
type InDoubt struct {
	GID     fsm.GID
	Branch  *logpb.Branch
	Verdict fsm.Verdict
	// Age by the cluster clock, since the branch voted.
	Age time.Duration
}

// InDoubtPage is one page of branches in doubt.
type InDoubtPage struct {
	Branches      []InDoubt
	NextPageToken string
}

// WatchRequest streams events.
type WatchRequest struct {
	// AfterIndex: events after this index; 0 means from now on.
	AfterIndex uint64
	// Transaction is zero for every one of the namespace.
	Transaction Ref
	// Namespace is empty for all.
	Namespace string
}

// Header is what every answer of a node carries.
type Header struct {
	AppliedIndex     uint64
	ClockMS, FloorMS uint64
	Epoch            Epoch
	// ClusterID is zero until the cluster is founded.
	ClusterID fsm.GID
}
