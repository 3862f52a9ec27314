package coordinator

import (
	"context"
	"sync"
	"time"
)

// inputsMax bounds the steps that wait for the core.
const inputsMax = 1024

// step is something that the core is told.
type step func(core *Core, now time.Time)

// inbox holds what the core is to be told until its goroutine takes it, all at once.
type inbox struct {
	woken chan struct{} // holds one: there is something to take

	mu      sync.Mutex
	steps   []step
	applied bool // the log was applied further
	closed  bool
	room    chan struct{} // is closed once there is room again; nil while nobody waits for it
}

func newInbox() *inbox { return &inbox{woken: make(chan struct{}, 1)} }

// put adds a step. Where there is no room it waits. It returns false when the context
// ends or the inbox is closed first: the step is then never taken.
func (q *inbox) put(ctx context.Context, f step) bool {
	for {
		q.mu.Lock()
		switch {
		case q.closed:
			q.mu.Unlock()
			return false
		case len(q.steps) < inputsMax:
			first := len(q.steps) == 0
			q.steps = append(q.steps, f)
			q.mu.Unlock()
			if first {
				q.wake()
			}
			return true
		}
		if q.room == nil {
			q.room = make(chan struct{})
		}
		room := q.room
		q.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return false
		}
	}
}

// apply notes that the log was applied further.
func (q *inbox) apply() {
	q.mu.Lock()
	first := !q.applied
	q.applied = true
	q.mu.Unlock()
	if first {
		q.wake()
	}
}

func (q *inbox) wake() {
	select {
	case q.woken <- struct{}{}:
	default: // it will look anyway
	}
}

// take returns what has come, in order. The inbox goes on in the memory of spare.
func (q *inbox) take(spare []step) (steps []step, applied bool) {
	clear(spare)
	q.mu.Lock()
	defer q.mu.Unlock()
	steps, applied = q.steps, q.applied
	q.steps, q.applied = spare[:0], false
	q.makeRoom()
	return steps, applied
}

// close refuses what comes from now on, and returns what has come.
func (q *inbox) close() []step {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.makeRoom()
	return q.steps
}

func (q *inbox) makeRoom() {
	if q.room != nil {
		close(q.room)
		q.room = nil
	}
}
