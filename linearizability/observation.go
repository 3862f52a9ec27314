package linearizability

// Sight is what kind of thing was observed.
type Sight string

// What a history may hold besides operations.
const (
	// SightDelivery: a participant was told a branch's outcome. GID, Branch,
	// Verdict, Epoch; Accepted says whether its fence obeyed.
	SightDelivery Sight = "delivery"
	// SightJournal: a participant's own durable line. GID, Branch, Resource,
	// Step; Effect counts what the step moved, where it moves something.
	SightJournal Sight = "journal"
	// SightEvidence: a row of the fence's table, read at the end. GID, Branch,
	// Resource, Done: the branch's work is there, or can never be.
	SightEvidence Sight = "evidence"
	// SightDecision: a decision that a node's replayed log, or its snapshot,
	// holds. GID, Node, Decision, Index.
	SightDecision Sight = "decision"
	// SightLedger: a line of a client's fsynced ledger: it was answered. GID,
	// Kind, Branch, Vote, Decision.
	SightLedger Sight = "ledger"
	// SightFinal: a transaction as it stood at quiescence, read from the
	// cluster. GID, State (empty: not found), Decision, Branches.
	SightFinal Sight = "final"
	// SightInDoubt: something that had not ended at quiescence: a prepared xid,
	// a branch that Quorate still lists. Resource, GID, Branch, Text.
	SightInDoubt Sight = "in_doubt"
	// SightSum: what a resource, or all of them, held at quiescence. Resource,
	// Value, Want.
	SightSum Sight = "sum"
	// SightQuiescent: the faults had healed and the bound was waited for; what
	// is not ended now never ended.
	SightQuiescent Sight = "quiescent"
	// SightCommand: one command of the log, as it was applied. Index, ClockMS,
	// Command.
	SightCommand Sight = "command"
	// SightPlan: what a transaction whose branches are called was asked to do. GID,
	// Mode, Steps.
	SightPlan Sight = "plan"
	// SightEffect: what an operation on a branch did in its participant's own
	// store, read at the end. GID, Branch, Resource, Operation; Value is how often it
	// took effect, At when it first did.
	SightEffect Sight = "effect"
	// SightCall: a branch was called, or an initiator was asked. GID, Branch (none for
	// check_back and resume), Resource, Operation, Epoch (none of an initiator's own
	// call), At.
	SightCall Sight = "call"
	// SightLog: what the commands are. Node, From, Through: they are all that the
	// log holds between the two indexes, both included; Whole: no log of any
	// node holds another entry, before or after.
	SightLog Sight = "log"
)

// Step of a participant, in its journal.
type Step string

// The steps. Prepared is durable before the vote is sent.
const (
	StepPrepared   Step = "prepared"
	StepReadOnly   Step = "read_only"
	StepRefused    Step = "refused"
	StepCommitted  Step = "committed"
	StepRolledBack Step = "rolled_back"
)

// Effect is an operation on a called branch, as its participant's store shows it.
type Effect string

// The effects. Local is the initiator's own transaction, beside a message.
const (
	EffectLocal      Effect = "local"
	EffectAction     Effect = "action"
	EffectCompensate Effect = "compensate"
	EffectTry        Effect = "try"
	EffectConfirm    Effect = "confirm"
	EffectCancel     Effect = "cancel"
	// CheckBack and Resume ask an initiator; they are called, and leave nothing.
	EffectCheckBack Effect = "check_back"
	EffectResume    Effect = "resume"
)

// PlannedStep is one branch of a plan.
type PlannedStep struct {
	ID string `json:"id"`
	// After names the branches that must be done before it.
	After []string `json:"after,omitempty"`
	// NoUndo: there is nothing to compensate it with.
	NoUndo bool `json:"no_undo,omitempty"`
	// Local: it is the initiator's own transaction.
	Local bool `json:"local,omitempty"`
}

// Observation is something seen outside of the clients' answers.
type Observation struct {
	Sight Sight `json:"sight"`
	// At is nanoseconds since the history's base; 0 where unknown.
	At       int64  `json:"at,omitempty"`
	GID      string `json:"gid,omitempty"`
	Branch   string `json:"branch,omitempty"`
	Resource string `json:"resource,omitempty"`
	Node     string `json:"node,omitempty"`
	// Process of a participant, so that an epoch that falls within one is seen.
	Process string `json:"process,omitempty"`

	Kind     Kind     `json:"kind,omitempty"`
	Verdict  Verdict  `json:"verdict,omitempty"`
	Decision Decision `json:"decision,omitempty"`
	State    State    `json:"state,omitempty"`
	Vote     Vote     `json:"vote,omitempty"`
	Step     Step     `json:"step,omitempty"`
	Epoch    Epoch    `json:"epoch,omitzero"`
	// Accepted, of a delivery: the participant acted on it.
	Accepted bool `json:"accepted,omitempty"`
	// Held: the branch is a held one, whose loss after the decision is no breach
	// but a heuristic outcome.
	Held bool `json:"held,omitempty"`
	// Done, of evidence: the branch's work is there.
	Done bool `json:"done,omitempty"`

	Index   uint64 `json:"index,omitempty"`
	Term    uint64 `json:"term,omitempty"`
	From    uint64 `json:"from,omitempty"`
	Through uint64 `json:"through,omitempty"`
	Whole   bool   `json:"whole,omitempty"`
	ClockMS uint64 `json:"clock_ms,omitempty"`

	// Mode and Steps of a plan; Operation of an effect.
	Mode      string        `json:"mode,omitempty"`
	Steps     []PlannedStep `json:"steps,omitempty"`
	Operation Effect        `json:"operation,omitempty"`

	Value int64 `json:"value,omitempty"`
	Want  int64 `json:"want,omitempty"`

	Branches []BranchView `json:"branches,omitempty"`
	Result   string       `json:"result,omitempty"`
	Command  *Command     `json:"command,omitempty"`
	Text     string       `json:"text,omitempty"`

	// Line of the history.
	Line int `json:"-"`
}

// Command is one command of the log, in the history's words. Kind may be "tick"
// or "other" too.
type Command struct {
	Kind      Kind   `json:"kind"`
	GID       string `json:"gid,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Key       string `json:"key,omitempty"`
	Branch    string `json:"branch,omitempty"`
	// Driver: proposed by the leader's driver, not by a client.
	Driver bool  `json:"driver,omitempty"`
	Input  Input `json:"input,omitzero"`
	// Reason that a rollback was proposed with.
	Reason string `json:"reason,omitempty"`
	Epoch  Epoch  `json:"epoch,omitzero"`
}

// Kinds that only the log holds.
const (
	KindTick  Kind = "tick"
	KindOther Kind = "other"
)
