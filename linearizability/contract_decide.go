package linearizability

import "slices"

// Commands that decide: Commit, Rollback, Submit.

// members' ids are sorted, as the sets of calls are.
func (t *tx) isSet(set []string) bool {
	return slices.EqualFunc(t.members, set, func(m member, id string) bool { return m.ID == id })
}

func (t *tx) commit(c *call) (*tx, answer) {
	switch {
	case t.phase == phaseUnseen:
		return t, t.unseenAnswer()
	case t.phase == phaseCommit:
		return t, answer{}
	case t.phase == phaseRollback:
		return t, refuse(refusalDecided)
	case t.called():
		return t.commitCalled(c)
	case c.driver:
		return t.driverCommits(c)
	case t.phase == phaseSealed:
		if c.bare || t.isSet(c.set) {
			return t, answer{}
		}
		return t, refuse(refusalCommit)
	}
	if c.bare {
		if t.entry == EntryNamed {
			return t, refuse(refusalSet)
		}
	} else if faults := t.setFaults(c.set); len(faults) > 0 {
		return t, answer{refusal: faults[0], or: faults[1:]}
	}
	n := t.clone()
	for _, id := range c.set {
		if n.find(id) == nil {
			n.put(member{Branch: Branch{ID: id}, hint: true})
		}
	}
	n.decideIfVoted()
	return n, answer{}
}

// setFaults is what keeps an active transaction from being sealed with this set.
func (t *tx) setFaults(set []string) (faults []string) {
	for i := range t.members {
		if !slices.Contains(set, t.members[i].ID) {
			faults = append(faults, refusalMismatch)
			break
		}
	}
	if t.entry == EntryExplicit {
		for _, id := range set {
			if t.find(id) == nil {
				faults = append(faults, refusalEnlisted)
				break
			}
		}
	}
	return faults
}

// driverCommits: only the driver knows that held branches are held. t is undecided.
func (t *tx) driverCommits(c *call) (*tx, answer) {
	switch {
	case c.stale:
		return t, refuse(refusalStale)
	case t.phase == phaseActive:
		return t, refuse(refusalUndecided)
	case !t.allVoted():
		return t, answer{}
	}
	n := t.clone()
	n.phase = phaseCommit
	return n, answer{}
}

func (t *tx) rollback(c *call) (*tx, answer) {
	switch t.phase {
	case phaseCommit:
		return t, refuse(refusalDecided)
	case phaseRollback:
		return t, answer{verdict: VerdictRollback}
	}
	if t.phase == phaseUnseen && t.gone {
		if c.input.Participant {
			return t, answer{verdict: VerdictRollback}
		}
		return t, refuse(refusalExpired)
	}
	if c.driver && c.stale {
		return t, refuse(refusalStale)
	}
	n := t.rolledBack(c.reason)
	if t.mode == modeWorkflow {
		n.result, n.reason = c.input.Result, reasonAnyAtAll
	}
	if t.phase == phaseUnseen {
		n.tombstone = true
	}
	for _, b := range c.input.Branches {
		switch m := n.find(b.ID); {
		case m == nil && t.phase != phaseSealed:
			// Of what never began nobody knows the mode: a branch that would be called
			// back is known by its name only.
			n.put(member{Branch: b, hint: !t.called() && (b.named() || b.Undo != "")})
		case m != nil && m.hint && !b.named():
			m.Branch, m.hint = b, false
		}
	}
	return n, answer{verdict: VerdictRollback}
}

func (t *tx) submit(c *call) (*tx, answer) {
	switch {
	case c.mode != modeTwoPhase, t.called():
		return t.submitCalled(c)
	case t.phase == phaseUnseen && t.gone:
		return t, refuse(refusalExpired)
	case t.phase == phaseRollback && t.tombstone:
		return t, refuse(refusalDecided)
	case t.phase == phaseRollback:
		if t.content != c.content {
			return t, refuse(refusalDecided)
		}
		if !t.isSet(c.set) || t.contrary(c.input.Votes) {
			// The protocol leaves open whether it is still the same; either way it
			// hears rollback.
			return t, answer{refusal: refusalDecided, or: []string{answeredOK}}
		}
		return t, answer{or: []string{refusalDecided}}
	case t.phase == phaseCommit:
		if t.content != c.content || !t.isSet(c.set) || t.contrary(c.input.Votes) {
			return t, refuse(refusalGID)
		}
		return t, answer{}
	}
	if faults := t.submitFaults(c); len(faults) > 0 {
		return t, answer{refusal: faults[0], or: faults[1:]}
	}
	created := t.phase == phaseUnseen
	n := t.clone()
	n.content, n.entry, n.mode = c.content, c.entry, c.mode
	for _, b := range c.input.Branches {
		switch m := n.find(b.ID); {
		case m == nil:
			n.put(member{Branch: b, hint: b.named()})
		case m.hint && !b.named():
			m.Branch, m.hint = b, false
		}
	}
	refused := false
	for _, ballot := range c.input.Votes {
		if m := n.find(ballot.Branch.ID); m != nil && m.vote != "" {
			continue // the same, or it would have been contrary
		}
		n.store(ballot.Branch, ballot.Vote, ballot.MaybePrepared)
		refused = refused || ballot.Vote == VoteRefused
	}
	if refused {
		n.phase, n.reason = phaseRollback, reasonRefused
	} else {
		n.decideIfVoted()
	}
	return n, answer{created: created}
}

// contrary: a ballot says otherwise than the vote that stands.
func (t *tx) contrary(votes []Ballot) bool {
	return slices.ContainsFunc(votes, func(b Ballot) bool {
		m := t.find(b.Branch.ID)
		return m != nil && m.vote != "" && m.vote != b.Vote
	})
}

// submitFaults is what keeps a Submit from being taken by an unseen or undecided
// transaction; which of several is named is left open.
func (t *tx) submitFaults(c *call) (faults []string) {
	if t.phase != phaseUnseen && t.content != c.content {
		faults = append(faults, refusalGID)
	}
	if t.phase == phaseSealed && !t.isSet(c.set) {
		faults = append(faults, refusalCommit)
	}
	if t.phase == phaseActive || t.phase == phaseUnseen && c.entry == EntryExplicit {
		as := *t
		as.entry = c.entry
		faults = append(faults, as.setFaults(c.set)...)
	}
	for _, b := range c.input.Branches {
		m := t.find(b.ID)
		if b.Held && (m == nil || m.hint) {
			faults = append(faults, refusalEnlisted)
		}
		if m != nil && !m.hint && !m.matches(b) {
			faults = append(faults, refusalBranch)
		}
	}
	for _, b := range c.input.Votes {
		if m := t.find(b.Branch.ID); m != nil && !m.hint && !m.matches(b.Branch) {
			faults = append(faults, refusalBranch)
		}
	}
	if t.contrary(c.input.Votes) {
		faults = append(faults, refusalVote)
	}
	return faults
}
