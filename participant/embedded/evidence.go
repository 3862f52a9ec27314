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
	State EvidenceState
}

// Evidence reads every row that has not been swept, in the order of the GIDs'
// birth. A branch that only read has none.
func (s *Store) Evidence() (rows []Evidence, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketEvidence).ForEach(func(k, v []byte) error {
			if len(v) != 1 {
				return fmt.Errorf("embedded: the evidence row of %s is damaged", rowRef(k))
			}
			rows = append(rows, Evidence{BranchRef: rowRef(k), State: EvidenceState(v[0])})
			return nil
		})
	})
	return rows, err
}

// sweptAtOnceMax bounds the rows that one sweep drops.
const sweptAtOnceMax = 10_000

// Sweep drops evidence of GIDs born at or below floorMS, the oldest first, and
// notes how far it came: what was born before that can never prepare any more. It
// is part of participant.Sweeper.
func (s *Store) Sweep(_ context.Context, floorMS uint64) error {
	due := false
	err := s.view(func(tx *bbolt.Tx) error {
		k, _ := tx.Bucket(bucketEvidence).Cursor().First()
		due = k != nil && rowRef(k).GID.BornMS() <= floorMS
		return nil
	})
	if err != nil || !due {
		return err
	}
	return s.writer.update(func(tx *bbolt.Tx) error {
		var old [][]byte
		c := tx.Bucket(bucketEvidence).Cursor()
		for k, _ := c.First(); k != nil; k, _ = c.Next() {
			born := rowRef(k).GID.BornMS()
			if born > floorMS {
				break
			}
			if len(old) == sweptAtOnceMax {
				floorMS = rowRef(old[len(old)-1]).GID.BornMS() // further is for the next sweep
				break
			}
			old = append(old, bytes.Clone(k))
		}
		// The floor first: without it a swept branch could prepare.
		if err := putSweptFloor(tx, max(floorMS, sweptFloor(tx))); err != nil {
			return err
		}
		for _, k := range old {
			if err := tx.Bucket(bucketEvidence).Delete(k); err != nil {
				return err
			}
		}
		return nil
	})
}
