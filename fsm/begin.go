package fsm

import "github.com/quorate/quorate/fsm/logpb"

// beginCommand applies the Begin row of PROTOCOL.md's table.
func (s *State) beginCommand(b *logpb.Begin) Result {
	if refusal, ok := s.checkBegin(b); !ok {
		return refusal
	}
	rules, _ := rulesOf(b.GetMode())
	if !rules.begins {
		return invalid("mode", "%s has no begin: it is submitted whole", rules.name)
	}
	if refusal, ok := checkPrepared(b); !ok {
		return refusal
	}
	t, gid, refusal, ok := s.locate(b)
	if !ok {
		return refusal
	}
	if t != nil {
		return s.beginAgain(t, b)
	}
	if refusal, ok := s.room(gid, b); !ok {
		return refusal
	}
	next, refusal, ok := s.open(b, gid, b.GetBranches())
	if !ok {
		return refusal
	}
	r := stored(s.put(nil, next))
	r.Created = true
	return r
}

// beginAgain answers for a transaction that stands.
func (s *State) beginAgain(t *transaction, b *logpb.Begin) Result {
	switch {
	case t.quarantined:
		refusal, _ := t.closed()
		return refusal
	case t.tombstone:
		return t.answer(AlreadyDecided, "%s was rolled back before it began", t.gid)
	case !t.sameBegin(b, b.GetBranches()):
		return t.answer(GIDConflict, "%s stands with other content", t.gid)
	default:
		return t.answer(OK, "")
	}
}

// locate finds the transaction that a Begin, or a Submit, speaks of: that of
// its GID, else the one that its key stands for. A key never answers for a GID
// that stands, so the GID comes first. t is nil where the GID may be created.
func (s *State) locate(b *logpb.Begin) (t *transaction, gid GID, refusal Result, ok bool) {
	gid = GID(b.GetGid())
	if t = s.find(gid); t != nil {
		return t, gid, Result{}, true
	}
	if !s.mayCreate(gid) {
		refusal, _ = s.unseen(gid)
		return nil, gid, refusal, false
	}
	if b.GetKey() != "" {
		if standing, found := s.keys[key{b.GetNamespace(), b.GetKey()}]; found {
			return s.find(standing), standing, Result{}, true
		}
	}
	return nil, gid, Result{}, true
}

// room refuses a new transaction that is over a limit, or where memory's bounds
// are reached. Nothing that ends one is ever refused so.
func (s *State) room(gid GID, b *logpb.Begin) (Result, bool) {
	if refusal, ok := s.limitBegin(b); !ok {
		return refusal, false
	}
	if most := s.limits.GetActiveTransactionsMax(); uint64(len(s.live)) >= most {
		return quota(gid, "active_transactions_max", most), false
	}
	if most := s.limits.GetRetainedStubsMax(); uint64(s.stubs.len()) >= most {
		return quota(gid, "retained_stubs_max", most), false
	}
	return Result{}, true
}
