package embedded

import (
	"errors"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/quorate/quorate/internal/testkit"
	"github.com/quorate/quorate/participant"
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

// Whoever waits for the end of a branch that was lost hears that, though its transaction
// has committed.
func TestCommitWaitsTellsAHeuristicRollback(t *testing.T) {
	_, client, s := served(t)
	tx, err := client.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w := work(t, tx.Context(t.Context()), s)
	if err := w.Put("k", []byte("1")); err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() { waited <- w.CommitWaits(t.Context()) }()
	testkit.Eventually(t, patience, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.prepared) == 1
	}, "the branch to prepare")
	ref := w.Branch().Ref()
	err = s.writer.update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketPrepared).Delete(rowKey(ref)) }) // by somebody's hand
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	var rolledBack *participant.RolledBackError
	if err := <-waited; !errors.As(err, &rolledBack) || rolledBack.Reason != "HEURISTIC" {
		t.Errorf("%v, want a heuristic rollback", err)
	}
}
