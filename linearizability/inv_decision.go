package linearizability

import (
	"fmt"
	"slices"
)

// invariants checks what spans processes: over every answer and every observation
// of one GID.
func (j *judge) invariants(ops []*Operation, log *replay) {
	all := gather(j.history, ops)
	j.each(len(all), func(i int) {
		f := all[i]
		j.checkDecision(f)
		if !j.checkDeliveries(f, log) {
			j.checkValidity(f, log)
		}
		j.checkNonTrivial(f)
		j.checkEnd(f, log)
		j.checkRepeats(f)
		j.checkBranches(f)
		j.checkPresumed(f)
		j.checkAtomic(f)
		j.checkEffects(f)
		j.checkCalls(f, log)
		j.checkForward(f)
		j.checkReads(f, log)
	})
	for _, f := range all {
		switch f.decided() {
		case DecisionCommit:
			j.stats.Committed++
		case DecisionRollback:
			j.stats.RolledBack++
		}
	}
	j.checkRatio()
	j.checkWhole()
	j.checkLists(log)
	j.checkFences()
}

// checkDecision is S1 and S2: nobody holds another decision, and it never changes.
// One source that says first one, then the other, has changed its mind; two sources
// that differ disagree.
func (j *judge) checkDecision(f *facts) {
	if len(f.claims) == 0 {
		return
	}
	j.count(promiseAgreement, 1)
	j.count(promiseIrrevocable, 1)
	first := &f.claims[0]
	other := slices.IndexFunc(f.claims, func(c claim) bool { return c.decision != first.decision })
	if other >= 0 {
		a, b := f.changed()
		promise, text := promiseIrrevocable, "its decision changed"
		if a == nil {
			a, b = first, &f.claims[other]
			promise, text = promiseAgreement, "two hold different decisions"
		}
		j.broken(Violation{Promise: promise, GID: f.gid, Lines: lines(a.line, b.line), Operations: []string{a.by.String(), b.by.String()},
			Text: fmt.Sprintf("%s: %s, says %s; %s, says %s", text, a.decision, a.source, b.decision, b.source)})
		return
	}
	j.checkIndex(f)
}

// checkIndex: a decision has one place in the log.
func (j *judge) checkIndex(f *facts) {
	var at *claim
	for i := range f.claims {
		c := &f.claims[i]
		switch {
		case c.index == 0:
		case at == nil:
			at = c
		case at.index != c.index:
			j.broken(Violation{Promise: promiseIrrevocable, GID: f.gid, Lines: lines(at.line, c.line), Operations: []string{at.by.String(), c.by.String()},
				Text: fmt.Sprintf("it was decided twice, at index %d and at index %d", at.index, c.index)})
			return
		}
	}
}

// changed finds one source that said one thing and then another.
func (f *facts) changed() (a, b *claim) {
	for i := range f.claims {
		for k := range f.claims {
			x, y := &f.claims[i], &f.claims[k]
			if x.decision != y.decision && x.source == y.source && x.to > 0 && x.to < y.from {
				return x, y
			}
		}
	}
	return nil, nil
}

// checkValidity is S3: commit implies that every branch of the set agreed, and that
// commit was asked. By the log where it is known, and by the calls.
func (j *judge) checkValidity(f *facts, log *replay) {
	commit := f.claimed(DecisionCommit)
	for i := range f.claims {
		c := &f.claims[i]
		if c.index == 0 || !log.covers(c.index) {
			continue
		}
		j.count(promiseValidity, 1)
		if why := log.contradicts(f.gid, c.decision, c.index); why != "" {
			j.broken(Violation{Promise: promiseValidity, GID: f.gid, Lines: lines(c.line), Operations: []string{c.by.String()},
				Text: fmt.Sprintf("decided %s at index %d, but by the log up to there %s", c.decision, c.index, why)})
			return
		}
	}
	if commit == nil || j.history.Header.Partial || !f.recorded() {
		return
	}
	j.count(promiseValidity, 1)
	heard := commit.to
	if heard == 0 {
		heard = timeInfinity
	}
	asked, members := f.set()
	if mode := f.mode(); mode != modeTwoPhase {
		// Nobody votes. A saga's steps and a message's check-back decide unasked.
		asked, members = asked || mode != modeTCC && mode != modeWorkflow || log.whole, nil
	}
	if !asked {
		j.broken(Violation{Promise: promiseValidity, GID: f.gid, Lines: lines(commit.line), Operations: []string{commit.by.String()},
			Text: "committed, though nobody asked for a commit"})
		return
	}
	for _, id := range members {
		if !f.agreed(id, heard) {
			j.broken(Violation{Promise: promiseValidity, GID: f.gid, Lines: lines(commit.line), Operations: []string{commit.by.String()},
				Text: fmt.Sprintf("committed, though branch %s of the set had not voted prepared or read-only", id)})
			return
		}
	}
}

// recorded: the history holds who created it. Lists, watches and logs also show
// transactions of clients that record nothing.
func (f *facts) recorded() bool {
	return slices.ContainsFunc(f.ops, func(op *Operation) bool { return op.Kind == KindBegin || op.Kind == KindSubmit })
}

// mode that it was created in; where nobody who was answered did, one that was asked
// for.
func (f *facts) mode() string {
	mode := modeTwoPhase
	for _, op := range f.ops {
		if op.Kind != KindBegin && op.Kind != KindSubmit {
			continue
		}
		if op.Status == StatusOK {
			return modeIn(&op.Input)
		}
		if mode == modeTwoPhase {
			mode = modeIn(&op.Input)
		}
	}
	return mode
}

// set tells whether a commit was asked, and which branches the sealed set holds for
// certain: those that were enlisted before anybody asked, and, where every request
// named one and the same set, those in it.
func (f *facts) set() (asked bool, members []string) {
	first := timeInfinity
	var named []string
	same := true
	for _, op := range f.ops {
		if op.Kind != KindCommit && op.Kind != KindSubmit || op.Status == StatusFailed {
			continue
		}
		first = min(first, op.Call)
		set := compileCall(op.Kind, "", &op.Input, "", "", 0).set
		if op.Kind == KindCommit && op.Input.Set == nil {
			set = nil
		}
		if asked && !slices.Equal(named, set) {
			same = false
		}
		asked, named = true, set
	}
	if same {
		members = append(members, named...)
	}
	for _, op := range f.ops {
		if op.Kind == KindEnlist && op.Status == StatusOK && op.Return < first && !slices.Contains(members, op.Branch) {
			members = append(members, op.Branch)
		}
	}
	return asked, members
}

// agreed tells whether a branch may have voted for commit before a time.
func (f *facts) agreed(id string, before int64) bool {
	return slices.ContainsFunc(f.ops, func(op *Operation) bool {
		if op.Call > before || op.Status != StatusOK && op.Status != StatusUnknown {
			return false
		}
		if op.Kind == KindVote {
			return op.Branch == id && op.Input.Vote != VoteRefused
		}
		return slices.ContainsFunc(op.Input.Votes, func(b Ballot) bool { return b.Branch.ID == id && b.Vote != VoteRefused })
	})
}

// checkNonTrivial is S4 without faults: what everybody agreed to, nobody opposed and
// no deadline passed, commits.
func (j *judge) checkNonTrivial(f *facts) {
	if !j.history.Header.FaultFree || j.history.Header.Partial || !f.recorded() || f.mode() != modeTwoPhase {
		return
	}
	rolled := f.claimed(DecisionRollback)
	if rolled == nil {
		return
	}
	j.count(promiseNonTrivial, 1)
	var begun int64
	for _, op := range f.ops {
		switch {
		case op.Kind == KindRollback, op.Kind == KindReport, op.Input.Vote == VoteRefused, op.Status == StatusUnknown,
			slices.ContainsFunc(op.Input.Votes, func(b Ballot) bool { return b.Vote == VoteRefused }):
			return // somebody opposed, or may have
		case op.Kind == KindBegin || op.Kind == KindSubmit:
			if timeout := j.compiler.timeoutNS(op); rolled.to == 0 || rolled.to >= op.Call+timeout {
				return // it may have timed out
			}
			begun = op.Call
		}
	}
	if len(f.sights(SightDelivery)) > 0 && begun == 0 {
		return
	}
	asked, members := f.set()
	if !asked || slices.ContainsFunc(members, func(id string) bool { return !f.agreed(id, timeInfinity) }) {
		return
	}
	j.broken(Violation{Promise: promiseNonTrivial, GID: f.gid, Lines: lines(rolled.line), Operations: []string{rolled.by.String()},
		Text: "rolled back, though no fault was injected, every branch agreed, nobody asked for a rollback and no deadline had passed"})
}

// checkRatio is S4 under faults: a coordinator that rolls back everything breaks
// nothing else.
func (j *judge) checkRatio() {
	floor := j.history.Header.CommitRatioMin
	if floor <= 0 {
		return
	}
	j.count(promiseNonTrivial, 1)
	all := j.stats.Committed + j.stats.RolledBack
	if all == 0 || float64(j.stats.Committed) < floor*float64(all) {
		j.broken(Violation{Promise: promiseNonTrivial,
			Text: fmt.Sprintf("%d of %s committed, the floor is %.0f %%", j.stats.Committed, plural(all, "decided transaction"), floor*100)})
	}
}

func lines(all ...int) (out []int) {
	for _, l := range all {
		if l > 0 {
			out = append(out, l)
		}
	}
	return out
}
