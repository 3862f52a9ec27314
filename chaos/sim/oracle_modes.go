package sim

import (
	"context"
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
		if a.called.plan.Steps[i].ID == at.Branch {
			return &a.called.plan.Steps[i]
		}
	}
	return nil
}

var modeWords = map[logpb.Mode]string{logpb.Mode_MODE_SAGA: "saga", logpb.Mode_MODE_TCC: "tcc", logpb.Mode_MODE_MESSAGE: "message"}

// finalEffects is S15, judged by those who judge histories.
func (o *oracle) finalEffects() {
	if len(o.w.shops) == 0 {
		return
	}
	h := &lin.History{Header: lin.Header{Format: lin.Format, Partial: true, DeliveriesUnseen: true}}
	for _, gid := range o.order {
		a := o.txs[gid]
		if a.called == nil {
			continue
		}
		h.Observations = append(h.Observations, o.planned(a))
		word := modeWords[a.called.plan.Mode]
		final := lin.Observation{Sight: lin.SightFinal, GID: gid.String()}
		switch a.applied {
		case fsm.DecisionCommit:
			final.State, final.Decision = lin.StateCommitted, lin.DecisionCommit
		case fsm.DecisionRollback:
			final.State, final.Decision = lin.StateRolledBack, lin.DecisionRollback
		default:
			o.w.cover.meet(word + " that never was")
			continue
		}
		o.w.cover.meet(word + " " + string(final.Decision))
		h.Observations = append(h.Observations, final)
	}
	for _, s := range o.w.shops {
		for _, e := range s.effects {
			h.Observations = append(h.Observations, lin.Observation{
				Sight: lin.SightEffect, GID: e.at.GID.String(), Branch: e.at.Branch, Resource: s.name, Operation: e.op, Value: e.n,
				At: int64(e.when) + int64(e.step%int(time.Microsecond)),
			})
		}
	}
	h.Observations = append(h.Observations, lin.Observation{Sight: lin.SightQuiescent})
	for _, v := range lin.Check(context.Background(), h, lin.Options{Parallel: 1}).Violations {
		o.violate(v.Promise, v.GID, "%s", v)
		return
	}
}

func (o *oracle) planned(a *account) lin.Observation {
	plan := a.called.plan
	p := lin.Observation{Sight: lin.SightPlan, GID: a.gid.String(), Mode: modeWords[plan.Mode]}
	if plan.Mode == logpb.Mode_MODE_MESSAGE {
		p.Steps = append(p.Steps, lin.PlannedStep{ID: localBranch, Local: true})
	}
	for _, s := range plan.Steps {
		p.Steps = append(p.Steps, lin.PlannedStep{ID: s.ID, After: s.After})
	}
	return p
}
