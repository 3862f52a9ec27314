package linearizability

// Commands that a branch sends: Enlist, Vote, Report; and Resolve, an operator's
// word for one.

// matches tells whether a spec says the same of a branch as what stands. A spec
// that only names it says nothing else.
func (m *member) matches(spec Branch) bool { return m.Branch == spec || spec.named() }

// votesAs tells whether a vote speaks for the branch that stands: its holder and its
// endpoint may be left out, or have moved.
func (m *member) votesAs(spec Branch) bool {
	return (spec.Resource == "" || spec.Resource == m.Resource) && (m.Held || !spec.Held)
}

func (t *tx) enlist(c *call) (*tx, answer) {
	if t.phase == phaseUnseen {
		return t, t.unseenAnswer()
	}
	if t.called() && t.mode != modeTCC {
		return t, refuse(refusalInvalid)
	}
	m := t.find(c.branch.ID)
	verdict := t.verdictOn(c.branch.ID)
	switch t.phase {
	case phaseActive, phaseSealed:
		switch {
		case m == nil && t.phase == phaseSealed:
			return t, answer{refusal: refusalSealed, verdict: VerdictRollback}
		case m == nil:
			n := t.clone()
			n.put(member{Branch: c.branch})
			return n, answer{verdict: verdict}
		case m.hint:
			return t.introduce(c.branch), answer{verdict: verdict}
		case m.matches(c.branch):
			return t, answer{verdict: verdict}
		case t.phase == phaseSealed:
			return t, answer{refusal: refusalSealed, or: []string{refusalBranch}, verdict: verdict}
		default:
			return t, answer{refusal: refusalBranch, verdict: verdict}
		}
	default: // decided
		switch {
		case m != nil && (m.hint || m.matches(c.branch)):
			// A hint hears it by this answer; nobody owes it another.
			return t, answer{verdict: verdict}
		default:
			return t, answer{refusal: refusalDecided, verdict: VerdictRollback}
		}
	}
}

// introduce makes a hint known.
func (t *tx) introduce(spec Branch) *tx {
	n := t.clone()
	m := n.find(spec.ID)
	m.Branch, m.hint = spec, false
	return n
}

func (t *tx) castVote(c *call) (*tx, answer) {
	if t.phase == phaseUnseen {
		return t, t.unseenAnswer()
	}
	if t.called() {
		return t, refuse(refusalInvalid)
	}
	if c.input.Vote == VoteRefused {
		return t.refusedVote(c)
	}
	m := t.find(c.branch.ID)
	verdict := t.verdictOn(c.branch.ID)
	switch t.phase {
	case phaseRollback:
		return t, answer{refusal: refusalDecided, verdict: VerdictRollback}
	case phaseCommit:
		switch {
		case m == nil:
			return t, answer{refusal: refusalDecided, verdict: VerdictRollback}
		case m.vote != c.input.Vote:
			return t, answer{refusal: refusalVote, verdict: verdict}
		default:
			return t, answer{verdict: verdict}
		}
	}
	switch {
	case m == nil && t.phase == phaseSealed:
		return t, answer{refusal: refusalSealed, verdict: VerdictRollback}
	case m == nil && t.entry == EntryExplicit:
		return t, answer{refusal: refusalEnlisted, verdict: VerdictWait}
	case m != nil && !m.hint && !m.votesAs(c.branch):
		return t, answer{refusal: refusalBranch, or: []string{refusalVote}, verdict: verdict}
	case m != nil && m.vote == c.input.Vote:
		return t, answer{verdict: verdict}
	case m != nil && m.vote != "":
		return t, answer{refusal: refusalVote, verdict: verdict}
	}
	n := t.clone()
	n.store(c.branch, c.input.Vote, false)
	if n.phase == phaseSealed {
		n.decideIfVoted()
	}
	return n, answer{verdict: n.verdictOn(c.branch.ID)}
}

// store writes a first vote; t must be a clone.
func (t *tx) store(spec Branch, vote Vote, maybe bool) {
	m := t.find(spec.ID)
	switch {
	case m == nil:
		m = t.put(member{Branch: spec})
	case m.hint:
		m.Branch, m.hint = spec, false
	}
	m.vote, m.maybe = vote, maybe
}

func (t *tx) refusedVote(c *call) (*tx, answer) {
	m := t.find(c.branch.ID)
	switch t.phase {
	case phaseRollback:
		return t, answer{verdict: VerdictRollback}
	case phaseCommit:
		if m == nil {
			// Nothing of it is committed, and it hears rollback.
			return t, answer{verdict: VerdictRollback}
		}
		return t, answer{refusal: refusalVote, verdict: t.verdictOn(c.branch.ID)}
	}
	switch {
	case m == nil && t.phase == phaseSealed:
		return t, answer{verdict: VerdictRollback}
	case m == nil && t.entry == EntryExplicit:
		return t, answer{refusal: refusalEnlisted, verdict: VerdictWait}
	case m != nil && !m.hint && !m.votesAs(c.branch):
		return t, answer{refusal: refusalBranch, or: []string{refusalVote}, verdict: VerdictWait}
	case m != nil && m.vote != "":
		return t, answer{refusal: refusalVote, verdict: VerdictWait}
	}
	n := t.rolledBack(reasonRefused)
	n.store(c.branch, VoteRefused, c.input.MaybePrepared)
	return n, answer{verdict: VerdictRollback}
}

func (t *tx) report(c *call) (*tx, answer) {
	switch {
	case t.phase == phaseUnseen && t.gone:
		return t, answer{verdict: VerdictRollback} // taken, and ignored
	case t.phase == phaseUnseen:
		return t, t.unseenAnswer()
	}
	switch {
	case t.mode == modeWorkflow, c.input.Outcome == OutcomeGaveUp && t.called() && t.mode != modeNotify:
		return t, answer{refusal: refusalInvalid, verdict: t.verdictOn(c.branch.ID)}
	case c.input.Outcome == OutcomeGaveUp && t.mode != modeNotify:
		return t, answer{refusal: refusalDecided, or: []string{refusalInvalid}, verdict: t.verdictOn(c.branch.ID)}
	case t.find(c.branch.ID) == nil, t.mode == modeSaga && t.phase == phaseCommit:
		return t, answer{verdict: t.verdictOn(c.branch.ID)}
	case t.called() && t.decision() == DecisionNone:
		return t, answer{refusal: refusalUndecided, verdict: t.verdictOn(c.branch.ID)}
	}
	n := t
	if t.decision() == DecisionNone {
		// It acted before a decision: nothing else than rollback can be decided now.
		n = t.rolledBack(reasonReported)
	} else {
		n = t.clone()
	}
	m := n.find(c.branch.ID)
	m.own = join(m.own, wordOf(m, c.input.Outcome, n.decision()))
	return n, answer{verdict: n.verdictOn(c.branch.ID)}
}

// wordOf compares what a branch did with what was decided.
func wordOf(m *member, did Outcome, decided Decision) own {
	switch {
	case m.vote == VoteReadOnly, did == OutcomeGaveUp:
		return ownDone // it had nothing to do, or best effort was all that it was
	case did == OutcomeHazard:
		return ownHazard
	case did == OutcomeMixed:
		return ownMixed
	case (did == OutcomeCommitted) == (decided == DecisionCommit):
		return ownDone
	default:
		return ownContrary
	}
}

// join puts two words of one branch together: a hazard knows least, and done with
// contrary is mixed.
func join(had, now own) own {
	switch {
	case had == ownNone, had == ownHazard:
		return now
	case now == ownHazard, now == had:
		return had
	default:
		return ownMixed
	}
}

func (t *tx) resolve(c *call) (*tx, answer) {
	switch t.phase {
	case phaseUnseen:
		return t, t.unseenAnswer()
	case phaseActive, phaseSealed:
		return t, refuse(refusalUndecided)
	}
	m := t.find(c.branch.ID)
	switch {
	case m == nil:
		return t, refuse(refusalEnlisted)
	case t.called() && m.own == ownNone && m.resolved == "" && (t.calledIsOver() || t.ends(m)):
		return t, answer{refusal: refusalReported, or: []string{answeredOK, refusalBranch}}
	case m.vote == VoteReadOnly, m.vote == VoteRefused && !m.maybe:
		// It had nothing to do; what an operator hears of it is left open.
		return t, answer{refusal: refusalReported, or: []string{answeredOK, refusalBranch}}
	case m.resolved == c.input.Outcome:
		// A repetition; it may be told, too, that the branch has spoken since.
		return t, answer{or: []string{refusalReported}}
	case m.own != ownNone && m.own != ownHazard:
		if m.resolved != "" {
			return t, answer{refusal: refusalReported, or: []string{refusalBranch}}
		}
		return t, refuse(refusalReported)
	case m.resolved != "":
		return t, refuse(refusalBranch)
	}
	n := t.clone()
	n.find(c.branch.ID).resolved = c.input.Outcome
	return n, answer{}
}
