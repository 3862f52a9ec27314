package fsm

import "github.com/quorate/quorate/fsm/logpb"

// reportCommand applies the Report rows of PROTOCOL.md's table: a branch's own
// durable word on what it did.
func (s *State) reportCommand(c *logpb.Report) Result {
	gid, refusal, ok := checkGID(c.GetGid())
	if !ok {
		return refusal
	}
	x := s.changeOf(gid, 1)
	answer := [1]Result{s.reportTo(&x, gid, c)}
	s.store(&x, answer[:]...)
	return answer[0]
}

// reportTo applies one branch's word to a transaction as it stands.
func (s *State) reportTo(x *change, gid GID, c *logpb.Report) Result {
	if o := c.GetOutcome(); o < logpb.Outcome_OUTCOME_COMMITTED || o > logpb.Outcome_OUTCOME_GAVE_UP {
		return invalid("outcome", "is missing")
	}
	if refusal, ok := checkBranchID("branch", c.GetBranch()); !ok {
		return refusal
	}
	t := x.stands()
	if t == nil {
		return s.reportUnseen(gid, c)
	}
	if refusal, ok := t.closed(); !ok {
		return refusal
	}
	rules := t.rules()
	if rules.records {
		return t.notIn("reports").toBranch(t.verdict(c.GetBranch()))
	}
	if c.GetOutcome() == logpb.Outcome_OUTCOME_GAVE_UP && !rules.givesUp {
		return t.notIn("giving up").toBranch(t.verdict(c.GetBranch()))
	}
	b := t.member(c.GetBranch())
	if b == nil {
		return reportOfStranger(t, c)
	}
	if t.undecided() && !rules.votes {
		// Nobody has asked it to end: its own word comes too early.
		return t.answer(Undecided, "%s is not decided: branch %s has nothing to report", gid, c.GetBranch()).toBranch(VerdictWait)
	}
	if t.undecided() {
		// What a branch has done on its own cannot be undone: it decides.
		next := x.edit()
		next.detail = "branch " + c.GetBranch() + " reported " + outcomeName(c.GetOutcome()) + " before the decision"
		s.toRollingBack(next, logpb.Reason_REASON_REPORTED)
		next.origin = logpb.Origin_ORIGIN_PARTICIPANT
		return s.report(x, c)
	}
	if joined(b.own, ownWord(t, b, c.GetOutcome())) == b.own {
		return t.answer(OK, "").toBranch(t.verdict(c.GetBranch()))
	}
	x.edit()
	return s.report(x, c)
}

// reportUnseen: what is dropped needs no report, unless it is one that people
// must hear of.
func (s *State) reportUnseen(gid GID, c *logpb.Report) Result {
	r, _ := s.unseen(gid)
	if r.Code != Expired {
		return r.toBranch(VerdictWait)
	}
	r.Code = OK
	r.Alarm = alarming(c.GetOutcome())
	return r.toBranch(VerdictRollback)
}

// alarming says that a branch did something though nothing stands for it.
func alarming(o Outcome) bool {
	return o != logpb.Outcome_OUTCOME_ROLLED_BACK && o != logpb.Outcome_OUTCOME_GAVE_UP
}

// reportOfStranger changes nothing: a branch that is no member was to roll back.
func reportOfStranger(t *transaction, c *logpb.Report) Result {
	r := t.answer(OK, "").toBranch(t.verdict(c.GetBranch()))
	if alarming(c.GetOutcome()) {
		r.Alarm = true
		r.Detail = "branch " + c.GetBranch() + " is no member of " + t.gid.String() + ", and reports " + outcomeName(c.GetOutcome())
	}
	return r
}

// report joins the branch's word into what x makes, which is decided.
func (s *State) report(x *change, c *logpb.Report) Result {
	next, b := x.next, x.editBranch(c.GetBranch())
	b.own = joined(b.own, ownWord(next, b, c.GetOutcome()))
	b.outcome, b.reported, b.attempts = c.GetOutcome(), s.stamped(), c.GetAttempts()
	if c.GetDetail() != "" {
		b.detail = s.clip(c.GetDetail())
	}
	heuristic := b.own != ownDone
	s.finish(next)
	r := stored(next).toBranch(next.verdict(c.GetBranch()))
	if heuristic {
		r.Alarm = true
		r.Detail = "branch " + c.GetBranch() + " of " + next.gid.String() + " reports " + outcomeName(c.GetOutcome()) +
			" against the decision " + decisionName(next.decision)
	}
	return r
}

// ownWord holds an outcome against the decision.
func ownWord(t *transaction, b *branch, o Outcome) logpb.Own {
	switch {
	case o == logpb.Outcome_OUTCOME_HAZARD:
		return ownHazard
	case o == logpb.Outcome_OUTCOME_MIXED:
		return ownMixed
	case o == logpb.Outcome_OUTCOME_GAVE_UP:
		return ownDone // it is over, and the outcome says how
	case b.vote == voteReadOnly:
		return ownDone // it wrote nothing, however it ended
	case (o == logpb.Outcome_OUTCOME_COMMITTED) == (t.decision == DecisionCommit):
		return ownDone
	default:
		return ownContrary
	}
}

// joined is what stands after another word of the same branch: none -> done |
// contrary | hazard; hazard -> done | contrary; done with contrary -> mixed;
// mixed stays.
func joined(stood, word logpb.Own) logpb.Own {
	switch {
	case stood == ownNone || stood == ownHazard:
		return word
	case word == ownHazard || word == stood:
		return stood
	default:
		return ownMixed
	}
}
