package search

import "github.com/quorate/quorate/fsm"

// The nodes as a replicated register. The committed part of the log is the
// world's machine. A node either has all of it, and its tail beyond, or it is
// behind: then nothing that it has matters, since Raft lets no such node win an
// election against one that is not, and the next leader's entries replace it.

// Roles of a node. An old leader goes on believing that it leads until it hears
// of a later term.
const (
	follower = iota
	elected  // its first entry, a Tick, is not committed: it serves nothing yet
	serving
)

// node is one coordinator. All but the role is on its disk.
type node struct {
	role   uint8
	term   uint8 // the last that it has heard of, or voted in
	behind bool
	length uint8 // of the tail
	tail   [tailMax]entry
}

// entry is one of the log that is not committed.
type entry struct {
	term    uint8
	command command
	clock   uint8
}

func (n *node) push(e entry) {
	n.tail[n.length] = e
	n.length++
}

func (n *node) holds(e entry) bool {
	for _, own := range n.tail[:n.length] {
		if own.command == e.command && own.clock == e.clock {
			return true
		}
	}
	return false
}

// cut drops the first entries of the tail.
func (n *node) cut(count uint8) {
	var rest [tailMax]entry
	copy(rest[:], n.tail[count:n.length])
	n.tail, n.length = rest, n.length-count
}

// nodeSteps are the choices of the nodes: an election, an entry that reaches
// another node, a Tick.
func (m *model) nodeSteps(w *world, yield func(step, world)) {
	for k := range m.Nodes {
		n := &w.nodes[k]
		for j := range m.Nodes {
			if j == k {
				continue
			}
			if next, ok := m.elect(w, k, j); ok {
				yield(step{does: doElect, x: uint8(k), y: uint8(j)}, next)
			}
			if n.role != follower && !n.behind && n.term >= w.nodes[j].term && !m.current(w, k, j) {
				yield(step{does: doReplicate, x: uint8(k), y: uint8(j)}, m.replicate(*w, k, j))
			}
		}
		if n.role != serving || n.behind {
			continue // an entry of a node that is behind comes to nothing
		}
		if tick := (entry{n.term, cmdTick, w.now}); m.room(n) && !n.holds(tick) && m.tickMatters(w) {
			next := *w
			m.append(&next, k, cmdTick)
			yield(step{does: doTick, x: uint8(k)}, next)
		}
	}
}

func (m *model) room(n *node) bool { return int(n.length) < m.Uncommitted }

// current says that node j has all that node k would send it.
func (m *model) current(w *world, k, j int) bool {
	a, b := &w.nodes[k], &w.nodes[j]
	return b.term == a.term && !b.behind && a.length == b.length && a.tail == b.tail
}

// elect makes node k leader of a new term by the vote of node j, a quorum of two
// or three.
func (m *model) elect(w *world, k, j int) (world, bool) {
	term := uint8(0)
	for i := range m.Nodes {
		term = max(term, w.nodes[i].term)
	}
	term++
	if int(term) > m.Terms || w.nodes[k].role != follower && !m.deposed(w, k) {
		return world{}, false // who leads needs no election
	}
	if w.nodes[k].behind || !m.upToDate(w, k, j) {
		return world{}, false
	}
	next := *w
	for _, i := range []int{k, j} {
		next.nodes[i].term, next.nodes[i].role = term, follower
	}
	next.nodes[k].role = elected
	next.nodes[k].push(entry{term, cmdTick, w.now})
	return next, true
}

// deposed says that a later leader was elected than node k.
func (m *model) deposed(w *world, k int) bool {
	for i := range m.Nodes {
		if w.nodes[i].term > w.nodes[k].term {
			return true
		}
	}
	return false
}

// upToDate compares logs as a voter does: the last entry's term, then the length.
func (m *model) upToDate(w *world, k, j int) bool {
	a, b := &w.nodes[k], &w.nodes[j]
	if b.behind {
		return true
	}
	at, bt := w.committedTerm, w.committedTerm
	if a.length > 0 {
		at = a.tail[a.length-1].term
	}
	if b.length > 0 {
		bt = b.tail[b.length-1].term
	}
	return at > bt || at == bt && a.length >= b.length
}

// append writes a command to a leader's own disk (P6).
func (m *model) append(w *world, k int, c command) {
	n := &w.nodes[k]
	n.push(entry{n.term, c, w.now})
	if m.Flaw == FlawAnswersEarly {
		at, r := w.machine, fsm.Result{}
		for _, e := range n.tail[:n.length] {
			at, r = m.machines.apply(at, letter{e.command, e.clock})
		}
		m.answer(w, at, c, r)
	}
}

// replicate brings node j's log to that of leader k, and commits what a quorum
// now has (P7).
func (m *model) replicate(w world, k, j int) world {
	leader, other := &w.nodes[k], &w.nodes[j]
	if other.term < leader.term || other.role != follower {
		other.role = follower
	}
	other.term, other.behind, other.tail, other.length = leader.term, false, leader.tail, leader.length
	m.commit(&w, k)
	return w
}

// commit applies the leader's entries that a quorum holds, up to the last one of
// the leader's own term, and answers those who asked for them.
func (m *model) commit(w *world, k int) {
	leader := w.nodes[k]
	length := uint8(0)
	for n := uint8(1); n <= leader.length; n++ {
		if leader.tail[n-1].term == leader.term && m.holders(w, &leader, n) > m.Nodes/2 {
			length = n
		}
	}
	if length == 0 {
		return
	}
	for _, e := range leader.tail[:length] {
		at, r := m.machines.apply(w.machine, letter{e.command, e.clock})
		w.machine = at
		if e.term == leader.term { // of earlier terms nobody waits here
			m.answer(w, at, e.command, r)
		}
		m.observe(w)
	}
	for i := range m.Nodes {
		n := &w.nodes[i]
		switch {
		case n.behind:
		case hasPrefix(n, &leader, length):
			n.cut(length)
		default:
			n.behind, n.length, n.tail = true, 0, [tailMax]entry{}
		}
	}
	w.committedTerm = leader.term
	w.nodes[k].role = serving
}

func (m *model) holders(w *world, leader *node, length uint8) (count int) {
	for i := range m.Nodes {
		if n := &w.nodes[i]; !n.behind && hasPrefix(n, leader, length) {
			count++
		}
	}
	return count
}

func hasPrefix(n, leader *node, length uint8) bool {
	if n.length < length {
		return false
	}
	for i := range length {
		if n.tail[i] != leader.tail[i] {
			return false
		}
	}
	return true
}

// tickMatters says that a Tick now would end or drop something, or tell those who
// wait for it that an unseen GID's time has passed.
func (m *model) tickMatters(w *world) bool {
	to, _ := m.machines.apply(w.machine, letter{cmdTick, w.now})
	was, is := m.view(w), &m.machines.all[to].view
	return was.record != is.record || !is.known && was.clock < phaseUnseen && is.clock >= phaseUnseen
}

// leads returns a node that leads, serves, and has all that is committed, or -1.
func (m *model) leads(w *world) int {
	for k := range m.Nodes {
		if n := &w.nodes[k]; n.role == serving && !n.behind {
			return k
		}
	}
	return -1
}
