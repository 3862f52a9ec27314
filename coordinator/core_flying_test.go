package coordinator

import (
	"testing"
	"time"

	"github.com/quorate/quorate/fsm/logpb"
)

// Each call hangs a second after it began, whenever others began or were answered; and is
// given up at the core's own limit.
func TestCallsHangInTheirOrder(t *testing.T) {
	w := newWorld(t)
	var flying []Delivery
	for range 4 {
		w.submit(work{mode: logpb.Mode_MODE_MESSAGE, set: []*logpb.BranchSpec{actionOf("01")}})
		flying = append(flying, w.one("action 01 #1"))
		w.advance(200 * time.Millisecond)
	}
	hanging := func() (n int) {
		for _, k := range w.core.under {
			if k.hangs {
				n++
			}
		}
		return n
	}
	w.called(flying[1], doneAnswer, nil) // in the middle
	w.called(flying[3], doneAnswer, nil) // the last
	for _, step := range []struct {
		at   time.Duration
		want int
	}{{990 * time.Millisecond, 0}, {1010 * time.Millisecond, 1}, {1390 * time.Millisecond, 1}, {1410 * time.Millisecond, 2}} {
		w.advance(step.at - w.now.Sub(w.start))
		if got := hanging(); got != step.want {
			t.Errorf("%v on, %d calls hang, want %d", step.at, got, step.want)
		}
	}
	w.called(flying[0], doneAnswer, nil)
	w.advance(2*w.core.cfg.DeliveryTimeout + time.Second)
	if n := len(w.core.under); n > 1 || w.core.flying.wait.armed() && w.core.flying.first == nil {
		t.Errorf("%d calls are in flight; the first of them %v", n, w.core.flying.first)
	}
	if len(w.takeCalls()) != 1 {
		t.Error("what was given up is not called again")
	}
}
