package linearizability

import (
	"slices"
	"strings"

	"github.com/anishathalye/porcupine"
)

// gidModel is the contract of one GID for porcupine. What is not determined
// (when a deadline passes, whether an unknown outcome took effect) is an event
// whose place the search chooses, so the model itself is deterministic and small.
//
// Such an event is placed only where it changes something, and at most as often as
// the model allows; the others are left to the end, where they never happened. A
// search that may assume little is short, and mostly finds an order; one without a
// bound, everything, decides.
func gidModel(assumptions uint8) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return &tx{left: assumptions} },
		Step: func(state, input, _ any) (bool, any) {
			ok, next := state.(*tx).step(input.(*event))
			return ok, next
		},
		Equal:             func(a, b any) bool { return a.(*tx).equal(b.(*tx)) },
		DescribeOperation: func(input, _ any) string { return input.(*event).describe() },
		DescribeState:     func(state any) string { return state.(*tx).describe() },
	}
}

// anything is the bound that is none.
const anything = 255

var overTx = &tx{phase: phaseOver}

// step tells whether e, with what it was answered, may happen next, and what then
// stands.
func (t *tx) step(e *event) (bool, *tx) {
	if t.phase == phaseOver {
		return true, t
	}
	if e.role == roleOver {
		return true, overTx
	}
	if e.assumed() {
		return t.assume(e)
	}
	if e.role == roleAwait {
		return t.answers(e, t, answer{})
	}
	was := t.asOf(e)
	next, a := was.apply(&e.call)
	ok, next := next.answers(e, was, a)
	if !ok {
		return false, nil
	}
	return true, next.after(t, t.left)
}

// after is t with what was is left to assume, and has been logged.
func (t *tx) after(was *tx, left uint8) *tx {
	if t.left == left && t.logged == was.logged {
		return t
	}
	n := *t
	n.left, n.logged = left, was.logged
	return &n
}

// assume lets something happen that nobody was told of.
func (t *tx) assume(e *event) (bool, *tx) {
	if e.role == roleLogged {
		return t.happens(e)
	}
	if t.left == 0 {
		return false, nil
	}
	next := t.uncalled(e)
	if next == t || next.equal(t) {
		return false, nil // later, or never
	}
	if t.left == anything {
		return true, next.after(t, anything)
	}
	return true, next.after(t, t.left-1)
}

// happens: a command of the log took effect, after those that stand before it there.
func (t *tx) happens(e *event) (bool, *tx) {
	if t.logged != e.place {
		return false, nil
	}
	next, _ := t.apply(&e.call)
	next = next.clone()
	next.left, next.logged = t.left, t.logged+1
	return true, next
}

func (t *tx) uncalled(e *event) *tx {
	switch e.role {
	case roleTimeout:
		return t.byItself(reasonTimeout)
	case roleDone, roleUndone:
		return t.branchesDecide(e.role == roleDone)
	case roleLost:
		return t.byItself(reasonLost)
	case rolePresume:
		return t.presumed(e)
	case roleDrive:
		if t.phase == phaseSealed && t.allVoted() {
			n := t.clone()
			n.phase = phaseCommit
			return n
		}
		return t
	default:
		next, _ := t.apply(&e.call)
		return next
	}
}

// byItself: the cluster rolls back what is undecided.
func (t *tx) byItself(reason string) *tx {
	if (t.phase == phaseActive || t.phase == phaseSealed) && expires(t.mode) {
		return t.rolledBack(reason)
	}
	return t
}

// branchesDecide: what a saga's steps, or the sender of a message, said unrecorded.
func (t *tx) branchesDecide(done bool) *tx {
	saga := t.mode == modeSaga && t.phase == phaseSealed
	if !saga && (t.mode != modeMessage || t.phase != phaseActive) {
		return t
	}
	n := t.clone()
	n.dim = true
	switch {
	case done:
		n.phase = phaseCommit
	case saga:
		n.phase, n.reason = phaseRollback, reasonRefused+" "+reasonGaveUp
	default:
		n.phase, n.reason = phaseRollback, reasonChecked
	}
	return n
}

// presumed: a prepared branch asked about a GID that nobody had seen in time.
func (t *tx) presumed(e *event) *tx {
	if t.phase != phaseUnseen || t.gone {
		return t
	}
	n := t.rolledBack(reasonPresumed)
	n.tombstone = true
	b := e.branch
	n.put(member{Branch: b, hint: b.named()})
	return n
}

// asOf is t as the answer shows it to have become by itself: dropped at the
// horizon, or presumed rolled back.
func (t *tx) asOf(e *event) *tx {
	out := &e.op.Output
	switch {
	case e.expirable && !t.gone && t.showsGone(e) && t.droppable(e):
		return &tx{gone: true}
	case e.kind == KindInquire && e.presumable && t.phase == phaseUnseen && out.Verdict == VerdictRollback && !out.Unseen:
		return t.presumed(e)
	default:
		return t
	}
}

func (t *tx) showsGone(e *event) bool {
	out := &e.op.Output
	return out.Refusal == refusalExpired ||
		e.kind == KindInquire && out.Unseen && out.Verdict == VerdictRollback ||
		e.kind == KindReport && e.op.Status == StatusOK &&
			(t.phase == phaseUnseen || t.mode == modeWorkflow || e.input.Outcome == OutcomeGaveUp && t.mode != modeNotify || out.Verdict == VerdictRollback && t.verdictOn(e.branch.ID) == VerdictCommit) ||
		// A participant is told "rolled back", and of no state: there is none.
		e.kind == KindRollback && e.input.Participant && e.op.Status == StatusOK && out.State == ""
}

// droppable: unseen, or ended with every branch's own durable word on a commit; an
// operator's is none.
func (t *tx) droppable(e *event) bool {
	if t.phase == phaseUnseen {
		return true
	}
	if t.decision() == DecisionNone {
		return false
	}
	if e.deliveriesUnseen {
		return true
	}
	if !t.over() {
		return false
	}
	return t.phase == phaseRollback || t.called() || !slices.ContainsFunc(t.members, func(m member) bool {
		return m.vote == VotePrepared && (m.own == ownNone || m.own == ownHazard && m.resolved == "")
	})
}

// answers compares what e was answered with what the contract says: t stands
// after it, before it stood before. It returns t, or t with what the answer
// taught about it.
func (t *tx) answers(e *event, before *tx, a answer) (bool, *tx) {
	out := &e.op.Output
	if e.op.Status == StatusRefused {
		if a.refusal != out.Refusal && !slices.Contains(a.or, out.Refusal) || out.Refusal == "" {
			return false, nil
		}
		if out.Decision != DecisionNone && out.Decision != before.decision() {
			return false, nil
		}
		return out.Verdict == "" || a.verdict == "" || out.Verdict == a.verdict, before
	}
	if a.refusal != "" && !slices.Contains(a.or, answeredOK) {
		return false, nil
	}
	if e.role != roleAwait && !createdAs(e, a) {
		return false, nil
	}
	if e.role == roleAsk {
		return true, t
	}
	if out.Verdict != "" && a.verdict != "" && out.Verdict != a.verdict || out.Unseen && t.phase != phaseUnseen {
		return false, nil
	}
	if tells(e.kind) {
		decision := t.decision()
		if t.gone && e.kind == KindRollback {
			decision = DecisionRollback // presumed, for a participant
		}
		if out.Decision != decision || !t.reasonIs(out.Reason) {
			return false, nil
		}
		if e.kind == KindGet && !t.shows(e) {
			return false, nil
		}
	}
	return t.stateIs(e)
}

// createdAs: only who began it may say so. A try before the one that was answered
// may have begun it.
func createdAs(e *event, a answer) bool {
	if e.kind != KindBegin && e.kind != KindSubmit {
		return true
	}
	return a.created == e.op.Output.Created || e.op.Output.Attempts > 1
}

// tells: the answers of these kinds always tell the decision that stands.
func tells(k Kind) bool {
	switch k {
	case KindBegin, KindCommit, KindRollback, KindSubmit, KindGet:
		return true
	default:
		return false
	}
}

func (t *tx) reasonIs(said string) bool {
	if said == "" || t.reason == "" {
		return true
	}
	if said == reasonSubmit {
		said = reasonRefused
	}
	return said == t.reason || slices.Contains(strings.Fields(t.reason), said)
}

// stateIs compares the state, where it was recorded. Committing and committed are
// told apart by reports: where those are not recorded, the first answer that says
// "over" settles it for all later ones.
func (t *tx) stateIs(e *event) (bool, *tx) {
	said := e.op.Output.State
	if said == "" {
		return true, t
	}
	switch is := t.state(); {
	case !e.deliveriesUnseen:
		return is == said, t
	case said != StateCommitted && said != StateRolledBack:
		return is == said && !t.ended, t
	case t.decision() == DecisionNone || (said == StateCommitted) != (t.phase == phaseCommit):
		return false, nil
	case t.ended:
		return true, t
	}
	n := t.clone()
	n.ended = true
	return true, n
}

// shows compares what Get told of the branches.
func (t *tx) shows(e *event) bool {
	out := &e.op.Output
	if out.Tombstone && !t.tombstone || out.Stopped && !t.stopped || out.Result != "" && out.Result != t.result {
		return false
	}
	if out.Branches == nil || t.dim {
		return true
	}
	if t.called() {
		return t.showsCalled(e)
	}
	if len(out.Branches) != len(t.members) {
		return false
	}
	for i := range t.members {
		m := &t.members[i]
		j := slices.IndexFunc(out.Branches, func(b BranchView) bool { return b.ID == m.ID })
		if j < 0 {
			return false
		}
		b := &out.Branches[j]
		if b.Vote != m.vote || b.Hint != m.hint {
			return false
		}
		if !e.deliveriesUnseen && (b.Terminal != m.terminal() || b.Outcome != "" && m.own == ownNone) {
			return false
		}
	}
	return true
}

// showsCalled compares branches that are called, and a workflow's steps. What a saga's
// steps have answered is known only where that is recorded.
func (t *tx) showsCalled(e *event) bool {
	out := &e.op.Output
	if len(out.Branches) != len(t.members) {
		return false
	}
	for i := range t.members {
		m := &t.members[i]
		j := slices.IndexFunc(out.Branches, func(b BranchView) bool { return b.ID == m.ID && b.Recorded == m.word })
		if j < 0 {
			return false
		}
		b := &out.Branches[j]
		if b.Result != m.result || !e.deliveriesUnseen && (b.Vote != m.vote || b.Outcome != "" && m.own == ownNone) {
			return false
		}
	}
	return true
}
