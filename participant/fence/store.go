package fence

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/quorate/quorate/participant"
)

// Keyed is an open transaction on a store of keys whose locks last until its end, such as
// *embedded.Tx: Get locks the key too, even one that is not there, and answers nil.
type Keyed interface {
	Get(key string) ([]byte, error)
	Put(key string, value []byte) error
	Delete(key string) error
	Commit(ctx context.Context) error
	Rollback() error
}

// KeyedStore is a store of keys, such as *embedded.Store. Its own Get and Range read what
// is committed, now, and wait for nobody.
type KeyedStore[T Keyed] interface {
	Begin(ctx context.Context) (T, error)
	Get(key string) ([]byte, error)
	Range(prefix string, fn func(key string, value []byte) error) error
}

// KeyPrefix begins the keys of a fence in a store of keys.
const KeyPrefix = "quorate-fence/"

// keyFloor and a cluster's id hold how far its records have been swept, 8 bytes big-endian.
const keyFloor = KeyPrefix + "floor/"

// DoStore is [Fence.Do] for a store of keys: fn runs once for the call, in a transaction
// of the store that it shares with the call's record.
//
//	err = fence.DoStore(ctx, store, call, func(tx *embedded.Tx) error { ... })
//
// Records stay until [SweepStore].
func DoStore[T Keyed](ctx context.Context, s KeyedStore[T], c Call, fn func(T) error) error {
	if err := c.check(); err != nil {
		return err
	}
	ctx = participant.Outside(ctx)
	err := inStore(ctx, s, c, func(tx T, standing *Record) (Record, error) {
		step := decide(standing, c)
		if step.err == nil && step.run {
			step.err = businessError(fn(tx))
		}
		return step.next, step.err
	})
	var failed business
	if !errors.As(err, &failed) {
		return err
	}
	refused := errors.Is(failed.error, ErrRefused) && c.refusals()
	if !c.Operation.forward() || !refused && c.Epoch == (Epoch{}) {
		return failed.error
	}
	// Noted as in Fence.noted.
	answer := failed.error
	noteErr := inStore(context.WithoutCancel(ctx), s, c, func(_ T, standing *Record) (Record, error) {
		step := decide(standing, c)
		if !step.run {
			answer = step.err
			if step.err != nil {
				return *standing, nil
			}
			return step.next, nil
		}
		step.next.State = StateOpen
		if refused {
			step.next.State, step.next.Detail = StateRefused, clip(failed.Error())
		}
		return step.next, nil
	})
	if noteErr != nil && refused {
		return fmt.Errorf("%v; but that could not be recorded: %w", failed.error, noteErr) //nolint:errorlint // no refusal yet
	}
	if !refused {
		return failed.error
	}
	return answer
}

// business marks an error as the business' own.
type business struct{ error }

func businessError(err error) error {
	if err == nil {
		return nil
	}
	return business{err}
}

func (b business) Unwrap() error { return b.error }

// inStore runs fn in a transaction that holds the call's record, and puts what fn answers
// in its place.
func inStore[T Keyed](ctx context.Context, s KeyedStore[T], c Call, fn func(T, *Record) (Record, error)) error {
	tx, err := s.Begin(ctx)
	if err != nil {
		return c.failed(err)
	}
	defer func() { _ = tx.Rollback() }() // no effect after a commit; a panic ends here too
	standing, err := recordIn(s, tx, c)
	if err != nil {
		return err
	}
	next, err := fn(tx, standing)
	if err != nil {
		return err
	}
	if standing != nil && next == *standing {
		return nil
	}
	if err := tx.Put(storeKey(c), []byte(c.Cluster+" "+next.encode())); err != nil {
		return c.failed(err)
	}
	if err := tx.Commit(ctx); err != nil {
		return c.failed(err)
	}
	return nil
}

// recordIn locks and reads the call's record. Where there is none the floor is read after
// that: a sweep raises it before it drops a record.
func recordIn[T Keyed](s KeyedStore[T], tx T, c Call) (*Record, error) {
	value, err := tx.Get(storeKey(c))
	switch {
	case isLocked(err):
		return nil, c.failed(fmt.Errorf("%w: %w", ErrOngoing, err))
	case err != nil:
		return nil, c.failed(err)
	case value != nil:
		_, record, _ := strings.Cut(string(value), " ") // the cluster first
		return decodeRecord(record)
	}
	floor, err := storeFloor(s, c.Cluster)
	if err != nil {
		return nil, c.failed(err)
	}
	if born := c.born(); born > 0 && born <= floor {
		return nil, c.failed(ErrSwept)
	}
	return nil, nil
}

// isLocked tells that a key was waited for in vain.
func isLocked(err error) bool {
	var locked interface{ Timeout() bool }
	return errors.As(err, &locked) && locked.Timeout()
}

func storeFloor[T Keyed](s KeyedStore[T], cluster string) (uint64, error) {
	value, err := s.Get(keyFloor + cluster)
	if err != nil || len(value) != 8 {
		return 0, err
	}
	return binary.BigEndian.Uint64(value), nil
}

// storeKey names a call's record; GIDs sort by their birth, and keys are apart.
func storeKey(c Call) string {
	kind := "gid/"
	if c.born() == 0 {
		kind = "key/"
	}
	return KeyPrefix + kind + url.PathEscape(c.GID) + "/" + url.PathEscape(c.Branch) + "/" + url.PathEscape(c.Part)
}

// PrepareStore is [Fence.Prepare] in a transaction of a store of keys. The cluster is its
// id; see [Fence.Of].
func PrepareStore[T Keyed](s KeyedStore[T], tx T, cluster, gid string) error {
	c, err := mark(gid, cluster, Action)
	if err != nil {
		return err
	}
	standing, err := recordIn(s, tx, c)
	if err != nil {
		return err
	}
	step := decide(standing, c)
	switch {
	case step.err != nil:
		return step.err
	case !step.run:
		return c.failed(ErrDone)
	}
	return tx.Put(storeKey(c), []byte(c.Cluster+" "+step.next.encode()))
}

// CommittedStore is [Fence.Committed] for a store of keys.
func CommittedStore[T Keyed](ctx context.Context, s KeyedStore[T], cluster, gid string) (bool, error) {
	c, err := mark(gid, cluster, Cancel)
	if err != nil {
		return false, err
	}
	committed := false
	err = inStore(participant.Outside(ctx), s, c, func(_ T, standing *Record) (Record, error) {
		if standing != nil && standing.State == StateDone {
			committed = true
			return *standing, nil
		}
		return Record{State: StateFenced}, nil
	})
	return committed, err
}

// SweepStore drops the records of the cluster's GIDs born at or below floorMS; see [Fence.Sweep]. Those
// of keys stay: a store of keys has no clock of theirs.
func SweepStore[T Keyed](ctx context.Context, s KeyedStore[T], cluster string, floorMS uint64) error {
	ctx = participant.Outside(ctx)
	standing, err := storeFloor(s, cluster)
	if err != nil {
		return err
	}
	if floorMS > standing {
		err := update(ctx, s, func(tx T) error {
			return tx.Put(keyFloor+cluster, binary.BigEndian.AppendUint64(nil, floorMS))
		})
		if err != nil {
			return err
		}
	}
	for {
		old, err := storeKeysUpTo(s, cluster, floorMS)
		if err != nil || len(old) == 0 {
			return err
		}
		if err := update(ctx, s, func(tx T) error {
			for _, key := range old {
				if err := tx.Delete(key); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
}

// storeKeysUpTo lists some records' keys of the cluster's GIDs born at or below floorMS.
func storeKeysUpTo[T Keyed](s KeyedStore[T], cluster string, floorMS uint64) (old []string, err error) {
	enough := errors.New("enough")
	prefix := KeyPrefix + "gid/"
	err = s.Range(prefix, func(key string, value []byte) error {
		gid, _, _ := strings.Cut(strings.TrimPrefix(key, prefix), "/")
		if participant.GID(gid).BornMS() > floorMS || len(old) == sweepRowsMax {
			return enough // they are in the order of birth
		}
		if of, _, _ := strings.Cut(string(value), " "); of == cluster {
			old = append(old, key)
		}
		return nil
	})
	if errors.Is(err, enough) {
		err = nil
	}
	return old, err
}

func update[T Keyed](ctx context.Context, s KeyedStore[T], fn func(T) error) error {
	tx, err := s.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if err := fn(tx); err != nil {
		return err
	}
	return tx.Commit(ctx)
}
