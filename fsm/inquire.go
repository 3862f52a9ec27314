package fsm

// Inquire is the Inquire row of PROTOCOL.md's table, a read: what one branch
// must do. The caller must have made sure that the state is fresh enough.
func (s *State) Inquire(gid GID, branch string) Inquiry {
	t := s.find(gid)
	if t == nil {
		r := s.unseenBranch(gid)
		q := Inquiry{Code: r.Code, Verdict: r.Verdict, Unseen: true, Detail: r.Detail}
		if r.Code == NotFound || r.Code == Expired {
			q.Code = OK
		}
		if r.Code == Expired {
			q.Decision = DecisionRollback
		}
		return q
	}
	if refusal, ok := t.closed(); !ok {
		return Inquiry{Code: refusal.Code, Verdict: VerdictWait, Decision: t.decision, State: t.state, Detail: refusal.Detail}
	}
	return Inquiry{Code: OK, Verdict: t.verdict(branch), Decision: t.decision, State: t.state}
}

// InquireFor is Inquire by a participant that found the branch prepared in
// resource. Where branches do not enlist, nobody has compared what two runs of one
// call did under one name: only the branch of the resource that voted commits.
func (s *State) InquireFor(gid GID, branch, resource string) Inquiry {
	q := s.Inquire(gid, branch)
	if q.Verdict != VerdictCommit || resource == "" {
		return q
	}
	if has := s.find(gid).member(branch).spec.GetResource(); has != "" && has != resource {
		q.Verdict, q.Detail = VerdictRollback, "the branch of that name is one of "+has
	}
	return q
}
