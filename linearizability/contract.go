package linearizability

import (
	"cmp"
	"slices"
	"strings"
)

// This file and contract_*.go are the sequential contract of one GID: what each
// command does and answers in each state, as docs/verify.md and the protocol tell
// it. They were written from the protocol's table, not from the state machine, and
// the package may import none of it.

// phase of a transaction. Whether it has ended (Committed, RolledBack) follows
// from its branches.
type phase uint8

const (
	// phaseUnseen: the log holds nothing about the GID, or no more.
	phaseUnseen phase = iota
	phaseActive
	phaseSealed
	phaseCommit
	phaseRollback
	// phaseOver: every answer is explained, and what is left never happened.
	phaseOver
)

// own is a branch's own word on its outcome against the decision, joined over its
// reports.
type own uint8

const (
	ownNone own = iota
	ownDone
	ownContrary
	ownHazard
	ownMixed
)

// member is one branch as the contract sees it.
type member struct {
	Branch
	hint     bool
	vote     Vote
	maybe    bool
	own      own
	resolved Outcome
	// Of a workflow's step: the code's word for it, and what it returned.
	word   string
	result string
}

// terminal: nothing more is expected of it.
func (m *member) terminal() bool {
	return m.own != ownNone || m.resolved != "" || m.vote == VoteReadOnly || m.vote == VoteRefused && !m.maybe
}

// voted: it agrees to a commit.
func (m *member) voted() bool { return m.vote == VotePrepared || m.vote == VoteReadOnly }

// tx is the state of one GID. It is never changed: a step makes a new one.
type tx struct {
	phase     phase
	mode      string // empty where nothing has begun it
	tombstone bool
	// gone: at or below the horizon, so that unseen means expired.
	gone bool
	// ended was seen, though the reports that ended it were not recorded.
	ended bool
	// dim: steps that nobody recorded have happened, or a topic's subscribers are its
	// branches, so that these cannot be told one by one.
	dim bool
	// stopped by an operator, and what a workflow's code returned.
	stopped bool
	result  string
	// logged is how many of the log's commands that nobody recorded have happened.
	logged  uint16
	entry   Entry
	content string
	// reason of a rollback; where an answer may name one of two, both.
	reason string
	// left is how many more unknown or uncalled effects the search may assume.
	left uint8
	// members by id. In phaseSealed and phaseCommit they are exactly the set.
	members []member
}

var unseenTx = &tx{}

func (t *tx) clone() *tx {
	n := *t
	n.members = slices.Clone(t.members)
	return &n
}

func (t *tx) find(id string) *member {
	for i := range t.members {
		if t.members[i].ID == id {
			return &t.members[i]
		}
	}
	return nil
}

// put adds a branch in the order of ids and returns its place; t must be a clone.
func (t *tx) put(m member) *member {
	i, _ := slices.BinarySearchFunc(t.members, m, func(have, m member) int {
		return cmp.Or(strings.Compare(have.ID, m.ID), strings.Compare(have.word, m.word))
	})
	t.members = slices.Insert(t.members, i, m)
	return &t.members[i]
}

func (t *tx) decision() Decision {
	switch t.phase {
	case phaseCommit:
		return DecisionCommit
	case phaseRollback:
		return DecisionRollback
	default:
		return DecisionNone
	}
}

// over: every branch that can be told is terminal.
func (t *tx) over() bool {
	switch {
	case t.stopped:
		return true
	case t.called():
		return t.calledIsOver()
	}
	for i := range t.members {
		if m := &t.members[i]; !m.terminal() && !m.hint {
			return false
		}
	}
	return true
}

func (t *tx) state() State {
	switch t.phase {
	case phaseActive:
		return StateActive
	case phaseSealed:
		return StateSealed
	case phaseCommit:
		if t.over() {
			return StateCommitted
		}
		return StateCommitting
	case phaseRollback:
		if t.over() {
			return StateRolledBack
		}
		return StateRollingBack
	default:
		return ""
	}
}

func (t *tx) equal(o *tx) bool {
	return t == o || t.phase == o.phase && t.tombstone == o.tombstone && t.gone == o.gone && t.ended == o.ended && t.left == o.left && t.logged == o.logged &&
		t.mode == o.mode && t.dim == o.dim && t.stopped == o.stopped && t.result == o.result && t.entry == o.entry && t.content == o.content && t.reason == o.reason && slices.Equal(t.members, o.members)
}

// verdictOn is the answer to a participant about one branch, never about a GID
// alone.
func (t *tx) verdictOn(id string) Verdict {
	m := t.find(id)
	switch t.phase {
	case phaseActive:
		return VerdictWait
	case phaseSealed:
		if m != nil {
			return VerdictWait
		}
	case phaseCommit:
		if m != nil && (m.vote == VotePrepared || t.called()) {
			return VerdictCommit
		}
	case phaseUnseen:
		if !t.gone {
			return VerdictWait
		}
	}
	return VerdictRollback
}

// held tells whether a held branch is in the set: then only the driver commits.
func (t *tx) held() bool {
	return slices.ContainsFunc(t.members, func(m member) bool { return m.Held })
}

func (t *tx) allVoted() bool {
	return !slices.ContainsFunc(t.members, func(m member) bool { return !m.voted() })
}

// decideIfVoted commits a sealed transaction once every vote is in.
func (t *tx) decideIfVoted() {
	if t.allVoted() && !t.held() {
		t.phase = phaseCommit
	} else {
		t.phase = phaseSealed
	}
}

// rolledBack returns t decided rollback. It must not be decided.
func (t *tx) rolledBack(reason string) *tx {
	n := t.clone()
	n.phase, n.reason = phaseRollback, reason
	return n
}

// Reasons of rollbacks, as the API spells them.
const (
	reasonRequested  = "REQUESTED"
	reasonTimeout    = "TIMEOUT"
	reasonLost       = "PARTICIPANT_LOST"
	reasonRefused    = "REFUSED"
	reasonSubmit     = "SUBMIT_REFUSED"
	reasonPresumed   = "PRESUMED"
	reasonReported   = "REPORTED"
	reasonOperator   = "OPERATOR"
	reasonGaveUp     = "GAVE_UP"
	reasonChecked    = "CHECKED_BACK"
	reasonAnyAtAll   = ""
	refusalNotFound  = "NOT_FOUND"
	refusalExpired   = "EXPIRED"
	refusalGID       = "GID_CONFLICT"
	refusalKey       = "KEY_CONFLICT"
	refusalBranch    = "BRANCH_CONFLICT"
	refusalVote      = "VOTE_CONFLICT"
	refusalCommit    = "COMMIT_CONFLICT"
	refusalSealed    = "SEALED"
	refusalEnlisted  = "NOT_ENLISTED"
	refusalSet       = "SET_REQUIRED"
	refusalMismatch  = "SET_MISMATCH"
	refusalDecided   = "ALREADY_DECIDED"
	refusalReported  = "ALREADY_REPORTED"
	refusalUndecided = "UNDECIDED"
	refusalStale     = "STALE"
	refusalInvalid   = "INVALID"
)

// answer is what a command is answered.
type answer struct {
	// refusal is empty for OK. Where the protocol leaves it open which of several
	// faults is named, or, with "OK" among them, whether it is one at all, or lists
	// them; the state is the same after each.
	refusal string
	or      []string
	verdict Verdict
	created bool
}

const answeredOK = "OK"

// call is one command, prepared for being applied often.
type call struct {
	kind   Kind
	branch Branch
	input  *Input
	// content and mode of a Begin, or of a Submit's begin.
	content string
	mode    string
	entry   Entry
	// set that a Commit or a Submit names, sorted; bare where none is.
	set  []string
	bare bool
	// driver proposed it, with the epoch that leads or an older one.
	driver, stale bool
	reason        string
}

// apply is the contract: what c does to t, and what it is answered.
func (t *tx) apply(c *call) (*tx, answer) {
	switch c.kind {
	case KindBegin:
		return t.begin(c)
	case KindEnlist:
		return t.enlist(c)
	case KindVote:
		return t.castVote(c)
	case KindCommit:
		return t.commit(c)
	case KindRollback:
		return t.rollback(c)
	case KindSubmit:
		return t.submit(c)
	case KindReport:
		return t.report(c)
	case KindResolve:
		return t.resolve(c)
	case KindAnswer:
		return t.answeredBy(c)
	case KindRecord:
		return t.record(c)
	case KindStop:
		return t.stop()
	case KindInquire:
		return t, answer{verdict: t.verdictOn(c.branch.ID)}
	case KindGet:
		return t, t.unseenAnswer()
	default:
		return t, answer{}
	}
}

// unseenAnswer refuses what needs a transaction, where there is none.
func (t *tx) unseenAnswer() answer {
	switch {
	case t.phase != phaseUnseen:
		return answer{}
	case t.gone:
		return answer{refusal: refusalExpired, verdict: VerdictRollback}
	default:
		return answer{refusal: refusalNotFound, verdict: VerdictWait}
	}
}

func refuse(reason string) answer { return answer{refusal: reason} }

func (t *tx) begin(c *call) (*tx, answer) {
	switch {
	case t.phase == phaseUnseen && t.gone:
		return t, refuse(refusalExpired)
	case !beginnable(c.mode):
		return t, refuse(refusalInvalid)
	case t.phase == phaseUnseen:
		return c.created(phaseActive), answer{created: true}
	case t.tombstone:
		return t, refuse(refusalDecided)
	case t.content != c.content:
		return t, refuse(refusalGID)
	default:
		return t, answer{}
	}
}
