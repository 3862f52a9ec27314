package linearizability

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sync"
)

// replay is the log, as the history's observations show it, fed to the contract: a
// naive reference machine that keeps every state that a GID may be in (only when a
// deadline or a horizon took hold is open).
type replay struct {
	compiler *compiler
	byGID    map[string][]*Observation
	// perhaps holds commands by a key that may have been free: whether they are about
	// a GID is open.
	perhaps map[*Observation]bool
	// commands of all GIDs, in the log's order.
	commands []*Observation
	// from and through bound what is known; whole says that no log holds more.
	from, through uint64
	whole         bool
	// clocks are the cluster clock at each index that shows one, in order.
	clocks []clockAt
	// terms are where each term begins and ends, in order; incarnations says that
	// terms alone do not order the leaders.
	terms        []span
	incarnations bool
	// removed counts operations that no log holds.
	removed int

	mu     sync.Mutex
	stages map[string][]stage // by GID, made when it is first asked for
}

type clockAt struct{ index, ms uint64 }

// span is where a term's entries stand in the log.
type span struct{ term, first, last uint64 }

func newReplay(h *History, c *compiler) *replay {
	r := &replay{compiler: c, byGID: map[string][]*Observation{}, perhaps: map[*Observation]bool{}}
	var commands []*Observation
	for i := range h.Observations {
		o := &h.Observations[i]
		switch o.Sight {
		case SightLog:
			r.from, r.through, r.whole = o.From, o.Through, r.whole || o.Whole
		case SightCommand:
			if o.Command.GID != "" {
				commands = append(commands, o)
			}
			r.spans(o)
			if o.ClockMS > 0 {
				r.clocks = append(r.clocks, clockAt{o.Index, o.ClockMS})
			}
		}
	}
	slices.SortStableFunc(commands, func(a, b *Observation) int { return cmp.Compare(a.Index, b.Index) })
	r.commands = commands
	slices.SortStableFunc(r.clocks, func(a, b clockAt) int { return cmp.Compare(a.index, b.index) })
	r.deal(commands)
	return r
}

// spans notes which term an entry is of.
func (r *replay) spans(o *Observation) {
	if o.Term == 0 {
		return
	}
	r.incarnations = r.incarnations || o.Command.Epoch.Incarnation > 1
	i, found := slices.BinarySearchFunc(r.terms, o.Term, func(s span, term uint64) int { return cmp.Compare(s.term, term) })
	if !found {
		r.terms = slices.Insert(r.terms, i, span{o.Term, o.Index, o.Index})
	}
	r.terms[i].first, r.terms[i].last = min(r.terms[i].first, o.Index), max(r.terms[i].last, o.Index)
}

// deal gives each command to the GID that it is about, in the log's order. A Begin
// and a Submit of an unseen GID whose key stands for another one are about that
// one: a Begin, and a Submit with votes, then change nothing. A key is free again when
// what it stood for was dropped, and when exactly that is, the log does not tell: where it
// may have been, such a command may be about either.
func (r *replay) deal(commands []*Observation) {
	type key struct{ namespace, text string }
	owners, seen := map[key][]string{}, map[string]bool{}
	perhaps := map[string]bool{} // owners that may never have got the key
	for _, o := range commands {
		gid, c := o.Command.GID, o.Command
		if (c.Kind == KindBegin || c.Kind == KindSubmit) && c.Key != "" && !seen[gid] {
			k := key{c.Namespace, c.Key}
			others := slices.DeleteFunc(slices.Clone(owners[k]), func(owner string) bool { return owner == gid })
			at := slices.IndexFunc(others, func(owner string) bool { return !perhaps[owner] && !r.mayBeGone(owner, r.clock(o.Index)) })
			bears := c.Kind == KindSubmit && len(c.Input.Votes) == 0
			switch {
			case len(others) == 0:
				owners[k] = []string{gid}
			case at >= 0 && bears:
				gid = others[at]
			case at >= 0:
				continue
			default:
				owners[k] = append(others, gid)
				if bears {
					for _, owner := range others {
						r.byGID[owner] = append(r.byGID[owner], o)
					}
				}
				r.byGID[gid] = append(r.byGID[gid], o)
				r.perhaps[o], perhaps[gid] = true, true
				continue
			}
		}
		r.byGID[gid] = append(r.byGID[gid], o)
		switch c.Kind {
		case KindBegin, KindSubmit, KindRollback:
			seen[gid] = true // the others find nothing of an unseen one, and make nothing
		}
	}
}

// mayBeGone tells whether a GID may have been dropped by a clock.
func (r *replay) mayBeGone(gid string, clock uint64) bool {
	born, known := bornMS(gid)
	return known && clock >= born+uint64(r.compiler.retention().Milliseconds())
}

// covers tells whether the state at an index can be replayed.
func (r *replay) covers(index uint64) bool { return r.from == 1 && index <= r.through && index > 0 }

// clock is the newest cluster clock at or before an index.
func (r *replay) clock(index uint64) uint64 {
	i, found := slices.BinarySearchFunc(r.clocks, index, func(c clockAt, index uint64) int { return cmp.Compare(c.index, index) })
	for found && i+1 < len(r.clocks) && r.clocks[i+1].index == index {
		i++
	}
	if !found {
		i--
	}
	if i < 0 {
		return 0
	}
	return r.clocks[i].ms
}

// holds tells whether the log has a command of a kind.
func (r *replay) holds(kind Kind, gid, branch string) bool {
	return slices.ContainsFunc(r.byGID[gid], func(o *Observation) bool {
		return o.Command.Kind == kind && (branch == "" || o.Command.Branch == branch)
	})
}

// mayCommit tells whether the log can have committed a GID.
func (r *replay) mayCommit(gid string) bool {
	return slices.ContainsFunc(r.at(gid, math.MaxUint64), func(t *tx) bool { return t.decision() == DecisionCommit })
}

// stage is what a GID may be after one of its commands.
type stage struct {
	index    uint64
	states   []*tx
	deadline uint64
}

// at returns every state that a GID may be in right after an index.
func (r *replay) at(gid string, index uint64) []*tx {
	stages := r.stagesOf(gid)
	i, _ := slices.BinarySearchFunc(stages, index, func(s stage, index uint64) int {
		if s.index <= index {
			return -1 // the last of several commands of one entry is the one that counts
		}
		return 1
	})
	if i == 0 {
		return r.aged([]*tx{unseenTx}, gid, 0, r.clock(index))
	}
	s := stages[i-1]
	return r.aged(slices.Clip(s.states), gid, s.deadline, r.clock(index))
}

// stagesOf replays a GID's commands, once: lists and watches ask for every GID at
// every index that they carry.
func (r *replay) stagesOf(gid string) []stage {
	r.mu.Lock()
	defer r.mu.Unlock()
	if stages, ok := r.stages[gid]; ok {
		return stages
	}
	stages := make([]stage, 0, len(r.byGID[gid]))
	now := stage{states: []*tx{unseenTx}}
	for _, o := range r.byGID[gid] {
		// Ticks before this command may have ended it.
		states := r.aged(slices.Clip(now.states), gid, now.deadline, r.clock(o.Index))
		c := r.call(o)
		next := stage{index: o.Index, states: make([]*tx, 0, len(states)), deadline: now.deadline}
		for _, t := range states {
			n, _ := t.apply(c)
			if t.phase == phaseUnseen && n.phase != phaseUnseen {
				next.deadline = r.deadline(o)
			}
			next.states = add(next.states, n)
			if r.perhaps[o] {
				next.states = add(next.states, t)
			}
		}
		now = next
		stages = append(stages, now)
	}
	if r.stages == nil {
		r.stages = map[string][]stage{}
	}
	r.stages[gid] = stages
	return stages
}

func add(states []*tx, t *tx) []*tx {
	if slices.ContainsFunc(states, t.equal) {
		return states
	}
	return append(states, t)
}

// aged adds what ticks may have made of the states by a clock.
func (r *replay) aged(states []*tx, gid string, deadline, clock uint64) []*tx {
	for _, t := range slices.Clone(states) {
		if deadline > 0 && clock >= deadline {
			states = add(states, t.byItself(reasonTimeout))
		}
	}
	if r.mayBeGone(gid, clock) {
		for _, t := range slices.Clone(states) {
			if t.phase == phaseUnseen || t.decision() != DecisionNone && t.over() {
				states = add(states, &tx{gone: true})
			}
		}
	}
	return states
}

func (r *replay) deadline(o *Observation) uint64 {
	timeout := cmp.Or(o.Command.Input.TimeoutMS, r.compiler.header.TimeoutDefaultMS, uint64(timeoutDefault.Milliseconds()))
	mode := modeIn(&o.Command.Input)
	if o.Command.Kind != KindBegin && o.Command.Kind != KindSubmit || !expires(mode) || mode == modeSaga && o.Command.Input.TimeoutMS == 0 {
		return 0
	}
	return r.clock(o.Index) + timeout
}

func (r *replay) call(o *Observation) *call {
	c := compileCall(o.Command.Kind, o.Command.Branch, &o.Command.Input, o.Command.Namespace, o.Command.Key, r.compiler.header.TimeoutDefaultMS)
	c.driver, c.reason = o.Command.Driver, o.Command.Reason
	c.stale = c.driver && o.Term > 0 && o.Command.Epoch.Term > 0 && o.Command.Epoch.Term < o.Term
	return &c
}

// between lists the GIDs that have a command after one index, and up to another.
func (r *replay) between(after, through uint64) []string {
	from, _ := slices.BinarySearchFunc(r.commands, after+1, func(o *Observation, index uint64) int { return cmp.Compare(o.Index, index) })
	var out []string
	seen := map[string]bool{}
	for _, o := range r.commands[from:] {
		if o.Index > through {
			break
		}
		if gid := o.Command.GID; !seen[gid] {
			seen[gid] = true
			out = append(out, gid)
		}
	}
	return out
}

// contradicts says why the log up to an index cannot have decided so, or "".
func (r *replay) contradicts(gid string, d Decision, index uint64) string {
	states := r.at(gid, index)
	for _, t := range states {
		if t.decision() == d {
			return ""
		}
	}
	return fmt.Sprintf("it was %s", states[0].describe())
}

// absent tells whether an operation of unknown outcome is in no log at all, so that
// it never took effect and never will.
func (r *replay) absent(op *Operation) bool {
	if !r.whole || op.GID == "" || op.Kind == KindInquire {
		return false
	}
	if op.Key != "" && (op.Kind == KindBegin || op.Kind == KindSubmit) {
		return !r.holds(op.Kind, op.GID, "")
	}
	return !slices.ContainsFunc(r.byGID[op.GID], func(o *Observation) bool {
		in := &o.Command.Input
		return o.Command.Kind == op.Kind && o.Command.Branch == op.Branch && in.Vote == op.Input.Vote && in.Outcome == op.Input.Outcome
	})
}
