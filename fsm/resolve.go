package fsm

import (
	"strings"

	"github.com/quorate/quorate/fsm/logpb"
)

// resolveCommand applies the Resolve row of PROTOCOL.md's table: an operator's
// word for a branch that cannot speak for itself. It ends the branch for C+
// and R+ but is kept apart, and is no report: the branch is still told when it
// attaches, votes or inquires.
func (s *State) resolveCommand(c *logpb.Resolve) Result {
	gid, refusal, ok := checkGID(c.GetGid())
	if !ok {
		return refusal
	}
	if o := c.GetOutcome(); o < logpb.Outcome_OUTCOME_COMMITTED || o > logpb.Outcome_OUTCOME_MIXED {
		return invalid("outcome", "is neither committed nor rolled back nor mixed")
	}
	if refusal, ok := checkOperator("operator", c.GetOperator(), "reason", c.GetReason()); !ok {
		return refusal
	}
	if refusal, ok := checkBranchID("branch", c.GetBranch()); !ok {
		return refusal
	}
	t, refusal, ok := s.standing(gid)
	if !ok {
		return refusal
	}
	if t.undecided() {
		return t.answer(Undecided, "%s is not decided: roll it back instead", gid)
	}
	b := t.member(c.GetBranch())
	switch {
	case b == nil:
		return t.answer(NotEnlisted, "branch %s is no member of %s", c.GetBranch(), gid)
	case b.resolved == c.GetOutcome():
		return t.answer(OK, "")
	case b.resolved != logpb.Outcome_OUTCOME_UNSPECIFIED:
		return t.answer(BranchConflict, "branch %s of %s was resolved as %s by %s",
			c.GetBranch(), gid, outcomeName(b.resolved), b.resolvedBy)
	case b.reportedForGood():
		// A hazard is the exception: it says that the branch does not know.
		return t.answer(AlreadyReported, "branch %s of %s has spoken for itself", c.GetBranch(), gid)
	}
	next := t.clone()
	b = next.edit(c.GetBranch())
	b.resolved, b.resolvedBy, b.resolvedReason = c.GetOutcome(), s.clip(c.GetOperator()), s.clip(c.GetReason())
	b.resolvedAt = s.stamped()
	s.finish(next)
	return stored(s.put(t, next))
}

func outcomeName(o Outcome) string {
	return strings.ToLower(strings.TrimPrefix(o.String(), "OUTCOME_"))
}

func decisionName(d Decision) string {
	return strings.ToLower(strings.TrimPrefix(d.String(), "DECISION_"))
}
