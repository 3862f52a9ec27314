package sim

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	lin "github.com/quorate/quorate/linearizability"
)

// calls notes a transaction whose branches are called: it has no votes, and is judged
// by what the shops hold.
func (o *oracle) calls(r *calledRun) { o.of(r.gid).called = r }

// stepOf is the plan of a called branch, nil where there is none.
func (o *oracle) stepOf(at ref) *calledStep {
	a := o.txs[at.GID]
	if a == nil || a.called == nil {
		return nil
	}
	for i := range a.called.plan.Steps {
		if a.called.plan.Steps[i].ID == stepID(at.Branch) {
			return &a.called.plan.Steps[i]
		}
	}
	return nil
}

// stepID is the step that a branch was made of: one of several subscribers bears a
// number of its own.
func stepID(branch string) string {
	step, _, _ := strings.Cut(branch, "-")
	return step
}

var modeWords = map[logpb.Mode]string{
	logpb.Mode_MODE_SAGA: "saga", logpb.Mode_MODE_TCC: "tcc", logpb.Mode_MODE_MESSAGE: "message",
	logpb.Mode_MODE_WORKFLOW: "workflow", logpb.Mode_MODE_NOTIFY: "notify",
}

// modePrefix names the mode of what is called, in the table of what was reached.
func (o *oracle) modePrefix(gid fsm.GID) string {
	if a := o.txs[gid]; a != nil && a.called != nil {
		return modeWords[a.called.plan.Mode] + " "
	}
	return ""
}

// finalEffects is S15, judged by those who judge histories. What an operator has ended
// is judged for what it did, and not for what it left undone.
func (o *oracle) finalEffects() {
	if len(o.w.shops) == 0 {
		return
	}
	for _, byOperator := range []bool{false, true} {
		h := &lin.History{Header: lin.Header{Format: lin.Format, Partial: true, DeliveriesUnseen: true}}
		for _, gid := range o.order {
			if a := o.txs[gid]; a.called != nil && a.byOperator() == byOperator {
				o.finalCalled(h, a)
			}
		}
		if !byOperator {
			h.Observations = append(h.Observations, lin.Observation{Sight: lin.SightQuiescent})
		}
		for _, v := range lin.Check(context.Background(), h, lin.Options{Parallel: 1}).Violations {
			o.violate(v.Promise, v.GID, "%s", v)
			return
		}
	}
}

// byOperator: an operator has spoken for it, or for a branch of it.
func (a *account) byOperator() bool { return a.stopped || a.resolved }

// finalCalled adds a transaction to a history: its plan, what was decided, and what the
// shops hold.
func (o *oracle) finalCalled(h *lin.History, a *account) {
	h.Observations = append(h.Observations, o.planned(a))
	word := modeWords[a.called.plan.Mode]
	final := lin.Observation{Sight: lin.SightFinal, GID: a.gid.String()}
	switch a.applied {
	case fsm.DecisionCommit:
		final.State, final.Decision = lin.StateCommitted, lin.DecisionCommit
	case fsm.DecisionRollback:
		final.State, final.Decision = lin.StateRolledBack, lin.DecisionRollback
	default:
		o.w.cover.meet(word + " that never was")
	}
	if a.applied != fsm.DecisionNone {
		o.w.cover.meet(word + " " + string(final.Decision))
		h.Observations = append(h.Observations, final)
	}
	for _, s := range o.w.shops {
		for _, e := range s.effects {
			if e.at.GID != a.gid {
				continue
			}
			if a.stopped && e.op == lin.EffectLocal {
				continue // an operator may end a message whose initiator has committed
			}
			o.atSubscriber(a, s, e)
			h.Observations = append(h.Observations, lin.Observation{
				Sight: lin.SightEffect, GID: e.at.GID.String(), Branch: e.at.Branch, Resource: s.name, Operation: e.op, Value: e.n,
				At: int64(e.when) + int64(e.step%int(time.Microsecond)),
			})
		}
	}
}

// planned is what a transaction was asked to do, each topic as its subscribers.
func (o *oracle) planned(a *account) lin.Observation {
	plan := a.called.plan
	p := lin.Observation{Sight: lin.SightPlan, GID: a.gid.String(), Mode: modeWords[plan.Mode]}
	if plan.Mode == logpb.Mode_MODE_MESSAGE {
		p.Steps = append(p.Steps, lin.PlannedStep{ID: localBranch, Local: true})
	}
	for _, s := range plan.Steps {
		var after []string
		for _, name := range s.After {
			if a.byOperator() {
				break // what he ended may be under way
			}
			after = append(after, a.branchesOf(plan, name)...)
		}
		for _, id := range a.branchesOf(plan, s.ID) {
			p.Steps = append(p.Steps, lin.PlannedStep{ID: id, After: after})
		}
	}
	return p
}

// branchesOf are the branches that a step was made of.
func (a *account) branchesOf(plan *calledPlan, step string) (ids []string) {
	i := slices.IndexFunc(plan.Steps, func(s calledStep) bool { return s.ID == step })
	if plan.Steps[i].Topic == "" {
		return []string{step}
	}
	for _, h := range a.heirs[step] {
		ids = append(ids, h.id)
	}
	return ids
}

// atSubscriber: what goes to a topic arrives at the subscriber whose branch it is.
func (o *oracle) atSubscriber(a *account, s *shop, e *shopEffect) {
	if step := o.stepOf(e.at); step == nil || step.Topic == "" {
		return
	}
	if !slices.Contains(a.heirs[stepID(e.at.Branch)], heir{e.at.Branch, s.subscriber()}) {
		o.violate("S15", a.gid.String(), "branch %s took effect at %s, and subscribed when it was created are %v", e.at.Branch, s.name, a.heirs)
	}
}
