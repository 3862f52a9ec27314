package fsm

import "github.com/quorate/quorate/fsm/logpb"

const (
	answerDone    = logpb.Answer_KIND_DONE
	answerRefused = logpb.Answer_KIND_REFUSED
	answerGaveUp  = logpb.Answer_KIND_GAVE_UP
)

// answerCommand applies the Answer row of docs/modes.md: what a saga's step
// said when it was called. Its place is that of a vote: the first one stands,
// the last that was missing decides.
func (s *State) answerCommand(c *logpb.Answer) Result {
	gid, refusal, ok := checkGID(c.GetGid())
	if !ok {
		return refusal
	}
	x := s.changeOf(gid, 1)
	answer := [1]Result{s.answerTo(&x, gid, c)}
	s.store(&x, answer[:]...)
	return answer[0]
}

// answerTo applies one step's answer to a transaction as it stands.
func (s *State) answerTo(x *change, gid GID, c *logpb.Answer) Result {
	if k := c.GetKind(); k < answerDone || k > answerGaveUp {
		return invalid("kind", "is neither done nor refused nor given up")
	}
	if c.GetMaybeDone() && c.GetKind() != answerRefused {
		return invalid("maybe_done", "belongs to a refusal only")
	}
	if refusal, ok := checkBranchID("branch", c.GetBranch()); !ok {
		return refusal
	}
	t := x.stands()
	if t == nil {
		refusal, _ := s.unseen(gid)
		return refusal
	}
	if refusal, ok := t.closed(); !ok {
		return refusal.toBranch(VerdictNone)
	}
	if t.rules().phaseOne == 0 {
		return t.notIn("steps that answer")
	}
	b := t.member(c.GetBranch())
	kind, maybe := word(c)
	switch {
	case b == nil:
		return t.answer(NotEnlisted, "branch %s is no member of %s", c.GetBranch(), gid)
	case b.vote != voteNone && (b.vote != kind || b.maybePrepared != maybe):
		return t.answer(VoteConflict, "branch %s of %s has answered %s: the first answer stands", c.GetBranch(), gid, answerName(b))
	case b.vote != voteNone:
		return t.answer(OK, "")
	case !t.callable(b):
		return t.answer(Invalid, "branch %s of %s was never called: what comes before it is not done", c.GetBranch(), gid)
	case t.state == StateSealed:
		return s.stepAnswered(x, c)
	default:
		return s.stepAnsweredLate(x, b, c)
	}
}

// word is the vote that an answer counts as: prepared when it was done, else
// refused, and maybe something is left that must be compensated.
func word(c *logpb.Answer) (kind logpb.VoteKind, maybe bool) {
	if c.GetKind() == answerDone {
		return votePrepared, false
	}
	return voteRefused, c.GetMaybeDone() || c.GetKind() == answerGaveUp
}

// stepAnswered stores the answer of a step that was called in time: the last
// one commits, one that was not done rolls back.
func (s *State) stepAnswered(x *change, c *logpb.Answer) Result {
	next := x.edit()
	s.writeAnswer(x, c)
	switch c.GetKind() {
	case answerDone:
		if next.allVoted() {
			s.toCommitting(next)
		}
	case answerRefused:
		next.detail, next.origin = refusedBy(c.GetBranch(), s.clip(c.GetDetail())), logpb.Origin_ORIGIN_DRIVER
		s.toRollingBack(next, logpb.Reason_REASON_REFUSED)
	default:
		next.detail, next.origin = gaveUp(c.GetBranch(), s.clip(c.GetDetail())), logpb.Origin_ORIGIN_DRIVER
		s.toRollingBack(next, logpb.Reason_REASON_GAVE_UP)
	}
	return stored(next)
}

// stepAnsweredLate: the saga rolls back already, and the step will be
// compensated whatever it did. Only that it did nothing, and never will, spares
// it that.
func (s *State) stepAnsweredLate(x *change, b *branch, c *logpb.Answer) Result {
	t := x.stands()
	if _, maybe := word(c); c.GetKind() != answerRefused || maybe || b.terminal() || t.state != StateRollingBack {
		return t.answer(OK, "")
	}
	next := x.edit()
	s.writeAnswer(x, c)
	s.finish(next)
	return stored(next)
}

func (s *State) writeAnswer(x *change, c *logpb.Answer) {
	b := x.editBranch(c.GetBranch())
	if b.vote != voteNone {
		x.next.require(false, "step %q is answered twice", c.GetBranch())
	}
	b.vote, b.maybePrepared = word(c)
	b.voted, b.detail, b.attempts = s.stamped(), s.clip(c.GetDetail()), c.GetAttempts()
}

func answerName(b *branch) string {
	switch {
	case b.vote == votePrepared:
		return "done"
	case b.maybePrepared:
		return "not done, maybe"
	default:
		return "refused"
	}
}

func gaveUp(id, detail string) string {
	if detail == "" {
		return "the attempts at branch " + id + " are used up"
	}
	return "the attempts at branch " + id + " are used up: " + detail
}
