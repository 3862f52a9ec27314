package search

// deed is a kind of step.
type deed uint8

const (
	doElect deed = iota
	doReplicate
	doTick
	doMessage   // x: the message; y: the node that it reaches
	doDuplicate // the same, and it stays under way
	doCrashNode
	doCrashPart
	doTime
	doAskCommit
	doAskRollback
	doPrepare
	doRefuse
	doPack // x: the leader; y: the command
)

// step is one choice.
type step struct {
	does deed
	x, y uint8
}

// steps yields every choice in a state and what it leads to. The yielded worlds
// are not canonical yet.
func (m *model) steps(w *world, yield func(step, world)) {
	m.nodeSteps(w, yield)
	m.messageSteps(w, yield)
	m.packSteps(w, yield)
	m.initiatorSteps(w, yield)
	for b := range m.Branches {
		m.partSteps(w, b, yield)
	}
	m.faultSteps(w, yield)
}

// messageSteps delivers each message under way, once or with a duplicate left.
func (m *model) messageSteps(w *world, yield func(step, world)) {
	for msg := range msgCount {
		if !w.net.has(msg) || msg >= msgReply && msg < msgEnlisted {
			continue // replies are looked at by the initiator as they are
		}
		deliver := func(node int) {
			next := *w
			next.net.take(msg)
			if !m.receive(&next, msg, node) {
				return
			}
			yield(step{doMessage, uint8(msg), uint8(node)}, next)
			if m.sends(&next); w.duplicates == 0 || next.net.has(msg) {
				return // its sender repeats it as it is
			}
			next.net.send(msg)
			next.duplicates--
			yield(step{doDuplicate, uint8(msg), uint8(node)}, next)
		}
		if msg >= int(commandCount) {
			deliver(0)
			continue
		}
		for k := range m.Nodes {
			if n := &w.nodes[k]; n.role == serving && !n.behind && m.room(n) && m.matters(w, n, command(msg)) {
				deliver(k)
			}
		}
	}
}

// matters says that a command, at the end of a leader's log, will change a record
// or be answered with something that nobody has heard. One that does not is left
// under way: that it arrives now changes nothing but the clock, which the next
// command that matters, or a Tick, raises as well.
func (m *model) matters(w *world, n *node, c command) bool {
	at := w.machine
	for _, e := range n.tail[:n.length] {
		at, _ = m.machines.apply(at, letter{e.command, e.clock})
	}
	to, r := m.machines.apply(at, letter{c, w.now})
	if m.machines.all[to].record != m.machines.all[at].record {
		return true
	}
	heard := *w
	m.answer(&heard, to, c, r)
	return heard.net != w.net || heard.ghosts != w.ghosts || heard.acked != w.acked
}

// receive lets a message arrive; false if nothing comes of that.
func (m *model) receive(w *world, msg, node int) bool {
	switch {
	case msg < int(commandCount):
		m.append(w, node, command(msg))
		return true
	case msg == msgBegun:
		return m.begun(w)
	default:
		return m.partReceives(w, msg)
	}
}

// faultSteps are crashes, and time that passes.
func (m *model) faultSteps(w *world, yield func(step, world)) {
	if int(w.now)+1 < m.Clocks {
		next := *w
		next.now++
		yield(step{does: doTime}, next)
	}
	if w.crashes == 0 {
		return
	}
	for k := range m.Nodes {
		if w.nodes[k].role == follower {
			continue // everything else of it is on its disk
		}
		next := *w
		next.crashes--
		next.nodes[k].role = follower
		yield(step{does: doCrashNode, x: uint8(k)}, next)
	}
	for b := range m.Branches {
		if to := m.partCrashes(w.parts[b]); to != w.parts[b] {
			next := *w
			next.crashes--
			next.parts[b] = to
			yield(step{does: doCrashPart, x: uint8(b)}, next)
		}
	}
}
