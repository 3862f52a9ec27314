package embedded

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/testkit"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/participanttest"
)

// What a caller has put is his no more, and what he was given is his own: neither changes
// what is written.
func TestValuesAreCopies(t *testing.T) {
	s := open(t)
	value := []byte("right")
	spoil := func(b []byte) {
		for i := range b {
			b[i] = 'x'
		}
	}
	tx := work(t, t.Context(), s)
	if err := tx.Put("k", value); err != nil {
		t.Fatal(err)
	}
	spoil(value)
	got, err := tx.Get("k")
	if err != nil || string(got) != "right" {
		t.Errorf("after the caller's buffer has changed: %q, %v", got, err)
	}
	spoil(got)
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		got, err := s.Get("k")
		if err != nil || string(got) != "right" {
			t.Errorf("committed: %q, %v", got, err)
		}
		spoil(got)
	}
}

// Whoever has waited in vain is forgotten: the key goes to the next, and is free in the end.
func TestALockGoesToNobodyWhoHasGone(t *testing.T) {
	s := open(t, WithLockTimeout(50*time.Millisecond))
	holder, late := work(t, t.Context(), s), work(t, t.Context(), s)
	if err := holder.Put("k", []byte("1")); err != nil {
		t.Fatal(err)
	}
	var locked *LockedError
	if err := late.Put("k", []byte("2")); !errors.As(err, &locked) || !locked.Timeout() {
		t.Fatalf("a locked key: %v", err)
	}
	if n := s.locks.waiters("k"); n != 0 {
		t.Errorf("%d wait for the key after the timeout", n)
	}
	if err := holder.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	set(t, s, "k", "3")
	if err := late.Rollback(); err != nil {
		t.Error(err)
	}
	if n := len(s.locks.held); n != 0 {
		t.Errorf("%d keys are locked in the end", n)
	}
}

// A commit that comes while the branch is being worked on has to wait: it must not end what
// may still prepare.
func TestACommitSparesABranchAtWork(t *testing.T) {
	_, client, s := served(t)
	tx, err := client.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w := work(t, tx.Context(t.Context()), s)
	if err := w.Put("k", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if outcome, err := s.Commit(t.Context(), w.Branch().Ref()); !errors.Is(err, participant.ErrBusy) || outcome != participant.OutcomeNone {
		t.Errorf("%v, %v, want busy", outcome, err)
	}
	if err := w.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context(), participant.WaitFinish()); err != nil {
		t.Fatal(err)
	}
	if v, err := s.Get("k"); err != nil || string(v) != "1" {
		t.Errorf("k is %q, %v", v, err)
	}
}

// A prepared branch that is rolled back leaves no record, however old it is: it would hold
// its locks again after the next start.
func TestARollbackLeavesNoRecord(t *testing.T) {
	s := open(t)
	r := sample()
	if err := s.prepare(r); err != nil {
		t.Fatal(err)
	}
	err := s.writer.update(func(tx *bbolt.Tx) error { return putSweptFloor(tx, s.cluster(), r.GID.BornMS()) })
	if err != nil {
		t.Fatal(err)
	}
	if outcome, err := s.Rollback(t.Context(), r.BranchRef); err != nil || outcome != participant.OutcomeRolledBack {
		t.Fatalf("%v, %v", outcome, err)
	}
	if left, err := s.Recover(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("still prepared: %v, %v", left, err)
	}
}

// waitsFor prepares a branch whose caller waits for its end, and lets the test meddle with
// the file before the decision.
func waitsFor(t *testing.T, s *Store, ctx context.Context, meddle func(tx *bbolt.Tx, ref participant.BranchRef) error) <-chan error {
	t.Helper()
	w := work(t, ctx, s)
	if err := w.Put("k", []byte("1")); err != nil {
		t.Fatal(err)
	}
	ref := w.Branch().Ref()
	waited := make(chan error, 1)
	go func() { waited <- w.CommitWaits(ctx) }()
	testkit.Eventually(t, patience, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.prepared[ref] != nil
	}, "the branch to prepare")
	if err := s.writer.update(func(tx *bbolt.Tx) error { return meddle(tx, ref) }); err != nil {
		t.Fatal(err)
	}
	return waited
}

// Whoever waits for the end of a branch that ended otherwise than was decided, by
// somebody's hand, hears that: never a plain yes, and a plain no only where its work is gone.
func TestCommitWaitsTellsHowABranchEnded(t *testing.T) {
	var rolledBack *participant.RolledBackError
	lost := func(tx *bbolt.Tx, ref participant.BranchRef) error {
		return tx.Bucket(bucketPrepared).Delete(rowKey(ref))
	}
	for name, c := range map[string]struct {
		meddle func(tx *bbolt.Tx, s *Store, ref participant.BranchRef) error
		commit bool
		right  func(err error) bool
	}{
		"lost, and decided commit": {func(tx *bbolt.Tx, _ *Store, ref participant.BranchRef) error { return lost(tx, ref) }, true,
			func(err error) bool { return errors.As(err, &rolledBack) && rolledBack.Reason == "HEURISTIC" }},
		"lost so long ago that nobody can tell": {func(tx *bbolt.Tx, s *Store, ref participant.BranchRef) error {
			return errors.Join(lost(tx, ref), putSweptFloor(tx, s.cluster(), ref.GID.BornMS()))
		}, true, func(err error) bool { return errors.Is(err, participant.ErrHeuristic) }},
		"committed, and decided rollback": {func(tx *bbolt.Tx, s *Store, ref participant.BranchRef) error {
			return s.conclude(tx, ref, s.cluster(), EvidenceCommitted)
		}, false, func(err error) bool { return errors.Is(err, participant.ErrHeuristic) && !errors.As(err, &rolledBack) }},
	} {
		t.Run(name, func(t *testing.T) {
			_, client, s := served(t)
			tx, err := client.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			waited := waitsFor(t, s, tx.Context(t.Context()), func(tx *bbolt.Tx, ref participant.BranchRef) error { return c.meddle(tx, s, ref) })
			if c.commit {
				err = tx.Commit(t.Context())
			} else {
				err = tx.Rollback(t.Context(), "asked")
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := <-waited; !c.right(err) {
				t.Errorf("%v", err)
			}
		})
	}
}

// Whoever stops waiting does not know the end, and does not change it.
func TestWhoStopsWaitingDoesNotKnowTheEnd(t *testing.T) {
	c, client, s := served(t)
	tx, err := client.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, leave := context.WithCancel(tx.Context(t.Context()))
	waited := waitsFor(t, s, ctx, func(*bbolt.Tx, participant.BranchRef) error { return nil })
	testkit.Eventually(t, patience, func() bool { // to leave before it has voted would be another story
		b := c.Transaction(string(tx.GID())).GetBranches()
		return len(b) == 1 && b[0].GetVote() == quoratev1.Vote_VOTE_PREPARED
	}, "the branch to vote")
	leave()
	var unknown *participant.OutcomeUnknownError
	if err := <-waited; !errors.As(err, &unknown) || unknown.GID != tx.GID() || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want unknown", err)
	}
	testkit.EventuallyNoError(t, patience, func() error { return tx.Commit(t.Context()) })
	testkit.Eventually(t, patience, func() bool { v, err := s.Get("k"); return err == nil && string(v) == "1" }, "the branch to commit")
}

// A rollback may be delivered while the branch is still being made: it is enlisted, and
// its transaction is not yet to be found by its name. It is rolled back all the same before
// any work is done: no key is locked for it, and nobody waits for one.
func TestARollbackComesWhileABranchIsMade(t *testing.T) {
	c, client, s := served(t)
	tx, err := client.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ref := participant.BranchRef{GID: tx.GID(), ID: "1"}
	c.After(func(call participanttest.Call) error {
		if call.Method != "Session/Enlist" {
			return nil
		}
		// It is enlisted, and its answer is held back.
		if err := tx.Rollback(context.Background(), "asked"); err != nil {
			t.Error(err)
		}
		testkit.Eventually(t, patience, func() bool {
			rows, err := s.Evidence()
			return err == nil && len(rows) == 1 && rows[0].BranchRef == ref && rows[0].State == EvidenceRolledBack
		}, "the rollback to be obeyed")
		return nil
	})
	w := work(t, tx.Context(t.Context()), s)
	c.After(nil)
	var rolledBack *participant.RolledBackError
	if err := w.Put("k", []byte("1")); !errors.As(err, &rolledBack) || rolledBack.GID != tx.GID() {
		t.Errorf("work of a branch that was rolled back: %v", err)
	}
	s.mu.Lock()
	live := len(s.live)
	s.mu.Unlock()
	if live != 0 || len(s.locks.held) != 0 {
		t.Errorf("%d branches are at work, %d keys are locked", live, len(s.locks.held))
	}
	if err := w.Rollback(); err != nil {
		t.Error(err)
	}
}
