package coordinator

import (
	"fmt"
	"sync"
	"testing"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// busyLog applies an entry after each look at the state, as a busy cluster does.
// The driver looks as well, in its own goroutine.
type busyLog struct {
	*memLog
	mu   sync.Mutex
	look func()
}

func (l *busyLog) View(f func(*fsm.State)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.memLog.View(f)
	if l.look != nil {
		l.look()
	}
}

// onLook has f called after each look; nil for no more.
func (l *busyLog) onLook(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.look = f
}

// TestWatchFromAReadMissesNothing: whoever reads a transaction, or a list, and
// watches from the index that came with it sees all that happened since: a
// decision that falls between the look and the answer is after that index.
func TestWatchFromAReadMissesNothing(t *testing.T) {
	var busy *busyLog
	n := newNode(t, func(c *Config) {
		busy = &busyLog{memLog: c.Log.(*memLog)}
		c.Log = busy
	})
	reads := map[string]func(gid fsm.GID, key string) (fsm.TxState, uint64){
		"Get": func(gid fsm.GID, _ string) (fsm.TxState, uint64) {
			v, err := n.Get(n.ctx, GetRequest{Transaction: ByGID(gid), Consistency: Local})
			n.must(err)
			return v.Transaction.GetState(), v.At.AppliedIndex
		},
		"List": func(_ fsm.GID, key string) (fsm.TxState, uint64) {
			p, err := n.List(n.ctx, ListRequest{Consistency: Local, Filter: Filter{IncludeFinished: true, KeyPrefix: key}})
			n.must(err)
			return p.Transactions[0].Transaction.GetState(), p.At.AppliedIndex
		},
	}
	for name, read := range reads {
		shown := fsm.TxState(0)
		// The driver may be the one that looks first: then the read shows the decision.
		for try := 0; try < 100 && shown != fsm.StateActive; try++ {
			key := fmt.Sprintf("%s-%d.", name, try)
			gid := n.begin(key)
			var decided uint64
			busy.onLook(func() {
				if decided == 0 {
					decided = n.log.appendNow(cmdCommit(gid))
				}
			})
			var at uint64
			shown, at = read(gid, key)
			busy.onLook(nil)
			if shown == fsm.StateActive && (decided == 0 || at >= decided) {
				t.Errorf("%s shows no decision, carries index %d, and it was decided at %d", name, at, decided)
			}
		}
		if shown != fsm.StateActive {
			t.Errorf("%s: nothing fell between a look and its answer", name)
		}
	}
}

// appendNow applies a command at once, and returns its index.
func (l *memLog) appendNow(command *logpb.Command) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = l.apply(command)
	return l.index
}
