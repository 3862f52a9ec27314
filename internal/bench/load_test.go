package bench

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// stalling is a server that answers at once, but for one stall, in which it answers nobody.
func stalling(from, until time.Time) operation {
	return func(context.Context, int) error {
		if now := time.Now(); now.After(from) && now.Before(until) {
			wait := time.NewTimer(time.Until(until))
			<-wait.C
		}
		return nil
	}
}

// TestOpenLoopChargesAStallToAllThatItDelayed: of 600 calls due within 600 ms, a server
// that stalls for 300 ms delays half, by 150 ms on average. A loop that omitted what it
// did not send would see eight slow calls of hundreds, and a p75 of microseconds.
func TestOpenLoopChargesAStallToAllThatItDelayed(t *testing.T) {
	start := time.Now()
	l := loop{callers: 8, duration: 600 * time.Millisecond, rate: 1000}
	m := l.run(t.Context(), stalling(start.Add(200*time.Millisecond), start.Add(500*time.Millisecond)))
	if m.done != 600 {
		t.Errorf("%d calls were made of the 600 that were due", m.done)
	}
	if p75 := m.latencies.Quantile(0.75); p75 < 75*time.Millisecond {
		t.Errorf("p75 is %v: the stall was hidden", p75)
	}
	if p99 := m.latencies.Quantile(0.99); p99 < 250*time.Millisecond {
		t.Errorf("p99 is %v: the stall was hidden", p99)
	}
}

// TestOpenLoopKeepsItsTimetable: the rate is the timetable's, not the server's.
func TestOpenLoopKeepsItsTimetable(t *testing.T) {
	l := loop{callers: 4, duration: 300 * time.Millisecond, rate: 500}
	m := l.run(t.Context(), func(context.Context, int) error { return nil })
	if took := m.ended.Sub(m.began); m.done != 150 || took < 290*time.Millisecond {
		t.Errorf("%d calls in %v, want 150 in 300ms", m.done, took)
	}
}

// TestClosedLoopHasSoManyCallers at once, never more, and each calls again when it is answered.
func TestClosedLoopHasSoManyCallers(t *testing.T) {
	var now, most, calls atomic.Int64
	var together sync.WaitGroup // nobody goes on before all callers are in their first call
	together.Add(5)
	l := loop{callers: 5, duration: 50 * time.Millisecond}
	first := make([]atomic.Bool, 5)
	m := l.run(t.Context(), func(_ context.Context, caller int) error {
		n := now.Add(1)
		defer now.Add(-1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		if calls.Add(1); first[caller].CompareAndSwap(false, true) {
			together.Done()
			together.Wait()
		}
		return nil
	})
	if most.Load() != 5 || m.done != uint64(calls.Load()) || m.done < 10 {
		t.Errorf("%d callers at most, %d calls counted of %d made", most.Load(), m.done, calls.Load())
	}
}

func TestFailedCallsAreNoLatencies(t *testing.T) {
	boom := errors.New("boom")
	var calls atomic.Int64
	m := loop{callers: 1, duration: 20 * time.Millisecond}.run(t.Context(), func(context.Context, int) error {
		if calls.Add(1)%2 == 0 {
			return boom
		}
		return nil
	})
	if m.failed == 0 || m.done == 0 || m.latencies.Count() != m.done || !errors.Is(m.firstErr, boom) {
		t.Errorf("%d done, %d failed, %d latencies, first error %v", m.done, m.failed, m.latencies.Count(), m.firstErr)
	}
}
