package search

import "cmp"

// Branches are alike too: a world and the same world with two of them swapped
// have the same future, but for the names. So branches are put in order by what
// they look like. Two that look alike and are not, since their places in another
// order of events differ, stay apart: that costs states and loses none.

// order is which branch comes to stand where.
type order [branchesMax]uint8

var inOrder = order{0, 1, 2}

// arrange puts the branches in order and returns where each stood.
func (m *model) arrange(w *world) order {
	o := inOrder
	if m.Branches == 1 {
		return o
	}
	var looks [branchesMax]uint64
	for b := range m.Branches {
		looks[b] = m.looks(w, b)
	}
	for k := range m.Branches {
		for j := k; j > 0 && cmp.Less(looks[o[j]], looks[o[j-1]]); j-- {
			o[j], o[j-1] = o[j-1], o[j]
		}
	}
	if o != inOrder {
		m.permute(w, o)
	}
	return o
}

// branchMessages are the first ones of each kind of message that a branch has.
var branchMessages = [...]int{
	int(cmdEnlist), int(cmdVote), int(cmdRefuse), int(cmdCommitted), int(cmdRolledBack), int(cmdPresume),
	msgWork, msgReply, msgEnlisted, msgCommit, msgRollback,
}

// looks is everything about one branch that does not depend on the others.
func (m *model) looks(w *world, b int) uint64 {
	v := uint64(w.parts[b])
	for _, first := range branchMessages {
		v = v<<1 | uint64(w.net>>(first+b))&1
	}
	v = v<<3 | uint64(w.acked>>b)&1<<2 | uint64(w.sealed>>b)&1<<1 | uint64(w.set>>b)&1
	return v<<16 | uint64(m.view(w).looks[b])
}

// permute lets branch o[b] stand as branch b.
func (m *model) permute(w *world, o order) {
	old := *w
	w.machine = m.machines.permuted(old.machine, o)
	w.acked, w.sealed, w.set = 0, 0, 0
	for b := range m.Branches {
		from := int(o[b])
		w.parts[b] = old.parts[from]
		w.acked |= old.acked >> from & 1 << b
		w.sealed |= old.sealed >> from & 1 << b
		w.set |= old.set >> from & 1 << b
		for _, first := range branchMessages {
			w.net.take(first + b)
			if old.net.has(first + from) {
				w.net.send(first + b)
			}
		}
	}
	for k := range m.Nodes {
		for i, e := range w.nodes[k].tail[:w.nodes[k].length] {
			w.nodes[k].tail[i].command = e.command.permuted(o)
		}
	}
}

func (c command) permuted(o order) command {
	if said, ok := c.words(); ok {
		var to words
		for b, from := range o {
			to[b] = said[from]
		}
		return packed(to)
	}
	b := c.branch()
	for to, from := range o {
		if b >= 0 && int(from) == b {
			return c.kind() + command(to)
		}
	}
	return c
}

// permuted returns the machine that the same letters of other branches lead to.
func (m *machines) permuted(n uint32, o order) uint32 {
	at := m.all[n]
	if to, ok := at.mirrors[o]; ok {
		return to
	}
	path := make([]letter, len(at.path))
	for i, l := range at.path {
		path[i] = letter{l.command.permuted(o), l.clock}
	}
	s, err := m.replay(path)
	if err != nil {
		m.err = err
		return n
	}
	to := m.intern(s, path)
	if at.mirrors == nil {
		at.mirrors = map[order]uint32{}
	}
	at.mirrors[o] = to
	return to
}
