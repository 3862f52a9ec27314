package bench

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// operation is one call of a scenario, whole, made by one of the callers.
type operation func(ctx context.Context, caller int) error

// loop says how a scenario is called.
type loop struct {
	callers  int
	duration time.Duration
	// rate of an open loop, operations a second; 0: closed.
	rate float64
}

// measured is what a loop saw.
type measured struct {
	latencies *Histogram
	done      uint64 // operations that succeeded
	failed    uint64
	firstErr  error
	began     time.Time
	ended     time.Time // of the last operation
}

// run makes the calls and returns when the last one has ended.
//
// A closed loop is so many callers, each of which calls again when it was answered.
// An open loop has a timetable: call i is due at start + i/rate, whatever became of
// those before it. Latency counts from when the call was due, not from when somebody
// had time to make it: a server that stalls for a second delays all calls due within
// it, and each of them is counted with its delay.
func (l loop) run(ctx context.Context, op operation) measured {
	m := measured{latencies: &Histogram{}}
	var done, failed, next atomic.Uint64
	var firstErr atomic.Pointer[error]
	start := time.Now()
	end := start.Add(l.duration)
	// due returns when the caller's next operation counts as begun; false at the end.
	due := func() (time.Time, bool) {
		at := time.Now()
		if l.rate > 0 {
			at = start.Add(time.Duration(float64(next.Add(1)-1) / l.rate * float64(time.Second)))
		}
		if !at.Before(end) || ctx.Err() != nil {
			return at, false
		}
		return at, l.rate == 0 || waitUntil(ctx, at)
	}
	var callers sync.WaitGroup
	for caller := range l.callers {
		callers.Go(func() {
			for {
				at, ok := due()
				if !ok {
					return
				}
				if err := op(ctx, caller); err != nil {
					failed.Add(1)
					firstErr.CompareAndSwap(nil, &err)
					continue
				}
				m.latencies.Record(time.Since(at))
				done.Add(1)
			}
		})
	}
	callers.Wait()
	m.done, m.failed, m.began, m.ended = done.Load(), failed.Load(), start, time.Now()
	if err := firstErr.Load(); err != nil {
		m.firstErr = *err
	}
	return m
}

// waitUntil waits for a moment that may be over; false when ctx ended first.
func waitUntil(ctx context.Context, at time.Time) bool {
	left := time.Until(at)
	if left <= 0 {
		return true
	}
	t := time.NewTimer(left)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
