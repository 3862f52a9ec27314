package embedded

import (
	"errors"
	"fmt"
	"sync"

	"go.etcd.io/bbolt"
)

// writer is the one goroutine that writes the file. While one commit is being
// synced the next changes gather, and share the sync that follows: no timer, and
// nobody waits longer than for the sync before.
type writer struct {
	db    *bbolt.DB
	queue chan *change
	stop  chan struct{}
	done  chan struct{}

	mu     sync.Mutex
	broken error // set by the first failed write; everything is refused then
	closed bool
}

// change is one caller's part of a commit. Its apply looks before it writes: a
// refusal leaves the bbolt transaction, which other changes share, as it was. Any
// other error of apply is a failed write, and gives the whole commit up.
type change struct {
	apply func(*bbolt.Tx) error
	err   error
	done  chan struct{}
}

// refusal is an error of a change that has written nothing.
type refusal struct{ why error }

func (r *refusal) Error() string { return r.why.Error() }

func refuse(format string, args ...any) error { return &refusal{fmt.Errorf(format, args...)} }

// Bounds of one commit.
const (
	changesWaitingMax   = 1024
	changesPerCommitMax = 256
)

func newWriter(db *bbolt.DB) *writer {
	w := &writer{
		db: db, queue: make(chan *change, changesWaitingMax),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	go w.run()
	return w
}

// update runs apply in a durable transaction. It does not return before the file
// is synced: a caller that gives up early would not know what stands. After ErrBroken
// the change may be on the disk all the same; after any other error it is not.
func (w *writer) update(apply func(*bbolt.Tx) error) error {
	if err := w.usable(); err != nil {
		return err
	}
	c := &change{apply: apply, done: make(chan struct{})}
	select {
	case w.queue <- c:
	case <-w.done:
		return ErrClosed
	}
	select {
	case <-c.done:
	case <-w.done: // the run has ended; it may have been the one to take c
		select {
		case <-c.done:
		default:
			return ErrClosed
		}
	}
	return c.err
}

// usable is nil while the store can be read and written.
func (w *writer) usable() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closed:
		return ErrClosed
	case w.broken != nil:
		return fmt.Errorf("%w: %w", ErrBroken, w.broken)
	}
	return nil
}

// close finishes what is queued and joins the goroutine.
func (w *writer) close() {
	w.mu.Lock()
	already := w.closed
	w.closed = true
	w.mu.Unlock()
	if !already {
		close(w.stop)
	}
	<-w.done
}

func (w *writer) run() {
	defer close(w.done)
	for {
		select {
		case c := <-w.queue:
			w.commit(w.gather(c))
		case <-w.stop:
			for {
				select {
				case c := <-w.queue:
					w.commit(w.gather(c))
				default:
					return
				}
			}
		}
	}
}

// gather takes what waits, first included.
func (w *writer) gather(first *change) []*change {
	changes := []*change{first}
	for len(changes) < changesPerCommitMax {
		select {
		case c := <-w.queue:
			changes = append(changes, c)
		default:
			return changes
		}
	}
	return changes
}

// commit applies the changes in one bbolt transaction. After a failed write or
// sync the state of the disk is unknown and nothing is tried again.
func (w *writer) commit(changes []*change) {
	w.mu.Lock()
	broken := w.broken
	w.mu.Unlock()
	if broken == nil {
		broken = w.db.Update(func(tx *bbolt.Tx) error {
			for _, c := range changes {
				var no *refusal
				if err := c.apply(tx); errors.As(err, &no) {
					c.err = no.why
				} else if err != nil {
					return err
				}
			}
			return nil
		})
		if broken != nil {
			w.mu.Lock()
			w.broken = broken
			w.mu.Unlock()
		}
	}
	for _, c := range changes {
		if broken != nil {
			c.err = fmt.Errorf("%w: %w", ErrBroken, broken)
		}
		close(c.done)
	}
}
