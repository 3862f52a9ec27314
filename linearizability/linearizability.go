// Package linearizability judges: it reads a recorded history of what clients
// asked and heard, and of what participants, databases and logs showed, and says
// whether a coordinator that keeps Quorate's promises could have produced it.
//
// It knows the contract (docs/guarantees.md, and the sequential meaning of each
// command for one GID) by a model of its own, written from the protocol and never
// from the state machine: a bug that the two shared would be seen by neither.
//
//	history, err := linearizability.Read(file)
//	report := linearizability.Check(ctx, history, linearizability.Options{})
//	if !report.OK() { ... report.Violations ... }
//
// A history is JSON, one object a line; docs/verify.md documents it for those who
// record their own. `quorate verify` is this package on the command line.
package linearizability

// Kind is what an operation asked for.
type Kind string

// The kinds of operations.
const (
	KindBegin    Kind = "begin"
	KindEnlist   Kind = "enlist"
	KindVote     Kind = "vote"
	KindCommit   Kind = "commit"
	KindRollback Kind = "rollback"
	KindSubmit   Kind = "submit"
	KindReport   Kind = "report"
	KindResolve  Kind = "resolve"
	// KindRecord keeps a step of a workflow's code, KindStop ends a transaction by
	// an operator's word. KindAnswer is what a called step said: the leader's driver
	// writes it, no client.
	KindRecord Kind = "record"
	KindStop   Kind = "stop"
	KindAnswer Kind = "answer"
	// KindInquire asks for the verdict on one branch.
	KindInquire Kind = "inquire"
	// KindGet reads a transaction by its GID, or by its key.
	KindGet Kind = "get"
	// KindList and KindWatch read what stands, or what happened, over GIDs.
	KindList  Kind = "list"
	KindWatch Kind = "watch"
)

// Status is how an operation ended.
type Status string

// The statuses. Deadline exceeded, cancelled, a lost connection, an error without
// our typed reason: all are StatusUnknown.
const (
	// StatusOK: answered.
	StatusOK Status = "ok"
	// StatusRefused: the state machine's typed no; Output.Refusal names it. It
	// is an answer, which the models check like any other.
	StatusRefused Status = "refused"
	// StatusFailed: definite, and without effect, before anything was appended:
	// NOT_LEADER, NO_LEADER, QUOTA, INVALID, LAGGING, DENIED, UNDELIVERED.
	StatusFailed Status = "failed"
	// StatusUnknown: it may take effect at any time from its call on.
	StatusUnknown Status = "unknown"
)

// Decision of a transaction.
type Decision string

// The decisions; empty means none yet.
const (
	DecisionNone     Decision = ""
	DecisionCommit   Decision = "commit"
	DecisionRollback Decision = "rollback"
)

// State of a transaction.
type State string

// The states; empty means unseen, or not recorded.
const (
	StateActive      State = "active"
	StateSealed      State = "sealed"
	StateCommitting  State = "committing"
	StateCommitted   State = "committed"
	StateRollingBack State = "rolling_back"
	StateRolledBack  State = "rolled_back"
)

// Verdict is the answer to a participant about one branch.
type Verdict string

// The verdicts.
const (
	VerdictWait     Verdict = "wait"
	VerdictCommit   Verdict = "commit"
	VerdictRollback Verdict = "rollback"
)

// Vote of a branch.
type Vote string

// The votes.
const (
	VotePrepared Vote = "prepared"
	VoteReadOnly Vote = "read_only"
	VoteRefused  Vote = "refused"
)

// Outcome is what a branch did.
type Outcome string

// The outcomes.
const (
	OutcomeCommitted  Outcome = "committed"
	OutcomeRolledBack Outcome = "rolled_back"
	OutcomeMixed      Outcome = "mixed"
	OutcomeHazard     Outcome = "hazard"
	// OutcomeGaveUp: the bounded attempts of a best-effort branch are used up.
	OutcomeGaveUp Outcome = "gave_up"
)

// Said is what a called step of a saga answered.
type Said string

// The answers.
const (
	SaidDone    Said = "done"
	SaidRefused Said = "refused"
	SaidGaveUp  Said = "gave_up"
)

// Entry says how branches enter a transaction.
type Entry string

// The ways in; empty means explicit, and for a Submit named.
const (
	EntryExplicit Entry = "explicit"
	EntryNamed    Entry = "named"
)

// Consistency of a read.
type Consistency string

// The consistencies; empty means linearizable.
const (
	Linearizable Consistency = "linearizable"
	Local        Consistency = "local"
)

// Wait says how long an operation that decides waited.
type Wait string

// The waits; empty means for the decision.
const (
	WaitDecision Wait = "decision"
	WaitFinish   Wait = "finish"
	WaitNone     Wait = "none"
)

// Epoch orders leaders: incarnation first, then term.
type Epoch struct {
	Incarnation uint64 `json:"incarnation,omitempty"`
	Term        uint64 `json:"term,omitempty"`
}

// Before tells whether e is older than other.
func (e Epoch) Before(other Epoch) bool {
	if e.Incarnation != other.Incarnation {
		return e.Incarnation < other.Incarnation
	}
	return e.Term < other.Term
}

// Branch names a branch and how its participant is reached.
type Branch struct {
	ID       string `json:"id"`
	Resource string `json:"resource,omitempty"`
	Endpoint string `json:"endpoint,omitempty"`
	Held     bool   `json:"held,omitempty"`
	Holder   string `json:"holder,omitempty"`
	// Of branches that are called: what calls them back, which other ones must be
	// done before, and whatever else tells "same" from "other" (the payload).
	Undo    string `json:"undo,omitempty"`
	After   IDs    `json:"after,omitempty"`
	Content string `json:"content,omitempty"`
}

// named tells whether only the branch's name is said.
func (b Branch) named() bool { return b == Branch{ID: b.ID, Held: b.Held} }

// Ballot is a branch's vote.
type Ballot struct {
	Branch Branch `json:"branch"`
	Vote   Vote   `json:"vote"`
	// MaybePrepared: with a refusal, PREPARE may have taken effect.
	MaybePrepared bool `json:"maybe_prepared,omitempty"`
}

// Input is what an operation asked, by kind; the rest is left out.
type Input struct {
	// Begin and Submit. Mode is empty for two-phase. TimeoutMS is 0 for the
	// cluster's default. Content stands for whatever else of the begin tells
	// "same" from "other" (its labels).
	Mode      string `json:"mode,omitempty"`
	Entry     Entry  `json:"entry,omitempty"`
	TimeoutMS uint64 `json:"timeout_ms,omitempty"`
	Content   string `json:"content,omitempty"`

	// Enlist, Vote: the branch's spec without its id, which is Operation.Branch.
	Resource string `json:"resource,omitempty"`
	Endpoint string `json:"endpoint,omitempty"`
	Held     bool   `json:"held,omitempty"`
	Holder   string `json:"holder,omitempty"`
	// Enlist, of a branch that is called: see [Branch].
	Undo    string `json:"undo,omitempty"`
	After   IDs    `json:"after,omitempty"`
	Payload string `json:"payload,omitempty"`

	// Vote.
	Vote          Vote `json:"vote,omitempty"`
	MaybePrepared bool `json:"maybe_prepared,omitempty"`

	// Commit: the exact set; Bare says that none was named. Submit: in Branches.
	Set  []string `json:"set,omitempty"`
	Bare bool     `json:"bare,omitempty"`

	// Rollback: branches that were called. Submit, and Begin of a message: the set.
	Branches []Branch `json:"branches,omitempty"`
	// Submit.
	Votes []Ballot `json:"votes,omitempty"`

	// Commit, Rollback, Submit.
	Wait Wait `json:"wait,omitempty"`
	// Rollback: an operator's, or a participant's that found its branch prepared.
	Operator    string `json:"operator,omitempty"`
	Participant bool   `json:"participant,omitempty"`

	// Report, Resolve.
	Outcome Outcome `json:"outcome,omitempty"`

	// Answer; MaybeDone with a refusal: the step is compensated all the same.
	Said      Said `json:"said,omitempty"`
	MaybeDone bool `json:"maybe_done,omitempty"`
	// Record: the code's own word for the step.
	Operation string `json:"operation,omitempty"`
	Failed    bool   `json:"failed,omitempty"`
	// Record, and Commit and Rollback of a workflow: what the code returned.
	Result string `json:"result,omitempty"`

	// Reads.
	Consistency Consistency `json:"consistency,omitempty"`
	MinIndex    uint64      `json:"min_index,omitempty"`
	// Watch.
	AfterIndex uint64 `json:"after_index,omitempty"`
	// List: finished transactions too; only those in one of States (empty: all).
	IncludeFinished bool    `json:"include_finished,omitempty"`
	States          []State `json:"states,omitempty"`
}

// BranchView is a branch as an answer showed it.
type BranchView struct {
	ID   string `json:"id"`
	Vote Vote   `json:"vote,omitempty"`
	// Outcome is what the branch itself reported.
	Outcome  Outcome `json:"outcome,omitempty"`
	Hint     bool    `json:"hint,omitempty"`
	Terminal bool    `json:"terminal,omitempty"`
	// Recorded and Result of a workflow's step.
	Recorded string `json:"recorded,omitempty"`
	Result   string `json:"result,omitempty"`
}

// Listed is one transaction of a list.
type Listed struct {
	GID      string   `json:"gid"`
	State    State    `json:"state"`
	Decision Decision `json:"decision,omitempty"`
}

// Event is one event of a watch.
type Event struct {
	Index    uint64   `json:"index"`
	GID      string   `json:"gid"`
	Event    string   `json:"event"` // begun, enlisted, voted, sealed, decided, reported, resolved, finished, dropped
	Branch   string   `json:"branch,omitempty"`
	State    State    `json:"state,omitempty"`
	Decision Decision `json:"decision,omitempty"`
}

// Output is what was answered, by kind; what the answer does not hold is left out.
type Output struct {
	// Refusal is the reason of a refusal (SEALED, ALREADY_DECIDED, ...), or of a failure.
	Refusal string `json:"refusal,omitempty"`
	// GID that answered: it differs from the one asked where a key stood for it.
	GID string `json:"gid,omitempty"`
	// Created, of Begin and Submit. Attempts counts the tries inside of one
	// operation (an SDK's retries): with more than one, a transaction that the
	// first try created is no longer new to the second.
	Created  bool `json:"created,omitempty"`
	Attempts int  `json:"attempts,omitempty"`

	Decision Decision `json:"decision,omitempty"`
	State    State    `json:"state,omitempty"`
	Verdict  Verdict  `json:"verdict,omitempty"`
	// Reason of a rollback: REQUESTED, TIMEOUT, PARTICIPANT_LOST, REFUSED, ...
	Reason string `json:"reason,omitempty"`
	// Unseen, of Inquire: the log holds nothing about the GID.
	Unseen    bool `json:"unseen,omitempty"`
	Tombstone bool `json:"tombstone,omitempty"`
	// Branches, of Get; nil where they were not recorded.
	Branches []BranchView `json:"branches,omitempty"`
	Key      string       `json:"key,omitempty"`
	// Stopped, and Result of a workflow, of Get.
	Stopped bool   `json:"stopped,omitempty"`
	Result  string `json:"result,omitempty"`

	// Transactions of a list, on all its pages, in order.
	Transactions []Listed `json:"transactions,omitempty"`
	// Events of a watch, and the index up to which it is known to be whole.
	Events  []Event `json:"events,omitempty"`
	Through uint64  `json:"through,omitempty"`

	// From the answer's header, and the decision's place in the log.
	AppliedIndex  uint64 `json:"applied_index,omitempty"`
	DecisionIndex uint64 `json:"decision_index,omitempty"`
	ClockMS       uint64 `json:"clock_ms,omitempty"`
	FloorMS       uint64 `json:"floor_ms,omitempty"`
	Epoch         Epoch  `json:"epoch,omitzero"`
}

// Operation is one call of a client: what it asked, what it heard, and when.
type Operation struct {
	// Client is retired after an unknown outcome: it never calls again.
	Client int `json:"client"`
	// Call and Return are nanoseconds since one monotonic base. Return is 0
	// where the outcome is unknown.
	Call   int64 `json:"call"`
	Return int64 `json:"return,omitempty"`

	Kind      Kind   `json:"kind"`
	GID       string `json:"gid,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Key       string `json:"key,omitempty"`
	Branch    string `json:"branch,omitempty"`

	Input  Input  `json:"input,omitzero"`
	Status Status `json:"status,omitempty"`
	Output Output `json:"output,omitzero"`
	// Error is the text of a failure or an unknown outcome, for people.
	Error string `json:"error,omitempty"`
	// Node that answered, when known.
	Node string `json:"node,omitempty"`

	// Line of the history that the call stands on; 0 where there is none.
	Line int `json:"-"`
}
