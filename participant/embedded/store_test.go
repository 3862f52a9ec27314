package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/quorate/quorate/internal/testkit"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/participanttest"
)

const patience = 10 * time.Second

// open opens a fresh store.
func open(t testing.TB, opts ...Option) *Store {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "store.db"), opts...)
}

func openAt(t testing.TB, path string, opts ...Option) *Store {
	t.Helper()
	s, err := Open(path, "bank", opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// work begins a transaction.
func work(t testing.TB, ctx context.Context, s *Store) *Tx {
	t.Helper()
	tx, err := s.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

// set writes a key in a local transaction.
func set(t testing.TB, s *Store, key, value string) {
	t.Helper()
	tx := work(t, t.Context(), s)
	if err := tx.Put(key, []byte(value)); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// served is a store that takes part in a cluster's transactions.
func served(t testing.TB, opts ...Option) (*participanttest.Cluster, *participant.Client, *Store) {
	t.Helper()
	c := participanttest.NewCluster(t, 1)
	s := open(t, opts...)
	client, err := participant.Dial(t.Context(), c.Addresses(), participant.WithScanInterval(200*time.Millisecond, 100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	if err := s.Serve(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	return c, client, s
}

func TestLocalTransactions(t *testing.T) {
	s := open(t)
	set(t, s, "a", "1")
	set(t, s, "ab", "2")
	set(t, s, "b", "3")
	tx := work(t, t.Context(), s)
	if tx.Branch() != nil {
		t.Error("a local transaction is a branch")
	}
	if err := tx.Delete("a"); err != nil {
		t.Fatal(err)
	}
	if v, err := tx.Get("a"); v != nil || err != nil {
		t.Errorf("a deleted key reads %q, %v", v, err)
	}
	if err := tx.Put("empty", nil); err != nil {
		t.Fatal(err)
	}
	if v, err := tx.Get("empty"); v == nil || len(v) != 0 || err != nil {
		t.Errorf("an empty value reads %v, %v", v, err)
	}
	if v, _ := s.Get("a"); string(v) != "1" {
		t.Errorf("a is %q outside, before the commit", v)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v, _ := s.Get("a"); v != nil {
		t.Errorf("a is %q after its deletion", v)
	}
	var keys []string
	err := s.Range("a", func(key string, _ []byte) error { keys = append(keys, key); return nil })
	if err != nil || strings.Join(keys, ",") != "ab" {
		t.Errorf("keys with a: %v, %v", keys, err)
	}
	boom := errors.New("boom")
	if err := s.Range("", func(string, []byte) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("range handed on %v", err)
	}
	for name, err := range map[string]error{"commit": tx.Commit(t.Context()), "rollback": tx.Rollback(), "put": tx.Put("a", nil)} {
		if !errors.Is(err, ErrEnded) {
			t.Errorf("%s after the end: %v", name, err)
		}
	}
	if _, err := tx.Get("a"); !errors.Is(err, ErrEnded) {
		t.Errorf("get after the end: %v", err)
	}
	empty := work(t, t.Context(), s)
	if err := empty.CommitWaits(t.Context()); err != nil {
		t.Errorf("the commit of nothing: %v", err)
	}
}

func TestLimits(t *testing.T) {
	s := open(t)
	tx := work(t, t.Context(), s)
	for _, key := range []string{"", strings.Repeat("k", KeyBytesMax+1)} {
		if err := tx.Put(key, nil); !errors.Is(err, ErrTooLarge) {
			t.Errorf("a key of %d bytes: %v", len(key), err)
		}
	}
	half := bytes.Repeat([]byte{1}, TransactionBytesMax/2)
	if err := tx.Put("a", half); err != nil {
		t.Fatal(err)
	}
	if err := tx.Put("a", half); err != nil {
		t.Errorf("a value that replaces one of its size: %v", err)
	}
	if err := tx.Put("b", half); !errors.Is(err, ErrTooLarge) {
		t.Errorf("more than a transaction may write: %v", err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "store.db")
	s := openAt(t, path)
	if _, err := Open(path, "bank"); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a file that is open: %v", err)
	}
	_ = s.Close()
	if _, err := Open(path, "other"); err == nil || !strings.Contains(err.Error(), `"bank"`) {
		t.Errorf("a file of another resource: %v", err)
	}
	if _, err := Open(path, ""); err == nil {
		t.Error("a resource without a name was opened")
	}
	if _, err := Open(path, "bank", WithLockTimeout(0)); err == nil {
		t.Error("a lock timeout of zero was taken")
	}
	if _, err := Open(dir, "bank"); err == nil {
		t.Error("a directory was opened")
	}
	tamper(t, path, func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta).Put(metaVersion, []byte("9")) })
	if _, err := Open(path, "bank"); err == nil || !strings.Contains(err.Error(), `"9"`) {
		t.Errorf("a file of version 9: %v", err)
	}
}

// tamper edits a closed store's file.
func tamper(t testing.TB, path string, f func(*bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(f); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// S18: damage on the disk stops the store; it is never taken for an answer.
func TestADamagedFileIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := openAt(t, path)
	_ = s.Close()
	ref := sample().BranchRef
	tamper(t, path, func(tx *bbolt.Tx) error {
		if err := tx.Bucket(bucketEvidence).Put(rowKey(ref), []byte("garbage")); err != nil {
			return err
		}
		b := sample().encode()
		b[len(b)-1] ^= 1
		return tx.Bucket(bucketPrepared).Put(rowKey(ref), b)
	})
	if _, err := Open(path, "bank"); !errors.Is(err, errRecordDamaged) || !strings.Contains(err.Error(), ref.String()) {
		t.Errorf("a damaged prepare record: %v", err)
	}
	tamper(t, path, func(tx *bbolt.Tx) error { return tx.Bucket(bucketPrepared).Delete(rowKey(ref)) })
	s = openAt(t, path)
	if _, err := s.Evidence(); err == nil || !strings.Contains(err.Error(), ref.String()) {
		t.Errorf("a damaged evidence row: %v", err)
	}
}

// A record that is damaged under a running store is no outcome, and spoils nothing else.
func TestADamagedRecordIsNoOutcome(t *testing.T) {
	s := open(t)
	ref := sample().BranchRef
	err := s.writer.update(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketPrepared).Put(rowKey(ref), []byte{recordVersion, 1, 2, 3, 4, 5})
	})
	if err != nil {
		t.Fatal(err)
	}
	if o, err := s.Commit(t.Context(), ref); !errors.Is(err, errRecordDamaged) {
		t.Errorf("commit: %v, %v", o, err)
	}
	if o, err := s.Rollback(t.Context(), ref); !errors.Is(err, errRecordDamaged) {
		t.Errorf("rollback: %v, %v", o, err)
	}
	if _, err := s.Recover(t.Context()); !errors.Is(err, errRecordDamaged) {
		t.Errorf("recover: %v", err)
	}
	set(t, s, "k", "1")
}

// "Never retry after a failed fsync": the store stops, and says so.
func TestAFailedWriteBreaksTheStore(t *testing.T) {
	s := open(t)
	set(t, s, "k", "1")
	disk := errors.New("no space left on device")
	if err := s.writer.update(func(*bbolt.Tx) error { return disk }); !errors.Is(err, ErrBroken) || !errors.Is(err, disk) {
		t.Fatalf("a failed write: %v", err)
	}
	if _, err := s.Get("k"); !errors.Is(err, ErrBroken) {
		t.Errorf("get: %v", err)
	}
	if _, err := s.Begin(t.Context()); !errors.Is(err, ErrBroken) {
		t.Errorf("begin: %v", err)
	}
	if _, err := s.Commit(t.Context(), sample().BranchRef); !errors.Is(err, ErrBroken) {
		t.Errorf("commit: %v", err)
	}
	if err := s.writer.update(func(*bbolt.Tx) error { return nil }); !errors.Is(err, ErrBroken) {
		t.Errorf("another write: %v", err)
	}
}

// After a prepare that failed on the disk the branch is refused, and stays due,
// because it may be there all the same.
func TestAFailedPrepareMayBePrepared(t *testing.T) {
	c, client, s := served(t)
	tx, err := client.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w := work(t, tx.Context(t.Context()), s)
	if err := w.Put("k", []byte("1")); err != nil {
		t.Fatal(err)
	}
	_ = s.writer.update(func(*bbolt.Tx) error { return errors.New("no space left on device") })
	if err := w.Commit(t.Context()); !errors.Is(err, ErrBroken) {
		t.Fatalf("commit: %v", err)
	}
	b := c.Transaction(string(tx.GID())).GetBranches()[0]
	if !b.GetMaybePrepared() || b.GetTerminal() {
		t.Errorf("the cluster has %v, want a branch that may be prepared and is due", b)
	}
}

func TestAClosedStoreRefuses(t *testing.T) {
	s := open(t)
	tx := work(t, t.Context(), s)
	if err := tx.Put("k", nil); err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error, 1)
	other := work(t, t.Context(), s)
	go func() { waiting <- other.Put("k", nil) }()
	testkit.Eventually(t, patience, func() bool { return s.locks.waiters("k") == 1 }, "the other to wait")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; !errors.Is(err, ErrClosed) {
		t.Errorf("who waited for a lock: %v", err)
	}
	for name, err := range map[string]error{
		"begin": second(s.Begin(t.Context())), "get": second(s.Get("k")), "commit": tx.Commit(t.Context()),
		"range": s.Range("", nil), "put": work2(tx), "sweep": s.Sweep(t.Context(), 1), "evidence": second(s.Evidence()),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s of a closed store: %v", name, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Errorf("a second close: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

// work2 asks for another lock; the transaction of a closed store has ended or is refused.
func work2(tx *Tx) error {
	err := tx.lock("other")
	if errors.Is(err, ErrEnded) {
		return ErrClosed
	}
	return err
}

func TestAGIDNeedsAClient(t *testing.T) {
	s := open(t)
	ctx, err := participant.Join(t.Context(), participant.Info{GID: "01JD9S7KQZZZZZZZZZZZZZZZZZ", Path: "1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Begin(ctx); !errors.Is(err, ErrNotServed) {
		t.Errorf("begin with a GID and without a client: %v", err)
	}
	tx := work(t, participant.Outside(ctx), s)
	if tx.Branch() != nil {
		t.Error("what is outside the transaction is a branch of it")
	}
}

// The error names the key, who has it, and what to type.
func TestLockedErrors(t *testing.T) {
	c, client, s := served(t, WithLockTimeout(50*time.Millisecond))
	c.HoldDeliveries(true)
	tx, err := client.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b := work(t, tx.Context(t.Context()), s)
	if err := b.Put("k", []byte("1")); err != nil {
		t.Fatal(err)
	}
	check := func(err error, prepared, same bool, words ...string) {
		t.Helper()
		var locked *LockedError
		if !errors.As(err, &locked) {
			t.Fatalf("a locked key: %v", err)
		}
		if locked.Key != "k" || locked.Resource != "bank" || locked.Holder != b.Branch().Ref() || locked.Prepared != prepared || locked.Same != same {
			t.Errorf("%+v", locked)
		}
		for _, w := range append(words, `"k"`, "bank", string(tx.GID()), "quorate tx show") {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q does not say %q", err, w)
			}
		}
	}
	local := work(t, t.Context(), s)
	check(local.Put("k", nil), false, false, "not released within")
	sibling := work(t, tx.Context(t.Context()), s)
	check(sibling.Put("k", nil), false, true, "this same transaction", "use one branch for both")
	if err := b.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	check(local.Put("k", nil), true, false)
	err = sibling.Put("k", nil)
	check(err, true, true)
	if locked := new(LockedError); errors.As(err, &locked) && locked.Waited != 0 {
		t.Errorf("waited %v for a lock that only its own decision releases", locked.Waited)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("the caller left"))
	if err := work(t, ctx, s).Put("k", nil); err == nil || !strings.Contains(err.Error(), "the caller left") {
		t.Errorf("a wait whose context has ended: %v", err)
	}
	set(t, s, "l", "1")
	holder := work(t, t.Context(), s)
	if _, err := holder.Get("l"); err != nil {
		t.Fatal(err)
	}
	if err := local.Put("l", nil); err == nil || !strings.Contains(err.Error(), "a local transaction") {
		t.Errorf("a key that a local transaction has: %v", err)
	}
}

// A service that rolls back because of a lock refuses in the lock's words: whoever
// asks why the transaction rolled back is told who had the key.
func TestARefusalSaysWhy(t *testing.T) {
	_, client, s := served(t, WithLockTimeout(50*time.Millisecond))
	holder := work(t, t.Context(), s)
	if err := holder.Put("k", nil); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("the caller left"))
	for name, tt := range map[string]struct {
		use  func(*Tx) error
		want string // a regular expression
	}{
		"a read":    {use: func(tx *Tx) error { return second(tx.Get("k")) }, want: `after this: embedded: key "k" of bank is locked by a local transaction, .*`},
		"a write":   {use: func(tx *Tx) error { return tx.Put("k", nil) }, want: `after this: embedded: key "k" of bank is locked by a local transaction, .*`},
		"too large": {use: func(tx *Tx) error { return tx.Put("", nil) }, want: "after this: " + ErrTooLarge.Error() + ": .*"},
		"its own":   {use: func(*Tx) error { return errors.New("no") }, want: "the participant rolled back"},
		"cancelled": {use: func(tx *Tx) error { tx.ctx = ended; return errors.New("no") }, want: "when its context had ended: the caller left"},
	} {
		t.Run(name, func(t *testing.T) {
			tx, err := client.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			b := work(t, tx.Context(t.Context()), s)
			if err := tt.use(b); err == nil {
				t.Fatal("it did not fail")
			}
			if err := b.Rollback(); err != nil {
				t.Fatal(err)
			}
			var rolledBack *participant.RolledBackError
			if err := tx.Commit(t.Context()); !errors.As(err, &rolledBack) || !regexp.MustCompile(tt.want+"$").MatchString(rolledBack.Detail) {
				t.Errorf("the commit says %v, want a rollback because of %q", err, tt.want)
			}
		})
	}
}

// Who waits gets the lock when it is released, in the order of coming.
func TestLocksArePassedOn(t *testing.T) {
	s := open(t, WithLockTimeout(patience))
	first := work(t, t.Context(), s)
	if err := first.Put("k", []byte("0")); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var order []int
	for i := range 4 {
		tx := work(t, t.Context(), s)
		wg.Go(func() {
			if err := tx.Put("k", []byte(fmt.Sprint(i))); err != nil {
				t.Error(err)
			}
			mu.Lock()
			order = append(order, i)
			mu.Unlock()
			if err := tx.Commit(t.Context()); err != nil {
				t.Error(err)
			}
		})
		testkit.Eventually(t, patience, func() bool { return s.locks.waiters("k") == i+1 }, "%d to wait", i+1)
	}
	if err := first.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if fmt.Sprint(order) != "[0 1 2 3]" {
		t.Errorf("the lock went to %v", order)
	}
	if v, _ := s.Get("k"); string(v) != "3" {
		t.Errorf("k is %q", v)
	}
	if n := len(s.locks.held); n != 0 {
		t.Errorf("%d keys are locked in the end", n)
	}
}

// waiters is the number of those who wait for a key.
func (l *locks) waiters(key string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[key] == nil {
		return 0
	}
	return len(l.held[key].queue)
}

// A rollback that is delivered to a branch whose work waits for a lock ends both.
func TestRollbackOfABranchThatWaits(t *testing.T) {
	_, client, s := served(t, WithLockTimeout(300*time.Millisecond))
	holder := work(t, t.Context(), s)
	if err := holder.Put("k", []byte("1")); err != nil {
		t.Fatal(err)
	}
	tx, err := client.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b := work(t, tx.Context(t.Context()), s)
	waiting := make(chan error, 1)
	go func() { waiting <- b.Put("k", []byte("2")) }()
	testkit.Eventually(t, patience, func() bool { return s.locks.waiters("k") == 1 }, "the branch to wait")
	if err := tx.Rollback(t.Context(), "asked"); err != nil {
		t.Fatal(err)
	}
	<-b.Branch().Decided()
	testkit.Eventually(t, patience, func() bool { return b.isDoomed() }, "the branch to be ended")
	if err := holder.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	var rolledBack *participant.RolledBackError
	if err := <-waiting; !errors.As(err, &rolledBack) {
		t.Errorf("the work that waited: %v", err)
	}
	if err := b.Rollback(); err != nil {
		t.Errorf("rollback of what was rolled back: %v", err)
	}
	set(t, s, "k", "3") // the lock did not go to the dead
}

func TestCommitWaits(t *testing.T) {
	_, client, s := served(t)
	for _, commit := range []bool{true, false} {
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
		if commit {
			err = tx.Commit(t.Context())
		} else {
			err = tx.Rollback(t.Context(), "asked")
		}
		if err != nil && commit {
			t.Fatal(err)
		}
		var rolledBack *participant.RolledBackError
		if err := <-waited; commit && err != nil || !commit && !errors.As(err, &rolledBack) {
			t.Errorf("commit %v: %v", commit, err)
		}
	}
}

func TestEvidenceIsReadInOrder(t *testing.T) {
	s := open(t)
	old := participant.BranchRef{GID: "01JD9S7KQA0000000000000000", ID: "1"}
	young := participant.BranchRef{GID: "01JD9S7KQZ0000000000000000", ID: "1.1"}
	for _, ref := range []participant.BranchRef{young, old} {
		if o, err := s.Rollback(t.Context(), ref); err != nil || o != participant.OutcomeRolledBack {
			t.Fatal(o, err)
		}
	}
	rows, err := s.Evidence()
	want := []Evidence{{BranchRef: old, State: EvidenceRolledBack}, {BranchRef: young, State: EvidenceRolledBack}}
	if err != nil || len(rows) != 2 || rows[0] != want[0] || rows[1] != want[1] {
		t.Errorf("rows %v, %v; want %v", rows, err, want)
	}
	if EvidenceCommitted.String() != "committed" || EvidenceRolledBack.String() != "rolled back" || EvidenceState(0).String() != "none" {
		t.Error("the states have no names")
	}
	if err := s.Sweep(t.Context(), old.GID.BornMS()); err != nil {
		t.Fatal(err)
	}
	if rows, _ := s.Evidence(); len(rows) != 1 || rows[0].BranchRef != young {
		t.Errorf("after the sweep: %v", rows)
	}
	// What is below the floor needs no row any more, and gets none.
	if o, err := s.Rollback(t.Context(), old); err != nil || o != participant.OutcomeRolledBack {
		t.Errorf("rollback below the floor: %v, %v", o, err)
	}
	if o, err := s.Commit(t.Context(), old); err != nil || o != participant.OutcomeHazard {
		t.Errorf("commit below the floor: %v, %v; nobody can tell any more", o, err)
	}
	if rows, _ := s.Evidence(); len(rows) != 1 {
		t.Errorf("rows below the floor were written: %v", rows)
	}
	if err := s.Sweep(t.Context(), old.GID.BornMS()-1); err != nil {
		t.Errorf("a sweep to a lower floor: %v", err)
	}
}

// A store outlives clusters, as with `quorate dev`, and each counts its own time:
// what one has swept fences nothing of the next, and neither sweeps the other's.
func TestFloorsBelongToTheirCluster(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	serve := func(age time.Duration) (*participanttest.Cluster, *participant.Client, *Store) {
		c := participanttest.NewCluster(t, 1)
		c.Advance(age)
		s := openAt(t, path)
		client, err := participant.Dial(t.Context(), c.Addresses())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		if err := s.Serve(t.Context(), client); err != nil {
			t.Fatal(err)
		}
		return c, client, s
	}
	commit := func(c *participanttest.Cluster, client *participant.Client, s *Store) (row Evidence) {
		t.Helper()
		tx, err := client.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w := work(t, tx.Context(t.Context()), s)
		if err := w.Put("k", nil); err != nil {
			t.Fatal(err)
		}
		if err := w.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(t.Context(), participant.WaitFinish()); err != nil {
			t.Fatal(err)
		}
		return Evidence{BranchRef: w.Branch().Ref(), Cluster: c.ID(), State: EvidenceCommitted}
	}
	sweep := func(s *Store, to Evidence) (left []Evidence) {
		t.Helper()
		if err := s.Sweep(t.Context(), to.GID.BornMS()); err != nil {
			t.Fatal(err)
		}
		left, err := s.Evidence()
		if err != nil {
			t.Fatal(err)
		}
		return left
	}

	c, client, s := serve(1000 * time.Hour)
	first := commit(c, client, s)
	if left := sweep(s, first); len(left) != 0 {
		t.Fatalf("left after the sweep: %v", left)
	}
	c.Advance(time.Second)
	if err := client.Run(t.Context(), func(context.Context) error { return nil }); err != nil { // hears the clock
		t.Fatal(err)
	}
	second := commit(c, client, s)
	_ = client.Close()
	_ = s.Close()

	c, client, s = serve(0)
	commit(c, client, s) // born long before what the other cluster has swept to
	if left := sweep(s, second); len(left) != 1 || left[0] != second {
		t.Errorf("left after the other cluster's sweep: %v, want %v", left, second)
	}
}

// A sweep goes as far as one commit should, and notes no more than that.
func TestALongSweepGoesInSteps(t *testing.T) {
	s := open(t)
	gid := func(i int) participant.GID {
		return participant.GID(fmt.Sprintf("01JD9S%04dZZZZZZZZZZZZZZZZ", i))
	}
	err := s.writer.update(func(tx *bbolt.Tx) error {
		for i := range sweptAtOnceMax/2 + 1 {
			for _, id := range []string{"1", "2"} {
				if err := putEvidence(tx, participant.BranchRef{GID: gid(i % 10000), ID: id + fmt.Sprint(".", i/10000)}, "", EvidenceCommitted); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	floor := gid(9999).BornMS()
	if err := s.Sweep(t.Context(), floor); err != nil {
		t.Fatal(err)
	}
	rows, err := s.Evidence()
	if err != nil || len(rows) != 2 {
		t.Fatalf("%d rows are left after one step, %v; want 2", len(rows), err)
	}
	var swept uint64
	_ = s.view(func(tx *bbolt.Tx) error { swept = sweptFloor(tx, ""); return nil })
	if swept >= rows[0].GID.BornMS() {
		t.Errorf("swept to %d, and a row born %d is left", swept, rows[0].GID.BornMS())
	}
	if err := s.Sweep(t.Context(), floor); err != nil {
		t.Fatal(err)
	}
	if rows, _ := s.Evidence(); len(rows) != 0 {
		t.Errorf("%d rows are left after two steps", len(rows))
	}
}

// Many at once share a sync, and each is there when it is answered.
func TestConcurrentCommitsShareASync(t *testing.T) {
	s := open(t)
	const n = 300
	commits := func() (id int) {
		_ = s.db.View(func(tx *bbolt.Tx) error { id = tx.ID(); return nil })
		return id
	}
	before := commits()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			key := fmt.Sprint("k", i)
			set(t, s, key, "1")
			if v, err := s.Get(key); err != nil || string(v) != "1" {
				t.Errorf("%s is %q, %v after its commit", key, v, err)
			}
		})
	}
	wg.Wait()
	if synced := commits() - before; synced >= n {
		t.Errorf("%d syncs for %d commits", synced, n)
	}
}

func BenchmarkLocalCommit(b *testing.B) {
	s := open(b)
	value := []byte("value")
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			tx, err := s.Begin(context.Background())
			if err != nil {
				b.Fatal(err)
			}
			if err := tx.Put(fmt.Sprintf("%p/%d", tx, i%64), value); err != nil {
				b.Fatal(err)
			}
			if err := tx.Commit(context.Background()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// TestABranchThatOnlyDeletesVotes: what takes away is work as much as what adds:
// it must be prepared, told, and undone by a rollback.
func TestABranchThatOnlyDeletesVotes(t *testing.T) {
	for _, commits := range []bool{true, false} {
		_, client, s := served(t)
		set(t, s, "a", "1")
		tx, err := client.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		branch := work(t, tx.Context(t.Context()), s)
		if err := branch.Delete("a"); err != nil {
			t.Fatal(err)
		}
		if err := branch.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if value, err := s.Get("a"); err != nil || string(value) != "1" {
			t.Fatalf("before the decision: %q, %v", value, err)
		}
		end, want := tx.Commit, EvidenceCommitted
		if !commits {
			end = func(ctx context.Context, _ ...participant.CommitOption) error {
				return tx.Rollback(ctx, "changed my mind")
			}
			want = EvidenceRolledBack
		}
		if err := end(t.Context()); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, patience, func() bool {
			rows, err := s.Evidence()
			return err == nil && len(rows) == 1 && rows[0].State == want
		}, "the branch is told, commit: %v", commits)
		if value, err := s.Get("a"); err != nil || (len(value) == 0) != commits {
			t.Errorf("commit %v: the deleted key holds %q, %v", commits, value, err)
		}
	}
}

// A prepared branch keeps the keys that it only read, too, when the store is
// opened again: another one that changed them before the decision would make two
// transactions each of which saw the other's past.
func TestAPreparedBranchKeepsWhatItReadOverARestart(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	path := filepath.Join(t.TempDir(), "store.db")
	s := openAt(t, path)
	client, err := participant.Dial(t.Context(), c.Addresses())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	if err := s.Serve(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	set(t, s, "read", "1")
	c.HoldDeliveries(true)
	tx, err := client.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	branch := work(t, tx.Context(t.Context()), s)
	if _, err := branch.Get("read"); err != nil {
		t.Fatal(err)
	}
	if err := branch.Put("written", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if err := branch.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, path, WithLockTimeout(50*time.Millisecond))
	for _, key := range []string{"read", "written"} {
		var locked *LockedError
		if err := work(t, t.Context(), s).Put(key, nil); !errors.As(err, &locked) || !locked.Prepared {
			t.Errorf("%q: %v, want it locked by the prepared branch", key, err)
		}
	}
}
