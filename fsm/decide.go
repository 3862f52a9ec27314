package fsm

import "github.com/quorate/quorate/fsm/logpb"

// decideCommand applies the Decide rows of PROTOCOL.md's table.
func (s *State) decideCommand(c *logpb.Decide) Result {
	gid, refusal, ok := checkDecide(c)
	if !ok {
		return refusal
	}
	if c.GetDecision() == DecisionCommit {
		return s.decideCommit(gid, c)
	}
	return s.decideRollback(gid, c)
}

// checkDecide refuses a malformed Decide.
func checkDecide(c *logpb.Decide) (GID, Result, bool) {
	gid, refusal, ok := checkGID(c.GetGid())
	if !ok {
		return gid, refusal, false
	}
	if o := c.GetOrigin(); o < logpb.Origin_ORIGIN_CLIENT || o > logpb.Origin_ORIGIN_OPERATOR {
		return gid, invalid("origin", "is missing"), false
	}
	if c.GetOrigin() == logpb.Origin_ORIGIN_OPERATOR {
		if refusal, ok := checkOperator("operator", c.GetOperator(), "detail", c.GetDetail()); !ok {
			return gid, refusal, false
		}
	}
	switch c.GetDecision() {
	case DecisionCommit:
		if refusal, ok := checkSet(c.GetSet().GetIds()); !ok {
			return gid, refusal, false
		}
	case DecisionRollback:
		for _, spec := range c.GetBranches() {
			if refusal, ok := checkSpec("branches", spec); !ok {
				return gid, refusal, false
			}
		}
	default:
		return gid, invalid("decision", "is neither commit nor rollback"), false
	}
	return gid, Result{}, true
}

// checkOperator refuses an operator's word without a name or a reason.
func checkOperator(nameField, name, reasonField, reason string) (Result, bool) {
	if name == "" {
		return invalid(nameField, "is empty: an operator's word carries a name"), false
	}
	if reason == "" {
		return invalid(reasonField, "is empty: an operator's word carries a reason"), false
	}
	return checkPrintable(nameField, name)
}

// byOperator says that the command ends what is withheld or quarantined.
func byOperator(c *logpb.Decide) bool { return c.GetOrigin() == logpb.Origin_ORIGIN_OPERATOR }

// stale says that a driver speaks which does not lead this entry's term.
func (s *State) stale(c *logpb.Decide) bool {
	return c.GetOrigin() == logpb.Origin_ORIGIN_DRIVER &&
		(c.GetEpoch().GetIncarnation() != s.incarnation || c.GetEpoch().GetTerm() != s.now.term)
}

func (s *State) decideCommit(gid GID, c *logpb.Decide) Result {
	t := s.find(gid)
	if t == nil {
		refusal, _ := s.unseen(gid)
		return refusal
	}
	if refusal, ok := t.closed(); !ok && !byOperator(c) {
		return refusal
	}
	switch t.state {
	case StateActive:
		return s.commitActive(t, c)
	case StateSealed:
		return s.commitSealed(t, c)
	case StateCommitting, StateCommitted:
		return s.decidedAlready(t, c)
	default:
		return t.answer(AlreadyDecided, "%s is rolled back", gid)
	}
}

// decidedAlready answers whoever asks for what is decided. An operator who
// confirms it ends a quarantine.
func (s *State) decidedAlready(t *transaction, c *logpb.Decide) Result {
	if t.quarantined && byOperator(c) {
		next := t.clone()
		s.release(next, c)
		next.operator = s.clip(c.GetOperator())
		return stored(s.put(t, next))
	}
	return t.answer(OK, "")
}

// release ends what only an operator ends.
func (s *State) release(t *transaction, c *logpb.Decide) {
	if byOperator(c) {
		t.withheld, t.quarantined = false, false
	}
}

// sign writes who decided, and why, into a transaction that is decided.
func (s *State) sign(t *transaction, c *logpb.Decide) {
	t.origin, t.operator = c.GetOrigin(), s.clip(c.GetOperator())
	if c.GetDetail() != "" {
		t.detail = s.clip(c.GetDetail())
	}
}

// commitActive: commit is asked of an active transaction.
func (s *State) commitActive(t *transaction, c *logpb.Decide) Result {
	if s.stale(c) {
		return s.staleDriver(t)
	}
	if c.GetOrigin() == logpb.Origin_ORIGIN_DRIVER && t.rules().callback != OperationCheckBack {
		return t.answer(Undecided, "nobody has asked the commit of %s", t.gid)
	}
	named := t.begin.GetEntry() == logpb.Entry_ENTRY_NAMED
	if c.GetSet() == nil && named {
		return t.answer(SetRequired, "branches of %s enlist by voting: its commit must name the exact set", t.gid)
	}
	if refusal, ok := s.limitResult(t, c.GetResult()); !ok {
		return refusal
	}
	if c.GetDelayMs() != 0 && !t.rules().prepares {
		return t.notIn("delay")
	}
	next := t.clone()
	next.setResult(c.GetResult())
	next.setDelay(c.GetDelayMs())
	if c.GetSet() != nil {
		ids := c.GetSet().GetIds()
		if outside, ok := memberOutside(t, ids); ok {
			return t.answer(SetMismatch, "branch %s of %s is not in the set", outside, t.gid)
		}
		for _, id := range ids {
			if t.member(id) != nil {
				continue
			}
			if !named {
				return t.answer(NotEnlisted, "branch %s of %s was never enlisted", id, t.gid)
			}
			spec := &logpb.BranchSpec{Id: id}
			if refusal, ok := s.limitJoin(next, "set", spec); !ok {
				return refusal
			}
			next.join(spec, s.stamped())
		}
	}
	s.release(next, c)
	s.sign(next, c)
	s.toDecidedOrSealed(next)
	return stored(s.put(t, next))
}

// memberOutside finds a member that a sorted set misses.
func memberOutside(t *transaction, ids []string) (string, bool) {
	i := 0
	for _, b := range t.branches {
		id := b.spec.GetId()
		for i < len(ids) && ids[i] < id {
			i++
		}
		if i == len(ids) || ids[i] != id {
			return id, true
		}
	}
	return "", false
}

// commitSealed: commit is asked again, or the driver vouches for the held ones.
func (s *State) commitSealed(t *transaction, c *logpb.Decide) Result {
	if s.stale(c) {
		return s.staleDriver(t)
	}
	held := t.withheld || t.quarantined
	if !t.rules().votes && !(byOperator(c) && held) {
		return t.notIn("commit that is asked: its steps decide")
	}
	if c.GetSet() != nil && !t.hasSet(c.GetSet().GetIds()) {
		return t.answer(CommitConflict, "commit of %s was asked with another set", t.gid)
	}
	if c.GetOrigin() == logpb.Origin_ORIGIN_DRIVER && t.allVoted() {
		next := t.clone()
		s.toCommitting(next)
		return stored(s.put(t, next))
	}
	if !byOperator(c) || !held {
		return t.answer(OK, "")
	}
	next := t.clone()
	s.release(next, c)
	s.sign(next, c)
	s.toDecidedOrSealed(next)
	return stored(s.put(t, next))
}

func (s *State) staleDriver(t *transaction) Result {
	return t.answer(Stale, "the driver's epoch is not (%d, %d)", s.incarnation, s.now.term)
}

func (s *State) decideRollback(gid GID, c *logpb.Decide) Result {
	t := s.find(gid)
	if t == nil {
		return s.rollbackUnseen(gid, c)
	}
	if refusal, ok := t.closed(); !ok && !byOperator(c) {
		return refusal
	}
	switch t.state {
	case StateActive, StateSealed:
		if s.stale(c) {
			return s.staleDriver(t)
		}
		next := t.clone()
		s.callTo(next, c.GetBranches())
		s.keepResult(next, c.GetResult())
		s.release(next, c)
		s.sign(next, c)
		s.toRollingBack(next, reasonOf(c))
		return stored(s.put(t, next)).toBranch(VerdictRollback)
	case StateCommitting, StateCommitted:
		return t.answer(AlreadyDecided, "%s is committed", gid)
	default:
		return s.decidedAlready(t, c).toBranch(VerdictRollback)
	}
}

// callTo takes the branches that a rollback names into a transaction that it
// ends, so that they hear. A sealed set never grows: what it misses hears
// rollback when it asks.
func (s *State) callTo(t *transaction, branches []*logpb.BranchSpec) {
	if !t.rules().enlists {
		return
	}
	for _, spec := range branches {
		switch b := t.member(spec.GetId()); {
		case b == nil && !t.sealed:
			t.join(t.called(spec), s.stamped())
		case b != nil && b.hint:
			s.introduce(t, spec)
		}
	}
}

// rollbackUnseen leaves a tombstone, so that a late Begin, Vote or Submit
// finds the GID decided.
func (s *State) rollbackUnseen(gid GID, c *logpb.Decide) Result {
	refusal, ok := s.unseen(gid)
	switch {
	case refusal.Code == Withheld && byOperator(c):
		// The one word that ends it.
	case refusal.Code == Expired && c.GetOrigin() == logpb.Origin_ORIGIN_PARTICIPANT:
		// The horizon is its tombstone.
		return Result{
			Code: OK, GID: gid, Verdict: VerdictRollback,
			Decision: DecisionRollback, Reason: logpb.Reason_REASON_PRESUMED,
			Detail: "presumed: " + refusal.Detail,
		}
	case !ok:
		return refusal
	}
	if s.stale(c) {
		return Result{Code: Stale, GID: gid, Detail: "the driver speaks for another epoch"}
	}
	if most := s.limits.GetTombstonesMax(); c.GetOrigin() == logpb.Origin_ORIGIN_CLIENT && uint64(s.counts.Tombstones) >= most {
		return quota(gid, "tombstones_max", most)
	}
	next := s.toTombstone(gid, c.GetBranches(), reasonOf(c))
	s.sign(next, c)
	return stored(s.put(nil, next)).toBranch(VerdictRollback)
}

// reasonOf is the reason that a rollback gives, or the one its origin implies.
func reasonOf(c *logpb.Decide) Reason {
	if r := c.GetReason(); r > 0 && r <= logpb.Reason_REASON_FAILED {
		return r
	}
	switch c.GetOrigin() {
	case logpb.Origin_ORIGIN_PARTICIPANT:
		return logpb.Reason_REASON_PRESUMED
	case logpb.Origin_ORIGIN_DRIVER:
		return logpb.Reason_REASON_PARTICIPANT_LOST
	case logpb.Origin_ORIGIN_OPERATOR:
		return logpb.Reason_REASON_OPERATOR
	default:
		return logpb.Reason_REASON_REQUESTED
	}
}
