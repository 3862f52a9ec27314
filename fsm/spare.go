package fsm

import "slices"

// A report mostly ends its transaction: the record is made, encoded where it is filed,
// and nobody looks at it again, on a node that only follows. There it is made in memory
// that the next one uses again; a record that stays takes that memory with it.

// spare is memory for one record and for the branches that change in it.
type spare struct {
	record   transaction
	branches []branch
	gone     []gone
}

// spareBranchesMax bounds what is kept for the next record.
const spareBranchesMax = 16

// changeOf begins to change what stands for a GID, by so many parts at the most.
func (s *State) changeOf(gid GID, parts int) change {
	x := change{old: s.find(gid), parts: parts}
	if s.follows && x.old != nil {
		if s.spare == nil {
			s.spare = new(spare)
		}
		x.spare = s.spare
	}
	return x
}

// reuse takes memory back that a change had, unless the record stays.
func (s *State) reuse(x *change) {
	switch {
	case x.spare == nil:
	case s.live[x.next.gid] == x.next || max(len(x.spare.branches), len(x.spare.gone)) > spareBranchesMax:
		s.spare = nil
	default:
		x.spare.record = transaction{} // it keeps nothing alive
		clear(x.spare.branches)
		clear(x.spare.gone)
	}
}

// goneRoom is memory for what the branches of a record have in place of their payloads.
func (s *State) goneRoom(t *transaction) []gone {
	n := len(t.branches)
	if s.spare == nil || t != &s.spare.record {
		return make([]gone, n)
	}
	if len(s.spare.gone) < n {
		s.spare.gone = make([]gone, n)
	}
	return s.spare.gone[:n]
}

// room is memory for n branches.
func (p *spare) room(n int) []branch {
	if len(p.branches) < n {
		p.branches = make([]branch, n)
	}
	return p.branches[:n]
}

// has says that a part of the record is in the spare's memory.
func (p *spare) has(t *transaction) bool {
	if p == nil {
		return false
	}
	for i := range p.branches {
		if slices.Contains(t.branches, &p.branches[i]) {
			return true
		}
	}
	for i := range p.gone {
		if slices.ContainsFunc(t.branches, func(b *branch) bool { return b.spec == &p.gone[i].spec || b.more == &p.gone[i].more }) {
			return true
		}
	}
	return t == &p.record
}
