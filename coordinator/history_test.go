package coordinator

import (
	"errors"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
)

// Bugs that other coordinators shipped, each as a test of this one.
// docs/history.md lists them all.

// Seata #7027: failed transactions, and the locks that their branches held, were
// deleted when the leader changed. Here whatever has not ended is found again by
// each new leader, rollbacks too, and goes on until it has ended.
func TestHistory_Seata7027_StateLostAtALeaderChange(t *testing.T) {
	w := newWorld(t)
	a, b := branchOf("1", "bank-a", nil), branchOf("2", "bank-b", nil)
	rolled := w.begun("", time.Minute, a, b)
	w.ok(cmdVote(rolled, a, prepared))
	w.ok(cmdVote(rolled, b, prepared))
	w.ok(cmdRollback(rolled))
	commits := w.committedTx("", a, b)
	open := w.begun("", time.Minute, a)

	for range 3 {
		w.follow()
		w.lead()
		w.wantState(rolled, fsm.StateRollingBack)
		w.wantState(commits, fsm.StateCommitting)
		w.wantState(open, fsm.StateActive)
	}
	w.attach(1, holderN(1), "bank-a")
	w.attach(2, holderN(2), "bank-b")
	wantList(t, branchesOf(w.take(1)), "1 ROLLBACK #1", "1 COMMIT #1")
	wantList(t, branchesOf(w.take(2)), "2 ROLLBACK #1", "2 COMMIT #1")
	for _, branch := range []string{"1", "2"} {
		w.ok(cmdReport(rolled, branch, rolledBack))
		w.ok(cmdReport(commits, branch, committed))
	}
	w.wantState(rolled, fsm.StateRolledBack)
	w.wantState(commits, fsm.StateCommitted)
	w.advanceBeating(2*time.Minute, 1, 2)
	w.wantState(open, fsm.StateRollingBack) // by its deadline, which the new leader keeps
	wantList(t, branchesOf(w.take(1))[:1], "1 ROLLBACK #1")
}

// Seata #1180: a rollback that the coordinator's crash had cut short stayed as it
// was. Here the next one tells the branches that are left, and only those.
func TestHistory_Seata1180_RollbackStuckAfterACrash(t *testing.T) {
	w := newWorld(t)
	a, b := branchOf("1", "bank-a", nil), branchOf("2", "bank-b", nil)
	gid := w.begun("", time.Minute, a, b)
	w.ok(cmdVote(gid, a, prepared))
	w.ok(cmdVote(gid, b, prepared))
	w.attach(1, holderN(1), "bank-a")
	w.attach(2, holderN(2), "bank-b")
	w.ok(cmdRollback(gid))
	wantList(t, branchesOf(w.take(1)), "1 ROLLBACK #1")
	wantList(t, branchesOf(w.take(2)), "2 ROLLBACK #1")
	w.ok(cmdReport(gid, "1", rolledBack))
	w.follow() // before branch 2 has answered
	w.lead()
	w.attach(3, holderN(1), "bank-a")
	w.attach(4, holderN(2), "bank-b")
	wantList(t, branchesOf(w.take(3)))
	wantList(t, branchesOf(w.take(4)), "2 ROLLBACK #1")
	w.ok(cmdReport(gid, "2", rolledBack))
	w.wantState(gid, fsm.StateRolledBack)
}

// DTM doubled the wait after each failure without end, so that a branch that had
// failed for a day was asked again after another, when nobody remembered it.
// Here the wait is capped, far below the retention, and what is due is never
// dropped.
func TestHistory_DTM_BackOffOutlivesRetention(t *testing.T) {
	retention := milliseconds(fsm.DefaultLimits().GetRetentionMs())
	if most := DefaultSettings().BackoffMax; most > retention/10 {
		t.Errorf("a branch may wait %v for its next try, and is kept for %v", most, retention)
	}
	w := newWorld(t)
	b := branchOf("1", "", nil)
	b.Endpoint = "http://orders:8080/branch"
	gid := w.committedTx("", b)
	var last time.Time
	for attempt := range 300 {
		calls := w.takeCalls()
		if len(calls) == 0 {
			w.advance(w.core.cfg.BackoffMax)
			calls = w.takeCalls()
		}
		if len(calls) != 1 {
			t.Fatalf("attempt %d: %d calls within %v of the last", attempt, len(calls), w.core.cfg.BackoffMax)
		}
		last = w.now
		w.called(calls[0], Answered{}, errors.New("connection refused"))
	}
	if age := last.Sub(w.start); age < 2*retention {
		t.Fatalf("only %v have passed, retention is %v", age, retention)
	}
	w.wantState(gid, fsm.StateCommitting)
	w.advance(w.core.cfg.BackoffMax)
	w.called(w.takeCalls()[0], Answered{Outcome: committed}, nil)
	w.wantState(gid, fsm.StateCommitted)
}
