package linearizability

import (
	"slices"
	"strings"
)

// The modes whose branches are called, as docs/modes.md tells them: what creates one,
// what decides it, and when it is over.

// called: the coordinator calls the branches; nobody votes.
func (t *tx) called() bool { return t.mode != modeTwoPhase && t.mode != "" }

// expires: an undecided one is rolled back by time. A message may have been
// committed already by its sender, a workflow by its code.
func expires(mode string) bool { return mode == modeTwoPhase || mode == modeTCC || mode == modeSaga }

// beginnable and submittable are the modes that a Begin and a Submit create.
func beginnable(mode string) bool {
	return mode == modeTwoPhase || mode == modeTCC || mode == modeMessage || mode == modeWorkflow
}

func submittable(mode string) bool {
	return mode == modeTwoPhase || mode == modeSaga || mode == modeMessage || mode == modeNotify
}

// topicScheme begins the endpoint that stands for a topic's subscribers: which
// branches it becomes, nobody is told.
const topicScheme = "topic://"

// created returns a new transaction of a called mode.
func (c *call) created(phase phase) *tx {
	n := &tx{phase: phase, mode: c.mode, entry: c.entry, content: c.content}
	for _, b := range c.input.Branches {
		n.dim = n.dim || strings.HasPrefix(b.Endpoint, topicScheme)
		n.put(member{Branch: b})
	}
	return n
}

// submitCalled is Submit where what stands, or what is asked for, is a called mode.
func (t *tx) submitCalled(c *call) (*tx, answer) {
	switch {
	case t.phase == phaseUnseen && t.gone:
		return t, refuse(refusalExpired)
	case !submittable(c.mode):
		return t, refuse(refusalInvalid)
	case t.tombstone:
		return t, refuse(refusalDecided)
	case t.phase == phaseUnseen && c.mode == modeSaga:
		return c.created(phaseSealed), answer{created: true}
	case t.phase == phaseUnseen:
		return c.created(phaseCommit), answer{created: true}
	case t.mode != c.mode:
		// Other content in any case; how it is named goes by either mode's table.
		return t, answer{refusal: refusalGID, or: []string{refusalDecided}}
	case t.content != c.content:
		return t, refuse(refusalGID)
	case t.phase == phaseActive: // a message
		n := t.clone()
		n.phase = phaseCommit
		return n, answer{}
	default:
		return t, answer{}
	}
}

// commitCalled is a commit of a called mode that is undecided.
func (t *tx) commitCalled(c *call) (*tx, answer) {
	switch {
	case t.mode == modeSaga:
		return t, refuse(refusalInvalid) // its steps decide
	case c.driver && c.stale:
		return t, refuse(refusalStale)
	case t.mode == modeTCC && !c.bare:
		if faults := t.setFaults(c.set); len(faults) > 0 {
			return t, answer{refusal: faults[0], or: faults[1:]}
		}
	}
	n := t.clone()
	n.phase = phaseCommit
	if t.mode == modeWorkflow {
		n.result = c.input.Result
	}
	return n, answer{}
}

// calledIsOver: nothing more is called.
func (t *tx) calledIsOver() bool {
	switch {
	case t.mode == modeWorkflow, t.mode == modeSaga && t.phase == phaseCommit, t.mode == modeMessage && t.phase == phaseRollback:
		return true
	}
	return !slices.ContainsFunc(t.members, func(m member) bool { return !m.hint && !t.ends(&m) })
}

// ends: nothing more is expected of a called branch.
func (t *tx) ends(m *member) bool {
	switch {
	case m.own != ownNone, m.resolved != "":
		return true
	case t.mode == modeSaga && t.phase == phaseRollback:
		return m.Undo == "" || m.vote == VoteRefused && !m.maybe || !t.callable(m)
	default:
		return false
	}
}

// callable: a saga's step whose forerunners are all done may have been called.
func (t *tx) callable(m *member) bool {
	for _, id := range m.After.List() {
		if before := t.find(id); before != nil && before.vote != VotePrepared {
			return false
		}
	}
	return true
}

// answered is what a called step said. Only a saga's steps answer: done is as good as
// prepared, everything else rolls back.
func (t *tx) answeredBy(c *call) (*tx, answer) {
	switch {
	case t.phase == phaseUnseen:
		return t, t.unseenAnswer()
	case t.tombstone:
		return t, refuse(refusalDecided)
	case t.mode != modeSaga:
		return t, refuse(refusalInvalid)
	}
	m := t.find(c.branch.ID)
	vote, maybe := VotePrepared, false
	if c.input.Said != SaidDone {
		vote, maybe = VoteRefused, c.input.MaybeDone || c.input.Said == SaidGaveUp
	}
	switch {
	case m == nil:
		return t, refuse(refusalEnlisted)
	case m.vote == vote && m.maybe == maybe:
		return t, answer{or: []string{refusalVote}} // gave up, and refused but maybe done, are told apart
	case m.vote != "":
		return t, refuse(refusalVote)
	case !t.callable(m):
		return t, refuse(refusalInvalid)
	case t.phase == phaseRollback && (vote != VoteRefused || maybe || t.ends(m) || t.over()):
		return t, answer{} // it is compensated, or has been
	}
	n := t.clone()
	n.store(c.branch, vote, maybe)
	switch {
	case n.phase == phaseRollback:
	case vote == VoteRefused:
		n.phase, n.reason = phaseRollback, reasonRefused
		if c.input.Said == SaidGaveUp {
			n.reason = reasonGaveUp
		}
	case n.allVoted():
		n.phase = phaseCommit
	}
	return n, answer{}
}

// record keeps a step of a workflow's code, whose first word stands.
func (t *tx) record(c *call) (*tx, answer) {
	switch {
	case t.phase == phaseUnseen:
		return t, t.unseenAnswer()
	case t.tombstone:
		return t, refuse(refusalDecided)
	case t.mode != modeWorkflow:
		return t, refuse(refusalInvalid)
	}
	step := member{Branch: Branch{ID: c.branch.ID}, vote: VotePrepared, word: c.input.Operation, result: c.input.Result}
	if c.input.Failed {
		step.vote = VoteRefused
	}
	at := slices.IndexFunc(t.members, func(m member) bool { return m.ID == step.ID && m.word == step.word })
	switch {
	case at >= 0 && t.members[at] == step:
		return t, answer{}
	case at >= 0:
		return t, refuse(refusalVote)
	case t.phase != phaseActive:
		return t, refuse(refusalDecided)
	}
	n := t.clone()
	n.put(step)
	return n, answer{}
}

// stop ends what stands, by an operator's word.
func (t *tx) stop() (*tx, answer) {
	switch {
	case t.phase == phaseUnseen:
		return t, t.unseenAnswer()
	case t.decision() != DecisionNone && t.over():
		return t, answer{}
	}
	n := t.clone()
	if n.decision() == DecisionNone {
		n.phase, n.reason = phaseRollback, reasonOperator
	}
	n.stopped = true
	return n, answer{}
}
