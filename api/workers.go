package api

import "sync/atomic"

// workersRestingMax bounds the goroutines that rest between two requests.
const workersRestingMax = 512

// workers run what waits for the log: the requests of sessions and streams, each of
// which bounds its own. A goroutine that has ended one takes the next. Starting one for
// each would grow its stack anew each time, which costs more than the request.
type workers struct {
	next    chan func()
	resting atomic.Int64
	stopped <-chan struct{}
}

func newWorkers(stopped <-chan struct{}) *workers {
	return &workers{next: make(chan func()), stopped: stopped}
}

// run runs f beside the caller, at once.
func (w *workers) run(f func()) {
	select {
	case w.next <- f:
	default:
		go w.work(f)
	}
}

func (w *workers) work(f func()) {
	for {
		f()
		if w.resting.Add(1) > workersRestingMax {
			w.resting.Add(-1)
			return
		}
		select {
		case f = <-w.next:
			w.resting.Add(-1)
		case <-w.stopped:
			return
		}
	}
}
