package fsm

import "github.com/quorate/quorate/fsm/logpb"

// anyDue says that something of the transaction should be in flight.
func (t *transaction) anyDue() bool {
	switch {
	case t.quarantined, t.stopped:
		return false
	case t.undecided():
		return !t.withheld && t.awaits()
	case t.rules().votes:
		for _, b := range t.branches {
			if b.due() {
				return true
			}
		}
		return false
	default:
		return !t.ended()
	}
}

// awaits says that an undecided transaction goes on by calls: of its steps, or
// of its initiator.
func (t *transaction) awaits() bool {
	rules := t.rules()
	return t.state == StateSealed && rules.phaseOne != 0 ||
		t.state == StateActive && rules.callback != 0 && t.begin.GetPlan().GetCallback() != ""
}

// DueOf lists the deliveries of one transaction that should be in flight now:
// what must wait for another is listed once that has ended.
func (s *State) DueOf(gid GID) []DueBranch {
	if t := s.live[gid]; t != nil { // a filed record has nothing due
		return t.appendDue(nil)
	}
	return nil
}

// AppendDue appends the deliveries that should be in flight, as DueOf lists them.
func (r Record) AppendDue(list []DueBranch) []DueBranch {
	if r.t.filedMS != 0 {
		return list
	}
	return r.t.appendDue(list)
}

func (t *transaction) appendDue(list []DueBranch) []DueBranch {
	if !t.anyDue() {
		return list
	}
	rules, plan := t.rules(), t.begin.GetPlan()
	switch {
	case rules.votes:
		return t.appendOutcomes(list)
	case t.state == StateActive:
		return append(list, DueBranch{
			GID:       t.gid,
			Branch:    &logpb.BranchSpec{Endpoint: plan.GetCallback(), Payload: plan.GetCallbackPayload()},
			Operation: rules.callback, Verdict: VerdictWait,
			NotBeforeMS: clockAfter(t.began.value().clockMS, plan.GetCallbackAfterMs()),
		})
	case t.state == StateSealed:
		answered := func(b *branch) bool { return b.vote != voteNone }
		return t.appendCalls(list, t.next(answered, false), rules.phaseOne, plan.GetDelayMs())
	case t.decision == DecisionCommit:
		return t.appendCalls(list, t.next((*branch).terminal, false), rules.onCommit, plan.GetDelayMs())
	default:
		return t.appendCalls(list, t.next((*branch).terminal, true), rules.onRollback, 0)
	}
}

// appendOutcomes tells every branch that votes what was decided, all at once.
func (t *transaction) appendOutcomes(list []DueBranch) []DueBranch {
	operation := OperationRollback
	if t.decision == DecisionCommit {
		operation = OperationCommit
	}
	for _, b := range t.branches {
		if b.due() {
			list = append(list, DueBranch{
				GID: t.gid, Branch: b.spec, Operation: operation,
				Verdict: t.verdict(b.spec.GetId()), DecidedMS: t.decided.value().clockMS,
			})
		}
	}
	return list
}

// appendCalls appends the first of the branches that the plan lets be called at once.
func (t *transaction) appendCalls(list []DueBranch, branches []*branch, operation Operation, delayMS uint64) []DueBranch {
	if most := int(t.begin.GetPlan().GetConcurrencyMax()); most > 0 && len(branches) > most {
		branches = branches[:most]
	}
	verdict := VerdictWait
	switch t.decision {
	case DecisionCommit:
		verdict = VerdictCommit
	case DecisionRollback:
		verdict = VerdictRollback
	}
	var notBeforeMS uint64
	if delayMS != 0 {
		notBeforeMS = clockAfter(t.began.value().clockMS, delayMS)
	}
	for _, b := range branches {
		list = append(list, DueBranch{
			GID: t.gid, Branch: b.spec, Operation: operation, Verdict: verdict,
			DecidedMS: t.decided.value().clockMS, NotBeforeMS: notBeforeMS,
		})
	}
	return list
}

// clockAfter is a clock some time on, or never.
func clockAfter(clockMS, ms uint64) uint64 {
	if ms > noDeadline-clockMS {
		return noDeadline
	}
	return clockMS + ms
}
