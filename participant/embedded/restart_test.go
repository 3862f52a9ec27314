package embedded

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/quorate/quorate/participant"
)

// A prepared branch outlives one restart after the other, whatever the process that was
// started in between did, or did not: it is listed, its keys are locked, and it can still
// go either way. One that has ended stays ended.
func TestPreparedBranchesOutliveRestartsInARow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	commits, rollsBack, ended := numbered(1), numbered(2), numbered(3)
	s := openAt(t, path)
	for _, r := range []*record{commits, rollsBack, ended} {
		if err := s.prepare(r); err != nil {
			t.Fatal(err)
		}
	}
	if o, err := s.Commit(t.Context(), ended.BranchRef); err != nil || o != participant.OutcomeCommitted {
		t.Fatal(o, err)
	}
	for range 3 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openAt(t, path, WithLockTimeout(20*time.Millisecond))
		found, err := s.Recover(t.Context())
		if err != nil || len(found) != 2 || found[0] != commits.Prepared || found[1] != rollsBack.Prepared {
			t.Fatalf("prepared: %v, %v", found, err)
		}
		var locked *LockedError
		for _, r := range []*record{commits, rollsBack} {
			tx := work(t, t.Context(), s)
			if err := tx.Put(r.keys[0], []byte("other")); !errors.As(err, &locked) || !locked.Prepared || locked.Holder != r.BranchRef {
				t.Errorf("%s: %v, want it locked by %s", r.keys[0], err, r.BranchRef)
			}
			if err := tx.Rollback(); err != nil {
				t.Error(err)
			}
		}
		set(t, s, ended.keys[0], "1") // nobody's
	}
	if o, err := s.Commit(t.Context(), commits.BranchRef); err != nil || o != participant.OutcomeCommitted {
		t.Error(o, err)
	}
	if o, err := s.Rollback(t.Context(), rollsBack.BranchRef); err != nil || o != participant.OutcomeRolledBack {
		t.Error(o, err)
	}
	for key, want := range map[string]string{commits.keys[0]: "1", rollsBack.keys[0]: ""} {
		if v, err := s.Get(key); err != nil || string(v) != want {
			t.Errorf("%s is %q, %v, want %q", key, v, err, want)
		}
	}
	if len(s.locks.held) != 0 {
		t.Errorf("%d keys are locked in the end", len(s.locks.held))
	}
}
