package raftnode

import (
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// A leader of the library writes entries to its own disk and only then sends them,
// so that each command waits for two disks, one after the other; and its main
// goroutine does nothing else meanwhile, such as to see that earlier entries are
// committed. A leader may as well write while its followers do, as long as it does
// not count itself before its own disk has the entry (Ongaro's thesis, section
// 10.2.1).
//
// The library counts the leader once StoreLogs has returned. So here it is the
// followers that are counted late: a leader's entries are accepted and written
// behind, and an answer by which a follower acknowledges them reaches the library
// only when this disk has them too (transport.AppendEntries). In a cluster of two
// voters or more every quorum holds another node than the leader; so whatever the
// library takes for committed is on the disks of a quorum, the leader's among them.
//
// Nobody else's entries are written behind, nor those that change the cluster's
// nodes, nor those of a single voter, who is a quorum alone. Whatever else changes
// the log, or answers for it to another node, first waits until all of it is on the
// disk: a leader that was deposed is soon asked whether it has what it accepted.
// See docs/decisions/024-a-leader-writes-while-its-followers-do.md.

// behind holds the entries that were accepted and are not written yet.
type behind struct {
	may  func(logs []*raft.Log) bool // nil: nothing may be written behind
	kick chan struct{}               // holds a token while entries wait

	mu      sync.Mutex // taken after the log's own
	entries []*raft.Log
	closed  bool
}

// accept takes entries that will be written by writeBehind.
func (s *logStore) accept(logs []*raft.Log) error {
	s.behind.mu.Lock()
	defer s.behind.mu.Unlock()
	if s.behind.closed {
		return ErrClosed
	}
	if err := s.continues(logs); err != nil {
		return err
	}
	first, last := logs[0].Index, logs[len(logs)-1].Index
	s.behind.entries = append(s.behind.entries, logs...)
	s.last.Store(last)
	s.first.CompareAndSwap(0, first)
	select {
	case s.behind.kick <- struct{}{}:
	default: // it has been told
	}
	return nil
}

// writeBehind writes what was accepted, all that there is at a time.
func (n *Node) writeBehind() {
	defer n.wait.Done()
	for {
		select {
		case <-n.stores.log.behind.kick:
			n.stores.log.catchUp()
		case <-n.closed:
			return
		}
	}
}

func (s *logStore) catchUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.flush() // if it fails this goroutine ends there
}

// flush writes what was accepted. The caller must hold mu.
func (s *logStore) flush() error {
	s.behind.mu.Lock()
	logs := s.behind.take()
	s.behind.mu.Unlock() // more is accepted while these are written
	return s.putAccepted(logs)
}

// flushLocked is flush for who holds the lock of behind as well.
func (s *logStore) flushLocked() error { return s.putAccepted(s.behind.take()) }

func (s *logStore) putAccepted(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	return s.put(logs)
}

func (b *behind) take() []*raft.Log {
	logs := b.entries
	b.entries = nil
	return logs
}

// reaches returns once the log is on the disk up to index. It fails when the log
// ends before that, because its end was dropped, or when the node has stopped itself.
func (s *logStore) reaches(index uint64) error {
	for {
		reached, changed := s.onDisk.get(index)
		switch {
		case reached:
			return nil
		case s.last.Load() < index:
			return raft.ErrLogNotFound
		}
		select {
		case <-changed:
		case <-s.fail.failed:
			return ErrFailed
		}
	}
}

// settle returns once everything that was accepted is on the disk. When that fails
// the node does nothing more.
func (s *logStore) settle() {
	if err := s.reaches(s.last.Load()); err != nil {
		s.fail.halt(err)
	}
}

// stopBehind lets go of what was accepted, which nobody was told of.
func (s *logStore) stopBehind() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.behind.mu.Lock()
	defer s.behind.mu.Unlock()
	s.behind.entries, s.behind.closed = nil, true
}

// mayWriteBehind says whether these entries, which the library is about to store on
// its main goroutine, are a leader's of several voters.
func (n *Node) mayWriteBehind(logs []*raft.Log) bool {
	library := n.raft()
	if library == nil || library.State() != raft.Leader || n.voters() < 2 {
		return false
	}
	for _, l := range logs {
		if l.Type == raft.LogConfiguration {
			return false
		}
	}
	return true
}

// reached is an index, and who waits for it. It goes back when the end of the log is
// dropped.
type reached struct {
	index atomic.Uint64

	mu      sync.Mutex
	changed chan struct{} // closed at the next change; nil while nobody waits
}

func (r *reached) set(index uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.index.Store(index)
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

// get says whether index is reached; if not, changed is closed when that may have
// become true.
func (r *reached) get(index uint64) (yes bool, changed <-chan struct{}) {
	if r.index.Load() >= index {
		return true, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.index.Load() >= index {
		return true, nil
	}
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	return false, r.changed
}
