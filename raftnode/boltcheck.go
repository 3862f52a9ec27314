package raftnode

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft-wal/metadb"
	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// checkBolt walks every page of a file of bbolt's, when there is one: of a log, or
// of the places and votes that raft-wal keeps beside its segments. Opening it for
// writing walks them too, to find the free ones, but in a goroutine of its own
// whose panic at a damaged or missing page ends the process without a word on
// what to do.
func checkBolt(path string) error {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return faultsArePanics("verify "+path, func() error {
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
		switch {
		case errors.Is(err, berrors.ErrTimeout), errors.Is(err, fs.ErrPermission):
			return err
		case err != nil:
			return withRemedy(fmt.Errorf("%w: %w", ErrDamaged, err))
		}
		defer db.Close()
		if err := checkBoltTree(path); err != nil {
			return withRemedy(fmt.Errorf("%w: %w", ErrDamaged, err))
		}
		return db.View(func(tx *bbolt.Tx) error {
			return tx.ForEach(func(_ []byte, bucket *bbolt.Bucket) error {
				return bucket.ForEach(func(_, _ []byte) error { return nil })
			})
		})
	})
}

// checkWAL looks at what raft-wal keeps beside its segments, before it does: which
// segments there are, and term and vote. Without that file raft-wal takes the log
// for a new one, and removes every segment.
func checkWAL(dir string) error {
	places := filepath.Join(dir, metadb.FileName)
	segments, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil {
		return err
	}
	if _, err := os.Stat(places); errors.Is(err, fs.ErrNotExist) && len(segments) > 0 {
		return withRemedy(fmt.Errorf("verify %s: %w: the file is missing, and %d segments of the log are there", places, ErrDamaged, len(segments)))
	}
	return checkBolt(places)
}
