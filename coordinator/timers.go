package coordinator

import (
	"container/heap"
	"time"
)

// timer fires once. It is embedded by what it belongs to, so that re-arming and
// stopping leave nothing behind in the heap.
type timer struct {
	at   time.Time
	seq  uint64 // breaks ties in the order of arming: two runs fire alike
	slot int    // index in the heap plus one; 0 while not armed
	fire func()
	// of is the delivery whose turn it is then, where fire is nil: there are too many
	// of them for a function each.
	of *delivery
}

func (t *timer) armed() bool { return t.slot != 0 }

// timers is a heap of armed timers, earliest first.
type timers struct {
	heap timerHeap
	seq  uint64
}

// arm sets t to fire at the given time, whatever it was set to before.
func (ts *timers) arm(t *timer, at time.Time, fire func()) {
	t.fire, t.of = fire, nil
	ts.set(t, at)
}

// await sets a delivery's turn, whatever it was set to before.
func (ts *timers) await(d *delivery, at time.Time) {
	d.wait.fire, d.wait.of = nil, d
	ts.set(&d.wait, at)
}

func (ts *timers) set(t *timer, at time.Time) {
	ts.seq++
	t.at, t.seq = at, ts.seq
	if t.armed() {
		heap.Fix(&ts.heap, t.slot-1)
		return
	}
	heap.Push(&ts.heap, t)
}

func (ts *timers) stop(t *timer) {
	if t.armed() {
		heap.Remove(&ts.heap, t.slot-1)
	}
}

// next returns when the earliest timer fires.
func (ts *timers) next() (time.Time, bool) {
	if len(ts.heap) == 0 {
		return time.Time{}, false
	}
	return ts.heap[0].at, true
}

// expire fires every timer that is due, in order; turn is told of a delivery's. A
// timer that a fired one arms for now or earlier waits for the next call, so that
// expire always ends.
func (ts *timers) expire(now time.Time, turn func(*delivery)) {
	last := ts.seq
	for len(ts.heap) > 0 && !ts.heap[0].at.After(now) && ts.heap[0].seq <= last {
		t := ts.heap[0]
		heap.Pop(&ts.heap)
		if t.of != nil {
			turn(t.of)
		} else {
			t.fire()
		}
	}
}

type timerHeap []*timer

func (h timerHeap) Len() int { return len(h) }

func (h timerHeap) Less(i, j int) bool {
	if !h[i].at.Equal(h[j].at) {
		return h[i].at.Before(h[j].at)
	}
	return h[i].seq < h[j].seq
}

func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].slot, h[j].slot = i+1, j+1
}

func (h *timerHeap) Push(x any) {
	t := x.(*timer)
	*h = append(*h, t)
	t.slot = len(*h)
}

func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.slot = 0
	return t
}
