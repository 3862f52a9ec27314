package sim

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"time"
)

// World is one run: every actor, the queue of what happens next, and the oracle.
type World struct {
	plan *Plan
	bug  Bug

	now   time.Duration // since the start of the world
	queue queue
	seq   uint64
	steps int // events executed
	hash  uint64

	net     network
	nodes   []*node
	procs   []*process
	dbs     []*database
	clients []*client
	shops   []*shop
	actors  []*actor

	oracle  *oracle
	history *history // nil where none is recorded
	cover   *Coverage
	faults  injector

	delivered int // messages that arrived, heartbeats left out
	healed    bool
	over      bool

	stale string // of a planted bug

	tracing bool
	story   []string
}

// queued is something that will happen.
type queued struct {
	at  time.Duration
	seq uint64 // breaks ties in the order of asking
	run func()
}

type queue []queued

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	if q[i].at != q[j].at {
		return q[i].at < q[j].at
	}
	return q[i].seq < q[j].seq
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(queued)) }
func (q *queue) Pop() any {
	old := *q
	last := old[len(old)-1]
	old[len(old)-1] = queued{}
	*q = old[:len(old)-1]
	return last
}

// after lets f happen when d has passed in the world, whoever is alive.
func (w *World) after(d time.Duration, f func()) {
	w.seq++
	heap.Push(&w.queue, queued{at: w.now + max(d, 0), seq: w.seq, run: f})
}

// stepsMax ends a run that does not come to rest by itself: a livelock.
const stepsMax = 400_000

// runUntil executes events until the time is reached, or done says so.
func (w *World) runUntil(end time.Duration, done func() bool) {
	for len(w.queue) > 0 && !w.over {
		if w.queue[0].at > end {
			break
		}
		e := heap.Pop(&w.queue).(queued)
		w.now = e.at
		w.steps++
		w.mix(uint64(e.at), e.seq)
		e.run()
		if done != nil && done() {
			return
		}
		if w.steps >= stepsMax {
			w.oracle.violate("S5", "", "the run does not come to rest: %d events by %v", w.steps, w.now)
			return
		}
	}
	if w.now < end {
		w.now = end
	}
}

// mix adds to the hash of all that happened.
func (w *World) mix(values ...uint64) {
	h := w.hash
	for _, v := range values {
		h ^= v
		h *= 0x9E3779B97F4A7C15
		h ^= h >> 29
	}
	w.hash = h
}

// say adds a line to the story, when one is wanted.
func (w *World) say(who, format string, args ...any) {
	if !w.tracing {
		return
	}
	w.story = append(w.story, fmt.Sprintf("%12.6f %-8s %s", w.now.Seconds(), who, fmt.Sprintf(format, args...)))
}

// source returns random numbers for one purpose, so that what one actor draws
// does not shift what another does: a plan with a fault less stays much the same.
func (w *World) source(purpose uint64) *rand.Rand { return source(w.plan.Seed, purpose) }

func source(seed, purpose uint64) *rand.Rand {
	return rand.New(rand.NewPCG(seed*0x9E3779B97F4A7C15+1, purpose*0xBF58476D1CE4E5B9+seed))
}

// between draws a duration from low to high.
func between(r *rand.Rand, low, high time.Duration) time.Duration {
	if high <= low {
		return low
	}
	return low + time.Duration(r.Int64N(int64(high-low)+1))
}

// chance is true p times of 1.
func chance(r *rand.Rand, p float64) bool { return p > 0 && r.Float64() < p }
