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
