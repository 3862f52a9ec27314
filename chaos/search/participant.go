package search

import "github.com/quorate/quorate/fsm"

// part is where one branch's participant stands.
type part uint8

const (
	partIdle       part = iota
	partEnlisting       // registered here, Enlist not answered (explicit mode)
	partWorking         // its local transaction is open: a crash loses it
	partPrepared        // on disk, able to go either way
	partCommitted       // on disk
	partRolledBack      // on disk: the fence's row keeps any later work out
)

// partSteps are the choices of one participant.
func (m *model) partSteps(w *world, b int, yield func(step, world)) {
	if w.parts[b] != partWorking {
		return
	}
	next := *w
	next.parts[b] = partPrepared
	if m.Mode == Fast {
		next.net.send(msgReply + b)
	}
	yield(step{does: doPrepare, x: uint8(b)}, next)
	next = *w
	next.parts[b] = partRolledBack
	next.ghosts |= ghostRefused
	if m.Mode != Fast {
		next.net.send(int(cmdRefuse) + b)
	}
	yield(step{does: doRefuse, x: uint8(b)}, next)
}

// partSends is what a participant says, and repeats until it is answered; and
// what a leader that serves has to tell it.
func (m *model) partSends(w *world, b int, leads bool) {
	p := w.parts[b]
	switch {
	case p == partEnlisting:
		w.net.send(int(cmdEnlist) + b)
	case p == partPrepared && m.Mode != Fast, p == partWorking && m.Flaw == FlawVotesUnprepared:
		w.net.send(int(cmdVote) + b)
	case p == partCommitted:
		w.net.send(int(cmdCommitted) + b)
	}
	if leads {
		m.told(w, b)
	}
	m.forget(w, b)
}

// told is what a leader that serves tells a branch, asked or not.
func (m *model) told(w *world, b int) {
	if w.parts[b] == partPrepared {
		m.inquire(w, b)
	}
	switch v := m.view(w); {
	case v.due&(1<<b) != 0 && v.decision == fsm.DecisionCommit:
		w.net.send(msgCommit + b)
	case v.due&(1<<b) != 0,
		m.Flaw == FlawLocalTimeout && w.now > 0 && v.decision == fsm.DecisionNone && v.members&(1<<b) != 0:
		w.net.send(msgRollback + b)
	}
}

// forget takes away what would come to nothing if it arrived, and lets what can
// only be repeated arrive at once.
func (m *model) forget(w *world, b int) {
	p := w.parts[b]
	if p >= partPrepared {
		w.net.take(msgEnlisted + b)
	}
	if p >= partPrepared && (m.Mode != Fast || p != partPrepared) {
		w.net.take(msgWork + b)
	}
	switch {
	case p == partCommitted:
		w.net.take(msgCommit + b)
		w.net.take(msgRollback + b)
	case p == partRolledBack && w.net.has(msgRollback+b):
		w.net.take(msgRollback + b)
		w.net.send(int(cmdRolledBack) + b)
	}
}

// inquire asks the leader, by a linearizable read, for the verdict on a prepared
// branch. One that is unseen may be ended once its time has passed: through the
// log, by a tombstone.
func (m *model) inquire(w *world, b int) {
	v := m.view(w)
	switch {
	case v.verdicts[b] == fsm.VerdictCommit:
		w.net.send(msgCommit + b)
		w.ghosts |= ghostCommit
	case v.verdicts[b] == fsm.VerdictRollback:
		if !v.known && !v.expired {
			w.breach = breachPresumed
		}
		w.net.send(msgRollback + b)
	case !v.known && v.clock >= phaseUnseen && m.Flaw == FlawPresumesUnseen:
		w.net.send(msgRollback + b)
	case !v.known && (v.clock >= phaseUnseen || m.Flaw == FlawEndsEarly):
		w.net.send(int(cmdPresume) + b)
	}
}

// partReceives lets a message reach a participant; false if nothing comes of it.
func (m *model) partReceives(w *world, msg int) bool {
	switch {
	case msg < msgReply:
		return m.work(w, msg-msgWork)
	case msg < msgCommit:
		b := msg - msgEnlisted
		if w.parts[b] != partEnlisting {
			return false
		}
		w.parts[b] = partWorking
		return true
	case msg < msgRollback:
		return m.commits(w, msg-msgCommit)
	default:
		return m.rollsBack(w, msg-msgRollback)
	}
}

// work: the initiator calls. A branch that has prepared repeats its vote; one
// that was told rollback before it began is kept out by the fence.
func (m *model) work(w *world, b int) bool {
	switch {
	case w.parts[b] == partIdle && m.Mode == Explicit:
		w.parts[b] = partEnlisting
		w.net.send(int(cmdEnlist) + b)
	case w.parts[b] == partIdle:
		w.parts[b] = partWorking
	case w.parts[b] == partPrepared && m.Mode == Fast:
		w.net.send(msgReply + b)
	default:
		return false
	}
	return true
}

func (m *model) commits(w *world, b int) bool {
	switch w.parts[b] {
	case partPrepared:
		w.parts[b] = partCommitted
	case partCommitted:
	default:
		w.breach = breachDelivery
	}
	w.net.send(int(cmdCommitted) + b)
	return true
}

// rollsBack: a branch that has committed goes by its evidence and says so again.
func (m *model) rollsBack(w *world, b int) bool {
	if w.parts[b] == partCommitted {
		w.net.send(int(cmdCommitted) + b)
		return true
	}
	w.parts[b] = partRolledBack
	w.net.send(int(cmdRolledBack) + b)
	return true
}

// partCrashes is where a crash leaves a participant.
func (m *model) partCrashes(p part) part {
	switch {
	case p == partEnlisting, p == partWorking:
		return partIdle // its database rolls back what was not prepared
	case p == partPrepared && m.Flaw == FlawRecoveryRollsBack:
		return partRolledBack
	default:
		return p
	}
}
