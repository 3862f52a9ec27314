package fsm

import (
	"fmt"

	"github.com/quorate/quorate/fsm/logpb"
)

// submitCommand applies the Submit row of PROTOCOL.md's table: a whole
// transaction in one entry. It validates everything, then makes one transition
// or none.
func (s *State) submitCommand(c *logpb.Submit) Result {
	if refusal, ok := s.checkSubmit(c); !ok {
		return refusal
	}
	if rules, _ := rulesOf(c.GetBegin().GetMode()); !rules.votes {
		return s.submitCalled(c)
	}
	t, gid, refusal, ok := s.locate(c.GetBegin())
	if !ok {
		return refusal
	}
	if t == nil {
		if refusal, ok := s.room(gid, c.GetBegin()); !ok {
			return refusal
		}
		next, room := newRecord(len(c.GetSet()))
		return s.submitOpen(nil, s.toActive(next, c.GetBegin(), gid), room, c)
	}
	if gid != GID(c.GetBegin().GetGid()) && len(c.GetVotes()) > 0 {
		// Its branches have prepared under another GID than the key's.
		return t.answer(KeyConflict, "key %q stands for %s", c.GetBegin().GetKey(), gid)
	}
	if refusal, ok := t.closed(); !ok {
		return refusal
	}
	same := t.sameBegin(c.GetBegin(), nil)
	switch t.state {
	case StateActive, StateSealed:
		if !same {
			return t.answer(GIDConflict, "%s stands with other content", t.gid)
		}
		return s.submitOpen(t, t.clone(), nil, c)
	case StateCommitting, StateCommitted:
		if !same || !t.hasSet(setIDs(c)) || contrary(t, c) {
			return t.answer(GIDConflict, "%s was committed with other content", t.gid)
		}
	default:
		if !same || t.sealed && !t.hasSet(setIDs(c)) {
			return t.answer(AlreadyDecided, "%s is rolled back", t.gid)
		}
	}
	return t.answer(OK, "")
}

// checkSubmit refuses a malformed Submit.
func (s *State) checkSubmit(c *logpb.Submit) (Result, bool) {
	if refusal, ok := s.checkBegin(c.GetBegin()); !ok {
		return refusal, false
	}
	if len(c.GetBegin().GetBranches()) > 0 {
		return invalid("begin.branches", "are given: those of a submit are its set"), false
	}
	rules, _ := rulesOf(c.GetBegin().GetMode())
	for i, spec := range c.GetSet() {
		if refusal, ok := checkSpec("set", spec); !ok {
			return refusal, false
		}
		if rules.votes {
			if refusal, ok := checkPlain("set", spec); !ok {
				return refusal, false
			}
		}
		if i > 0 && c.GetSet()[i-1].GetId() >= spec.GetId() {
			return invalid("set", "is not sorted by unique ids at %q", spec.GetId()), false
		}
	}
	return checkVotes(c)
}

// checkVotes refuses votes that are malformed, not sorted, or outside the set.
func checkVotes(c *logpb.Submit) (Result, bool) {
	set := c.GetSet()
	for i, ballot := range c.GetVotes() {
		id := ballot.GetBranch().GetId()
		for len(set) > 0 && set[0].GetId() < id {
			set = set[1:]
		}
		var spec *logpb.BranchSpec // what decode.go reads for both, where they are the same
		if len(set) > 0 {
			spec = set[0]
		}
		if _, ok := checkBallot("", ballot, spec); !ok {
			return checkBallot(voteField(i), ballot, nil)
		}
		if i > 0 && c.GetVotes()[i-1].GetBranch().GetId() >= id {
			return invalid("votes", "are not sorted by unique branch ids at %q", id), false
		}
		if spec == nil || spec.GetId() != id {
			return invalid(voteField(i), "is of branch %q, which is not in the set", id), false
		}
		if spec != ballot.GetBranch() && known(spec) && known(ballot.GetBranch()) && !sameSpec(spec, ballot.GetBranch()) {
			return invalid(voteField(i)+".branch", "differs from the set's branch %q", id), false
		}
	}
	return Result{}, true
}

func voteField(i int) string { return fmt.Sprintf("votes[%d]", i) }

func setIDs(c *logpb.Submit) []string {
	ids := make([]string, len(c.GetSet()))
	for i, spec := range c.GetSet() {
		ids[i] = spec.GetId()
	}
	return ids
}

// contrary says that a vote differs from the stored one.
func contrary(t *transaction, c *logpb.Submit) bool {
	for _, ballot := range c.GetVotes() {
		if b := t.member(ballot.GetBranch().GetId()); b != nil && b.vote != voteNone && !sameVote(b, ballot) {
			return true
		}
	}
	return false
}

// submitOpen merges the set and the votes into next, which is a new
// transaction or a clone of t, and takes the edge that they lead to. room is memory
// for all branches, if there is any.
func (s *State) submitOpen(t, next *transaction, room []branch, c *logpb.Submit) Result {
	if refusal, ok := s.mergeSet(next, room, c); !ok {
		return refusal
	}
	var refused *branch
	for _, ballot := range c.GetVotes() {
		if refusal, ok := s.mergeVote(next, ballot); !ok {
			return refusal
		}
		if b := next.member(ballot.GetBranch().GetId()); b.vote == voteRefused && refused == nil {
			refused = b
		}
	}
	next.submitted = true
	next.origin = logpb.Origin_ORIGIN_CLIENT
	switch {
	case refused != nil:
		s.seal(next)
		next.detail = refusedBy(refused.spec.GetId(), refused.detail)
		s.toRollingBack(next, logpb.Reason_REASON_SUBMIT_REFUSED)
	default:
		s.toDecidedOrSealed(next)
	}
	if t != nil && unchanged(t, next) {
		return t.answer(OK, "")
	}
	r := stored(s.put(t, next))
	r.Created = t == nil
	return r
}

// unchanged says that a repeated Submit of a sealed transaction brought nothing.
func unchanged(t, next *transaction) bool {
	if t.state != next.state || t.submitted != next.submitted || t.origin != next.origin {
		return false
	}
	for i, b := range t.branches {
		if b != next.branches[i] {
			return false
		}
	}
	return true
}

// mergeSet brings the named set in.
func (s *State) mergeSet(t *transaction, room []branch, c *logpb.Submit) (Result, bool) {
	if t.sealed {
		if !t.hasSet(setIDs(c)) {
			return t.answer(CommitConflict, "commit of %s was asked with another set", t.gid), false
		}
	} else if len(t.branches) > 0 {
		if outside, ok := memberOutside(t, setIDs(c)); ok {
			return t.answer(SetMismatch, "branch %s of %s is not in the set", outside, t.gid), false
		}
	}
	explicit := t.begin.GetEntry() == logpb.Entry_ENTRY_EXPLICIT
	if room == nil && len(t.branches) == 0 {
		room = make([]branch, len(c.GetSet())) // they join together
	}
	for i, spec := range c.GetSet() {
		b := t.member(spec.GetId())
		switch {
		case b == nil && explicit:
			return t.answer(NotEnlisted, "branch %s of %s was never enlisted", spec.GetId(), t.gid), false
		case spec.GetHeld() && (b == nil || b.hint):
			return t.answer(NotEnlisted, "branch %s of %s is held and was never enlisted", spec.GetId(), t.gid), false
		case b == nil:
			if refusal, ok := s.limitJoin(t, "set", spec); !ok {
				return refusal, false
			}
			if room != nil {
				t.joinAs(&room[i], spec, s.stamped())
			} else {
				t.join(spec, s.stamped())
			}
		case b.hint:
			s.introduce(t, spec)
		case known(spec) && !b.same(spec):
			return t.answer(BranchConflict, "branch %s of %s stands as %s", spec.GetId(), t.gid, describe(b.spec)), false
		}
	}
	return Result{}, true
}

// mergeVote brings one vote in. Votes of held branches come over their own
// session only: what the initiator says of them proves nothing.
func (s *State) mergeVote(t *transaction, ballot *logpb.Ballot) (Result, bool) {
	b := t.member(ballot.GetBranch().GetId())
	if refusal, ok := checkVoter(t, b, ballot); !ok {
		refusal.Verdict = VerdictNone
		return refusal, false
	}
	if b.vote != voteNone {
		return Result{}, true
	}
	if b.spec.GetHeld() || ballot.GetBranch().GetHeld() {
		return invalid("votes", "hold one of branch %q, which is held: it votes over its own session", b.spec.GetId()), false
	}
	s.castVote(t, ballot)
	return Result{}, true
}
