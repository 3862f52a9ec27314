package raftnode

import (
	"sync"

	"github.com/hashicorp/raft"
)

// The latest entries stay in memory: a leader sends them, and every node applies
// them, a moment after they were written. Bounds by number alone would let a node
// of large entries grow by hundreds of megabytes.
const (
	recentEntriesMax = 1024
	recentBytesMax   = 24 << 20
)

// recentLogs is the log with its end in memory. The library's own cache forgets
// all of it whenever the log is shortened, at either end, which is at each
// snapshot: the next thing that followers ask for would come from the disk.
type recentLogs struct {
	*logStore

	mu          sync.RWMutex
	ring        [recentEntriesMax]raft.Log // the entry at index i stands in i % recentEntriesMax
	first, last uint64                     // of those in memory; first > last for none
	bytes       int
}

var _ raft.MonotonicLogStore = (*recentLogs)(nil)

func newRecentLogs(s *logStore) *recentLogs { return &recentLogs{logStore: s, first: 1} }

func (r *recentLogs) at(index uint64) *raft.Log { return &r.ring[index%recentEntriesMax] }

// GetLog reads an entry. Its bytes must not be changed: others read the same.
func (r *recentLogs) GetLog(index uint64, l *raft.Log) error {
	r.mu.RLock()
	if r.first <= index && index <= r.last {
		*l = *r.at(index)
		r.mu.RUnlock()
		return nil
	}
	r.mu.RUnlock()
	return r.logStore.GetLog(index, l)
}

func (r *recentLogs) StoreLog(l *raft.Log) error { return r.StoreLogs([]*raft.Log{l}) }

// StoreLogs appends entries, and keeps them once they are on the disk.
func (r *recentLogs) StoreLogs(logs []*raft.Log) error {
	if err := r.logStore.StoreLogs(logs); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range logs {
		r.keep(l)
	}
	return nil
}

// keep takes one entry in, and lets go of those that are too many.
func (r *recentLogs) keep(l *raft.Log) {
	if l.Index != r.last+1 || r.first > r.last {
		r.forget(r.first, r.last)
		r.first = l.Index
	}
	for r.last-r.first+1 == recentEntriesMax && r.first <= r.last {
		r.forget(r.first, r.first)
	}
	*r.at(l.Index) = *l
	r.last = l.Index
	r.bytes += len(l.Data)
	for r.bytes > recentBytesMax && r.first < r.last {
		r.forget(r.first, r.first)
	}
}

// DeleteRange drops entries at one end of the log.
func (r *recentLogs) DeleteRange(first, last uint64) error {
	r.mu.Lock()
	r.forget(first, last)
	r.mu.Unlock()
	return r.logStore.DeleteRange(first, last)
}

// forget lets go of the entries from first to last, at one end of what is kept;
// with some in the middle all go. The caller must hold mu.
func (r *recentLogs) forget(first, last uint64) {
	first, last = max(first, r.first), min(last, r.last)
	if first > last {
		return
	}
	if first > r.first && last < r.last {
		first, last = r.first, r.last
	}
	for index := first; index <= last; index++ {
		r.bytes -= len(r.at(index).Data)
		*r.at(index) = raft.Log{}
	}
	if first == r.first {
		r.first = last + 1
	} else {
		r.last = first - 1
	}
}
