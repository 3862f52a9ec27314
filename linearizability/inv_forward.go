package linearizability

import (
	"cmp"
	"fmt"
	"slices"
)

// checkForward is S8 over time: of two reads, whoever answered them, the one that
// covers more of the log shows no earlier state, no vote less, and no other result.
func (j *judge) checkForward(f *facts) {
	var reads []*Operation
	for _, op := range f.ops {
		if op.Kind == KindGet && op.Status == StatusOK && op.Output.AppliedIndex > 0 {
			reads = append(reads, op)
		}
	}
	slices.SortStableFunc(reads, func(a, b *Operation) int { return cmp.Compare(a.Output.AppliedIndex, b.Output.AppliedIndex) })
	for i := 1; i < len(reads); i++ {
		a, b := reads[i-1], reads[i]
		j.count(promiseReads, 1)
		if why := wentBack(&a.Output, &b.Output); why != "" {
			j.broken(Violation{Promise: promiseReads, GID: f.gid, Lines: lines(a.Line, b.Line), Operations: []string{where(a), where(b)},
				Text: fmt.Sprintf("from index %d to index %d it went back: %s", a.Output.AppliedIndex, b.Output.AppliedIndex, why)})
			return
		}
	}
}

// rankOf orders states: none follows one of a greater rank.
var rankOf = map[State]int{
	StateActive: 1, StateSealed: 2, StateCommitting: 3, StateRollingBack: 3, StateCommitted: 4, StateRolledBack: 4,
}

// wentBack says what a later answer shows less of; at one index they show the same.
func wentBack(a, b *Output) string {
	if x, y := rankOf[a.State], rankOf[b.State]; x > 0 && y > 0 && (y < x || a.AppliedIndex == b.AppliedIndex && x != y) {
		return fmt.Sprintf("it was %s, and then %s", a.State, b.State)
	}
	if a.Result != "" && a.Result != b.Result {
		return "its result is another one"
	}
	if a.Stopped && !b.Stopped {
		return "it was stopped, and then not"
	}
	for _, was := range a.Branches {
		if b.Branches == nil {
			break
		}
		i := slices.IndexFunc(b.Branches, func(v BranchView) bool { return v.ID == was.ID && v.Recorded == was.Recorded })
		switch {
		case i < 0:
			return fmt.Sprintf("branch %s %s is there no more", was.ID, was.Recorded)
		case was.Vote != "" && b.Branches[i].Vote != was.Vote:
			return fmt.Sprintf("branch %s had said %s, and then %q", was.ID, was.Vote, b.Branches[i].Vote)
		case was.Recorded != "" && b.Branches[i].Result != was.Result:
			return fmt.Sprintf("step %s %s has another result", was.ID, was.Recorded)
		}
	}
	return ""
}
