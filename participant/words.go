package participant

import (
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// The enumerations below have the numbers of package quorate.v1, so that a
// conversion is a cast.

// Verdict is the cluster's answer to a participant about one branch.
type Verdict int32

const (
	// VerdictNone is no answer.
	VerdictNone = Verdict(quoratev1.Verdict_VERDICT_UNSPECIFIED)
	// VerdictWait means undecided: stay prepared.
	VerdictWait = Verdict(quoratev1.Verdict_VERDICT_WAIT)
	// VerdictCommit means decided, and this branch is in the sealed set.
	VerdictCommit = Verdict(quoratev1.Verdict_VERDICT_COMMIT)
	// VerdictRollback means decided otherwise, or sealed without this branch.
	VerdictRollback = Verdict(quoratev1.Verdict_VERDICT_ROLLBACK)
)

// String is the verdict in lower case.
func (v Verdict) String() string {
	switch v {
	case VerdictWait:
		return "wait"
	case VerdictCommit:
		return "commit"
	case VerdictRollback:
		return "rollback"
	}
	return "none"
}

// Final reports whether the verdict ends the branch.
func (v Verdict) Final() bool { return v == VerdictCommit || v == VerdictRollback }

// Decision is what became of a transaction, once and for all.
type Decision int32

const (
	// DecisionNone means undecided.
	DecisionNone = Decision(quoratev1.Decision_DECISION_UNSPECIFIED)
	// DecisionCommit means that every branch commits.
	DecisionCommit = Decision(quoratev1.Decision_DECISION_COMMIT)
	// DecisionRollback means that no branch does.
	DecisionRollback = Decision(quoratev1.Decision_DECISION_ROLLBACK)
)

// String is the decision in lower case.
func (d Decision) String() string {
	switch d {
	case DecisionCommit:
		return "commit"
	case DecisionRollback:
		return "rollback"
	}
	return "none"
}

// Outcome is what a branch did.
type Outcome int32

const (
	// OutcomeNone means nothing yet.
	OutcomeNone = Outcome(quoratev1.Outcome_OUTCOME_UNSPECIFIED)
	// OutcomeCommitted means that the branch's work is durable and visible.
	OutcomeCommitted = Outcome(quoratev1.Outcome_OUTCOME_COMMITTED)
	// OutcomeRolledBack means that the branch's work is gone and can never come back.
	OutcomeRolledBack = Outcome(quoratev1.Outcome_OUTCOME_ROLLED_BACK)
	// OutcomeMixed means that a part was committed and a part was not.
	OutcomeMixed = Outcome(quoratev1.Outcome_OUTCOME_MIXED)
	// OutcomeHazard means that nobody can tell any more.
	OutcomeHazard = Outcome(quoratev1.Outcome_OUTCOME_HAZARD)
)

// String is the outcome in lower case.
func (o Outcome) String() string {
	switch o {
	case OutcomeCommitted:
		return "committed"
	case OutcomeRolledBack:
		return "rolled back"
	case OutcomeMixed:
		return "mixed"
	case OutcomeHazard:
		return "hazard"
	}
	return "none"
}

// VoteKind is a participant's word on its branch.
type VoteKind int32

const (
	// VoteNone means not voted yet.
	VoteNone = VoteKind(quoratev1.Vote_VOTE_UNSPECIFIED)
	// VotePrepared means durable, and able to go either way.
	VotePrepared = VoteKind(quoratev1.Vote_VOTE_PREPARED)
	// VoteReadOnly means that the branch wrote nothing and has ended.
	VoteReadOnly = VoteKind(quoratev1.Vote_VOTE_READ_ONLY)
	// VoteRefused means that the transaction must roll back.
	VoteRefused = VoteKind(quoratev1.Vote_VOTE_REFUSED)
)

// String is the vote in lower case.
func (k VoteKind) String() string {
	switch k {
	case VotePrepared:
		return "prepared"
	case VoteReadOnly:
		return "read-only"
	case VoteRefused:
		return "refused"
	}
	return "none"
}

// Vote is what [Branch.Vote] sends. The first one of a branch stands.
type Vote struct {
	Kind VoteKind
	// MaybePrepared says, with a refusal, that the prepare may have taken effect
	// all the same (its answer was an error): the branch is still told the outcome.
	MaybePrepared bool
	// Detail says why, for people.
	Detail string
}

// Entry says how branches enter a transaction.
type Entry int32

const (
	// EntryExplicit means that a branch is enlisted first; the commit may be bare.
	// It is the default.
	EntryExplicit = Entry(quoratev1.Entry_ENTRY_EXPLICIT)
	// EntryNamed means that a vote enlists, and the commit names the exact set: it is
	// refused here, before it is sent, unless every call told its branches.
	EntryNamed = Entry(quoratev1.Entry_ENTRY_NAMED)
)

// BranchRef names one branch. It is comparable, so that managers can key maps by it.
type BranchRef struct {
	GID GID
	// ID is the call path that the caller gave, at most 32 bytes, such as `1.2`.
	ID string
}

// String is GID and branch id with a slash between.
func (r BranchRef) String() string { return string(r.GID) + "/" + r.ID }

// Prepared is a branch that a manager found prepared in its resource, with what
// the resource's own record of it says.
type Prepared struct {
	BranchRef
	// Cluster is the id of the cluster that the record names. Branches of another one are
	// never touched.
	Cluster string
	// Timeout of the transaction, rounded up to whole seconds.
	Timeout time.Duration
}
