package linearizability

import (
	"fmt"
	"slices"
)

// checkDeliveries is S11: no commit is delivered, or done, before anybody could have
// decided it; it takes effect once; and nothing is reversed. It tells whether a
// commit came out of nothing: then the decision itself is not to blame.
func (j *judge) checkDeliveries(f *facts, log *replay) (early bool) {
	deliveries, journal := f.sights(SightDelivery), f.sights(SightJournal)
	if len(deliveries)+len(journal) == 0 {
		return false
	}
	j.count(promiseDelivery, len(deliveries)+len(journal))
	if o := f.early(deliveries, journal, log); o != nil {
		j.broken(Violation{Promise: promiseDelivery, GID: f.gid, Lines: lines(o.Line), Operations: []string{o.describe()},
			Text: "a commit was delivered that nobody could have decided yet"})
		return true
	}
	if j.checkJournal(f, journal) {
		return false
	}
	first := map[string]*Observation{}
	for _, o := range deliveries {
		had := first[o.Branch]
		if o.Verdict == VerdictWait {
			continue
		}
		if had == nil {
			first[o.Branch] = o
			continue
		}
		if had.Verdict != o.Verdict {
			j.broken(Violation{Promise: promiseDelivery, GID: f.gid, Lines: lines(had.Line, o.Line), Operations: []string{had.describe(), o.describe()},
				Text: fmt.Sprintf("branch %s was told %s and then %s", o.Branch, had.Verdict, o.Verdict)})
			return false
		}
	}
	return false
}

// early finds a commit that was told or done before a commit was even asked; where
// the whole log is known, one that the log does not hold.
func (f *facts) early(deliveries, journal []*Observation, log *replay) *Observation {
	asked := timeInfinity
	for _, op := range f.ops {
		if op.Kind == KindCommit || op.Kind == KindSubmit {
			asked = min(asked, op.Call)
		}
	}
	for _, list := range [][]*Observation{deliveries, journal} {
		for _, o := range list {
			if o.Verdict != VerdictCommit && o.Step != StepCommitted {
				continue
			}
			if o.At > 0 && o.At < asked && (asked < timeInfinity || log.whole && !log.mayCommit(f.gid)) {
				return o
			}
			if log.whole && !log.mayCommit(f.gid) {
				return o
			}
		}
	}
	return nil
}

// checkJournal follows each branch through its participant's durable lines.
func (j *judge) checkJournal(f *facts, journal []*Observation) bool {
	type place struct{ resource, branch string }
	ended := map[place]*Observation{}
	prepared := map[place]bool{}
	for _, o := range journal {
		at := place{o.Resource, o.Branch}
		switch o.Step {
		case StepPrepared:
			prepared[at] = true
		case StepCommitted, StepRolledBack:
			text := ""
			switch had := ended[at]; {
			case had == nil && o.Step == StepCommitted && !prepared[at] && !o.Held:
				text = fmt.Sprintf("branch %s committed without ever having prepared", o.Branch)
			case had == nil || had.Step == StepRolledBack && o.Step == StepRolledBack:
			case had.Step == o.Step:
				text = fmt.Sprintf("branch %s took effect twice", o.Branch)
			default:
				text = fmt.Sprintf("branch %s was %s after it was %s", o.Branch, o.Step, had.Step)
			}
			if text != "" {
				j.broken(Violation{Promise: promiseDelivery, GID: f.gid, Lines: lines(o.Line), Operations: []string{o.describe()}, Text: text})
				return true
			}
			ended[at] = o
		}
	}
	return false
}

// checkFences is S12, by what each participant's process took in, in its order: a
// decision is obeyed from any epoch of the incarnation; a question (a delivery that
// says wait) only from the newest epoch heard; and what the log took from a driver
// was of the epoch that led.
func (j *judge) checkFences() {
	newest := map[string]*Observation{}
	for i := range j.history.Observations {
		o := &j.history.Observations[i]
		if o.Sight != SightDelivery {
			continue
		}
		j.count(promiseFencing, 1)
		if o.Epoch == (Epoch{}) {
			j.broken(Violation{Promise: promiseFencing, GID: o.GID, Lines: lines(o.Line), Operations: []string{o.describe()},
				Text: "a delivery without an epoch"})
			continue
		}
		had := newest[o.Process]
		if had != nil && o.Accepted && o.Epoch.Before(had.Epoch) &&
			(o.Verdict == VerdictWait || o.Epoch.Incarnation < had.Epoch.Incarnation) {
			j.broken(Violation{Promise: promiseFencing, GID: o.GID, Lines: lines(had.Line, o.Line), Operations: []string{had.describe(), o.describe()},
				Text: fmt.Sprintf("%s obeyed epoch %d.%d after it had heard epoch %d.%d", o.Process,
					o.Epoch.Incarnation, o.Epoch.Term, had.Epoch.Incarnation, had.Epoch.Term)})
		}
		if had == nil || had.Epoch.Before(o.Epoch) {
			newest[o.Process] = o
		}
	}
	j.checkDrivers()
}

// checkDrivers: a driver's commit of an older term is refused, so it is no decision's
// place in the log.
func (j *judge) checkDrivers() {
	decided := map[string]*Observation{}
	for i := range j.history.Observations {
		o := &j.history.Observations[i]
		if o.Sight == SightDecision && o.Index > 0 {
			decided[fmt.Sprintf("%s %d", o.GID, o.Index)] = o
		}
	}
	for i := range j.history.Observations {
		o := &j.history.Observations[i]
		if o.Sight != SightCommand || !o.Command.Driver || o.Term == 0 || o.Command.Epoch.Term == 0 {
			continue
		}
		j.count(promiseFencing, 1)
		if d := decided[fmt.Sprintf("%s %d", o.Command.GID, o.Index)]; d != nil && o.Command.Epoch.Term < o.Term {
			j.broken(Violation{Promise: promiseFencing, GID: o.Command.GID, Lines: lines(o.Line, d.Line), Operations: []string{o.describe(), d.describe()},
				Text: fmt.Sprintf("a driver of term %d decided in term %d", o.Command.Epoch.Term, o.Term)})
		}
	}
}

// checkAtomic is S14 for one GID: its branches' evidence says done, all of it, or
// none, as was decided.
func (j *judge) checkAtomic(f *facts) {
	rows := f.sights(SightEvidence)
	if len(rows) == 0 {
		return
	}
	j.count(promiseAtomic, 1)
	decided := f.decided()
	var first *Observation
	for _, o := range rows {
		if !o.Done && (o.Held || f.outside(o.Branch)) {
			// A held branch that was lost is reported, not hidden; one that came after
			// the seal rolled back, as it was told.
			continue
		}
		if first == nil {
			first = o
		}
		text := ""
		switch {
		case o.Done != first.Done:
			text = "one branch's work is there and another's is not"
		case o.Done && decided == DecisionRollback:
			text = fmt.Sprintf("the work of branch %s is there, though it was rolled back", o.Branch)
		case !o.Done && decided == DecisionCommit && f.prepared(o.Branch):
			text = fmt.Sprintf("the work of branch %s is not there, though it was committed", o.Branch)
		default:
			continue
		}
		j.broken(Violation{Promise: promiseAtomic, GID: f.gid, Lines: lines(first.Line, o.Line), Operations: []string{first.describe(), o.describe()}, Text: text})
		return
	}
}

// outside: the branch is known to be in no set that was committed.
func (f *facts) outside(id string) bool {
	if f.acknowledgedVote(id) {
		return false
	}
	if slices.ContainsFunc(f.told[id], func(t told) bool { return t.verdict == VerdictRollback && !t.delivery }) {
		return true
	}
	return slices.ContainsFunc(f.seen, func(o *Observation) bool {
		return o.Sight == SightFinal && o.Branches != nil &&
			!slices.ContainsFunc(o.Branches, func(b BranchView) bool { return b.ID == id })
	})
}

// prepared: the branch is known to have voted so.
func (f *facts) prepared(id string) bool {
	return f.acknowledgedVote(id) || slices.ContainsFunc(f.seen, func(o *Observation) bool {
		return o.Sight == SightJournal && o.Branch == id && o.Step == StepPrepared
	})
}
