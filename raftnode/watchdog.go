package raftnode

import (
	"sync"
	"time"
)

// watchdog calls bark when an operation has taken too long, by the time in which
// this process ran. A process that was stopped (SIGSTOP, a machine that was
// suspended or moved) finds all of its timers due when it goes on, and its disk is
// not to blame: a single look at the clock would end the node.
type watchdog struct {
	max   time.Duration
	slice time.Duration
	bark  func()

	mu      sync.Mutex
	timer   *time.Timer // nil once stopped
	last    time.Time
	counted time.Duration
}

// watchSlices is into how many parts a watchdog's time is cut: it looks at the
// end of each, so a stop of the process counts as two of them at most.
const watchSlices = 10

// watch starts a watchdog. The caller must stop it.
func watch(max time.Duration, bark func()) *watchdog {
	w := &watchdog{max: max, slice: max / watchSlices, bark: bark, last: time.Now()}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(w.slice, w.look)
	return w
}

// look counts what has passed.
func (w *watchdog) look() {
	w.mu.Lock()
	if w.timer == nil {
		w.mu.Unlock()
		return
	}
	late := w.count(time.Now())
	if !late {
		w.timer.Reset(w.slice)
	}
	w.mu.Unlock()
	if late {
		w.bark()
	}
}

// count adds the time since the last look, as far as the process can have run,
// and reports whether it is too much. The caller must hold mu.
func (w *watchdog) count(now time.Time) (late bool) {
	w.counted += min(now.Sub(w.last), 2*w.slice)
	w.last = now
	return w.counted >= w.max
}

func (w *watchdog) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer.Stop()
	w.timer = nil
}
