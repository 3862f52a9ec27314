package search

import "github.com/quorate/quorate/fsm"

// breach is a broken promise.
type breach uint8

const (
	breachNone breach = iota
	breachAgreement
	breachEffects
	breachValidity
	breachSeal
	breachTriviality
	breachDelivery
	breachEnlisted
	breachPresumed
	breachDropped
	breachMachine
	breachStuck
	breachDisagree
)

func (b breach) String() string {
	return [...]string{
		breachNone:       "none",
		breachAgreement:  "S1, S2: commit and rollback were both decided or told",
		breachEffects:    "S1, S11: a branch did what was not decided",
		breachValidity:   "S3: commit was decided without every branch's durable vote",
		breachSeal:       "S3: the sealed set changed",
		breachTriviality: "S4: rolled back, though nobody asked, refused, or was late",
		breachDelivery:   "S11: commit was delivered to a branch that is not prepared",
		breachEnlisted:   "S10: a branch was enlisted and the commit left it out",
		breachPresumed:   "S13: an unseen GID was answered rolled back, without a tombstone",
		breachDropped:    "S13: a commit was dropped before each branch's own report",
		breachMachine:    "an invariant of the machine does not hold",
		breachStuck:      "S5: without further faults it never ends",
		breachDisagree:   "S5, S1: it ends, and the branches differ",
	}[b]
}

// check holds one state against the promises.
func (m *model) check(w *world) breach {
	v := m.view(w)
	const both = ghostCommit | ghostRollback
	switch {
	case w.breach != breachNone:
		return w.breach
	case v.breach != "":
		return breachMachine
	case w.ghosts&both == both:
		return breachAgreement
	case w.ghosts&ghostRollback != 0 && !m.asRollback(w, v):
		return breachTriviality
	case w.ghosts&ghostSealed != 0 && v.known && v.members != w.sealed:
		return breachSeal
	case w.ghosts&ghostCommit != 0 && w.acked&^w.set != 0 && w.set != 0:
		return breachEnlisted
	}
	all := uint8(1)<<m.Branches - 1
	for b, p := range w.parts[:m.Branches] {
		in := w.set&(1<<b) != 0
		switch {
		case w.ghosts&ghostRollback != 0 && p == partCommitted,
			p == partCommitted && (w.ghosts&ghostCommit == 0 || !in),
			in && p == partRolledBack:
			return breachEffects
		case in && p != partPrepared && p != partCommitted:
			return breachValidity
		case in && p == partPrepared && v.expired:
			return breachDropped
		}
	}
	if v.decision == fsm.DecisionCommit && m.Mode != Explicit && v.members != all {
		return breachValidity // its set was named
	}
	return breachNone
}

// asRollback says that a rollback had a cause.
func (m *model) asRollback(w *world, v *view) bool {
	return w.asked || w.ghosts&ghostRefused != 0 || v.clock > 0
}
