package embedded

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/quorate/quorate/participant"
)

// locks are the keys' exclusive locks. A key goes to its waiters in the order of
// their coming. There is no look-out for deadlocks: a wait is bounded.
type locks struct {
	resource string // for people

	mu     sync.Mutex
	held   map[string]*lock
	closed bool
}

// lock is one locked key.
type lock struct {
	owner *owner
	queue []*waiter
}

// waiter is woken with granted set, or by locks.close.
type waiter struct {
	owner   *owner
	ready   chan struct{}
	granted bool
}

// owner holds locks: a transaction that is being worked on, or a prepared branch.
type owner struct {
	ref      participant.BranchRef // zero for a local transaction
	prepared bool                  // guarded by locks.mu, like keys
	keys     []string
	gone     bool // released: whatever it still waits for is not granted
}

// LockedError says that a key was not released in time.
type LockedError struct {
	Resource string
	Key      string
	// Holder is the branch that has the key; zero for a local transaction.
	Holder participant.BranchRef
	// Prepared says that the holder waits for its transaction's decision.
	Prepared bool
	// Same says that the holder is another branch of the asking transaction: waiting
	// would never end.
	Same   bool
	Waited time.Duration
}

// Timeout tells it from errors that waiting longer would not have helped.
func (e *LockedError) Timeout() bool { return !e.Same }

func (e *LockedError) Error() string {
	s := fmt.Sprintf("embedded: key %q of %s is locked by ", e.Key, e.Resource)
	switch {
	case e.Holder == (participant.BranchRef{}):
		s += "a local transaction"
	case e.Same:
		s += fmt.Sprintf("branch %s of this same transaction %s; use one branch for both, or different keys", e.Holder.ID, e.Holder.GID)
	default:
		s += fmt.Sprintf("branch %s of transaction %s", e.Holder.ID, e.Holder.GID)
	}
	if !e.Same {
		s += fmt.Sprintf(", not released within %v", e.Waited.Round(time.Millisecond))
	}
	if e.Holder.GID != "" {
		s += fmt.Sprintf("; see: quorate tx show %s", e.Holder.GID)
	}
	return s
}

func newLocks(resource string) *locks {
	return &locks{resource: resource, held: make(map[string]*lock)}
}

// take gives the key to o without waiting; at start, when nobody else is there.
func (l *locks) take(key string, o *owner) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[key] = &lock{owner: o}
	o.keys = append(o.keys, key)
}

// acquire waits for the key, at most for timeout, and gives it to o. A nil error
// with o holding it before is no second lock.
func (l *locks) acquire(ctx context.Context, key string, o *owner, timeout time.Duration) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return ErrClosed
	}
	if o.gone {
		l.mu.Unlock()
		return ErrEnded
	}
	k := l.held[key]
	if k == nil {
		l.held[key] = &lock{owner: o}
		o.keys = append(o.keys, key)
		l.mu.Unlock()
		return nil
	}
	if k.owner == o {
		l.mu.Unlock()
		return nil
	}
	if k.owner.prepared && k.owner.ref.GID != "" && k.owner.ref.GID == o.ref.GID {
		err := l.err(k, key, o, 0)
		l.mu.Unlock()
		return err // it is released by the decision, which waits for us
	}
	w := &waiter{owner: o, ready: make(chan struct{})}
	k.queue = append(k.queue, w)
	l.mu.Unlock()
	return l.wait(ctx, key, w, timeout)
}

func (l *locks) wait(ctx context.Context, key string, w *waiter, timeout time.Duration) error {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	start := time.Now()
	var why error
	select {
	case <-w.ready:
	case <-timer.C:
	case <-ctx.Done():
		why = context.Cause(ctx)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case w.granted && !w.owner.gone:
		return nil // perhaps in the very last moment
	case w.owner.gone:
		return ErrEnded
	case l.closed:
		return ErrClosed
	}
	k := l.held[key]
	for i, other := range k.queue {
		if other == w {
			k.queue = append(k.queue[:i], k.queue[i+1:]...)
			break
		}
	}
	locked := l.err(k, key, w.owner, time.Since(start))
	if why != nil {
		return fmt.Errorf("%w: %w", locked, why)
	}
	return locked
}

// release gives o's keys to those who wait, and lets o have none any more.
func (l *locks) release(o *owner) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o.gone = true
	for _, key := range o.keys {
		l.pass(key)
	}
	o.keys = nil
}

// pass gives the key to the next who still wants it.
func (l *locks) pass(key string) {
	k := l.held[key]
	for len(k.queue) > 0 {
		w := k.queue[0]
		k.queue = k.queue[1:]
		close(w.ready)
		if w.owner.gone {
			continue
		}
		w.granted = true
		w.owner.keys = append(w.owner.keys, key)
		k.owner = w.owner
		return
	}
	delete(l.held, key)
}

// markPrepared notes that o waits for a decision now.
func (l *locks) markPrepared(o *owner) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o.prepared = true
}

// keysOf is what o holds.
func (l *locks) keysOf(o *owner) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), o.keys...)
}

// close wakes everybody who waits.
func (l *locks) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, k := range l.held {
		for _, w := range k.queue {
			close(w.ready)
		}
		k.queue = nil
	}
}

// err says who has the key. l.mu is held.
func (l *locks) err(k *lock, key string, asking *owner, waited time.Duration) error {
	return &LockedError{
		Resource: l.resource, Key: key, Holder: k.owner.ref, Prepared: k.owner.prepared, Waited: waited,
		Same: asking.ref.GID != "" && asking.ref.GID == k.owner.ref.GID,
	}
}
