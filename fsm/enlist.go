package fsm

import "github.com/quorate/quorate/fsm/logpb"

// enlistCommand applies the Enlist row of PROTOCOL.md's table.
func (s *State) enlistCommand(c *logpb.Enlist) Result {
	gid, refusal, ok := checkGID(c.GetGid())
	if !ok {
		return refusal
	}
	spec := c.GetBranch()
	id := spec.GetId()
	if refusal, ok := checkSpec("branch", spec); !ok {
		return refusal
	}
	if refusal, ok := checkKnown("branch", spec); !ok {
		return refusal
	}
	t := s.find(gid)
	if t == nil {
		return s.unseenBranch(gid)
	}
	if refusal, ok := t.closed(); !ok {
		return refusal
	}
	if !t.rules().enlists {
		return t.notIn("enlisting of branches").toBranch(t.verdict(id))
	}
	b := t.member(id)
	same := b != nil && (b.hint || b.same(spec))
	switch t.state {
	case StateActive:
		if b != nil && !same {
			return t.answer(BranchConflict, "branch %s of %s stands as %s", id, gid, describe(b.spec)).toBranch(VerdictWait)
		}
		if b == nil {
			return s.enlist(t, spec)
		}
	case StateSealed:
		if !same {
			return t.answer(Sealed, "commit of %s was asked: no branch joins any more", gid).toBranch(t.verdict(id))
		}
		if b.hint {
			// The set holds its name already; now it can be told.
			next := t.clone()
			s.introduce(next, spec)
			return stored(s.put(t, next)).toBranch(VerdictWait)
		}
	default:
		if !same {
			return t.answer(AlreadyDecided, "%s is decided: no branch joins any more", gid).toBranch(VerdictRollback)
		}
	}
	return t.answer(OK, "").toBranch(t.verdict(id))
}

// enlist adds a branch to an active transaction.
func (s *State) enlist(t *transaction, spec *logpb.BranchSpec) Result {
	if refusal, ok := s.limitEnlist(t, spec); !ok {
		return refusal.toBranch(VerdictWait)
	}
	next := t.clone()
	next.join(spec, s.stamped())
	return stored(s.put(t, next)).toBranch(VerdictWait)
}

// introduce turns a hint into a branch that can be told.
func (s *State) introduce(t *transaction, spec *logpb.BranchSpec) {
	if known(spec) {
		b := t.edit(spec.GetId())
		t.require(b.hint, "branch %q is introduced twice", spec.GetId())
		b.spec, b.hint, b.enlisted = spec, false, s.stamped()
	}
}

// checkGID refuses what is no GID.
func checkGID(b []byte) (GID, Result, bool) {
	gid, err := GIDFromBytes(b)
	if err != nil {
		return gid, invalid("gid", "is of %d bytes: a ULID has 16", len(b)), false
	}
	return gid, Result{}, true
}

// unseenBranch answers a participant about a GID that the log holds nothing
// about: an expired one is presumed rolled back, any other has to wait.
func (s *State) unseenBranch(gid GID) Result {
	r, _ := s.unseen(gid)
	if r.Code == Expired {
		return r.toBranch(VerdictRollback)
	}
	return r.toBranch(VerdictWait)
}

// describe is a branch for people.
func describe(spec *logpb.BranchSpec) string {
	text := spec.GetResource()
	if spec.GetEndpoint() != "" {
		text += " at " + spec.GetEndpoint()
	}
	if spec.GetHeld() {
		text += ", held"
	}
	return text
}
