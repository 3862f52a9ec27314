package fsm

import "fmt"

// answer is the result that names what stands for a transaction.
func (t *transaction) answer(code Code, format string, args ...any) Result {
	r := Result{
		Code: code, GID: t.gid,
		Decision: t.decision, State: t.state, Reason: t.reason, Index: t.decided.value().index,
	}
	if format != "" {
		r.Detail = fmt.Sprintf(format, args...)
	}
	return r
}

// toBranch makes a result an answer to a participant.
func (r Result) toBranch(v Verdict) Result {
	r.Verdict = v
	return r
}

// stored is the answer after put: OK, unless the change broke an invariant.
func stored(t *transaction) Result {
	if t.quarantined {
		r := t.answer(Quarantined, "%s: an operator must decide it", t.detail)
		r.Changed = true
		return r
	}
	r := t.answer(OK, "")
	r.Changed = true
	return r
}

// invalid refuses a malformed command and names the field.
func invalid(field, format string, args ...any) Result {
	return Result{Code: Invalid, Detail: field + " " + fmt.Sprintf(format, args...)}
}

// quota refuses what is over a limit and names it.
func quota(gid GID, limit string, value uint64) Result {
	return Result{Code: Quota, GID: gid, Detail: fmt.Sprintf("%s is %d", limit, value)}
}

// standing finds a transaction that takes commands, for who is no participant.
func (s *State) standing(gid GID) (t *transaction, refusal Result, ok bool) {
	if t = s.find(gid); t == nil {
		refusal, _ = s.unseen(gid)
		return nil, refusal, false
	}
	refusal, ok = t.closed()
	refusal.Verdict = VerdictNone
	return t, refusal, ok
}

// mayCreate says of an unseen GID that it may be created: born lies after the
// horizon and not after the clock, and not where a recovery may have lost it.
func (s *State) mayCreate(gid GID) bool {
	born := gid.BornMS()
	return s.horizonMS < born && born <= s.clockMS && !s.mayBeLost(born)
}

// mayBeLost says that what was born then may have been decided, and lost.
func (s *State) mayBeLost(born uint64) bool {
	return s.holdBeforeMS != 0 && s.holdHorizonMS < born && born <= s.holdBeforeMS
}

// unseen answers about a GID that the log holds nothing about. ok says that it
// may be created.
func (s *State) unseen(gid GID) (refusal Result, ok bool) {
	born := gid.BornMS()
	switch {
	case s.mayBeLost(born):
		return Result{Code: Withheld, GID: gid, Detail: fmt.Sprintf(
			"%s may have been decided before the cluster was recovered: an operator must decide it", gid)}, false
	case born > s.clockMS:
		return Result{Code: Invalid, GID: gid, Detail: fmt.Sprintf(
			"gid %s is born at %d, after the cluster clock %d: make it from a clock that a node has answered",
			gid, born, s.clockMS)}, false
	case born <= s.horizonMS:
		return Result{Code: Expired, GID: gid, Detail: fmt.Sprintf(
			"%s is unknown and older than retention: it may have been decided and dropped", gid)}, false
	}
	return Result{Code: NotFound, GID: gid, Detail: fmt.Sprintf("no transaction %s", gid)}, true
}

// closed refuses what only an operator may touch. ok is true for all else.
func (t *transaction) closed() (refusal Result, ok bool) {
	switch {
	case t.quarantined:
		return t.answer(Quarantined, "%s: an operator must decide it", t.detail).toBranch(VerdictWait), false
	case t.withheld:
		return t.answer(Withheld,
			"%s was restored undecided and may have been decided since: an operator must decide it", t.gid).toBranch(VerdictWait), false
	}
	return Result{}, true
}
