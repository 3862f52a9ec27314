package participanttest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/quorate/quorate/participant"
)

// A vote is durable before it is said. The process dies when its vote has arrived:
// what the cluster has counted must be there.
func checkVoteAfterPrepare(t testing.TB, h Harness) {
	b := newBench(t, h)
	tx := b.begin()
	ref := participant.BranchRef{GID: tx.GID(), ID: "1"}
	w := b.write(tx.Context(b.Context()), "k", "1")
	died := make(chan struct{})
	b.cluster.After(func(c Call) error {
		if c.Method != "Session/Vote" {
			return nil
		}
		select {
		case <-died:
		default:
			b.res.Crash(b) // before the vote's answer
			close(died)
		}
		return errBroken
	})
	committing := make(chan struct{})
	go func() {
		defer close(committing)
		_ = w.Commit(b.Context()) // it dies within
	}()
	select {
	case <-died:
	case <-time.After(patience):
		b.Fatalf("no vote was said within %v", patience)
	}
	_ = b.client.Close()
	<-committing
	b.cluster.After(nil)
	b.serve()
	if _, ok := b.listed(ref); !ok {
		b.Fatalf("the branch has voted prepared, and after a crash recovery does not list it")
	}
	b.commitInCluster(tx)
	b.was(b.commit(ref), participant.OutcomeCommitted, "commit after the crash")
	b.reads("k", "1", "after the commit")
}

// commitInCluster decides through the client of the process that lives now.
func (b *bench) commitInCluster(tx *participant.Transaction) {
	b.Helper()
	x, err := b.cluster.commitNow(string(tx.GID()))
	if err != nil || x != commit {
		b.Fatalf("the cluster decided %v, %v", x, err)
	}
}

// S6 for a participant: prepared work survives the process.
func checkCrashCommit(t testing.TB, h Harness) {
	b := newBench(t, h)
	_, ref := b.prepared("k", "1")
	b.crash()
	p, ok := b.listed(ref)
	if !ok {
		b.Fatalf("recovery does not list a branch that was prepared before the crash")
	}
	if p.Cluster != b.cluster.ID() {
		b.Fatalf("recovery lists the branch under cluster %q, want %q", p.Cluster, b.cluster.ID())
	}
	if p.Timeout != 42*time.Second {
		b.Fatalf("recovery lists the branch with a timeout of %v, want 42s, rounded up from 41.5s", p.Timeout)
	}
	b.reads("k", "", "after the crash")
	b.was(b.commit(ref), participant.OutcomeCommitted, "commit after a crash")
	b.reads("k", "1", "after the commit")
	b.crash()
	b.was(b.commit(ref), participant.OutcomeCommitted, "a repeated commit after another crash")
	b.reads("k", "1", "after another crash")
}

func checkCrashRollback(t testing.TB, h Harness) {
	b := newBench(t, h)
	_, ref := b.prepared("k", "1")
	b.crash()
	b.was(b.rollback(ref), participant.OutcomeRolledBack, "rollback after a crash")
	b.reads("k", "", "after the rollback")
	if err := b.local(b.Context(), "k", "2"); err != nil {
		b.Fatalf("the key is still locked: %v", err)
	}
	b.crash()
	b.was(b.commit(ref), participant.OutcomeRolledBack, "a commit after rollback and another crash")
	b.reads("k", "2", "after it")
}

// Isolation does not end with the process.
func checkLocksSurvive(t testing.TB, h Harness) {
	b := newBench(t, h)
	_, ref := b.prepared("k", "1")
	b.crash()
	_ = b.blocked("k")
	b.was(b.commit(ref), participant.OutcomeCommitted, "commit")
	if err := b.local(b.Context(), "k", "2"); err != nil {
		b.Fatalf("the key is still locked: %v", err)
	}
}

// Recovery lists prepared branches, all of them and nothing else.
func checkRecoverList(t testing.TB, h Harness) {
	b := newBench(t, h)
	_, waits := b.prepared("waits", "1")
	_, committed := b.prepared("committed", "1")
	_, rolledBack := b.prepared("rolled back", "1")
	b.commit(committed)
	b.rollback(rolledBack)
	working := b.begin()
	w := b.write(working.Context(b.Context()), "working", "1")
	found, err := b.recovered()
	if err != nil {
		b.Fatal(err)
	}
	if len(found) != 1 || found[0].BranchRef != waits {
		b.Fatalf("recovery lists %v, want only %v", found, waits)
	}
	_ = w.Rollback()
	b.rollback(waits)
}

// S5: "once faults heal every transaction ends on every branch, untouched by
// hands": by recovery alone, because nothing is delivered here.
func checkRecoveryEnds(t testing.TB, h Harness) {
	b := newBench(t, h)
	tx1, _ := b.prepared("c", "1")
	tx2, _ := b.prepared("r", "1")
	tx3, waits := b.prepared("w", "1")
	b.decideCommit(tx1)
	if err := tx2.Rollback(b.Context(), "asked"); err != nil {
		b.Fatal(err)
	}
	b.crash()
	b.until("recovery", func() error {
		found, err := b.recovered()
		if err == nil && len(found) != 1 {
			err = fmt.Errorf("%d branches are prepared", len(found))
		}
		return err
	})
	b.reads("c", "1", "after recovery")
	b.reads("r", "", "after recovery")
	if _, ok := b.listed(waits); !ok {
		b.Fatalf("recovery has ended a branch whose transaction %v is undecided", tx3.GID())
	}
	b.rollback(waits)
}

// What had not voted when the process died is gone, and its keys are free.
func checkUnprepared(t testing.TB, h Harness) {
	b := newBench(t, h)
	tx := b.begin()
	ref := participant.BranchRef{GID: tx.GID(), ID: "1"}
	b.write(tx.Context(b.Context()), "k", "1")
	b.crash()
	if _, ok := b.listed(ref); ok {
		b.Fatalf("recovery lists a branch that never prepared")
	}
	b.was(b.rollback(ref), participant.OutcomeRolledBack, "rollback of a branch that died unprepared")
	b.reads("k", "", "after the crash")
	if err := b.local(b.Context(), "k", "2"); err != nil {
		b.Fatalf("the dead branch keeps a lock: %v", err)
	}
}

// The fence is durable: a rollback that found nothing is not forgotten.
func checkFenceSurvives(t testing.TB, h Harness) {
	b := newBench(t, h)
	tx := b.begin()
	ref := participant.BranchRef{GID: tx.GID(), ID: "1"}
	b.was(b.rollback(ref), participant.OutcomeRolledBack, "rollback of a branch that was never there")
	b.crash()
	// The same branch again, named by its call path, in the new process.
	ctx, err := participant.Join(b.Context(), participant.Info{GID: tx.GID(), Cluster: b.cluster.ID(), Timeout: 42 * time.Second})
	if err != nil {
		b.Fatal(err)
	}
	err = func() error {
		w, err := b.res.Begin(ctx)
		if err != nil {
			return err
		}
		if err := w.Put("late", "1"); err != nil {
			return errors.Join(err, w.Rollback())
		}
		return w.Commit(b.Context())
	}()
	if err == nil {
		b.Fatalf("a branch prepared after it had been rolled back before a crash")
	}
	b.reads("late", "", "after late work")
}

// "Fence rows are swept only at or below the floor, and a fence refuses a born at
// or below the floor it swept to."
func checkSweep(t testing.TB, h Harness) {
	b := newBench(t, h)
	s, ok := b.m.(participant.Sweeper)
	if !ok {
		return // it keeps every row, which is right too
	}
	tx := b.begin()
	old := participant.BranchRef{GID: tx.GID(), ID: "1"}
	b.was(b.rollback(old), participant.OutcomeRolledBack, "rollback of a branch that was never there")
	floor := old.GID.BornMS()
	b.cluster.Advance(time.Second)
	b.until("a younger GID", func() error {
		if tx := b.begin(); tx.GID().BornMS() <= floor {
			return fmt.Errorf("born %d, floor %d", tx.GID().BornMS(), floor)
		}
		return nil
	})
	_, young := b.prepared("young", "1")
	b.was(b.commit(young), participant.OutcomeCommitted, "commit")
	if err := s.Sweep(b.Context(), floor); err != nil {
		b.Fatalf("sweep: %v", err)
	}
	b.was(b.commit(young), participant.OutcomeCommitted, "a repeated commit of a branch born above the floor, after the sweep")
	b.lateWork(tx, old)
}

// "Held branches are honest": the work of a dead process is lost, and after a
// commit decision that is said as it is.
func checkHeldIsHonest(t testing.TB, h Harness) {
	b := newBench(t, h)
	tx, ref := b.prepared("k", "1")
	b.decideCommit(tx)
	b.crash()
	switch got := b.commit(ref); got {
	case participant.OutcomeRolledBack, participant.OutcomeHazard:
	default:
		b.Fatalf("the commit of a branch whose process died before: %v, want rolled back, or hazard", got)
	}
	b.reads("k", "", "after the crash")
	if err := b.local(b.Context(), "k", "2"); err != nil {
		b.Fatalf("the dead branch keeps a lock: %v", err)
	}
}
