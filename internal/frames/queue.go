// Package frames puts what waits to be sent over one stream into as few messages as
// it needs, and takes it out again: the frames of participants' sessions, and streamed
// submits. Both ends use it, and so does the benchmark's floor.
package frames

import (
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/quorate/quorate/internal/wire"
)

// Queue holds what is to be sent until the stream's one sender takes it. There is no
// timer: what comes alone leaves alone, at once; what gathers while a message is on its
// way leaves with the next.
type Queue[F any] struct {
	most  int
	ready chan struct{} // holds one: something waits

	mu      sync.Mutex
	waiting []F
	closed  bool
}

// NewQueue returns a queue in which at most so many frames wait.
func NewQueue[F any](most int) *Queue[F] {
	return &Queue[F]{most: most, ready: make(chan struct{}, 1)}
}

// Put adds frames, all of them or none. It does not wait: false says that there is no
// room, or that the queue is closed.
func (q *Queue[F]) Put(frames ...F) bool {
	q.mu.Lock()
	if q.closed || len(q.waiting)+len(frames) > q.most {
		q.mu.Unlock()
		return false
	}
	first := len(q.waiting) == 0
	q.waiting = append(q.waiting, frames...)
	q.mu.Unlock()
	if first {
		select {
		case q.ready <- struct{}{}:
		default:
		}
	}
	return true
}

// Ready tells the sender, and nobody else, that something may wait.
func (q *Queue[F]) Ready() <-chan struct{} { return q.ready }

// Take returns all that waits, in order. The queue goes on in the memory of spare,
// which must not be used any more: give back what was taken before.
func (q *Queue[F]) Take(spare []F) []F {
	clear(spare)
	q.mu.Lock()
	defer q.mu.Unlock()
	taken := q.waiting
	q.waiting = spare[:0]
	return taken
}

// Close lets nothing more in, and tells the sender. What waits can still be taken.
func (q *Queue[F]) Close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// Closed tells whether Close was called.
func (q *Queue[F]) Closed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed
}

// frameOverhead bounds what a frame costs within a message beside its own bytes: a
// field's tag, and a length below 256 MiB.
const frameOverhead = 5

// Cut splits frames where a message is full: it holds at most so many frames and bytes,
// and one frame at the least.
func Cut[F proto.Message](frames []F, framesMax, bytesMax int) (message, rest []F) {
	return cut(frames, framesMax, bytesMax, func(f F) int { return wire.Size(f) + frameOverhead })
}

func cut[F any](frames []F, framesMax, bytesMax int, sizeOf func(F) int) (message, rest []F) {
	if len(frames) <= 1 || framesMax <= 1 {
		one := min(1, len(frames))
		return frames[:one], frames[one:]
	}
	size := 0
	for i, f := range frames {
		size += sizeOf(f)
		if i > 0 && (i >= framesMax || size > bytesMax) {
			return frames[:i], frames[i:]
		}
	}
	return frames, nil
}
