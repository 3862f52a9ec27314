package fsm

import (
	"math"

	"github.com/quorate/quorate/fsm/logpb"
)

// One function an edge of the graph of states. Each asserts its pre-conditions
// first and changes a clone that the caller then puts. States, and what is
// true in each: result.go.

// toActive: U -> A, in the memory of a new record.
func (s *State) toActive(t *transaction, b *logpb.Begin, gid GID) *transaction {
	t.gid, t.begin, t.state, t.began, t.deadlineMS = gid, b, StateActive, s.stamped(), noDeadline
	t.written = s.decoder.writtenAs(b)
	t.branches = t.room[:0]
	if t.rules().expires {
		t.deadlineMS = s.deadline(b.GetTimeoutMs())
	}
	return t
}

// deadline is the creating entry's clock and the timeout, or never.
func (s *State) deadline(timeoutMS uint64) uint64 {
	if timeoutMS == 0 || timeoutMS > math.MaxUint64-s.now.clockMS {
		return noDeadline
	}
	return s.now.clockMS + timeoutMS
}

// toTombstone: U -> R, and R+ where nobody needs to be told. Its branches are
// those that this rollback names.
func (s *State) toTombstone(gid GID, branches []*logpb.BranchSpec, why Reason) *transaction {
	t := &transaction{
		gid: gid, begin: &logpb.Begin{Gid: gid.Bytes()}, state: StateActive,
		tombstone: true, began: s.stamped(),
	}
	for _, spec := range branches {
		if t.member(spec.GetId()) == nil {
			t.join(spec, s.stamped())
		}
	}
	s.toRollingBack(t, why)
	return t
}

// toSealed: A -> S. Commit was asked; from here on no branch joins.
func (s *State) toSealed(t *transaction) {
	t.require(t.state == StateActive, "sealed in state %v", t.state)
	t.state = StateSealed
	s.seal(t)
}

// seal makes the set final. It is part of every edge on which commit is asked.
func (s *State) seal(t *transaction) {
	if !t.sealed {
		t.sealed, t.sealedAt = true, s.stamped()
	}
}

// toCommitting: A, S -> C, and C+ where nobody needs to be told. The commit
// point: made once, never changed.
func (s *State) toCommitting(t *transaction) {
	t.require(t.undecided(), "commit decided in state %v", t.state)
	t.require(t.allVoted(), "commit decided with a vote missing")
	s.seal(t)
	t.state, t.decision, t.decided = StateCommitting, DecisionCommit, s.stamped()
	t.markIdle()
	s.finish(t)
}

// toRollingBack: A, S -> R, and R+ where nobody needs to be told.
func (s *State) toRollingBack(t *transaction, why Reason) {
	t.require(t.undecided(), "rollback decided in state %v", t.state)
	t.state, t.decision, t.decided, t.reason = StateRollingBack, DecisionRollback, s.stamped(), why
	t.markIdle()
	s.finish(t)
}

// finish: C -> C+, R -> R+, once every branch is terminal. It does nothing
// before that, or after.
func (s *State) finish(t *transaction) {
	t.require(t.decision != DecisionNone, "finished without a decision")
	if t.ended() || !t.allTerminal() {
		return
	}
	t.state = StateRolledBack
	if t.decision == DecisionCommit {
		t.state = StateCommitted
	}
	t.finished = s.stamped()
	s.letGo(t)
}

// toDecidedOrSealed takes the edge that asking commit takes: C when every vote
// is in and no held branch waits for the driver's word, else S.
func (s *State) toDecidedOrSealed(t *transaction) {
	switch {
	case t.allVoted() && !t.anyHeld():
		s.toCommitting(t)
	case t.state == StateActive:
		s.toSealed(t)
	}
}
