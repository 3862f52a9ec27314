package search

import "github.com/quorate/quorate/fsm"

// roundsMax is how many rounds a world may need to end once no fault happens.
const roundsMax = 12

// ends checks S5: without further faults, and with nothing but what the protocol
// does by itself, every branch hears its end and all that were prepared agree.
// Who had not asked yet does not any more.
func (m *model) ends(w world) breach {
	w.now = uint8(len(clocks) - 1)
	for range roundsMax {
		k := m.healed(&w)
		for msg := range msgCount {
			if w.net.has(msg) && (msg < msgReply || msg >= msgEnlisted) {
				w.net.take(msg)
				m.receive(&w, msg, k)
				m.settle(&w, k)
			}
		}
		m.append(&w, k, cmdTick)
		m.settle(&w, k)
		m.sends(&w)
		if b := m.check(&w); b != breachNone {
			return b
		}
		if m.ended(&w) {
			return breachNone
		}
	}
	return breachStuck
}

// ended says that nothing is open in the log or at a participant.
func (m *model) ended(w *world) bool {
	v := m.view(w)
	if v.known && v.state != fsm.StateCommitted && v.state != fsm.StateRolledBack {
		return false
	}
	for _, p := range w.parts[:m.Branches] {
		if p == partPrepared {
			return false
		}
	}
	return true
}

// healed returns a leader, elected if need be, that every node follows.
func (m *model) healed(w *world) int {
	k := m.leads(w)
	if k < 0 || m.deposed(w, k) {
		k = m.elects(w)
	}
	m.settle(w, k)
	return k
}

// elects elects the node with the most complete log, beyond the last term of
// the search if need be.
func (m *model) elects(w *world) int {
	terms := m.Terms
	m.Terms = 255
	defer func() { m.Terms = terms }()
	for k := range m.Nodes {
		best := !w.nodes[k].behind
		for j := range m.Nodes {
			best = best && m.upToDate(w, k, j)
		}
		if !best {
			continue
		}
		w.nodes[k].role = follower
		if w.nodes[k].length == tailMax {
			w.nodes[k].length-- // no room in the model: its last entry is lost, which may be
		}
		next, _ := m.elect(w, k, (k+1)%m.Nodes)
		*w = next
		return k
	}
	panic("search: no node has all that is committed")
}

// settle brings every node's log to the leader's.
func (m *model) settle(w *world, k int) {
	for j := range m.Nodes {
		if j != k && !m.current(w, k, j) {
			*w = m.replicate(*w, k, j)
		}
	}
}
