// Package embedded is a small transactional key-value store on bbolt that takes
// part in Quorate's transactions: a participant that needs no database.
//
// A [Store] is one file, guarding one resource. [Store.Begin] with a context
// that carries a GID starts a branch; its Commit makes the writes and the keys'
// locks durable (the prepare), votes, and returns; the decision applies or drops
// them. Without a GID it is an ordinary local transaction. Isolation is strict
// two-phase locking: every key that a transaction reads or writes is locked for it
// alone until it ends, across a restart too.
//
// The truth about a branch is what one bbolt transaction wrote: a prepare record,
// or an evidence row that says committed or rolled back. Whoever comes second
// reads what the first one wrote, so a late prepare cannot follow a rollback.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/quorate/quorate/participant"
	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
)

// Defaults and limits.
const (
	// LockTimeoutDefault is how long a transaction waits for one key.
	LockTimeoutDefault = 2 * time.Second
	// KeyBytesMax is the longest key, in bytes.
	KeyBytesMax = 1024
	// TransactionBytesMax bounds what one transaction may write, keys and values, in bytes.
	TransactionBytesMax = 16 << 20
)

// Errors. LockedError names a key and its holder.
var (
	// ErrClosed means that the store is closed.
	ErrClosed = errors.New("embedded: the store is closed")
	// ErrBroken means that a write to the file failed: what is on the disk is no longer
	// known, so the store serves nothing until it is opened again.
	ErrBroken = errors.New("embedded: a write to the store's file failed; close it and open it again")
	// ErrEnded means that the transaction was committed or rolled back before.
	ErrEnded = errors.New("embedded: the transaction has ended")
	// ErrNotServed means that the context carries a GID, and Serve was not called.
	ErrNotServed = errors.New("embedded: the context carries a GID, but the store has no client; call Serve first")
	// ErrTooLarge means that a key or a transaction is over its limit.
	ErrTooLarge = errors.New("embedded: too large")
)

// Store is a key-value store in one file. It is safe for concurrent use.
type Store struct {
	resource    string
	lockTimeout time.Duration
	db          *bbolt.DB
	writer      *writer
	locks       *locks

	mu     sync.Mutex
	client *participant.Client
	// live are the branches that are being worked on here, by name.
	live map[participant.BranchRef]*Tx
	// prepared are the owners of the locks of prepared branches, by name.
	prepared map[participant.BranchRef]*owner
}

var (
	_ participant.Manager = (*Store)(nil)
	_ participant.Sweeper = (*Store)(nil)
)

// Option is a setting of [Open].
type Option func(*Store)

// WithLockTimeout sets how long a transaction waits for one key (default 2 s).
func WithLockTimeout(d time.Duration) Option { return func(s *Store) { s.lockTimeout = d } }

// Open opens or creates the file at path for the resource of that name. Prepared
// branches take their locks again. A file that another process has open, or that
// belongs to another resource, is an error.
func Open(path, resource string, opts ...Option) (*Store, error) {
	if resource == "" {
		return nil, errors.New("embedded: the resource has no name")
	}
	s := &Store{
		resource: resource, lockTimeout: LockTimeoutDefault, locks: newLocks(resource),
		live: make(map[participant.BranchRef]*Tx), prepared: make(map[participant.BranchRef]*owner),
	}
	for _, o := range opts {
		o(s)
	}
	if s.lockTimeout <= 0 {
		return nil, fmt.Errorf("embedded: the lock timeout is %v, want more than 0", s.lockTimeout)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: openTimeout, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType,
	})
	if errors.Is(err, bbolterrors.ErrTimeout) {
		return nil, fmt.Errorf("embedded: %s is open in another process; one process at a time may serve it", path)
	}
	if err != nil {
		return nil, fmt.Errorf("embedded: open %s: %w", path, err)
	}
	s.db = db
	if err := s.load(); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("embedded: open %s: %w", path, err)
	}
	s.writer = newWriter(db)
	return s, nil
}

// openTimeout is how long Open waits for another process to let go of the file.
const openTimeout = time.Second

// load checks the file and takes the locks of what is prepared in it.
func (s *Store) load() error {
	err := s.db.Update(func(tx *bbolt.Tx) error { return initialise(tx, s.resource) })
	if err != nil {
		return err
	}
	return s.db.View(func(tx *bbolt.Tx) error {
		return eachPrepared(tx, func(r *record) error {
			o := &owner{ref: r.BranchRef, prepared: true}
			for _, key := range r.keys {
				s.locks.take(key, o)
			}
			s.prepared[r.BranchRef] = o
			return nil
		})
	})
}

// Serve attaches the store to the client: from now on it takes part in
// transactions, and what was left prepared in it is ended.
func (s *Store) Serve(ctx context.Context, c *participant.Client) error {
	if _, err := c.Attach(ctx, s); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.client = c
	return nil
}

// Close closes the file. Close the client first: branches that are being worked
// on are dropped, prepared ones wait in the file.
func (s *Store) Close() error {
	s.writer.close()
	s.locks.close()
	return s.db.Close()
}

// Resource is the name of what the store guards.
func (s *Store) Resource() string { return s.resource }

// Get reads the committed value of a key without waiting for locks; nil when
// there is none. Inside a transaction use [Tx.Get].
func (s *Store) Get(key string) (value []byte, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		value = clone(tx.Bucket(bucketData).Get([]byte(key)))
		return nil
	})
	return value, err
}

// Range calls fn with the committed pairs whose key has the prefix, in key order,
// as of one moment. The value is valid only during the call.
func (s *Store) Range(prefix string, fn func(key string, value []byte) error) error {
	return s.view(func(tx *bbolt.Tx) error {
		return eachWithPrefix(tx.Bucket(bucketData), prefix, func(k, v []byte) error { return fn(string(k), v) })
	})
}

// view reads, as of one moment.
func (s *Store) view(fn func(*bbolt.Tx) error) error {
	if err := s.writer.usable(); err != nil {
		return err
	}
	err := s.db.View(fn)
	if errors.Is(err, bbolterrors.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	return err
}
