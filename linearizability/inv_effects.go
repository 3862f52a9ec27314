package linearizability

import (
	"fmt"
	"slices"
)

// The modes; all but the first have branches that are called.
const (
	modeTwoPhase = "two_phase"
	modeSaga     = "saga"
	modeTCC      = "tcc"
	modeMessage  = "message"
	modeWorkflow = "workflow"
	modeNotify   = "notify"
)

// effectsOf are the operations that a mode's branches know.
var effectsOf = map[string][]Effect{
	modeSaga:     {EffectAction, EffectCompensate},
	modeWorkflow: {EffectAction, EffectCompensate},
	modeTCC:      {EffectTry, EffectConfirm, EffectCancel},
	modeMessage:  {EffectLocal, EffectAction},
	modeNotify:   {EffectAction},
}

// checkEffects is S15 for one GID, by what the participants' stores hold: tries =
// confirms or tries = cancels; compensations are the exact reverse of what was
// done; a message arrives if and only if the local transaction happened; each
// effect once. What is still to come is a breach only at quiescence.
func (j *judge) checkEffects(f *facts) {
	seen := f.sights(SightEffect)
	plans := f.sights(SightPlan)
	if len(seen)+len(plans) == 0 {
		return
	}
	j.count(promiseEffects, 1+len(seen))
	if len(plans) == 0 {
		j.effectBroken(f, "an effect of a transaction that nobody planned", seen[0])
		return
	}
	e := effectsIn{judge: j, facts: f, plan: plans[0], decided: f.decided(), did: map[effectName]*Observation{}}
	if e.once(seen) {
		e.judgeMode()
	}
}

func (j *judge) effectBroken(f *facts, text string, at ...*Observation) {
	v := Violation{Promise: promiseEffects, GID: f.gid, Text: text}
	for _, o := range at {
		if o != nil {
			v.Lines = append(v.Lines, o.Line)
			v.Operations = append(v.Operations, o.describe())
		}
	}
	j.broken(v)
}

type effectName struct {
	branch    string
	operation Effect
}

// effectsIn are one transaction's effects, held against its plan.
type effectsIn struct {
	judge   *judge
	facts   *facts
	plan    *Observation
	decided Decision
	did     map[effectName]*Observation
}

// broken reports and is false, so that a check may end with it.
func (e *effectsIn) broken(at []*Observation, format string, args ...any) bool {
	e.judge.effectBroken(e.facts, fmt.Sprintf(format, args...), at...)
	return false
}

func (e *effectsIn) of(branch string, op Effect) *Observation { return e.did[effectName{branch, op}] }

// once: each effect is one that the plan knows, and happened at one place, once.
func (e *effectsIn) once(seen []*Observation) bool {
	for _, o := range seen {
		name := effectName{o.Branch, o.Operation}
		switch had := e.did[name]; {
		case had != nil:
			return e.broken([]*Observation{had, o}, "branch %s: %s took effect at two places", o.Branch, o.Operation)
		case o.Value != 1:
			return e.broken([]*Observation{o}, "branch %s: %s took effect %d times", o.Branch, o.Operation, o.Value)
		case !slices.Contains(effectsOf[e.plan.Mode], o.Operation):
			return e.broken([]*Observation{o}, "branch %s: %s is nothing that a %s does", o.Branch, o.Operation, e.plan.Mode)
		case !slices.ContainsFunc(e.plan.Steps, func(s PlannedStep) bool { return s.ID == o.Branch }):
			return e.broken([]*Observation{e.plan, o}, "branch %s was never planned", o.Branch)
		}
		e.did[name] = o
	}
	return true
}

func (e *effectsIn) judgeMode() bool {
	switch e.plan.Mode {
	case modeTCC:
		return e.tries()
	case modeMessage:
		return e.deliveries()
	case modeNotify:
		return true // once is all that it promises
	default:
		return e.steps()
	}
}

// tries: TCC. Each try is confirmed or cancelled as was decided, after it, and
// nothing else is.
func (e *effectsIn) tries() bool {
	for _, s := range e.plan.Steps {
		try, confirm, cancel := e.of(s.ID, EffectTry), e.of(s.ID, EffectConfirm), e.of(s.ID, EffectCancel)
		end := confirm
		if cancel != nil {
			end = cancel
		}
		switch {
		case confirm != nil && cancel != nil:
			return e.broken([]*Observation{confirm, cancel}, "branch %s was confirmed and cancelled", s.ID)
		case confirm != nil && e.decided != DecisionCommit:
			return e.broken([]*Observation{confirm}, "branch %s was confirmed, and %s was decided", s.ID, e.word())
		case cancel != nil && e.decided != DecisionRollback:
			return e.broken([]*Observation{cancel}, "branch %s was cancelled, and %s was decided", s.ID, e.word())
		case end != nil && try == nil:
			return e.broken([]*Observation{end}, "branch %s: %s of what was never tried", s.ID, end.Operation)
		case end != nil && !before(try, end):
			return e.broken([]*Observation{end, try}, "branch %s: %s came before the try", s.ID, end.Operation)
		case end == nil && e.judge.quiescent && e.decided == DecisionCommit:
			return e.broken([]*Observation{e.plan, try}, "branch %s was never confirmed", s.ID)
		case end == nil && e.judge.quiescent && try != nil:
			return e.broken([]*Observation{try}, "branch %s was tried, and is neither confirmed nor cancelled", s.ID)
		}
	}
	return true
}

// deliveries: a message. Its actions happen if and only if its local transaction
// did, and after it.
func (e *effectsIn) deliveries() bool {
	for _, s := range e.plan.Steps {
		op := EffectAction
		if s.Local {
			op = EffectLocal
		}
		o := e.of(s.ID, op)
		switch {
		case o != nil && e.decided == DecisionRollback:
			return e.broken([]*Observation{o}, "branch %s: %s took effect, and rollback was decided", s.ID, op)
		case o != nil && !s.Local && e.decided != DecisionCommit:
			return e.broken([]*Observation{o}, "branch %s was delivered, and %s was decided", s.ID, e.word())
		case o == nil && e.judge.quiescent && e.decided == DecisionCommit:
			return e.broken([]*Observation{e.plan}, "branch %s: %s is missing, though commit was decided", s.ID, op)
		}
	}
	return e.ordered(EffectAction, false)
}

// steps: a saga, or a workflow's code. Done in order; on the way back exactly what
// was done is undone, in exact reverse.
func (e *effectsIn) steps() bool {
	for _, s := range e.plan.Steps {
		action, undo := e.of(s.ID, EffectAction), e.of(s.ID, EffectCompensate)
		switch {
		case undo != nil && e.decided != DecisionRollback:
			return e.broken([]*Observation{undo}, "step %s was compensated, and %s was decided", s.ID, e.word())
		case undo != nil && action == nil:
			return e.broken([]*Observation{undo}, "step %s was compensated and never done", s.ID)
		case undo != nil && !before(action, undo):
			return e.broken([]*Observation{undo, action}, "step %s was compensated before it was done", s.ID)
		case action == nil && e.judge.quiescent && e.decided == DecisionCommit:
			return e.broken([]*Observation{e.plan}, "step %s was never done, though commit was decided", s.ID)
		case action != nil && undo == nil && !s.NoUndo && e.judge.quiescent && e.decided != DecisionCommit:
			return e.broken([]*Observation{action}, "step %s was done and not compensated, and %s was decided", s.ID, e.word())
		}
	}
	return e.ordered(EffectAction, false) && e.ordered(EffectCompensate, true)
}

// ordered holds the order of an operation's effects against the plan's, or its
// reverse. Going forward, what comes before must be there; going back, what was
// done later must have been undone.
func (e *effectsIn) ordered(op Effect, reverse bool) bool {
	for _, s := range e.plan.Steps {
		for _, name := range s.After {
			earlier, later := e.forward(name, op), e.of(s.ID, op)
			if reverse {
				earlier, later = later, earlier
			}
			switch {
			case !reverse && later != nil && earlier == nil:
				return e.broken([]*Observation{e.plan, later}, "step %s was done without step %s", s.ID, name)
			case earlier != nil && later != nil && !before(earlier, later):
				return e.broken([]*Observation{later, earlier}, "%s of step %s came before that of step %s", op, later.Branch, earlier.Branch)
			}
		}
	}
	return true
}

// forward is a step's effect, whose going forward may be the local transaction.
func (e *effectsIn) forward(branch string, op Effect) *Observation {
	if o := e.of(branch, op); o != nil {
		return o
	}
	if op == EffectAction {
		return e.of(branch, EffectLocal)
	}
	return nil
}

func (e *effectsIn) word() string {
	if e.decided == DecisionNone {
		return "nothing"
	}
	return string(e.decided)
}

// before: by their times, where both are known.
func before(a, b *Observation) bool { return a.At == 0 || b.At == 0 || a.At < b.At }
