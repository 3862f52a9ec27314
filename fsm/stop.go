package fsm

import "github.com/quorate/quorate/fsm/logpb"

// stopCommand applies the Stop row of docs/modes.md: an operator ends what would
// otherwise be called for ever. What is undecided rolls back; no branch is
// called any more, whatever it did. Like any operator's word it also ends what
// is withheld or quarantined.
func (s *State) stopCommand(c *logpb.Stop) Result {
	gid, refusal, ok := checkGID(c.GetGid())
	if !ok {
		return refusal
	}
	if refusal, ok := checkOperator("operator", c.GetOperator(), "reason", c.GetReason()); !ok {
		return refusal
	}
	t := s.find(gid)
	if t == nil {
		refusal, _ := s.unseen(gid)
		return refusal
	}
	if t.ended() && !t.quarantined {
		return t.answer(OK, "")
	}
	next := t.clone()
	next.stopped, next.withheld, next.quarantined = true, false, false
	next.operator, next.detail = s.clip(c.GetOperator()), s.clip("stopped: "+c.GetReason())
	if next.undecided() {
		next.origin = logpb.Origin_ORIGIN_OPERATOR
		s.toRollingBack(next, logpb.Reason_REASON_OPERATOR)
	} else {
		s.finish(next)
	}
	return stored(s.put(t, next))
}
