package search

import "github.com/quorate/quorate/fsm"

// Where the initiator stands.
const (
	initiatorIdle  = iota
	initiatorBegan // Begin is asked and not answered
	initiatorWorks // the branches are called
	initiatorAsked // commit is asked
)

// initiatorSteps are the choices of both clients.
func (m *model) initiatorSteps(w *world, yield func(step, world)) {
	if w.initiator == initiatorWorks && m.mayAsk(w) {
		next := *w
		next.initiator = initiatorAsked
		yield(step{does: doAskCommit}, next)
	}
	if m.Rollback && !w.asked {
		next := *w
		next.asked = true
		yield(step{does: doAskRollback}, next)
	}
}

// initiatorSends is what the clients ask, and ask again until they are answered.
func (m *model) initiatorSends(w *world) {
	switch w.initiator {
	case initiatorIdle:
		if m.Mode == Fast {
			m.call(w)
			break
		}
		w.initiator = initiatorBegan
		fallthrough
	case initiatorBegan:
		w.net.send(int(cmdBegin))
	case initiatorAsked:
		w.net.send(m.ask())
		if m.Mode == Named {
			w.net.send(int(cmdCommitBare))
		}
	}
	if w.initiator > initiatorBegan {
		w.net.take(msgBegun)
	}
	if w.asked {
		w.net.send(int(cmdRollback))
	}
}

// ask is the message by which commit is asked.
func (m *model) ask() int {
	if m.Mode == Fast {
		return int(cmdSubmit)
	}
	return int(cmdCommit)
}

// mayAsk: in fast mode the initiator holds every vote. Else it may ask while
// branches are still at work, and even before they enlist: what comes of that is
// the coordinator's business.
func (m *model) mayAsk(w *world) bool {
	if m.Mode != Fast {
		return true
	}
	for b := range m.Branches {
		if !w.net.has(msgReply + b) {
			return false
		}
	}
	return true
}

// call calls the branches.
func (m *model) call(w *world) {
	w.initiator = initiatorWorks
	for b := range m.Branches {
		w.net.send(msgWork + b)
	}
}

// begun: Begin is answered.
func (m *model) begun(w *world) bool {
	if w.initiator != initiatorBegan {
		return false
	}
	m.call(w)
	return true
}

// answer turns the machine's result into what the one who asked hears, and notes
// what was said: an answer that is lost was still given.
func (m *model) answer(w *world, at uint32, c command, r fsm.Result) {
	if said, ok := c.words(); ok {
		m.answerPacked(w, at, said, r)
		return
	}
	v := &m.machines.all[at].view
	b := c.branch()
	m.hear(w, v, b, r)
	switch c.kind() {
	case cmdBegin:
		if r.Code == fsm.OK && r.Decision == fsm.DecisionNone {
			w.net.send(msgBegun)
		}
	case cmdEnlist:
		if r.Code == fsm.OK {
			w.acked |= 1 << b
			if r.Verdict == fsm.VerdictWait {
				w.net.send(msgEnlisted + b)
			}
		}
	}
	if b < 0 {
		return
	}
	switch r.Verdict {
	case fsm.VerdictCommit:
		w.net.send(msgCommit + b)
	case fsm.VerdictRollback:
		w.net.send(msgRollback + b)
	}
}

// hear notes a decision that was told. That a branch is presumed rolled back at
// the horizon says nothing about a commit whose branches have all reported.
func (m *model) hear(w *world, v *view, branch int, r fsm.Result) {
	switch {
	case r.Decision == fsm.DecisionCommit || r.Verdict == fsm.VerdictCommit:
		w.ghosts |= ghostCommit
	case r.Decision == fsm.DecisionRollback && !(branch >= 0 && v.expired):
		w.ghosts |= ghostRollback
	}
}

// observe notes what the committed log has decided.
func (m *model) observe(w *world) {
	v := m.view(w)
	if v.sealed && w.ghosts&ghostSealed == 0 {
		w.ghosts |= ghostSealed
		w.sealed = v.members
	}
	switch v.decision {
	case fsm.DecisionCommit:
		if w.ghosts&ghostCommit == 0 || w.set == 0 {
			w.set = v.members
		}
		w.ghosts |= ghostCommit
	case fsm.DecisionRollback:
		w.ghosts |= ghostRollback
	}
}
