package raftnode

import (
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// flights are the entries that this node has proposed and whose outcome it does not
// know yet. The library tells the outcome to a future, three goroutines away from
// the caller. When the machine is given such an entry it was committed, and when the
// machine has applied it the results are there: so what the library gives the
// machine is looked at, the next entry is packed while this one is applied, and its
// callers are answered at once.
//
// An entry is known by its bytes: those that the machine is given are the very slice
// that was proposed.
type flights struct {
	n       *Node
	count   atomic.Int32 // spares the machine the lock where there are none, as on every follower
	mu      sync.Mutex
	entries []*entry // in the order in which they were proposed
}

// add notes an entry that is about to be proposed.
func (f *flights) add(e *entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.entries = append(f.entries, e)
	f.count.Add(1)
}

// land forgets an entry whose outcome is known.
func (f *flights) land(e *entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, other := range f.entries {
		if other == e {
			f.entries = append(f.entries[:i], f.entries[i+1:]...)
			f.count.Add(-1)
			return
		}
	}
}

// of returns the entry that became l, or nil.
func (f *flights) of(l *raft.Log) *entry {
	if f == nil || f.count.Load() == 0 || l.Type != raft.LogCommand || len(l.Data) == 0 {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.entries {
		if &e.data[0] == &l.Data[0] {
			return e
		}
	}
	return nil
}

// committed is told what the machine is about to apply.
func (f *flights) committed(logs []*raft.Log) {
	for _, l := range logs {
		if e := f.of(l); e != nil {
			f.n.committed(e)
		}
	}
}

// applied is told what the machine has applied, and its answers.
func (f *flights) applied(logs []*raft.Log, answers []any) {
	for i, l := range logs {
		a, ok := answers[i].(applied)
		if !ok {
			continue
		}
		if e := f.of(l); e != nil {
			f.n.hand(e, a)
		}
	}
}
