package participant

import (
	"sync"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// What became of branches is reported together: a report waits while other verdicts are
// being obeyed in this process, for their reports will come in a moment, and a message
// to the leader costs both ends more than the report in it. The last one takes all along.
// So one that is alone never waits, nor does a transaction's end for long: who waits for
// it waits for the branches that are slower anyway, and for reportHoldMax at most.
//
// Whatever is held when the process dies, or the session breaks, the cluster asks for again.

const (
	// reportHoldMax is how long a report waits for others.
	reportHoldMax = 2 * time.Millisecond
	// reportsHeldMax bounds those that wait.
	reportsHeldMax = 64
)

// reports are those of a client that wait.
type reports struct {
	tell func(...*quoratev1.SessionRequest) // must not keep the slice

	mu     sync.Mutex
	obeyed int // verdicts that are being obeyed
	held   []*quoratev1.SessionRequest
	timer  *time.Timer
	set    bool // the timer runs
}

func newReports(tell func(...*quoratev1.SessionRequest)) *reports {
	r := &reports{tell: tell}
	r.timer = time.AfterFunc(time.Hour, r.expire)
	r.timer.Stop()
	return r
}

// begin notes that a verdict is being obeyed; end is owed for it.
func (r *reports) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.obeyed++
}

// end takes the report on it; nil where there is none.
func (r *reports) end(report *quoratev1.SessionRequest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.obeyed--
	if report != nil {
		r.held = append(r.held, report)
	}
	switch {
	case r.obeyed == 0 || len(r.held) >= reportsHeldMax:
		r.sendLocked()
	case len(r.held) > 0 && !r.set:
		r.set = true
		r.timer.Reset(reportHoldMax)
	}
}

// expire sends what waits. The timer is not moved when that was sent before: what came
// since goes earlier than it must.
func (r *reports) expire() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.set = false
	r.sendLocked()
}

// flush sends what waits at once.
func (r *reports) flush() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sendLocked()
}

func (r *reports) sendLocked() {
	if len(r.held) == 0 {
		return
	}
	r.tell(r.held...)
	clear(r.held)
	r.held = r.held[:0]
}

// close sends no more.
func (r *reports) close() { r.timer.Stop() }
