package raftnode

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// checkBolt walks every page of a log in bbolt, when there is one. Opening it for
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
		return db.View(func(tx *bbolt.Tx) error {
			return tx.ForEach(func(_ []byte, bucket *bbolt.Bucket) error {
				return bucket.ForEach(func(_, _ []byte) error { return nil })
			})
		})
	})
}
