package linearizability

import (
	"fmt"
	"math"
	"slices"
)

// checkCalls is S15 for what is called: a leader calls only what is due by the log that
// it leads with. So it repeats nothing that was reported before its time, calls
// nothing forward after a rollback, nothing back after a commit, and nothing at all of
// what was ended. A late packet is no excuse: the call names the leader's epoch.
func (j *judge) checkCalls(f *facts, log *replay) {
	calls := f.sights(SightCall)
	if len(calls) == 0 {
		return
	}
	j.count(promiseEffects, len(calls))
	mode := f.mode()
	if plans := f.sights(SightPlan); len(plans) > 0 {
		mode = plans[0].Mode
	}
	heard := f.epochs(mode)
	for _, o := range calls {
		if o.Epoch == (Epoch{}) {
			if o.Operation == EffectTry || mode == modeWorkflow && o.Operation != EffectResume {
				continue // the initiator called
			}
			j.broken(Violation{Promise: promiseFencing, GID: f.gid, Lines: lines(o.Line), Operations: []string{o.describe()}, Text: "a call without an epoch"})
			return
		}
		j.count(promiseFencing, 1)
		if why := heard.against(o); why != nil {
			j.broken(Violation{Promise: promiseEffects, GID: f.gid, Lines: lines(why.by.Line, o.Line), Operations: []string{where(why.by), o.describe()},
				Text: fmt.Sprintf("%s of branch %q was called by the leader of term %d, though in term %d %s", o.Operation, o.Branch, o.Epoch.Term, why.epoch.Term, why.text)})
			return
		}
		if states, due := log.due(f.gid, o); !due {
			j.broken(Violation{Promise: promiseEffects, GID: f.gid, Lines: lines(o.Line), Operations: []string{o.describe()},
				Text: fmt.Sprintf("%s of branch %q was called by the leader of term %d, by whose log it was not due: %s", o.Operation, o.Branch, o.Epoch.Term, describeStates(states))})
			return
		}
	}
}

// settled is something that an answer of an epoch showed, after which a later leader
// has no reason for a call.
type settled struct {
	branch string // empty: of every branch
	epoch  Epoch
	text   string
	by     *Operation
}

// known are the operations that need no call any more, by answers alone.
type known map[Effect][]settled

// epochs collects what answers that carry an epoch show.
func (f *facts) epochs(mode string) known {
	k := known{}
	for _, op := range f.ops {
		if op.Status != StatusOK || op.Output.Epoch == (Epoch{}) {
			continue
		}
		out := &op.Output
		note := func(branch, text string, never ...Effect) {
			for _, e := range never {
				k[e] = append(k[e], settled{branch: branch, epoch: out.Epoch, text: text, by: op})
			}
		}
		decision := out.Decision
		if op.Kind == KindReport || out.Unseen {
			decision = DecisionNone
		}
		switch decision {
		case DecisionCommit:
			note("", "it was committed", EffectCompensate, EffectCancel, EffectCheckBack, EffectResume)
		case DecisionRollback:
			note("", "it was rolled back", EffectAction, EffectConfirm, EffectCheckBack, EffectResume)
		}
		if op.Kind != KindGet || !slices.Contains([]string{modeSaga, modeTCC, modeMessage, modeNotify}, mode) {
			continue
		}
		for _, b := range out.Branches {
			switch {
			case mode == modeSaga && b.Vote != "":
				note(b.ID, "it had answered", EffectAction)
			case mode == modeSaga:
			case b.Outcome != "":
				note(b.ID, "it had reported", EffectAction, EffectConfirm, EffectCancel)
			}
			if mode == modeSaga && b.Outcome != "" {
				note(b.ID, "it had reported", EffectCompensate)
			}
		}
	}
	return k
}

func (k known) against(o *Observation) *settled {
	for i := range k[o.Operation] {
		if s := &k[o.Operation][i]; (s.branch == "" || s.branch == o.Branch) && s.epoch.Before(o.Epoch) {
			return s
		}
	}
	return nil
}

// due tells whether a call was due at some time of its leader's, by the log; where that
// is not known, it may have been. The states are those that it might have been due in.
func (r *replay) due(gid string, o *Observation) (states []*tx, due bool) {
	first, last := r.termOf(o.Epoch.Term)
	if !r.covers(max(first, 1)) || r.from != 1 || r.incarnations {
		return nil, true
	}
	add := func(index uint64) { states = append(states, r.at(gid, index)...) }
	if first > 0 {
		add(first)
	} else {
		states = append(states, unseenTx)
	}
	for _, s := range r.stagesOf(gid) {
		if s.index > first && s.index <= last {
			add(s.index - 1) // where time may have ended it since the stage before
			add(s.index)
		}
	}
	add(last)
	return states, slices.ContainsFunc(states, func(t *tx) bool { return t.due(o.Branch, o.Operation) })
}

// termOf returns the last index before a term's first entry, and its last one: a leader
// of that term has applied the first when it calls, and nothing beyond the last.
func (r *replay) termOf(term uint64) (first, last uint64) {
	last = r.through
	for _, t := range r.terms {
		switch {
		case t.term < term:
			first = t.last
		case t.term > term && t.first <= last:
			last = t.first - 1
		}
	}
	if last == math.MaxUint64 {
		last = r.through
	}
	return first, max(first, last)
}

// due tells whether a branch, or an initiator, may be called to do an operation.
func (t *tx) due(id string, op Effect) bool {
	switch {
	case op == EffectCheckBack:
		return t.mode == modeMessage && t.phase == phaseActive
	case op == EffectResume:
		return t.mode == modeWorkflow && t.phase == phaseActive
	case t.decision() != DecisionNone && t.over():
		return false
	}
	m := t.find(id)
	if m == nil {
		return t.dim
	}
	switch op {
	case EffectAction:
		if t.mode == modeSaga {
			return t.phase == phaseSealed && m.vote == "" && t.callable(m)
		}
		return t.phase == phaseCommit && (t.mode == modeMessage || t.mode == modeNotify) && !t.ends(m) && t.beforeEnded(m)
	case EffectCompensate:
		return t.mode == modeSaga && t.phase == phaseRollback && !t.ends(m) && t.laterEnded(id)
	case EffectConfirm:
		return t.mode == modeTCC && t.phase == phaseCommit && !t.ends(m)
	case EffectCancel:
		return t.mode == modeTCC && t.phase == phaseRollback && !t.ends(m)
	default:
		return false
	}
}

func (t *tx) beforeEnded(m *member) bool {
	for _, id := range m.After.List() {
		if before := t.find(id); before != nil && !t.ends(before) {
			return false
		}
	}
	return true
}

// laterEnded: nothing that comes after a step, however far, is left to be undone.
func (t *tx) laterEnded(id string) bool {
	for i := range t.members {
		m := &t.members[i]
		if slices.Contains(m.After.List(), id) && (!t.ends(m) || !t.laterEnded(m.ID)) {
			return false
		}
	}
	return true
}
