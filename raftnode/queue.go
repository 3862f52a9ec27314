package raftnode

import "sync"

// queue holds the calls of Propose that wait to be packed, in order: a lock and a
// slice. Callers come by the hundred, and a channel would have each of them wait
// for its lock, and whoever packs take them one by one.
type queue struct {
	callsMax, bytesMax int
	came               chan struct{} // holds a token once calls wait

	mu     sync.Mutex
	calls  []*call
	bytes  int
	closed error // why no calls are taken any more
}

func newQueue(callsMax, bytesMax int) *queue {
	return &queue{callsMax: callsMax, bytesMax: bytesMax, came: make(chan struct{}, 1)}
}

// push adds a call, or says why not.
func (q *queue) push(c *call) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed != nil {
		return q.closed
	}
	if len(q.calls) >= q.callsMax || q.bytes+c.bytes > q.bytesMax {
		return ErrBusy
	}
	q.calls = append(q.calls, c)
	q.bytes += c.bytes
	if len(q.calls) == 1 {
		select {
		case q.came <- struct{}{}:
		default: // the one before was not taken yet
		}
	}
	return nil
}

// take moves calls from the front into an entry, as many as fit, but those whose
// callers have gone. It says whether more wait.
func (q *queue) take(e *entry, commandsMax, bytesMax int) (more bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	taken := 0
	for _, c := range q.calls {
		if e.commands > 0 && (e.commands+len(c.commands) > commandsMax || e.bytes+c.bytes > bytesMax) {
			break
		}
		taken++
		q.bytes -= c.bytes
		if c.state.CompareAndSwap(callWaiting, callPacked) {
			e.add(c)
		}
	}
	rest := copy(q.calls, q.calls[taken:])
	clear(q.calls[rest:])
	q.calls = q.calls[:rest]
	return rest > 0
}

// close takes no more calls and returns those that wait.
func (q *queue) close(why error) []*call {
	q.mu.Lock()
	defer q.mu.Unlock()
	left := q.calls
	q.calls, q.bytes, q.closed = nil, 0, why
	return left
}

// waiting is how many calls wait.
func (q *queue) waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.calls)
}
