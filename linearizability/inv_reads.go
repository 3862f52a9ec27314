package linearizability

import (
	"cmp"
	"fmt"
	"slices"
)

// checkReads is S8 for Get on any node: at least as fresh as was asked for, never
// ahead of what its index covers, and, where the log is known, equal to the state
// replayed up to that index.
func (j *judge) checkReads(f *facts, log *replay) {
	var decidedAt uint64
	var decider *claim
	for i := range f.claims {
		if f.claims[i].index > 0 {
			decidedAt, decider = f.claims[i].index, &f.claims[i]
			break
		}
	}
	for _, op := range f.ops {
		if op.Kind != KindGet || op.Status == StatusUnknown || op.Output.AppliedIndex == 0 {
			continue
		}
		j.count(promiseReads, 1)
		if v := j.freshness(op); v != nil {
			v.GID = f.gid
			j.broken(*v)
			return
		}
		applied := op.Output.AppliedIndex
		says := cmp.Or(op.Output.Decision, decisionIn(op.Output.State))
		switch {
		case says == DecisionNone && decidedAt > 0 && applied >= decidedAt && op.Status == StatusOK:
			j.broken(Violation{Promise: promiseReads, GID: f.gid, Lines: lines(op.Line, decider.line), Operations: []string{where(op), decider.by.String()},
				Text: fmt.Sprintf("a read at index %d shows it undecided, and it was decided at index %d", applied, decidedAt)})
			return
		case says != DecisionNone && applied < max(decidedAt, op.Output.DecisionIndex):
			j.broken(Violation{Promise: promiseReads, GID: f.gid, Lines: lines(op.Line), Operations: []string{where(op)},
				Text: fmt.Sprintf("a read at index %d shows a decision that was made at index %d", applied, max(decidedAt, op.Output.DecisionIndex))})
			return
		}
		if log.covers(applied) && !j.replayShows(op, f.gid, log) {
			j.broken(Violation{Promise: promiseReads, GID: f.gid, Lines: lines(op.Line), Operations: []string{where(op)},
				Text: fmt.Sprintf("the log up to index %d makes it %s", applied, describeStates(log.at(f.gid, applied)))})
			return
		}
	}
}

// freshness: min_index bounds how old a read may be.
func (j *judge) freshness(op *Operation) *Violation {
	if op.Input.MinIndex == 0 || op.Output.AppliedIndex >= op.Input.MinIndex || op.Output.AppliedIndex == 0 || op.Status == StatusUnknown {
		return nil
	}
	return &Violation{Promise: promiseReads, Lines: lines(op.Line), Operations: []string{where(op)},
		Text: fmt.Sprintf("the client had seen index %d, and was answered from index %d", op.Input.MinIndex, op.Output.AppliedIndex)}
}

// replayShows tells whether a state of the replay explains a Get.
func (j *judge) replayShows(op *Operation, gid string, log *replay) bool {
	e := j.compiler.event(op, gid)
	e.expirable = false // the replay has aged already
	e.deliveriesUnseen = false
	return slices.ContainsFunc(log.at(gid, op.Output.AppliedIndex), func(t *tx) bool {
		ok, _ := t.step(&e)
		return ok
	})
}

func describeStates(states []*tx) string {
	s := states[0].describe()
	for _, t := range states[1:] {
		s += ", or " + t.describe()
	}
	return s
}

// checkLists is S8 for lists and watches: what they show is what stood, or happened,
// at the index that they carry.
func (j *judge) checkLists(log *replay) {
	var lists []*Operation
	for i := range j.history.Operations {
		op := &j.history.Operations[i]
		if op.Status != StatusOK {
			continue
		}
		switch {
		case op.Kind == KindList:
			lists = append(lists, op)
		case op.Kind == KindWatch:
			j.checkWatch(op, log)
		case op.Kind != KindGet || op.Input.Consistency != Local:
			continue
		}
		j.stats.Reads++
		if op.Kind != KindGet { // those are counted with their GID
			j.count(promiseReads, 1)
		}
	}
	slices.SortStableFunc(lists, func(a, b *Operation) int { return cmp.Compare(a.Output.AppliedIndex, b.Output.AppliedIndex) })
	open := &unfinished{gids: map[string]bool{}}
	for _, op := range lists {
		j.checkList(op, log, open)
	}
}

func (j *judge) checkList(op *Operation, log *replay, open *unfinished) {
	if v := j.freshness(op); v != nil {
		j.broken(*v)
		return
	}
	shown := map[string]bool{}
	for _, l := range op.Output.Transactions {
		if shown[l.GID] {
			j.broken(Violation{Promise: promiseReads, GID: l.GID, Lines: lines(op.Line), Operations: []string{where(op)}, Text: "a list shows it twice"})
			return
		}
		shown[l.GID] = true
	}
	index := op.Output.AppliedIndex
	if !log.covers(index) {
		return
	}
	for _, l := range op.Output.Transactions {
		states := log.at(l.GID, index)
		if !slices.ContainsFunc(states, func(t *tx) bool {
			return t.state() == l.State && t.decision() == cmp.Or(l.Decision, decisionIn(l.State))
		}) {
			j.broken(Violation{Promise: promiseReads, GID: l.GID, Lines: lines(op.Line), Operations: []string{where(op)},
				Text: fmt.Sprintf("a list at index %d shows it %s; the log up to there makes it %s", index, l.State, describeStates(states))})
			return
		}
	}
	leftOut := func(gid string) bool {
		if shown[gid] {
			return false
		}
		states := log.at(gid, index)
		if slices.ContainsFunc(states, func(t *tx) bool { return !listed(t, &op.Input) }) {
			return false
		}
		j.broken(Violation{Promise: promiseReads, GID: gid, Lines: lines(op.Line), Operations: []string{where(op)},
			Text: fmt.Sprintf("a list at index %d leaves it out; the log up to there makes it %s", index, describeStates(states))})
		return true
	}
	if op.Input.IncludeFinished || len(op.Input.States) > 0 {
		for gid := range log.byGID {
			if leftOut(gid) {
				return
			}
		}
		return
	}
	open.upTo(index, log)
	for gid := range open.gids {
		if leftOut(gid) {
			return
		}
	}
}

// unfinished are the GIDs that a list of what has not ended may have to show. It
// goes forward through the log, so that thousands of lists over a long log do not
// look at every transaction again.
type unfinished struct {
	index uint64
	gids  map[string]bool
}

// upTo goes on to an index, which must not be smaller than the one before.
func (u *unfinished) upTo(index uint64, log *replay) {
	for _, gid := range log.between(u.index, index) {
		u.gids[gid] = true
	}
	u.index = index
	for gid := range u.gids {
		// What has ended is no more listed, unless a later command opens it: then it
		// comes in again.
		if !slices.ContainsFunc(log.at(gid, index), func(t *tx) bool { return listed(t, &Input{}) }) {
			delete(u.gids, gid)
		}
	}
}

// listed tells whether a list that asks so shows a transaction.
func listed(t *tx, in *Input) bool {
	s := t.state()
	switch {
	case s == "":
		return false
	case len(in.States) > 0:
		return slices.Contains(in.States, s)
	default:
		return in.IncludeFinished || s != StateCommitted && s != StateRolledBack
	}
}

// checkWatch: events come in the order of the log, each once, none is left out.
func (j *judge) checkWatch(op *Operation, log *replay) {
	last := op.Input.AfterIndex
	decided := map[string]uint64{}
	for _, e := range op.Output.Events {
		if e.Index < last || e.Index <= op.Input.AfterIndex || op.Output.Through > 0 && e.Index > op.Output.Through {
			j.broken(Violation{Promise: promiseReads, GID: e.GID, Lines: lines(op.Line), Operations: []string{where(op)},
				Text: fmt.Sprintf("a watch after index %d told of index %d when it was at index %d", op.Input.AfterIndex, e.Index, last)})
			return
		}
		last = e.Index
		if e.Event != "decided" {
			continue
		}
		if at, twice := decided[e.GID]; twice {
			j.broken(Violation{Promise: promiseReads, GID: e.GID, Lines: lines(op.Line), Operations: []string{where(op)},
				Text: fmt.Sprintf("a watch told twice that it was decided, at index %d and at index %d", at, e.Index)})
			return
		}
		decided[e.GID] = e.Index
		if log.covers(e.Index) {
			if why := log.contradicts(e.GID, e.Decision, e.Index); why != "" {
				j.broken(Violation{Promise: promiseReads, GID: e.GID, Lines: lines(op.Line), Operations: []string{where(op)},
					Text: fmt.Sprintf("a watch told of %s at index %d, but by the log up to there %s", e.Decision, e.Index, why)})
				return
			}
		}
	}
	j.missed(op, log, decided)
}

// missed: a decision within the watched part of the log that no event told of.
func (j *judge) missed(op *Operation, log *replay, told map[string]uint64) {
	through := op.Output.Through
	if through == 0 || !log.covers(through) {
		return
	}
	for _, gid := range log.between(op.Input.AfterIndex, through) {
		if _, ok := told[gid]; ok || op.GID != "" && op.GID != gid {
			continue
		}
		undecided := func(t *tx) bool { return t.decision() == DecisionNone }
		before, after := log.at(gid, op.Input.AfterIndex), log.at(gid, through)
		if !slices.ContainsFunc(before, func(t *tx) bool { return !undecided(t) }) && !slices.ContainsFunc(after, undecided) && !slices.ContainsFunc(after, func(t *tx) bool { return t.gone }) {
			j.broken(Violation{Promise: promiseReads, GID: gid, Lines: lines(op.Line), Operations: []string{where(op)},
				Text: fmt.Sprintf("a watch from index %d through %d left out that it was decided", op.Input.AfterIndex, through)})
			return
		}
	}
}
