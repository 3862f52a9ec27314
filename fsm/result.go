package fsm

import "github.com/quorate/quorate/fsm/logpb"

// Short names of the log's enumerations, as the rest of Quorate says them.
type (
	Decision = logpb.Decision
	TxState  = logpb.State
	Reason   = logpb.Reason
	Mode     = logpb.Mode
	Outcome  = logpb.Outcome
)

// The decisions. None is the zero value: not decided yet.
const (
	DecisionNone     = logpb.Decision_DECISION_UNSPECIFIED
	DecisionCommit   = logpb.Decision_DECISION_COMMIT
	DecisionRollback = logpb.Decision_DECISION_ROLLBACK
)

// The states of a transaction, and what is true in each.
const (
	// StateUnseen: the log holds nothing about the GID, or no more.
	StateUnseen = logpb.State_STATE_UNSPECIFIED
	// StateActive: begun; branches may join and vote; nobody has asked commit;
	// no branch has refused; the deadline runs.
	StateActive = logpb.State_STATE_ACTIVE
	// StateSealed: commit was asked, so the set of branches is final; a vote is
	// missing, or a held branch is in the set and the leader's driver has not
	// vouched for it; the deadline runs.
	StateSealed = logpb.State_STATE_SEALED
	// StateCommitting: decided commit; every branch of the set has voted
	// prepared or read-only; a branch has yet to report.
	StateCommitting = logpb.State_STATE_COMMITTING
	// StateCommitted: decided commit; every branch is terminal.
	StateCommitted = logpb.State_STATE_COMMITTED
	// StateRollingBack: decided rollback; a branch that is known well enough to
	// be told has yet to report.
	StateRollingBack = logpb.State_STATE_ROLLING_BACK
	// StateRolledBack: decided rollback; every branch is terminal, or a hint
	// that nobody can tell.
	StateRolledBack = logpb.State_STATE_ROLLED_BACK
)

// Verdict is the answer to a participant about one branch, (GID, branch id):
// never about a GID alone.
type Verdict uint8

// The verdicts.
const (
	// VerdictNone: the answer is not for a participant.
	VerdictNone Verdict = iota
	// VerdictWait: not decided yet: stay as you are, and ask again.
	VerdictWait
	// VerdictCommit: decided commit, and the branch is in the sealed set and
	// has voted prepared.
	VerdictCommit
	// VerdictRollback: everything else.
	VerdictRollback
)

// String is the verdict as the API spells it.
func (v Verdict) String() string {
	switch v {
	case VerdictWait:
		return "WAIT"
	case VerdictCommit:
		return "COMMIT"
	case VerdictRollback:
		return "ROLLBACK"
	default:
		return "NONE"
	}
}

// The log's enumerations under the package's own names.
type (
	// Operation is what a branch is asked to do.
	Operation = logpb.Operation
	// Dialect is the tongue in which a branch is called.
	Dialect = logpb.Dialect
)

// What a branch is asked to do; PROTOCOL.md, section 4.
const (
	OperationCommit     = logpb.Operation_OPERATION_COMMIT
	OperationRollback   = logpb.Operation_OPERATION_ROLLBACK
	OperationAction     = logpb.Operation_OPERATION_ACTION
	OperationCompensate = logpb.Operation_OPERATION_COMPENSATE
	OperationConfirm    = logpb.Operation_OPERATION_CONFIRM
	OperationCancel     = logpb.Operation_OPERATION_CANCEL
	OperationCheckBack  = logpb.Operation_OPERATION_CHECK_BACK
	OperationResume     = logpb.Operation_OPERATION_RESUME
)

// Meta is where in Raft's log a batch stands.
type Meta struct {
	Index uint64
	Term  uint64
}

// Result is what one command came to. It owns its memory.
type Result struct {
	// Code is OK, or the refusal.
	Code Code
	// GID is the transaction that answers; it differs from the command's where
	// a key stood for another one.
	GID GID
	// Created says that this command began the transaction.
	Created bool
	// Changed says that this command changed the transaction's record.
	Changed bool
	// Alarm says that a report was taken that nobody can put right: people
	// must hear of it. Detail says what.
	Alarm bool
	// Verdict is for participants: Enlist, Vote, Report, and a participant's
	// Decide.
	Verdict Verdict
	// Decision, State and Reason stand after the command.
	Decision Decision
	State    TxState
	Reason   Reason
	// Index is the Raft index of the decision, 0 where there is none.
	Index uint64
	// Detail says what stands, for people.
	Detail string
	// Parts are the results of a packed command's parts, in order; nil where it was
	// refused as a whole, and for all other commands.
	Parts []Result
}

// Inquiry is the answer to a participant's question about one branch.
type Inquiry struct {
	// Code is OK, INVALID, WITHHELD or QUARANTINED; with the latter three the
	// verdict is to wait.
	Code    Code
	Verdict Verdict
	// Unseen says that the log holds nothing about the GID.
	Unseen   bool
	Decision Decision
	State    TxState
	Detail   string
}

// Clock is where the state stands in the log and in time.
type Clock struct {
	AppliedIndex uint64
	AppliedTerm  uint64
	// ClockMS is the cluster clock, in milliseconds.
	ClockMS uint64
	// HorizonMS: nothing is created with born at or below it.
	HorizonMS uint64
	// FloorMS: fence rows may be swept at or below it.
	FloorMS uint64
	// Incarnation of the cluster, the first part of the epoch.
	Incarnation uint64
	// HoldBeforeMS: unseen GIDs born at or before it (and after the horizon
	// that was restored) are withheld; 0 where nothing is.
	HoldBeforeMS uint64
}

// DueBranch is a delivery that should be in flight.
type DueBranch struct {
	GID GID
	// Branch must not be changed. A check-back's and a resume's has no id: its
	// endpoint is the plan's callback.
	Branch *logpb.BranchSpec
	// Operation is what the branch is asked to do.
	Operation Operation
	// Verdict is COMMIT or ROLLBACK once the transaction is decided, else WAIT.
	Verdict Verdict
	// DecidedMS is the cluster clock of the decision, 0 while there is none.
	DecidedMS uint64
	// NotBeforeMS is the cluster clock before which the branch is not called.
	NotBeforeMS uint64
}
