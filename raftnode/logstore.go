package raftnode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/internal/failpoint"
)

// castagnoli is the table of every checksum of this package.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// logStore stands between the library and a log store. It
//
//   - ends the node on any error or stall (see failStop);
//   - keeps a checksum with each entry and verifies it on each read, since
//     bbolt has none of its own;
//   - measures how long writes take, fsync included;
//   - writes a leader's entries behind (see behind.go);
//   - says that it is monotonic, and is.
type logStore struct {
	inner raft.LogStore
	path  string // for messages
	fail  *failStop
	max   time.Duration
	write *histogram

	snapshots *snapshotStore
	high      *highwater
	replaced  func() // called when a diverged log was dropped

	mu          sync.Mutex    // held over changes of the log
	sizes       sizes         // of what is on the disk; under mu
	behind      behind        // what is not, yet
	onDisk      reached       // up to which index it is
	first, last atomic.Uint64 // indexes in the log, written or accepted; 0 for none
	written     atomic.Uint64 // bytes of the entries written since the start
}

var (
	_ raft.LogStore          = (*logStore)(nil)
	_ raft.MonotonicLogStore = (*logStore)(nil)
)

// verify reads the whole log once. Entries must stand without a gap, each with
// its checksum, and reach down to the snapshot.
func (s *logStore) verify() error {
	return faultsArePanics("verify the log in "+s.path, func() error {
		if err := s.do("find the ends of the log", s.measure); err != nil {
			return err
		}
		first, last := s.first.Load(), s.last.Load()
		snapshot := s.snapshots.latest.Load()
		if err := s.high.verifyLast(max(last, snapshot.index)); err != nil {
			return withRemedy(err)
		}
		if last == 0 {
			return nil
		}
		if first > snapshot.index+1 {
			return withRemedy(fmt.Errorf("%w: it begins at entry %d, but the latest snapshot ends at %d", ErrDamaged, first, snapshot.index))
		}
		fits := last >= snapshot.index
		for index := first; index <= last; index++ {
			var l raft.Log
			switch err := s.GetLog(index, &l); {
			case errors.Is(err, raft.ErrLogNotFound):
				return withRemedy(fmt.Errorf("%w: entry %d is missing", ErrDamaged, index))
			case err != nil:
				return err
			}
			s.sizes.set(index, len(l.Data))
			fits = fits && (index != snapshot.index || l.Term == snapshot.term)
		}
		if fits {
			return nil
		}
		// The process ended after it had installed the snapshot and before it
		// dropped the log that the snapshot replaces.
		return s.DeleteRange(first, last)
	})
}

// IsMonotonic makes the library drop the whole old log once a snapshot of the
// leader's was installed; otherwise it would keep trailing entries, which a
// diverged follower must not (hashicorp/raft #697). See logReplaced for the rest.
func (s *logStore) IsMonotonic() bool { return true }

func (s *logStore) FirstIndex() (uint64, error) { return s.first.Load(), nil }
func (s *logStore) LastIndex() (uint64, error)  { return s.last.Load(), nil }

// measure reads from the store where the log begins and ends.
func (s *logStore) measure() error {
	first, err := s.inner.FirstIndex()
	if err != nil {
		return err
	}
	last, err := s.inner.LastIndex()
	if err != nil {
		return err
	}
	if last == 0 {
		first = 0 // raft-wal tells where it would begin
	}
	s.first.Store(first)
	s.last.Store(last)
	s.onDisk.set(last)
	return nil
}

// GetLog reads the entry at index and verifies it. What was deleted is gone,
// although raft-wal would still find it in its files for a while.
func (s *logStore) GetLog(index uint64, l *raft.Log) error {
	if index < s.first.Load() || index > s.last.Load() {
		return raft.ErrLogNotFound
	}
	if err := s.reaches(index); err != nil {
		return err
	}
	missing := false
	err := s.do(fmt.Sprintf("read log entry %d", index), func() error {
		switch err := s.inner.GetLog(index, l); {
		case errors.Is(err, raft.ErrLogNotFound):
			missing = true
			return nil
		case err != nil:
			return err
		}
		return verifyEntry(index, l)
	})
	if err == nil && missing {
		return raft.ErrLogNotFound
	}
	return err
}

func (s *logStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs appends entries and returns once they are on the disk, or are sure to
// be before anybody is told so.
func (s *logStore) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	if s.behind.may != nil && s.behind.may(logs) {
		return s.accept(logs)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.flush(); err != nil {
		return err
	}
	if err := s.continues(logs); err != nil {
		return err
	}
	if err := s.put(logs); err != nil {
		return err
	}
	s.last.Store(logs[len(logs)-1].Index)
	return nil
}

// continues ends the node for entries that would leave a gap, and refuses any where
// it has ended.
func (s *logStore) continues(logs []*raft.Log) error {
	first, end := logs[0].Index, s.last.Load()
	if (end == 0 || first == end+1) && s.fail.cause() == nil {
		return nil
	}
	return s.do(writing(logs), func() error {
		return fmt.Errorf("the log ends at %d: entry %d would leave a gap", end, first)
	})
}

func writing(logs []*raft.Log) string {
	return fmt.Sprintf("write log entries %d to %d", logs[0].Index, logs[len(logs)-1].Index)
}

// put appends entries and returns once they are on the disk. The caller must hold mu.
func (s *logStore) put(logs []*raft.Log) error {
	sealed, size := make([]*raft.Log, len(logs)), 0
	for i, l := range logs {
		entry := *l // the library and the cache go on using l
		entry.Extensions = checksum(l)
		sealed[i] = &entry
		size += len(l.Data)
	}
	first, last := logs[0].Index, logs[len(logs)-1].Index
	return s.do(writing(logs), func() error {
		start := time.Now()
		if err := s.inner.StoreLogs(sealed); err != nil {
			return err
		}
		s.write.observe(time.Since(start))
		s.written.Add(uint64(size))
		for _, l := range logs {
			s.sizes.set(l.Index, len(l.Data))
		}
		s.first.CompareAndSwap(0, first)
		if err := s.high.set(false, func(m *mark) { m.last = last }); err != nil {
			return err
		}
		s.onDisk.set(last)
		return nil
	})
}

// DeleteRange drops the entries from first to last, both included.
func (s *logStore) DeleteRange(first, last uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.behind.mu.Lock() // nothing is accepted meanwhile
	defer s.behind.mu.Unlock()
	if err := s.flushLocked(); err != nil {
		return err
	}
	var end raft.Log // of the log before
	err := s.do(fmt.Sprintf("delete log entries %d to %d", first, last), func() (err error) {
		if index := s.last.Load(); index != 0 {
			if err := s.inner.GetLog(index, &end); err != nil {
				return err
			}
		}
		if last >= s.last.Load() {
			if err := s.high.set(true, func(m *mark) { m.last = min(m.last, first-1) }); err != nil {
				return err
			}
		}
		if err := s.inner.DeleteRange(first, last); err != nil {
			return err
		}
		if err := s.measure(); err != nil {
			return err
		}
		s.sizes.keep(s.first.Load(), s.last.Load())
		return nil
	})
	if err == nil {
		err = s.do("shorten the log", func() error { return failpoint.Hit(failpoint.LogShortened, "") })
	}
	if err != nil {
		return err
	}
	if s.last.Load() == 0 && s.fail.running.Load() && s.snapshots.replaces(place{end.Index, end.Term}) {
		s.replaced()
		runtime.Goexit() // see logReplaced
	}
	return nil
}

// do runs one operation, and ends the node when it fails.
func (s *logStore) do(what string, operation func() error) error {
	err := s.fail.guard(what+" in "+s.path, s.max, operation)
	if err != nil {
		err = withRemedy(err)
		s.fail.halt(err)
	}
	return err
}

// checksum covers what an entry says and where it stands, so that a flipped bit
// shows and so does an entry at another's place.
func checksum(l *raft.Log) []byte {
	var head [17]byte
	binary.LittleEndian.PutUint64(head[0:], l.Index)
	binary.LittleEndian.PutUint64(head[8:], l.Term)
	head[16] = byte(l.Type)
	sum := crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, l.Data)
	return binary.LittleEndian.AppendUint32(nil, sum)
}

// verifyEntry checks an entry just read and takes the checksum off.
func verifyEntry(index uint64, l *raft.Log) error {
	if l.Index != index || string(l.Extensions) != string(checksum(l)) {
		return fmt.Errorf("%w: its checksum does not match", ErrDamaged)
	}
	l.Extensions = nil
	return nil
}

// withRemedy adds what to do about damaged data.
func withRemedy(err error) error {
	if !errors.Is(err, ErrDamaged) {
		return err
	}
	return fmt.Errorf("%w; this node cannot go on with it: remove its data directory, start it with --join and remove the old node id with: quorate cluster remove ID", err)
}
