package linearizability

import (
	"fmt"
	"slices"
)

// checkEnd is S5 and S6 for one GID: at quiescence it has ended, and what was
// acknowledged is still there.
func (j *judge) checkEnd(f *facts, log *replay) {
	finals := f.sights(SightFinal)
	for _, o := range finals {
		j.count(promiseTermination, 1)
		switch o.State {
		case StateActive, StateSealed, StateCommitting, StateRollingBack:
			j.broken(Violation{Promise: promiseTermination, GID: f.gid, Lines: lines(o.Line), Operations: []string{o.describe()},
				Text: fmt.Sprintf("at quiescence it was still %s", o.State)})
		}
		j.checkKept(f, o)
	}
	if j.quiescent {
		j.checkJournalEnds(f)
	}
	if len(finals) == 0 {
		j.checkLogged(f, log)
	}
	j.checkForgotten(f)
}

// checkWhole is what concerns the history as a whole: quarantined transactions, what
// was in doubt at quiescence, and the sums.
func (j *judge) checkWhole() {
	for i := range j.history.Operations {
		if op := &j.history.Operations[i]; op.Output.Refusal == "QUARANTINED" {
			j.broken(Violation{Promise: promiseIrrevocable, GID: op.GID, Lines: lines(op.Line), Operations: []string{where(op)},
				Text: "it is quarantined: an invariant broke, or something tried to overwrite its decision"})
			break // the first one tells enough
		}
	}
	for i := range j.history.Observations {
		o := &j.history.Observations[i]
		switch o.Sight {
		case SightInDoubt:
			j.broken(Violation{Promise: promiseTermination, GID: o.GID, Lines: lines(o.Line), Operations: []string{o.describe()},
				Text: "in doubt at quiescence"})
		case SightSum:
			j.count(promiseAtomic, 1)
			if o.Value != o.Want {
				j.broken(Violation{Promise: promiseAtomic, Lines: lines(o.Line), Operations: []string{o.describe()},
					Text: fmt.Sprintf("%s holds %d and should hold %d", o.Resource, o.Value, o.Want)})
			}
		case SightQuiescent:
			j.count(promiseTermination, 1)
		}
	}
}

// checkJournalEnds: a branch that prepared has ended.
func (j *judge) checkJournalEnds(f *facts) {
	open := map[[2]string]*Observation{}
	for _, o := range f.sights(SightJournal) {
		at := [2]string{o.Resource, o.Branch}
		switch o.Step {
		case StepPrepared:
			open[at] = o
			j.count(promiseTermination, 1)
		case StepCommitted, StepRolledBack:
			delete(open, at)
		}
	}
	for _, o := range open {
		j.broken(Violation{Promise: promiseTermination, GID: f.gid, Lines: lines(o.Line), Operations: []string{o.describe()},
			Text: fmt.Sprintf("branch %s prepared and had not ended at quiescence", o.Branch)})
	}
}

// acknowledgement is what a success answer promised to keep.
type acknowledgement struct {
	kind     Kind
	branch   string
	vote     Vote
	decision Decision
	// word and result of a workflow's step; result, too, of what decided one.
	word, result string
	by           witness
	line         int
}

// acknowledged lists them, from answers and from ledgers.
func (f *facts) acknowledged() (out []acknowledgement) {
	for _, op := range f.ops {
		if op.Status != StatusOK {
			continue
		}
		a := acknowledgement{kind: op.Kind, branch: op.Branch, vote: op.Input.Vote, decision: op.Output.Decision,
			word: op.Input.Operation, result: op.Input.Result, by: witness{op: op}, line: op.Line}
		switch op.Kind {
		case KindRecord, KindStop, KindBegin, KindEnlist, KindCommit, KindSubmit, KindRollback:
			out = append(out, a)
		case KindVote:
			if op.Input.Vote != VoteRefused {
				out = append(out, a)
			}
		}
	}
	for _, o := range f.sights(SightLedger) {
		if o.Vote == VoteRefused {
			continue // what has rolled back takes a refusal without keeping it
		}
		out = append(out, acknowledgement{kind: o.Kind, branch: o.Branch, vote: o.Vote, decision: o.Decision, by: witness{seen: o}, line: o.Line})
	}
	return out
}

// resulted: nobody asked for a commit with another result than this one.
func (f *facts) resulted(result string) bool {
	return !slices.ContainsFunc(f.ops, func(op *Operation) bool { return op.Kind == KindCommit && op.Input.Result != result })
}

// textExpired marks a final observation of what was dropped after retention.
const textExpired = "EXPIRED"

// checkKept is S6: the ledger of acknowledgements against the final state.
func (j *judge) checkKept(f *facts, final *Observation) {
	if final.Text == textExpired {
		return
	}
	for _, a := range f.acknowledged() {
		j.count(promiseDurability, 1)
		lost := ""
		switch {
		case a.kind == KindRollback && final.State == "" && a.decision == DecisionNone:
		case final.State == "":
			lost = "the transaction is not there"
		case a.decision != DecisionNone && decisionIn(final.State) == DecisionNone:
			lost = "it is undecided"
		case a.kind == KindStop && decisionIn(final.State) == DecisionNone:
			lost = "it is undecided"
		case a.kind == KindCommit && a.result != "" && final.Result != "" && final.Result != a.result && f.resulted(a.result):
			lost = fmt.Sprintf("its result is %q", final.Result)
		case final.Branches == nil || a.branch == "":
		case a.kind == KindRecord:
			if !slices.ContainsFunc(final.Branches, func(b BranchView) bool {
				return b.ID == a.branch && b.Recorded == a.word && b.Result == a.result
			}) {
				lost = fmt.Sprintf("the step %s is not there with its result", a.word)
			}
		case a.kind == KindEnlist || a.kind == KindVote:
			i := slices.IndexFunc(final.Branches, func(b BranchView) bool { return b.ID == a.branch })
			if i < 0 {
				lost = "the branch is not there"
			} else if a.kind == KindVote && a.vote != "" && final.Branches[i].Vote != a.vote {
				lost = fmt.Sprintf("the branch's vote is %q", final.Branches[i].Vote)
			}
		}
		if lost != "" {
			j.broken(Violation{Promise: promiseDurability, GID: f.gid, Lines: lines(a.line, final.Line), Operations: []string{a.by.String(), final.describe()},
				Text: fmt.Sprintf("an acknowledged %s was lost: %s", a.kind, lost)})
			return
		}
	}
}

// checkLogged: where the whole log is known, what was acknowledged is in it.
func (j *judge) checkLogged(f *facts, log *replay) {
	if !log.whole {
		return
	}
	for _, a := range f.acknowledged() {
		if a.kind == KindRollback && a.decision == DecisionNone {
			continue
		}
		j.count(promiseDurability, 1)
		if !log.holds(a.kind, f.gid, a.branch) {
			j.broken(Violation{Promise: promiseDurability, GID: f.gid, Lines: lines(a.line), Operations: []string{a.by.String()},
				Text: fmt.Sprintf("an acknowledged %s is in no log", a.kind)})
			return
		}
	}
}

// checkForgotten: once a GID was acknowledged, nobody is told that it was never
// seen.
func (j *judge) checkForgotten(f *facts) {
	known := timeInfinity
	var by *Operation
	for _, op := range f.ops {
		if op.Status != StatusOK || op.Input.Consistency == Local || op.Output.Unseen {
			continue
		}
		switch op.Kind {
		case KindBegin, KindEnlist, KindVote, KindCommit, KindSubmit, KindRecord, KindStop:
			if op.Return < known {
				known, by = op.Return, op
			}
		}
	}
	if by == nil {
		return
	}
	j.count(promiseDurability, 1)
	for _, op := range f.ops {
		if op.Call <= known || op.Input.Consistency == Local {
			continue
		}
		forgotten := op.Output.Refusal == refusalNotFound && (op.GID != "" || op.Output.GID != "") ||
			op.Kind == KindInquire && op.Output.Unseen && op.Output.Verdict == VerdictWait
		if forgotten && op.Status != StatusUnknown {
			j.broken(Violation{Promise: promiseDurability, GID: f.gid, Lines: lines(by.Line, op.Line), Operations: []string{where(by), where(op)},
				Text: "it was acknowledged, and later nobody had ever seen it"})
			return
		}
	}
}
