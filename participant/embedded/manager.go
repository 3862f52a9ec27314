package embedded

import (
	"context"
	"errors"

	"github.com/quorate/quorate/participant"
	"go.etcd.io/bbolt"
)

// errFenced refuses a prepare that comes after the branch's rollback.
var errFenced = errors.New("embedded: the branch was rolled back before it prepared")

// prepare stores the record, unless the branch's end stands there already.
func (s *Store) prepare(r *record) error {
	encoded := r.encode()
	return s.writer.update(func(tx *bbolt.Tx) error {
		if getEvidence(tx, r.BranchRef) != 0 {
			return refuse("branch %s: %w", r.BranchRef, errFenced)
		}
		if floor := sweptFloor(tx, r.Cluster); r.GID.BornMS() <= floor {
			return refuse("branch %s: %w: its evidence has been swept (floor %d)", r.BranchRef, errFenced, floor)
		}
		return tx.Bucket(bucketPrepared).Put(rowKey(r.BranchRef), encoded)
	})
}

// Commit applies a prepared branch's writes. It is part of participant.Manager.
//
// A branch without a record and without evidence lost its prepare, or never had
// one: a row is written that keeps it from ever happening, and the outcome is
// rolled back, which the cluster shows as a heuristic one. Where the row may have
// been swept, nobody can tell: a hazard.
func (s *Store) Commit(_ context.Context, ref participant.BranchRef) (participant.Outcome, error) {
	cluster := s.cluster()
	return s.finish(ref, func(tx *bbolt.Tx, r *record) (participant.Outcome, error) {
		switch {
		case r != nil:
			if err := apply(tx, r.writes); err != nil {
				return participant.OutcomeNone, err
			}
			return participant.OutcomeCommitted, s.conclude(tx, ref, r.Cluster, EvidenceCommitted)
		case s.isLive(ref):
			return participant.OutcomeNone, refuse("branch %s is being worked on: %w", ref, participant.ErrBusy)
		case ref.GID.BornMS() <= sweptFloor(tx, cluster):
			return participant.OutcomeHazard, nil
		}
		return participant.OutcomeRolledBack, s.conclude(tx, ref, cluster, EvidenceRolledBack)
	})
}

// Rollback drops a branch's work, prepared or still being done, and writes the
// row that keeps it from coming back. It is part of participant.Manager.
func (s *Store) Rollback(_ context.Context, ref participant.BranchRef) (participant.Outcome, error) {
	cluster := s.cluster()
	return s.finish(ref, func(tx *bbolt.Tx, r *record) (participant.Outcome, error) {
		if r == nil && ref.GID.BornMS() <= sweptFloor(tx, cluster) {
			return participant.OutcomeRolledBack, nil // fenced for ever by the floor
		}
		return participant.OutcomeRolledBack, s.conclude(tx, ref, cluster, EvidenceRolledBack)
	})
}

// Recover lists the prepared branches. It is part of participant.Manager.
func (s *Store) Recover(context.Context) (found []participant.Prepared, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		return eachPrepared(tx, func(r *record) error {
			found = append(found, r.Prepared)
			return nil
		})
	})
	return found, err
}

// finish ends a branch: by the evidence that stands, or else by settle, in one
// durable transaction. What holds its locks lets go of them.
func (s *Store) finish(ref participant.BranchRef, settle func(*bbolt.Tx, *record) (participant.Outcome, error)) (participant.Outcome, error) {
	var outcome participant.Outcome
	err := s.view(func(tx *bbolt.Tx) error {
		outcome = getEvidence(tx, ref).outcome()
		return nil
	})
	if err != nil {
		return participant.OutcomeNone, err
	}
	if outcome == participant.OutcomeNone { // a repeat costs no write
		err = s.writer.update(func(tx *bbolt.Tx) error {
			if outcome = getEvidence(tx, ref).outcome(); outcome != participant.OutcomeNone {
				return nil
			}
			r, err := getPrepared(tx, ref)
			if err != nil {
				return refuse("%w", err)
			}
			outcome, err = settle(tx, r)
			return err
		})
		if err != nil {
			return participant.OutcomeNone, err
		}
	}
	s.doom(ref)
	return outcome, nil
}

// conclude replaces the prepare record by the evidence.
func (s *Store) conclude(tx *bbolt.Tx, ref participant.BranchRef, cluster string, e EvidenceState) error {
	if err := tx.Bucket(bucketPrepared).Delete(rowKey(ref)); err != nil {
		return err
	}
	return putEvidence(tx, ref, cluster, e)
}

// nowPrepared makes a live transaction a prepared branch, unless a rollback has
// come in between: then its locks are gone already.
func (s *Store) nowPrepared(t *Tx) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ref := t.branch.Ref()
	if s.live[ref] != t {
		return
	}
	delete(s.live, ref)
	s.prepared[ref] = t.owner
	s.locks.markPrepared(t.owner)
}

// forget drops a transaction that will not be prepared.
func (s *Store) forget(t *Tx) {
	s.mu.Lock()
	if t.branch != nil && s.live[t.branch.Ref()] == t {
		delete(s.live, t.branch.Ref())
	}
	s.mu.Unlock()
	s.locks.release(t.owner)
}

// doom ends what holds a branch's locks: it was prepared, or is being worked on.
func (s *Store) doom(ref participant.BranchRef) {
	s.mu.Lock()
	o, t := s.prepared[ref], s.live[ref]
	delete(s.prepared, ref)
	delete(s.live, ref)
	s.mu.Unlock()
	if o != nil {
		s.locks.release(o)
	}
	if t != nil {
		t.mu.Lock()
		t.ended, t.doomed = true, true
		t.mu.Unlock()
		s.locks.release(t.owner)
	}
}

// cluster is the id of the cluster that the store is served to; "" for none.
func (s *Store) cluster() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client == nil {
		return ""
	}
	return s.client.ClusterID()
}

func (s *Store) isLive(ref participant.BranchRef) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live[ref] != nil
}
