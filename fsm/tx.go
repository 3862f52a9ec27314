package fsm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/quorate/quorate/fsm/logpb"
)

// stamp says where in the log and when something happened. The wall clock is
// stored and shown, never compared.
type stamp struct {
	index, term, clockMS, wallMS uint64
}

// value is the stamp, of zeros for what did not happen. Records point to their stamps,
// which are never changed: most of those of one entry are the same.
func (s *stamp) value() stamp {
	if s == nil {
		return stamp{}
	}
	return *s
}

// transaction is one record. It is replaced, never edited in place: a command
// clones it, changes the clone and puts that, so that a pinned snapshot may
// read the old one for as long as it likes.
type transaction struct {
	gid   GID
	begin *logpb.Begin // for a tombstone only gid is set
	// written is begin in bytes, where it came from the log as it is written (written.go).
	written string

	state TxState
	// tombstone: made by a rollback of an unseen GID, without Begin or Submit.
	tombstone bool
	// quarantined: an invariant broke here; an operator must end it.
	quarantined bool
	// withheld: restored undecided, so its decision may be lost; an operator
	// must decide.
	withheld bool
	// sealed: commit was asked; the set of branches is final.
	sealed    bool
	submitted bool
	// stopped: ended by an operator, whatever its branches did.
	stopped bool

	decision Decision
	reason   Reason
	origin   logpb.Origin
	detail   string
	operator string

	deadlineMS uint64
	// filedMS is the clock when the record was last filed (bucket.go), 0 while
	// it is live.
	filedMS  uint64
	branches []*branch  // sorted by id
	room     [2]*branch // where they stand while they are few

	began, sealedAt, decided, finished *stamp

	more *txMore // nil in two-phase

	breach string // the first pre-condition that did not hold

	// What follows from the rest, for the indexes (survey). doubtIndex is that of the
	// oldest vote of a branch in doubt while the record is live, 0 for none.
	doubts, heuristics int32
	due                bool
	doubtIndex         uint64

	// hash is that of the record's encoding, once it is needed: until then the record
	// is in State.unhashed, at this place counted from 1. Only who applies looks at
	// these two, and may change them in a record that is shared.
	unhashedAt int32
	hash       Digest
}

// branch is one participant's part. It is replaced, never edited in place.
type branch struct {
	spec *logpb.BranchSpec
	// hint: only its name was heard (PROTOCOL.md, section 2).
	hint          bool
	maybePrepared bool
	// idle: the transaction is decided, and there is nothing to call the branch
	// for (order.go). It follows from the rest and is not written.
	idle     bool
	vote     logpb.VoteKind
	attempts uint32
	// own is the branch's own durable word, joined over its reports.
	own     logpb.Own
	outcome Outcome
	// resolved is an operator's word in its stead; it joins nothing.
	resolved                   Outcome
	resolvedBy, resolvedReason string

	enlisted, voted, reported, resolvedAt *stamp

	detail string

	more *branchMore // nil in two-phase

	// draft is the clone that this copy was made for, nil once that is put: until
	// then nobody else has it, and it may be changed again.
	draft *transaction
}

// txMore is what a record has beyond those of two-phase, which there are many
// of. It is replaced, never edited in place.
type txMore struct {
	// content is the hash of plan and branches, where the creating command
	// carried any: a repeat is compared by it, so that payloads may be let go of.
	content []byte
	// result is what a workflow's code returned.
	result []byte
}

// branchMore is the same of a branch.
type branchMore struct {
	// operation and result are a workflow's recorded step.
	operation string
	result    []byte
	// payloadHash stands for the payload once the transaction has ended.
	payloadHash []byte
}

func (t *transaction) content() []byte {
	if t.more == nil {
		return nil
	}
	return t.more.content
}

func (t *transaction) result() []byte {
	if t.more == nil {
		return nil
	}
	return t.more.result
}

// setResult keeps what a workflow's code returned, if anything.
func (t *transaction) setResult(result []byte) {
	if len(result) > 0 {
		t.more = &txMore{content: t.content(), result: result}
	}
}

func (b *branch) operation() string {
	if b.more == nil {
		return ""
	}
	return b.more.operation
}

func (b *branch) result() []byte {
	if b.more == nil {
		return nil
	}
	return b.more.result
}

func (b *branch) payloadHash() []byte {
	if b.more == nil {
		return nil
	}
	return b.more.payloadHash
}

const (
	voteNone     = logpb.VoteKind_VOTE_KIND_UNSPECIFIED
	votePrepared = logpb.VoteKind_VOTE_KIND_PREPARED
	voteReadOnly = logpb.VoteKind_VOTE_KIND_READ_ONLY
	voteRefused  = logpb.VoteKind_VOTE_KIND_REFUSED

	ownNone     = logpb.Own_OWN_UNSPECIFIED
	ownDone     = logpb.Own_OWN_DONE
	ownContrary = logpb.Own_OWN_CONTRARY
	ownHazard   = logpb.Own_OWN_HAZARD
	ownMixed    = logpb.Own_OWN_MIXED
)

// newRecord makes an empty record, with memory for n branches: in one piece where there
// are two, as mostly, for they live about as long as it.
func newRecord(n int) (*transaction, []branch) {
	switch n {
	case 0:
		return new(transaction), nil
	case 2:
		r := new(struct {
			record   transaction
			branches [2]branch
		})
		return &r.record, r.branches[:]
	default:
		return new(transaction), make([]branch, n)
	}
}

// clone is a copy that may be changed until it is put. Its branches are shared:
// they change through edit.
func (t *transaction) clone() *transaction { return t.cloneTo(new(transaction)) }

// cloneTo is clone, with the memory for the copy.
func (t *transaction) cloneTo(next *transaction) *transaction {
	*next = *t
	next.branches = append(next.room[:0], t.branches...)
	next.breach = ""
	return next
}

// require notes a pre-condition that does not hold: put then quarantines the
// transaction instead of storing what was made of it. A text as an argument costs
// memory even where it holds: then the caller looks first.
func (t *transaction) require(holds bool, format string, args ...any) {
	if !holds && t.breach == "" {
		t.breach = fmt.Sprintf(format, args...)
	}
}

// find returns the place of a branch, and whether it is a member. Of a
// workflow's steps with one id it is the first.
func (t *transaction) find(id string) (int, bool) {
	from := 0
	if len(t.branches) > fewBranches {
		from, _ = slices.BinarySearchFunc(t.branches, id, func(b *branch, id string) int {
			return strings.Compare(b.spec.GetId(), id)
		})
	}
	for i := from; i < len(t.branches); i++ {
		// The same id is mostly the same text in memory (names.go), which is seen at once.
		if at := t.branches[i].spec.GetId(); at == id {
			return i, true
		} else if at > id {
			return i, false
		}
	}
	return len(t.branches), false
}

// fewBranches are found faster one by one.
const fewBranches = 8

// findStep is find with a workflow's word for the step, which is part of its
// name. Branches of other modes have none.
func (t *transaction) findStep(id, operation string) (int, bool) {
	return slices.BinarySearchFunc(t.branches, id, func(b *branch, id string) int {
		if c := strings.Compare(b.spec.GetId(), id); c != 0 {
			return c
		}
		return strings.Compare(b.operation(), operation)
	})
}

// member is the branch of that name, or nil.
func (t *transaction) member(id string) *branch {
	if i, ok := t.find(id); ok {
		return t.branches[i]
	}
	return nil
}

// edit returns a copy of a member that t alone has, already in its place.
func (t *transaction) edit(id string) *branch { return t.editIn(nil, id) }

// editIn is edit, with memory for copies: each takes one of room's, as long as there
// are any. The branches of one record may share memory: they live as long as each other.
func (t *transaction) editIn(room *[]branch, id string) *branch {
	i, ok := t.find(id)
	if !ok {
		t.require(false, "branch %q to change is no member", id)
		return new(branch)
	}
	return t.editAt(room, i)
}

// editAt is editIn of the member at a place.
func (t *transaction) editAt(room *[]branch, i int) *branch {
	if t.branches[i].draft == t {
		return t.branches[i]
	}
	var b *branch
	if room != nil && len(*room) > 0 {
		b, *room = &(*room)[0], (*room)[1:]
	} else {
		b = new(branch)
	}
	*b = *t.branches[i]
	b.draft = t
	t.branches[i] = b
	return b
}

// join adds a branch that is no member yet. One that is known by its name only
// becomes a hint.
func (t *transaction) join(spec *logpb.BranchSpec, now *stamp) {
	t.joinAs(new(branch), spec, now)
}

// joinAs is join, with the memory for the branch.
func (t *transaction) joinAs(b *branch, spec *logpb.BranchSpec, now *stamp) {
	i, ok := t.find(spec.GetId())
	if ok {
		t.require(false, "branch %q joins twice", spec.GetId())
	}
	// What is called hears nothing that is meant for what votes, as a tombstone's
	// branches would.
	hint := t.rules().votes && (!known(spec) || spec.GetUndo() != "")
	b.spec, b.hint, b.enlisted, b.draft = spec, hint, now, t
	t.branches = slices.Insert(t.branches, i, b)
}

// known says that a branch could be told: more than its name was heard.
func known(spec *logpb.BranchSpec) bool {
	return spec.GetResource() != "" || spec.GetEndpoint() != "" || len(spec.GetHolder()) > 0 || spec.GetUndo() != ""
}

// terminal says that nothing more is expected of the branch.
func (b *branch) terminal() bool {
	return b.own != ownNone || b.resolved != logpb.Outcome_OUTCOME_UNSPECIFIED || b.idle ||
		b.vote == voteReadOnly || b.vote == voteRefused && !b.maybePrepared
}

// due says that the branch of a decided transaction should be told. A hint is
// never due: nobody knows whom to tell.
func (b *branch) due() bool { return !b.hint && !b.terminal() }

// reportedForGood says that the branch's own durable word is in: its vote ended
// it, or it reported. A hazard is no word until an operator has resolved it.
func (b *branch) reportedForGood() bool {
	switch b.own {
	case ownNone:
		return b.idle || b.vote == voteReadOnly || b.vote == voteRefused && !b.maybePrepared
	case ownHazard:
		return b.resolved != logpb.Outcome_OUTCOME_UNSPECIFIED
	default:
		return true
	}
}

// inDoubt says that the branch is prepared and has not been told.
func (b *branch) inDoubt() bool { return b.vote == votePrepared && !b.terminal() }

// oldestDoubt is the index of the oldest vote of a branch in doubt, 0 for none.
func (t *transaction) oldestDoubt() (index uint64) {
	if !t.rules().votes {
		return 0
	}
	for _, b := range t.branches {
		if b.inDoubt() && (index == 0 || b.voted.value().index < index) {
			index = b.voted.value().index
		}
	}
	return index
}

// survey notes what follows from the branches, so that no index looks at them again.
func (t *transaction) survey() {
	t.doubts, t.heuristics, t.doubtIndex = 0, 0, 0
	votes := t.rules().votes
	for _, b := range t.branches {
		if votes && b.inDoubt() {
			t.doubts++
		}
		if b.own > ownDone {
			t.heuristics++
		}
	}
	live := t.filedMS == 0
	if live && t.doubts > 0 {
		t.doubtIndex = t.oldestDoubt()
	}
	t.due = live && t.anyDue() // a filed record has nothing due
}

// undecided says A or S.
func (t *transaction) undecided() bool {
	return t.state == StateActive || t.state == StateSealed
}

// ended says C+ or R+.
func (t *transaction) ended() bool {
	return t.state == StateCommitted || t.state == StateRolledBack
}

// allVoted says that every branch that the commit waits for has voted prepared
// or read-only; a saga's, that they were answered as done.
func (t *transaction) allVoted() bool {
	if !t.rules().waits {
		return true
	}
	for _, b := range t.branches {
		if b.vote != votePrepared && b.vote != voteReadOnly {
			return false
		}
	}
	return true
}

// anyHeld says that a local transaction kept open is in the set.
func (t *transaction) anyHeld() bool {
	for _, b := range t.branches {
		if b.spec.GetHeld() {
			return true
		}
	}
	return false
}

// allTerminal says that a decided transaction has nothing left to hear.
func (t *transaction) allTerminal() bool {
	if t.stopped {
		return true
	}
	for _, b := range t.branches {
		if !b.terminal() && !(b.hint && t.decision == DecisionRollback) {
			return false
		}
	}
	return true
}

// droppable says that the record waits for retention only.
func (t *transaction) droppable() bool {
	if !t.ended() || t.quarantined || t.withheld {
		return false
	}
	// Nobody asks any more for what an operator has ended of a transaction whose
	// branches are called; what has voted may.
	called := !t.rules().votes
	if t.stopped && called {
		return true
	}
	for _, b := range t.branches {
		resolved := called && b.resolved != logpb.Outcome_OUTCOME_UNSPECIFIED
		if t.decision == DecisionCommit && !b.reportedForGood() && !resolved {
			return false // an operator's word is not the branch's own
		}
		if b.own == ownHazard && !b.reportedForGood() {
			return false // it stays visible until somebody has settled it
		}
	}
	return true
}

// verdict is the answer to a participant, for (GID, branch) and never for the
// GID alone: a stray prepared branch that asked by GID alone would commit.
func (t *transaction) verdict(id string) Verdict {
	if t.quarantined || t.withheld {
		return VerdictWait
	}
	b := t.member(id)
	switch t.state {
	case StateActive:
		return VerdictWait
	case StateSealed:
		if b != nil {
			return VerdictWait
		}
	case StateCommitting, StateCommitted:
		if b != nil && (b.vote == votePrepared || !t.rules().waits) {
			return VerdictCommit
		}
	}
	return VerdictRollback
}

// order is the transaction's place in every ordered list.
func (t *transaction) order() Cursor { return Cursor{Index: t.began.value().index, GID: t.gid} }

// hasSet says that ids, which is sorted, names exactly the members.
func (t *transaction) hasSet(ids []string) bool {
	if len(ids) != len(t.branches) {
		return false
	}
	for i, b := range t.branches {
		if b.spec.GetId() != ids[i] {
			return false
		}
	}
	return true
}
