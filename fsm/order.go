package fsm

import (
	"strings"

	"github.com/quorate/quorate/fsm/logpb"
)

// Branches that are called go forward in the order of their dependencies, and
// back in the exact reverse: a branch comes back only when nothing that came
// after it, however far, is left to come back. Each function here takes time in
// proportion to the branches and their dependencies.

// idleBranch says that a branch of a decided transaction has nothing to be
// called for: its mode asks nothing of it this way, it names nobody to call, or
// it is a saga's step that was never callable, so that nothing was done.
func (t *transaction) idleBranch(b *branch) bool {
	rules := t.rules()
	if rules.votes {
		return false
	}
	operation, endpoint := rules.onCommit, b.spec.GetEndpoint()
	if t.decision == DecisionRollback {
		operation, endpoint = rules.onRollback, b.spec.GetUndo()
	}
	return operation == 0 || endpoint == "" || t.decision == DecisionRollback && rules.waits && !t.callable(b)
}

// callable says that all that must be done before a saga's step is done: it may
// have been called.
func (t *transaction) callable(b *branch) bool {
	for _, id := range b.spec.GetAfter() {
		if before := t.member(id); before == nil || before.vote != votePrepared {
			return false
		}
	}
	return true
}

// called is a branch that a rollback names, as it can join: no limit refuses it
// and no shape, but it waits only for what stands already.
func (t *transaction) called(spec *logpb.BranchSpec) *logpb.BranchSpec {
	if t.rules().votes || len(spec.GetAfter()) == 0 && !spec.GetHeld() && spec.GetTopic() == "" {
		return spec
	}
	lean := withoutPayload(spec)
	lean.Payload, lean.Held, lean.Topic, lean.After = spec.GetPayload(), false, "", nil
	for _, id := range spec.GetAfter() {
		if t.member(id) != nil {
			lean.After = append(lean.After, id)
		}
	}
	return lean
}

// markIdle notes, once it is decided, which branches have nothing to be called
// for. What is answered later changes nothing in it.
func (t *transaction) markIdle() {
	if t.rules().votes {
		return
	}
	for i, b := range t.branches {
		if t.idleBranch(b) {
			t.editAt(nil, i).idle = true
		}
	}
}

// next lists the branches that are not done and wait for none that is not: for
// none of those they name, however far, or in reverse, of those that name them.
func (t *transaction) next(done func(*branch) bool, reverse bool) []*branch {
	if !t.ordered() {
		list := make([]*branch, 0, len(t.branches))
		for _, b := range t.branches {
			if !done(b) {
				list = append(list, b)
			}
		}
		return list
	}
	g := newGraph(len(t.branches))
	for i, b := range t.branches {
		for _, id := range b.spec.GetAfter() {
			switch k, ok := t.find(id); {
			case ok && reverse:
				g.edge(i, k)
			case ok:
				g.edge(k, i)
			}
		}
	}
	reached := make([]bool, len(t.branches))
	g.walk(func(i int) bool {
		reached[i] = true
		return done(t.branches[i])
	})
	var list []*branch
	for i, b := range t.branches {
		if reached[i] && !done(b) {
			list = append(list, b)
		}
	}
	return list
}

// ordered says that any branch waits for another.
func (t *transaction) ordered() bool {
	for _, b := range t.branches {
		if len(b.spec.GetAfter()) > 0 {
			return true
		}
	}
	return false
}

// checkOrder refuses dependencies that nothing could ever honour. The set is
// sorted by unique ids.
func checkOrder(field string, set []*logpb.BranchSpec) (Result, bool) {
	place := make(map[string]int, len(set))
	for i, spec := range set {
		place[spec.GetId()] = i
	}
	g := newGraph(len(set))
	for i, spec := range set {
		for _, id := range spec.GetAfter() {
			k, ok := place[id]
			if !ok {
				return invalid(field+".after", "of branch %q names %q, which is no branch of the set", spec.GetId(), id), false
			}
			g.edge(k, i)
		}
	}
	free := make([]bool, len(set))
	if g.walk(func(i int) bool { free[i] = true; return true }) == len(set) {
		return Result{}, true
	}
	var stuck []string
	for i, ok := range free {
		if !ok && len(stuck) < 8 {
			stuck = append(stuck, set[i].GetId())
		}
	}
	return invalid(field+".after", "goes in a circle: none of %s could ever be first", strings.Join(stuck, ", ")), false
}

// graph is who waits for whom, by place.
type graph struct {
	waits []int
	then  [][]int
}

func newGraph(n int) *graph { return &graph{waits: make([]int, n), then: make([][]int, n)} }

// edge makes one wait for another.
func (g *graph) edge(first, then int) {
	g.waits[then]++
	g.then[first] = append(g.then[first], then)
}

// walk visits whatever waits for nothing that is left, and after it what waited
// for it, where the visit says to go on. It returns how many it has visited.
func (g *graph) walk(visit func(int) bool) int {
	var todo []int
	for i, n := range g.waits {
		if n == 0 {
			todo = append(todo, i)
		}
	}
	visited := 0
	for ; len(todo) > 0; visited++ {
		i := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if !visit(i) {
			continue
		}
		for _, k := range g.then[i] {
			if g.waits[k]--; g.waits[k] == 0 {
				todo = append(todo, k)
			}
		}
	}
	return visited
}
