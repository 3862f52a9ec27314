package participanttest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/participant"
)

// checks are the suite. Each quotes the rule that it proves, from PROTOCOL.md's
// section 5 or the promises (S...), in its own words.
var checks = []check{
	{name: "CommitAppliesOnce", run: checkCommitAppliesOnce},
	{name: "RollbackDropsOnce", run: checkRollbackDropsOnce},
	{name: "DecisionsStand", run: checkDecisionsStand},
	{name: "LocalTransactions", run: checkLocal},
	{name: "ReadOnlyEndsWithItsVote", run: checkReadOnly},
	{name: "RefusalEndsTheBranch", run: checkRefusal},
	{name: "RollbackBeforePrepareFences", run: checkFence},
	{name: "RollbackWhileWorking", run: checkRollbackWhileWorking},
	{name: "NotFoundIsNoCommit", run: checkNotFound},
	{name: "NamesAreWhole", writers: true, run: checkNames},
	{name: "IsolationByLocks", run: checkIsolation},
	{name: "ConcurrentBranches", writers: true, run: checkConcurrent},
	{name: "DuplicatedDeliveries", run: checkDuplicates},
	{name: "VoteIsSaidWhenPrepared", durable: true, run: checkVoteAfterPrepare},
	{name: "PreparedSurvivesCrashAndCommits", durable: true, run: checkCrashCommit},
	{name: "PreparedSurvivesCrashAndRollsBack", durable: true, run: checkCrashRollback},
	{name: "LocksSurviveCrash", durable: true, run: checkLocksSurvive},
	{name: "RecoverListsExactlyThePrepared", durable: true, run: checkRecoverList},
	{name: "RecoveryEndsWhatIsLeft", durable: true, run: checkRecoveryEnds},
	{name: "UnpreparedIsLostInCrash", run: checkUnprepared},
	{name: "HeldIsHonest", held: true, run: checkHeldIsHonest},
	{name: "FenceSurvivesCrash", run: checkFenceSurvives},
	{name: "SweepKeepsTheFence", run: checkSweep},
}

// S11: "effects take effect exactly once", and never before the commit.
func checkCommitAppliesOnce(t testing.TB, h Harness) {
	b := newBench(t, h)
	tx, ref := b.prepared("k", "new")
	b.reads("k", "", "before the decision")
	b.decideCommit(tx)
	b.reads("k", "", "before the delivery")
	b.was(b.commit(ref), participant.OutcomeCommitted, "commit of a prepared branch")
	b.reads("k", "new", "after the commit")
	if err := b.local(b.Context(), "k", "newer"); err != nil {
		b.Fatalf("the key is still locked after the commit: %v", err)
	}
	for range 3 {
		b.was(b.commit(ref), participant.OutcomeCommitted, "a repeated commit")
	}
	b.reads("k", "newer", "after repeated commits")
	if _, ok := b.listed(ref); ok {
		b.Fatalf("recovery lists a branch that was committed")
	}
}

// S11 for rollbacks.
func checkRollbackDropsOnce(t testing.TB, h Harness) {
	b := newBench(t, h)
	if err := b.local(b.Context(), "k", "old"); err != nil {
		b.Fatal(err)
	}
	_, ref := b.prepared("k", "new")
	b.was(b.rollback(ref), participant.OutcomeRolledBack, "rollback of a prepared branch")
	b.reads("k", "old", "after the rollback")
	if err := b.local(b.Context(), "k", "newer"); err != nil {
		b.Fatalf("the key is still locked after the rollback: %v", err)
	}
	for range 3 {
		b.was(b.rollback(ref), participant.OutcomeRolledBack, "a repeated rollback")
	}
	b.reads("k", "newer", "after repeated rollbacks")
	if _, ok := b.listed(ref); ok {
		b.Fatalf("recovery lists a branch that was rolled back")
	}
}

// S11: "never rollback after commit"; and what was done is told as it was.
func checkDecisionsStand(t testing.TB, h Harness) {
	b := newBench(t, h)
	_, committed := b.prepared("c", "1")
	b.was(b.commit(committed), participant.OutcomeCommitted, "commit")
	b.was(b.rollback(committed), participant.OutcomeCommitted, "a rollback that comes after the commit")
	b.reads("c", "1", "after commit and late rollback")

	_, rolledBack := b.prepared("r", "1")
	b.was(b.rollback(rolledBack), participant.OutcomeRolledBack, "rollback")
	b.was(b.commit(rolledBack), participant.OutcomeRolledBack, "a commit that comes after the rollback")
	b.reads("r", "", "after rollback and late commit")
}

// Without a GID the resource is transparent.
func checkLocal(t testing.TB, h Harness) {
	b := newBench(t, h)
	if err := b.local(b.Context(), "k", "1"); err != nil {
		b.Fatal(err)
	}
	b.reads("k", "1", "after a local commit")
	w, err := b.res.Begin(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	if got, err := w.Get("k"); err != nil || got != "1" {
		b.Fatalf("get within a local transaction: %q, %v", got, err)
	}
	if err := w.Put("k", "2"); err != nil {
		b.Fatal(err)
	}
	if got, err := w.Get("k"); err != nil || got != "2" {
		b.Fatalf("a transaction does not read its own write: %q, %v", got, err)
	}
	if err := w.Rollback(); err != nil {
		b.Fatal(err)
	}
	b.reads("k", "1", "after a local rollback")
	if n := len(b.cluster.Transactions()); n != 0 {
		b.Fatalf("the cluster has heard of %d transactions", n)
	}
}

// "A branch that wrote nothing is never prepared: it ends in one phase and votes
// read-only."
func checkReadOnly(t testing.TB, h Harness) {
	b := newBench(t, h)
	if err := b.local(b.Context(), "k", "1"); err != nil {
		b.Fatal(err)
	}
	tx := b.begin()
	ref := participant.BranchRef{GID: tx.GID(), ID: "1"}
	w, err := b.res.Begin(tx.Context(b.Context()))
	if err != nil {
		b.Fatal(err)
	}
	if got, err := w.Get("k"); err != nil || got != "1" {
		b.Fatalf("get: %q, %v", got, err)
	}
	if err := w.Commit(b.Context()); err != nil {
		b.Fatal(err)
	}
	br, err := b.branch(ref)
	if err != nil || br.GetVote() != quoratev1.Vote_VOTE_READ_ONLY {
		b.Fatalf("a branch that wrote nothing voted %v, %v", br.GetVote(), err)
	}
	if _, ok := b.listed(ref); ok {
		b.Fatalf("recovery lists a branch that wrote nothing")
	}
	if err := b.local(b.Context(), "k", "2"); err != nil {
		b.Fatalf("a branch that has ended keeps a lock: %v", err)
	}
	b.decideCommit(tx)
}

// A rollback before the vote is a refusal, and the whole transaction's end.
func checkRefusal(t testing.TB, h Harness) {
	b := newBench(t, h)
	tx := b.begin()
	ref := participant.BranchRef{GID: tx.GID(), ID: "1"}
	w := b.write(tx.Context(b.Context()), "k", "1")
	if err := w.Rollback(); err != nil {
		b.Fatal(err)
	}
	b.until("the refusal", func() error {
		br, err := b.branch(ref)
		if err == nil && br.GetVote() != quoratev1.Vote_VOTE_REFUSED {
			err = fmt.Errorf("the branch voted %v", br.GetVote())
		}
		return err
	})
	var rolledBack *participant.RolledBackError
	if err := tx.Commit(b.Context()); !errors.As(err, &rolledBack) {
		b.Fatalf("commit after a refusal: %v, want a rollback", err)
	}
	if err := b.local(b.Context(), "k", "2"); err != nil {
		b.Fatalf("a branch that has ended keeps a lock: %v", err)
	}
}

// "Rollback of an xid not found first inserts the evidence row: success means
// that it can never prepare any more."
func checkFence(t testing.TB, h Harness) {
	b := newBench(t, h)
	tx := b.begin()
	ref := participant.BranchRef{GID: tx.GID(), ID: "1"}
	b.was(b.rollback(ref), participant.OutcomeRolledBack, "rollback of a branch that was never there")
	b.lateWork(tx, ref)
}

// lateWork does the work of a branch that was rolled back before: nothing of it
// may stay, and the transaction must not commit with it.
func (b *bench) lateWork(tx *participant.Transaction, ref participant.BranchRef) {
	b.Helper()
	err := func() error {
		w, err := b.res.Begin(tx.Context(b.Context()))
		if err != nil {
			return err
		}
		if err := w.Put("late", "1"); err != nil {
			return errors.Join(err, w.Rollback())
		}
		return w.Commit(b.Context())
	}()
	if err == nil {
		b.Fatalf("a branch prepared after it had been rolled back")
	}
	if _, ok := b.listed(ref); ok {
		b.Fatalf("recovery lists a branch that was rolled back before it prepared")
	}
	if br, err := b.branch(ref); err == nil && br.GetVote() == quoratev1.Vote_VOTE_PREPARED {
		b.Fatalf("the branch voted prepared after it had been rolled back")
	}
	b.reads("late", "", "after late work")
	if err := b.local(b.Context(), "late", "free"); err != nil {
		b.Fatalf("late work keeps a lock: %v", err)
	}
}

// A rollback that comes while the branch is being worked on ends it, or is
// answered busy until the work has ended; it never lets the work prepare.
func checkRollbackWhileWorking(t testing.TB, h Harness) {
	b := newBench(t, h)
	tx := b.begin()
	ref := participant.BranchRef{GID: tx.GID(), ID: "1"}
	w := b.write(tx.Context(b.Context()), "k", "1")
	outcome, err := b.m.Rollback(b.Context(), ref)
	told := err == nil
	if told {
		b.was(outcome, participant.OutcomeRolledBack, "rollback of a branch that is being worked on")
		if err := w.Commit(b.Context()); err == nil {
			b.Fatalf("a branch prepared after it had been rolled back")
		}
	} else {
		_ = w.Rollback()
		b.was(b.rollback(ref), participant.OutcomeRolledBack, "rollback once the work has ended")
	}
	b.reads("k", "", "after the rollback")
	if _, ok := b.listed(ref); ok {
		b.Fatalf("recovery lists a branch that was rolled back")
	}
	if err := b.local(b.Context(), "k", "2"); err != nil {
		b.Fatalf("the branch keeps a lock: %v", err)
	}
}

// "Not found is believed only when the fence settles it": a commit that finds
// nothing is never success, and what it says is true for ever.
func checkNotFound(t testing.TB, h Harness) {
	b := newBench(t, h)
	tx := b.begin()
	ref := participant.BranchRef{GID: tx.GID(), ID: "1"}
	outcome, err := b.m.Commit(b.Context(), ref)
	switch {
	case err != nil: // ask again: no word was given
		return
	case outcome == participant.OutcomeCommitted:
		b.Fatalf("a commit that found nothing was called committed")
	case outcome == participant.OutcomeRolledBack:
		b.lateWork(tx, ref)
	}
}

// Verdicts are for (GID, branch), whole: `1` is not `10`, nor `1.1`, nor `1` of
// another transaction.
func checkNames(t testing.TB, h Harness) {
	b := newBench(t, h)
	tx := b.begin()
	other := b.begin()
	for i := range 10 { // branches 1 to 10
		b.preparedIn(tx, fmt.Sprint("k", i+1), "1")
	}
	nested, err := participant.Join(b.Context(), participant.Info{
		GID: tx.GID(), Path: "1", Cluster: b.client.ClusterID(), Timeout: 42 * time.Second,
	})
	if err != nil {
		b.Fatal(err)
	}
	if err := b.write(nested, "k1.1", "1").Commit(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.preparedIn(other, "other", "1")

	ref := func(gid participant.GID, id string) participant.BranchRef {
		return participant.BranchRef{GID: gid, ID: id}
	}
	b.was(b.rollback(ref(tx.GID(), "1")), participant.OutcomeRolledBack, "rollback of branch 1")
	b.was(b.commit(ref(tx.GID(), "10")), participant.OutcomeCommitted, "commit of branch 10")
	b.reads("k10", "1", "after the commit of branch 10")
	b.reads("k1.1", "", "after the commit of branch 10 alone")
	b.was(b.commit(ref(tx.GID(), "1.1")), participant.OutcomeCommitted, "commit of branch 1.1")
	b.was(b.commit(ref(other.GID(), "1")), participant.OutcomeCommitted, "commit of another transaction's branch 1")
	b.reads("k1", "", "after the rollback of branch 1")
	b.reads("k1.1", "1", "after the commit of branch 1.1")
	b.reads("other", "1", "after the commit of the other transaction's branch 1")
	for i := 2; i < 10; i++ {
		b.was(b.rollback(ref(tx.GID(), fmt.Sprint(i))), participant.OutcomeRolledBack, fmt.Sprint("rollback of branch ", i))
	}
}

// A prepared branch keeps what it wrote from others until the decision, and they
// wait for a bounded time.
func checkIsolation(t testing.TB, h Harness) {
	b := newBench(t, h)
	if err := b.local(b.Context(), "k", "old"); err != nil {
		b.Fatal(err)
	}
	_, ref := b.prepared("k", "new")
	_ = b.blocked("k")
	b.reads("k", "old", "while the branch is prepared")
	if err := b.local(b.Context(), "other", "1"); err != nil && !h.OneWriter {
		b.Fatalf("another key cannot be written: %v", err)
	}
	b.was(b.commit(ref), participant.OutcomeCommitted, "commit")
	b.reads("k", "new", "after the commit")
	if err := b.local(b.Context(), "k", "newer"); err != nil {
		b.Fatalf("the key is still locked: %v", err)
	}
}

// Branches of many transactions at once, ended by several deliveries at once.
func checkConcurrent(t testing.TB, h Harness) {
	const n = 12
	b := newBench(t, h)
	var wg sync.WaitGroup
	var wrong atomic.Int32
	for i := range n {
		_, ref := b.prepared(fmt.Sprint("k", i), "1")
		verdict, want := participant.VerdictCommit, participant.OutcomeCommitted
		if i%3 == 0 {
			verdict, want = participant.VerdictRollback, participant.OutcomeRolledBack
		}
		for range 2 {
			wg.Go(func() {
				if got := b.end(verdict, ref); got != want {
					wrong.Add(1)
				}
			})
		}
	}
	wg.Wait()
	if wrong.Load() != 0 {
		b.Fatalf("%d of %d outcomes differ from what was told", wrong.Load(), 2*n)
	}
	for i := range n {
		want := "1"
		if i%3 == 0 {
			want = ""
		}
		b.reads(fmt.Sprint("k", i), want, "in the end")
	}
}

// S11, over the session: deliveries come three times each, and late ones after
// the report.
func checkDuplicates(t testing.TB, h Harness) {
	b := newBench(t, h)
	b.cluster.Duplicate(3)
	b.cluster.HoldDeliveries(false)
	tx, ref := b.prepared("k", "1")
	b.decideCommit(tx)
	b.reported(ref, participant.OutcomeCommitted)
	b.reads("k", "1", "after the delivered commit")
	if err := b.local(b.Context(), "k", "2"); err != nil {
		b.Fatal(err)
	}
	b.was(b.commit(ref), participant.OutcomeCommitted, "a late delivery")
	b.reads("k", "2", "after a late delivery")

	tx, ref = b.prepared("r", "1")
	if err := tx.Rollback(b.Context(), "asked"); err != nil {
		b.Fatal(err)
	}
	b.reported(ref, participant.OutcomeRolledBack)
	b.reads("r", "", "after the delivered rollback")
}
