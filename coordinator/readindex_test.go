package coordinator

import (
	"testing"

	"github.com/quorate/quorate/fsm"
)

// busyLog applies an entry after each look at the state, as a busy cluster does.
type busyLog struct {
	*memLog
	look func()
}

func (l *busyLog) View(f func(*fsm.State)) {
	l.memLog.View(f)
	if look := l.look; look != nil {
		l.look = nil
		look()
		l.look = look
	}
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
		busy.look = func() {
			if index == 0 {
				index = n.log.index // of the state that was looked at
			}
			n.log.elect() // an entry
		}
		state, at := read()
		busy.look = nil
		if state != fsm.StateActive || at > index || at == 0 {
			t.Errorf("%s shows %v at index %d, and carries index %d", name, state, index, at)
		}
	}
}
