package fsm

import (
	"strings"

	"github.com/quorate/quorate/fsm/logpb"
)

// voteCommand applies the Vote rows of PROTOCOL.md's table.
func (s *State) voteCommand(c *logpb.Vote) Result {
	gid, refusal, ok := checkGID(c.GetGid())
	if !ok {
		return refusal
	}
	ballot := c.GetBallot()
	if refusal, ok := checkBallot("ballot", ballot, nil); !ok {
		return refusal
	}
	t := s.find(gid)
	if t == nil {
		return s.unseenBranch(gid)
	}
	if refusal, ok := t.closed(); !ok {
		return refusal
	}
	if !t.rules().votes {
		return t.notIn("votes").toBranch(t.verdict(ballot.GetBranch().GetId()))
	}
	switch t.state {
	case StateActive, StateSealed:
		return s.voteInTime(t, ballot)
	case StateCommitting, StateCommitted:
		return voteAfterCommit(t, ballot)
	default:
		return voteAfterRollback(t, ballot)
	}
}

// voteInTime stores the first vote of a branch of A or S, enlisting it where
// the transaction lets votes do so.
func (s *State) voteInTime(t *transaction, ballot *logpb.Ballot) Result {
	id := ballot.GetBranch().GetId()
	b := t.member(id)
	if b == nil {
		return s.voteOfStranger(t, ballot)
	}
	if refusal, ok := checkVoter(t, b, ballot); !ok {
		return refusal
	}
	if b.vote != voteNone {
		return t.answer(OK, "").toBranch(t.verdict(id))
	}
	next := t.clone()
	s.castVote(next, ballot)
	return s.afterVote(t, next, id)
}

// voteOfStranger answers a branch that is no member.
func (s *State) voteOfStranger(t *transaction, ballot *logpb.Ballot) Result {
	spec := ballot.GetBranch()
	id := spec.GetId()
	if t.state == StateSealed {
		if ballot.GetKind() == voteRefused {
			// The set was named without it: that it refuses changes nothing.
			return t.answer(OK, "").toBranch(VerdictRollback)
		}
		return t.answer(Sealed, "commit of %s was asked without branch %s", t.gid, id).toBranch(VerdictRollback)
	}
	if t.begin.GetEntry() == logpb.Entry_ENTRY_EXPLICIT {
		return t.answer(NotEnlisted, "branch %s of %s was never enlisted", id, t.gid).toBranch(VerdictWait)
	}
	if refusal, ok := checkKnown("ballot.branch", spec); !ok {
		return refusal
	}
	if refusal, ok := s.limitJoin(t, "ballot.branch", spec); !ok {
		return refusal.toBranch(VerdictWait)
	}
	next := t.clone()
	next.join(spec, s.stamped())
	s.castVote(next, ballot)
	return s.afterVote(t, next, id)
}

// checkVoter refuses a vote that contradicts what stands for the branch.
func checkVoter(t *transaction, b *branch, ballot *logpb.Ballot) (Result, bool) {
	id := b.spec.GetId()
	spec := ballot.GetBranch()
	if !b.hint {
		// The holder and the endpoint may be left out of a vote, or have moved.
		if spec.GetResource() != "" && spec.GetResource() != b.spec.GetResource() || spec.GetHeld() && !b.spec.GetHeld() {
			return t.answer(BranchConflict, "branch %s of %s stands as %s", id, t.gid, describe(b.spec)).toBranch(t.verdict(id)), false
		}
	} else if refusal, ok := checkKnown("ballot.branch", spec); !ok {
		return refusal, false
	}
	if b.vote != voteNone && !sameVote(b, ballot) {
		return t.answer(VoteConflict, "branch %s of %s has voted %s: the first vote stands",
			id, t.gid, voteName(b.vote)).toBranch(t.verdict(id)), false
	}
	return Result{}, true
}

// castVote writes a branch's first vote, and what it tells about a hint.
func (s *State) castVote(t *transaction, ballot *logpb.Ballot) {
	id := ballot.GetBranch().GetId()
	if b := t.member(id); b != nil && b.hint {
		s.introduce(t, ballot.GetBranch())
	}
	b := t.edit(id)
	if b.vote != voteNone {
		t.require(false, "branch %q votes twice", id)
	}
	b.vote, b.maybePrepared, b.voted = ballot.GetKind(), ballot.GetMaybePrepared(), s.stamped()
	b.detail = s.clip(ballot.GetDetail())
}

// afterVote takes the edge that a vote leads to: a refusal ends in R, the last
// vote of a sealed set in C, all others stay.
func (s *State) afterVote(t, next *transaction, id string) Result {
	b := next.member(id)
	switch {
	case b.vote == voteRefused:
		next.detail = refusedBy(id, b.detail)
		s.toRollingBack(next, logpb.Reason_REASON_REFUSED)
	case next.state == StateSealed:
		s.toDecidedOrSealed(next)
	}
	now := s.put(t, next)
	return stored(now).toBranch(now.verdict(id))
}

func voteAfterCommit(t *transaction, ballot *logpb.Ballot) Result {
	id := ballot.GetBranch().GetId()
	b := t.member(id)
	switch {
	case b == nil && ballot.GetKind() == voteRefused:
		return t.answer(OK, "").toBranch(VerdictRollback)
	case b == nil:
		return t.answer(AlreadyDecided, "%s was committed without branch %s", t.gid, id).toBranch(VerdictRollback)
	case !sameVote(b, ballot):
		return t.answer(VoteConflict, "branch %s of %s has voted %s: the first vote stands",
			id, t.gid, voteName(b.vote)).toBranch(t.verdict(id))
	default:
		return t.answer(OK, "").toBranch(t.verdict(id))
	}
}

func voteAfterRollback(t *transaction, ballot *logpb.Ballot) Result {
	if ballot.GetKind() == voteRefused {
		return t.answer(OK, "").toBranch(VerdictRollback)
	}
	return t.answer(AlreadyDecided, "%s is rolled back", t.gid).toBranch(VerdictRollback)
}

// sameVote compares the content of a vote.
func sameVote(b *branch, ballot *logpb.Ballot) bool {
	return b.vote == ballot.GetKind() && b.maybePrepared == ballot.GetMaybePrepared()
}

func voteName(k logpb.VoteKind) string {
	return strings.ToLower(strings.TrimPrefix(k.String(), "VOTE_KIND_"))
}

func refusedBy(id, detail string) string {
	if detail == "" {
		return "branch " + id + " refused"
	}
	return "branch " + id + " refused: " + detail
}
