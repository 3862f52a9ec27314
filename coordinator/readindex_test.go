package coordinator

import (
	"sync"
	"testing"

	"github.com/quorate/quorate/fsm"
)

// busyLog applies an entry after each look at the state, as a busy cluster does.
// The driver looks as well, in its own goroutine.
type busyLog struct {
	*memLog
	mu   sync.Mutex
	look func(at uint64)
}

func (l *busyLog) View(f func(*fsm.State)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var at uint64
	l.memLog.View(func(s *fsm.State) {
		f(s)
		at = s.Clock().AppliedIndex
	})
	if l.look != nil {
		l.look(at)
	}
}

// onLook has f called after each look, with the index of what was seen; nil for
// no more.
func (l *busyLog) onLook(f func(at uint64)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.look = f
}

// TestWatchFromAReadMissesNothing: whoever reads a transaction, or a list, and
// watches from the index that came with it sees all that happened since.
func TestWatchFromAReadMissesNothing(t *testing.T) {
	var busy *busyLog
	n := newNode(t, func(c *Config) {
		busy = &busyLog{memLog: c.Log.(*memLog)}
		c.Log = busy
	})
	gid := n.begin("watched")
	reads := map[string]func() (fsm.TxState, uint64){
		"Get": func() (fsm.TxState, uint64) {
			v, err := n.Get(n.ctx, GetRequest{Transaction: ByGID(gid), Consistency: Local})
			n.must(err)
			return v.Transaction.GetState(), v.At.AppliedIndex
		},
		"List": func() (fsm.TxState, uint64) {
			p, err := n.List(n.ctx, ListRequest{Consistency: Local, Filter: Filter{IncludeFinished: true, KeyPrefix: "watched"}})
			n.must(err)
			return p.Transactions[0].Transaction.GetState(), p.At.AppliedIndex
		},
	}
	for name, read := range reads {
		var index uint64
		busy.onLook(func(seen uint64) {
			index = seen
			n.log.elect() // an entry
		})
		state, at := read()
		busy.onLook(nil)
		if state != fsm.StateActive || at > index || at == 0 {
			t.Errorf("%s shows %v at index %d, and carries index %d", name, state, index, at)
		}
	}
}
