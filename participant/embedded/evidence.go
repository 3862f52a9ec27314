package embedded

import (
	"bytes"
	"context"
	"fmt"

	"github.com/quorate/quorate/participant"
	"go.etcd.io/bbolt"
)

// EvidenceState is what an evidence row proves.
type EvidenceState byte

const (
	// EvidenceCommitted: the branch's writes are a part of the data.
	EvidenceCommitted EvidenceState = 1
	// EvidenceRolledBack: they are not, and can never be.
	EvidenceRolledBack EvidenceState = 2
)

// String is the state in lower case.
func (e EvidenceState) String() string {
	switch e {
	case EvidenceCommitted:
		return "committed"
	case EvidenceRolledBack:
		return "rolled back"
	}
	return "none"
}

func (e EvidenceState) outcome() participant.Outcome {
	switch e {
	case EvidenceCommitted:
		return participant.OutcomeCommitted
	case EvidenceRolledBack:
		return participant.OutcomeRolledBack
	}
	return participant.OutcomeNone
}

// Evidence is one branch's row.
type Evidence struct {
	participant.BranchRef
	// Cluster is the id of the cluster that the transaction lives in.
	Cluster string
	State   EvidenceState
}

// Evidence reads every row that has not been swept, in the order of the GIDs'
// birth. A branch that only read has none.
func (s *Store) Evidence() (rows []Evidence, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketEvidence).ForEach(func(k, v []byte) error {
			if len(v) == 0 || EvidenceState(v[0]).outcome() == participant.OutcomeNone {
				return fmt.Errorf("embedded: the evidence row of %s is damaged", rowRef(k))
			}
			rows = append(rows, Evidence{BranchRef: rowRef(k), Cluster: string(v[1:]), State: EvidenceState(v[0])})
			return nil
		})
	})
	return rows, err
}

// sweptAtOnceMax bounds the rows that one sweep drops.
const sweptAtOnceMax = 10_000

// Sweep drops the cluster's evidence of GIDs born at or below floorMS, the oldest
// first, and notes how far it came: what was born before that can never prepare
// any more. It is part of participant.Sweeper.
func (s *Store) Sweep(_ context.Context, floorMS uint64) error {
	cluster := s.cluster()
	due := false
	err := s.view(func(tx *bbolt.Tx) error {
		rows, _ := sweepable(tx, cluster, floorMS, 1)
		due = len(rows) > 0
		return nil
	})
	if err != nil || !due {
		return err
	}
	return s.writer.update(func(tx *bbolt.Tx) error {
		rows, whole := sweepable(tx, cluster, floorMS, sweptAtOnceMax)
		reached := floorMS
		if !whole {
			reached = rowRef(rows[len(rows)-1]).GID.BornMS() // further is for the next sweep
		}
		// The floor first: without it a swept branch could prepare.
		if err := putSweptFloor(tx, cluster, max(reached, sweptFloor(tx, cluster))); err != nil {
			return err
		}
		for _, k := range rows {
			if err := tx.Bucket(bucketEvidence).Delete(k); err != nil {
				return err
			}
		}
		return nil
	})
}

// sweepable lists the keys of the cluster's rows born at or below floorMS, the
// oldest first, at most limit; whole tells that there are no more.
func sweepable(tx *bbolt.Tx, cluster string, floorMS uint64, limit int) (keys [][]byte, whole bool) {
	c := tx.Bucket(bucketEvidence).Cursor()
	for k, v := c.First(); k != nil && rowRef(k).GID.BornMS() <= floorMS; k, v = c.Next() {
		if len(v) == 0 || string(v[1:]) != cluster {
			continue
		}
		if len(keys) == limit {
			return keys, false
		}
		keys = append(keys, bytes.Clone(k))
	}
	return keys, true
}
