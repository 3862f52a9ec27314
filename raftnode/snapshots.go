package raftnode

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/internal/failpoint"
)

// snapshotStore stands between the library and its snapshots in files. They are
// written with fsync and a checksum, which is verified when one is opened
// (snapshots_content.go); ours ends the node on any error instead of quietly using an older snapshot,
// which the log no longer reaches.
type snapshotStore struct {
	inner  *raft.FileSnapshotStore
	dir    string
	fail   *failStop
	latest atomic.Pointer[saved] // the latest snapshot
	naming chan struct{}         // holds one token while a snapshot is given its name
	named  int64                 // the millisecond in the last name, under naming

	duration histogram
}

var _ raft.SnapshotStore = (*snapshotStore)(nil)

// unfinished ends the name of a snapshot that is being written.
const unfinished = ".tmp"

// place is an entry's index and term, 0 for none.
type place struct{ index, term uint64 }

// saved is a snapshot on the disk: its name, up to which entry it goes, and its size.
type saved struct {
	id string
	place
	bytes int64
}

// openSnapshots opens the snapshots of a data directory, drops unfinished ones
// and verifies the latest.
func openSnapshots(cfg *Config, fail *failStop) (*snapshotStore, error) {
	s := &snapshotStore{dir: filepath.Join(cfg.DataDir, "snapshots"), fail: fail, naming: make(chan struct{}, 1)}
	s.latest.Store(&saved{})
	if err := makeDir(s.dir); err != nil {
		return nil, err
	}
	var err error
	if s.inner, err = raft.NewFileSnapshotStoreWithLogger(cfg.DataDir, cfg.SnapshotsKept, libraryLogger(cfg.Logger, "snapshots")); err != nil {
		return nil, fmt.Errorf("open the snapshots in %s: %w", s.dir, err)
	}
	names, err := s.names()
	if err != nil || len(names) == 0 {
		return s, err
	}
	meta, content, err := s.open(names[0])
	if err != nil {
		return nil, s.damaged(names[0], err)
	}
	s.latest.Store(&saved{names[0], place{meta.Index, meta.Term}, meta.Size})
	return s, content.Close()
}

// names lists the finished snapshots, latest first, and removes what a crash
// left of unfinished ones.
func (s *snapshotStore) names() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list the snapshots: %w", err)
	}
	var names []string
	for _, entry := range entries {
		switch {
		case strings.HasSuffix(entry.Name(), unfinished):
			if err := os.RemoveAll(filepath.Join(s.dir, entry.Name())); err != nil {
				return nil, fmt.Errorf("remove an unfinished snapshot: %w", err)
			}
		case entry.IsDir():
			names = append(names, entry.Name())
		}
	}
	slices.SortFunc(names, func(a, b string) int { return slices.Compare(snapshotOrder(b), snapshotOrder(a)) })
	return names, nil
}

// snapshotOrder reads a snapshot's name, term-index-milliseconds.
func snapshotOrder(name string) []uint64 {
	order := make([]uint64, 3)
	fmt.Sscanf(name, "%d-%d-%d", &order[0], &order[1], &order[2]) //nolint:errcheck // other names sort last
	return order
}

func (s *snapshotStore) damaged(id string, err error) error {
	return withRemedy(fmt.Errorf("open snapshot %s: %w: %w", filepath.Join(s.dir, id), ErrDamaged, err))
}

// replaces says whether the latest snapshot took the place of a log that ended
// elsewhere: not at the snapshot's own last entry, nor before.
func (s *snapshotStore) replaces(end place) bool {
	latest := s.latest.Load()
	return end.index > latest.index || (end.index == latest.index && end.term != latest.term)
}

func (s *snapshotStore) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration,
	configurationIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	err := s.hit(failpoint.SnapshotBegun)
	if err != nil {
		return nil, err
	}
	if s.overtaken(index) {
		return nil, errOvertaken
	}
	sink, err := s.create(version, index, term, configuration, configurationIndex, trans)
	if err != nil {
		err = fmt.Errorf("create a snapshot in %s: %w", s.dir, err)
		s.fail.halt(err)
		return nil, err
	}
	written, err := createContent(filepath.Join(s.dir, sink.ID()+unfinished))
	if err != nil {
		err = errors.Join(fmt.Errorf("create a snapshot in %s: %w", s.dir, err), sink.Cancel())
		s.fail.halt(err)
		return nil, err
	}
	return &snapshotSink{SnapshotSink: sink, store: s, saved: saved{id: sink.ID(), place: place{index, term}}, begun: time.Now(), content: written}, nil
}

// errOvertaken keeps the library from counting a snapshot of its own that was pinned
// before a leader's newer one was installed, and written after. It would take the
// older one for its latest: the log, which the newer one has replaced, seems to end
// there, and the leader would take this node for one that was set back.
var errOvertaken = errors.New("a newer snapshot was installed meanwhile")

func (s *snapshotStore) overtaken(index uint64) bool { return index < s.latest.Load().index }

// hit is a place where a test may stop the node; an error there ends it as one
// of the disk does.
func (s *snapshotStore) hit(place string) error {
	err := failpoint.Hit(place, "")
	if err != nil {
		s.fail.halt(err)
	}
	return err
}

// create lets no two snapshots have one name. The library names them by term,
// index and millisecond: two of one index that were begun in one millisecond, as
// by two operators at once, would write into one directory, and the second could
// not be put into its place.
func (s *snapshotStore) create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration,
	configurationIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	s.naming <- struct{}{}
	defer func() { <-s.naming }()
	for time.Now().UnixMilli() == s.named {
		time.Sleep(time.Millisecond)
	}
	sink, err := s.inner.Create(version, index, term, configuration, configurationIndex, trans)
	if err == nil {
		s.named = int64(snapshotOrder(sink.ID())[2])
	}
	return sink, err
}

// List lists the latest snapshot alone. The library would go back to an older
// one when it cannot restore the latest.
func (s *snapshotStore) List() ([]*raft.SnapshotMeta, error) {
	list, err := s.inner.List()
	if err != nil {
		err = fmt.Errorf("list the snapshots in %s: %w", s.dir, err)
		s.fail.halt(err)
	}
	return list[:min(len(list), 1)], err
}

// Open opens a snapshot that was listed. The library asks again after an error, for each
// follower that needs one, and is given the latest of then.
func (s *snapshotStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	meta, content, err := s.open(id)
	if err == nil {
		return meta, content, nil
	}
	if _, gone := os.Stat(filepath.Join(s.dir, id)); os.IsNotExist(gone) || s.latest.Load().id != id {
		return nil, nil, err // newer ones replaced it since it was listed, and its files go
	}
	err = s.damaged(id, err)
	s.fail.halt(err)
	return nil, nil, err
}

// open opens a snapshot whose meta and content are as they were written.
func (s *snapshotStore) open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	if err := verifyMeta(filepath.Join(s.dir, id)); err != nil {
		return nil, nil, err
	}
	meta, inner, err := s.inner.Open(id)
	if err != nil {
		return nil, nil, err
	}
	whole := bufio.NewReader(inner)
	n, ok, err := readNote(whole)
	if err == nil && !ok {
		return meta, content{whole, inner}, nil
	}
	if err = errors.Join(err, inner.Close()); err != nil {
		return nil, nil, err
	}
	opened, err := openContent(filepath.Join(s.dir, id), n)
	meta.Size = n.bytes
	return meta, opened, err
}

// snapshotSink is a snapshot being written. A failed write ends the node, as
// one of the log does.
type snapshotSink struct {
	raft.SnapshotSink
	store   *snapshotStore
	saved   saved
	begun   time.Time
	content *contentWriter
	closed  bool
}

func (s *snapshotSink) Write(p []byte) (int, error) {
	n, err := s.content.Write(p)
	s.saved.bytes += int64(n)
	if err != nil {
		err = fmt.Errorf("write snapshot %s: %w", s.path(), err)
		s.store.fail.halt(err)
	}
	return n, err
}

// Close makes the snapshot durable. The library syncs its own files and the directory
// above; the content and its name are synced before, so that a snapshot with a name has
// it, and the names of the rest after.
func (s *snapshotSink) Close() error {
	if s.closed {
		return nil
	}
	if s.store.overtaken(s.saved.index) {
		return errors.Join(errOvertaken, s.Cancel())
	}
	s.closed = true
	err := s.finish()
	if err == nil {
		err = s.SnapshotSink.Close()
	} else {
		err = errors.Join(err, s.SnapshotSink.Cancel())
	}
	if err == nil {
		err = sumMeta(s.path()) // syncs the names of all the files
	}
	if err != nil {
		err = fmt.Errorf("finish snapshot %s: %w", s.path(), err)
		s.store.fail.halt(err)
		return err
	}
	s.store.latest.Store(&s.saved)
	s.store.duration.observe(time.Since(s.begun))
	return s.store.hit(failpoint.SnapshotWritten)
}

// finish makes the content durable and hands its note to the library.
func (s *snapshotSink) finish() error {
	n, err := s.content.finish()
	if err == nil {
		err = syncDir(s.path() + unfinished)
	}
	if err == nil {
		_, err = s.SnapshotSink.Write(n.encode())
	}
	return err
}

func (s *snapshotSink) Cancel() error {
	if s.closed {
		return nil
	}
	s.closed = true
	return errors.Join(s.content.f.Close(), s.SnapshotSink.Cancel())
}

func (s *snapshotSink) path() string { return filepath.Join(s.store.dir, s.ID()) }
