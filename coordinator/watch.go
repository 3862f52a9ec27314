package coordinator

import (
	"context"
	"sync"

	"github.com/quorate/quorate/fsm"
)

// watchers wakes whoever waits for entries to be applied.
type watchers struct {
	mu    sync.Mutex
	count int
	woken chan struct{}
}

// join counts a watcher, until leave.
func (w *watchers) join() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.count++; w.woken == nil {
		w.woken = make(chan struct{})
	}
}

func (w *watchers) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count--
}

// any tells whether anybody watches.
func (w *watchers) any() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count > 0
}

// next is closed when the next entry is applied. It must be taken before the
// state is read, or an entry between the two would be missed.
func (w *watchers) next() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.woken
}

func (w *watchers) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.count > 0 {
		close(w.woken)
		w.woken = make(chan struct{})
	}
}

// eventsPerRead bounds how long a watcher holds the state.
const eventsPerRead = 512

// Watch calls send with the events of one log entry at a time, whole, until ctx
// ends or send fails. Any node serves it. Events that are no longer kept are
// ErrCompacted: list anew, and watch from the list's index.
func (c *Coordinator) Watch(ctx context.Context, r WatchRequest, send func(index uint64, events []fsm.Event) error) error {
	only, err := c.watched(ctx, r.Transaction)
	if err != nil {
		return err
	}
	c.watchers.join()
	defer c.watchers.leave()
	c.riders.hurry()
	after := r.AfterIndex
	if after == 0 {
		c.replog.View(func(s *fsm.State) { after = s.Clock().AppliedIndex })
	}
	for {
		woken := c.watchers.next()
		events, applied, err := c.eventsAfter(after)
		if err != nil {
			return err
		}
		if err := sendEntries(events, only, r.Namespace, send); err != nil {
			return err
		}
		if len(events) > 0 {
			after = events[len(events)-1].Index
			continue
		}
		after = max(after, applied)
		select {
		case <-woken:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.closing:
			return ErrClosed
		}
	}
}

func (c *Coordinator) watched(ctx context.Context, ref Ref) (fsm.GID, error) {
	if ref.Key == "" {
		return ref.GID, nil // zero for all
	}
	return c.find(ctx, ref)
}

// eventsAfter reads the next events, and the index applied if there are none.
func (c *Coordinator) eventsAfter(after uint64) (events []fsm.Event, applied uint64, err error) {
	c.replog.View(func(s *fsm.State) {
		var oldest uint64
		var ok bool
		applied = s.Clock().AppliedIndex
		if events, oldest, ok = s.Events(after, eventsPerRead); !ok {
			err = &CompactedError{After: after, Oldest: oldest}
		}
	})
	return events, applied, err
}

// within: a tombstone has no namespace, because nobody ever began it; until
// identity exists it is the default one's.
func within(namespace, of string) bool {
	return namespace == "" || namespace == of || of == "" && namespace == DefaultNamespace
}

// sendEntries sends the events entry by entry.
func sendEntries(events []fsm.Event, only fsm.GID, namespace string, send func(uint64, []fsm.Event) error) error {
	for len(events) > 0 {
		index, n := events[0].Index, 1
		for n < len(events) && events[n].Index == index {
			n++
		}
		var mine []fsm.Event
		for _, e := range events[:n] {
			if (only.IsZero() || e.GID == only) && within(namespace, e.Namespace) {
				mine = append(mine, e)
			}
		}
		if len(mine) > 0 {
			if err := send(index, mine); err != nil {
				return err
			}
		}
		events = events[n:]
	}
	return nil
}
