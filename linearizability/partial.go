package linearizability

import "github.com/anishathalye/porcupine"

// For histories that hold only some of what happened to a GID there is a smaller
// model, of its decision alone: it is made once, at a time that nobody may have
// seen, and whoever asks afterwards hears it.

type register struct {
	begun   bool
	decided Decision
	gone    bool
}

func partialModel() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return register{} },
		Step: func(state, input, _ any) (bool, any) {
			ok, next := state.(register).step(input.(*event))
			return ok, next
		},
		DescribeOperation: func(input, _ any) string { return input.(*event).describe() },
		DescribeState: func(state any) string {
			r := state.(register)
			switch {
			case r.gone:
				return "expired"
			case r.decided != DecisionNone:
				return string(r.decided)
			case r.begun:
				return "undecided"
			default:
				return "unseen"
			}
		},
	}
}

func (r register) step(e *event) (bool, register) {
	if e.unknown || e.role == roleOver {
		return true, r
	}
	out := &e.op.Output
	if out.Refusal == refusalExpired || out.Unseen && out.Verdict == VerdictRollback {
		r.gone = true
		return e.expirable, r
	}
	if r.gone {
		return false, r
	}
	if out.Refusal == refusalNotFound {
		return !r.begun && r.decided == DecisionNone, r
	}
	decision := out.Decision
	switch {
	case out.Refusal == refusalDecided && e.kind == KindCommit:
		decision = DecisionRollback
	case out.Refusal == refusalDecided && e.kind == KindRollback, out.Verdict == VerdictCommit:
		decision = DecisionCommit
	}
	if decision != DecisionNone {
		ok := r.decided == DecisionNone || r.decided == decision
		r.begun, r.decided = true, decision
		return ok, r
	}
	if e.op.Status == StatusOK && (e.kind == KindGet || e.kind == KindBegin || e.kind == KindCommit || out.Verdict == VerdictWait && !out.Unseen) {
		ok := r.decided == DecisionNone
		r.begun = true
		return ok, r
	}
	return true, r
}
