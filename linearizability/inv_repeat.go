package linearizability

import (
	"fmt"
	"slices"
)

// checkRepeats is S9: a repeated request has one effect and one answer; the same
// name with other content is refused.
func (j *judge) checkRepeats(f *facts) {
	j.checkCreated(f)
	groups := map[string][]*Operation{}
	for _, op := range f.ops {
		switch op.Kind {
		case KindSubmit:
			if modeIn(&op.Input) == modeTwoPhase {
				continue // what it is compared with grows by votes
			}
			fallthrough
		case KindBegin, KindEnlist, KindVote, KindRecord:
			if op.Status == StatusOK || op.Status == StatusRefused {
				at := string(op.Kind) + "\x00" + op.Branch + "\x00" + op.Input.Operation
				groups[at] = append(groups[at], op)
			}
		}
	}
	for _, group := range groups {
		if len(group) < 2 {
			continue
		}
		j.count(promiseIdempotence, len(group)-1)
		if j.conflict(f, group) {
			return
		}
	}
}

// checkCreated: a transaction is created once.
func (j *judge) checkCreated(f *facts) {
	var first *Operation
	for _, op := range f.ops {
		if op.Status != StatusOK || !op.Output.Created {
			continue
		}
		if first == nil {
			first = op
			continue
		}
		j.broken(Violation{Promise: promiseIdempotence, GID: f.gid, Lines: lines(first.Line, op.Line), Operations: []string{where(first), where(op)},
			Text: "it was created twice"})
		return
	}
}

// conflict looks for a pair of one group that was answered differently though it
// asked the same, or alike though it asked different things.
func (j *judge) conflict(f *facts, group []*Operation) bool {
	for _, a := range group {
		if a.Status != StatusOK {
			continue
		}
		for _, b := range group {
			if a == b {
				continue
			}
			text := ""
			switch same := sameContent(a, b); {
			case same && b.Status == StatusRefused && a.Return < b.Call && isConflict(b.Output.Refusal):
				text = "a request was taken, and its repetition refused as another one"
			case !same && b.Status == StatusOK && bothTaken(a, b):
				text = fmt.Sprintf("two different requests to %s under one name were both taken", a.Kind)
			default:
				continue
			}
			j.broken(Violation{Promise: promiseIdempotence, GID: f.gid, Lines: lines(a.Line, b.Line), Operations: []string{where(a), where(b)}, Text: text})
			return true
		}
	}
	return false
}

func sameContent(a, b *Operation) bool {
	switch a.Kind {
	case KindBegin, KindSubmit:
		return beginContent(a) == beginContent(b)
	case KindRecord:
		return a.Input.Result == b.Input.Result && a.Input.Failed == b.Input.Failed
	case KindVote:
		return a.Input.Vote == b.Input.Vote && specOf(a) == specOf(b)
	default:
		return specOf(a) == specOf(b)
	}
}

func beginContent(op *Operation) string {
	c := compileCall(op.Kind, "", &op.Input, op.Namespace, op.Key, 0)
	return c.content
}

func specOf(op *Operation) Branch {
	return specIn(op.Branch, &op.Input)
}

func isConflict(refusal string) bool {
	return slices.Contains([]string{refusalGID, refusalBranch, refusalVote}, refusal)
}

// bothTaken: two answers that cannot both have been right. A vote of another spec
// may be taken after the decision, where it says nothing new; a refusal is always
// taken by what has rolled back.
func bothTaken(a, b *Operation) bool {
	switch a.Kind {
	case KindRecord:
		return true
	case KindBegin, KindSubmit:
		// A default and the value that it stands for are one content.
		return a.Input.TimeoutMS != 0 && b.Input.TimeoutMS != 0 || a.Input.TimeoutMS == b.Input.TimeoutMS
	case KindVote:
		yes := func(op *Operation) bool { return op.Input.Vote != VoteRefused }
		return yes(a) && yes(b) && a.Input.Vote != b.Input.Vote
	default:
		return !specOf(a).named() && !specOf(b).named() && a.Output.Verdict == VerdictWait && b.Output.Verdict == VerdictWait
	}
}

// checkBranches is S10: an acknowledged branch hears the outcome, and after the seal
// none joins.
func (j *judge) checkBranches(f *facts) {
	sealed := timeInfinity
	var by *Operation
	for _, op := range f.ops {
		if (op.Kind == KindCommit || op.Kind == KindSubmit) && op.Status == StatusOK && op.Return < sealed {
			sealed, by = op.Return, op
		}
	}
	for _, op := range f.ops {
		if op.Kind != KindEnlist || op.Status != StatusOK || op.Call <= sealed || op.Output.Verdict == VerdictRollback {
			continue
		}
		j.count(promiseNoLostBranch, 1)
		if !f.mentioned(op.Branch, sealed) {
			j.broken(Violation{Promise: promiseNoLostBranch, GID: f.gid, Lines: lines(by.Line, op.Line), Operations: []string{where(by), where(op)},
				Text: fmt.Sprintf("branch %s was taken in after the set was sealed", op.Branch)})
			return
		}
	}
	commit := f.claimed(DecisionCommit)
	if commit == nil {
		return
	}
	for branch, words := range f.told {
		voted := f.acknowledgedVote(branch)
		if !voted && !(f.mode() == modeTCC && f.joined(branch)) {
			continue
		}
		j.count(promiseNoLostBranch, 1)
		for _, w := range words {
			if w.verdict == VerdictRollback && !w.unseen && (w.kind == KindInquire || w.kind == KindVote) {
				if !voted {
					j.broken(Violation{Promise: promiseNoLostBranch, GID: f.gid, Lines: lines(commit.line, w.line), Operations: []string{commit.by.String(), w.by.String()},
						Text: fmt.Sprintf("branch %s was taken in before the commit, and heard rollback of it", branch)})
					return
				}
				j.broken(Violation{Promise: promiseNoLostBranch, GID: f.gid, Lines: lines(commit.line, w.line), Operations: []string{commit.by.String(), w.by.String()},
					Text: fmt.Sprintf("branch %s had voted prepared and was told to wait, and heard rollback of what committed", branch)})
				return
			}
		}
	}
}

// mentioned: somebody named the branch before a time.
func (f *facts) mentioned(id string, before int64) bool {
	return slices.ContainsFunc(f.ops, func(op *Operation) bool {
		return op.Call <= before && (op.Branch == id && (op.Kind == KindEnlist || op.Kind == KindVote) ||
			slices.Contains(op.Input.Set, id) ||
			slices.ContainsFunc(op.Input.Branches, func(b Branch) bool { return b.ID == id }))
	})
}

// joined: the branch was taken in, and told to wait.
func (f *facts) joined(id string) bool {
	return slices.ContainsFunc(f.ops, func(op *Operation) bool {
		return op.Kind == KindEnlist && op.Branch == id && op.Status == StatusOK && op.Output.Verdict == VerdictWait
	})
}

// acknowledgedVote: the branch voted prepared, and heard that it counts.
func (f *facts) acknowledgedVote(id string) bool {
	return slices.ContainsFunc(f.ops, func(op *Operation) bool {
		return op.Kind == KindVote && op.Branch == id && op.Input.Vote == VotePrepared && op.Status == StatusOK &&
			(op.Output.Verdict == VerdictWait || op.Output.Verdict == VerdictCommit)
	})
}

// checkPresumed is S13: "rolled back" of what nobody has seen is told only when it
// can never be committed any more.
func (j *judge) checkPresumed(f *facts) {
	commit := f.claimed(DecisionCommit)
	var expired *Operation
	for _, op := range f.ops {
		out := &op.Output
		presumed := op.Kind == KindInquire && op.Status == StatusOK && out.Verdict == VerdictRollback && out.Unseen
		if !presumed && out.Refusal != refusalExpired {
			if expired != nil && op.Call > expired.Return && op.Status == StatusOK && decisionIn(out.State) == DecisionRollback && !op.Input.Participant {
				j.broken(Violation{Promise: promisePresumed, GID: f.gid, Lines: lines(expired.Line, op.Line), Operations: []string{where(expired), where(op)},
					Text: "after retention a client heard rolled back, where only EXPIRED is known"})
				return
			}
			continue
		}
		if expired == nil && op.Status == StatusRefused {
			expired = op
		}
		j.count(promisePresumed, 1)
		text := ""
		switch {
		case !j.compiler.expirable(op, f.gid):
			text = "it was presumed dropped, though it was born above the horizon"
		case presumed && commit != nil && f.acknowledgedVote(op.Branch) && !f.reported(op.Branch):
			text = fmt.Sprintf("branch %s was told rolled back after retention of what committed, before it had reported", op.Branch)
		default:
			continue
		}
		j.broken(Violation{Promise: promisePresumed, GID: f.gid, Lines: lines(op.Line), Operations: []string{where(op)}, Text: text})
		return
	}
	for _, op := range f.ops {
		if op.Kind != KindInquire || op.Status != StatusOK || op.Output.Verdict != VerdictRollback || op.Output.Unseen || j.history.Header.Partial {
			continue
		}
		touched := slices.ContainsFunc(f.ops, func(o *Operation) bool {
			return o != op && o.Kind != KindInquire && o.Kind != KindGet && o.Call <= op.Return
		})
		if !touched && !j.compiler.presumable(op) {
			j.broken(Violation{Promise: promisePresumed, GID: f.gid, Lines: lines(op.Line), Operations: []string{where(op)},
				Text: "a GID that nobody had seen was ended before its time: an initiator could still commit it"})
			return
		}
	}
}

// reported: the branch may have spoken for itself.
func (f *facts) reported(id string) bool {
	return slices.ContainsFunc(f.ops, func(op *Operation) bool {
		return op.Kind == KindReport && op.Branch == id && op.Status != StatusFailed && op.Status != StatusRefused
	}) || slices.ContainsFunc(f.seen, func(o *Observation) bool {
		return o.Sight == SightJournal && o.Branch == id && o.Step == StepCommitted
	})
}
