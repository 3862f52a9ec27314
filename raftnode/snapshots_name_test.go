package raftnode

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/raft"
)

// A snapshot is taken, and one is installed, at the same entry in the same
// millisecond: the library would write both into one directory. In a bubble the
// clock stands, so that the two always meet.
func TestSnapshots_OfOneMillisecondHaveTheirOwnNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := &Config{DataDir: t.TempDir(), SnapshotsKept: 2, Logger: slog.New(slog.DiscardHandler)}
		s, err := openSnapshots(cfg, newFailStop(func(err error) { t.Error(err) }))
		must(t, err)
		create := func() raft.SnapshotSink {
			_, trans := raft.NewInmemTransport("here")
			sink, err := s.Create(1, 7, 3, raft.Configuration{}, 1, trans)
			must(t, err)
			_, err = sink.Write([]byte("state"))
			must(t, err)
			return sink
		}
		// Both at once, then one after the other.
		first, second := create(), create()
		must(t, first.Close())
		third := create()
		must(t, second.Close())
		must(t, third.Close())
		if first.ID() == second.ID() || second.ID() == third.ID() {
			t.Errorf("one name twice: %s, %s, %s", first.ID(), second.ID(), third.ID())
		}
	})
}

// A snapshot of this node's own and one that a leader installs are written at the same
// time. The one that is finished second is not the latest if it is the older one.
func TestSnapshots_AnOlderOneIsNotTheLatest(t *testing.T) {
	cfg := &Config{DataDir: t.TempDir(), SnapshotsKept: 2, Logger: slog.New(slog.DiscardHandler)}
	s, err := openSnapshots(cfg, newFailStop(func(err error) { t.Error(err) }))
	must(t, err)
	_, trans := raft.NewInmemTransport("here")
	create := func(index uint64) (raft.SnapshotSink, error) {
		return s.Create(1, index, 3, raft.Configuration{}, 1, trans)
	}
	own, err := create(7)
	must(t, err)
	installed, err := create(9)
	must(t, err)
	must(t, installed.Close())
	if err := own.Close(); !errors.Is(err, errOvertaken) {
		t.Errorf("it is finished: %v", err)
	}
	if _, err := create(8); !errors.Is(err, errOvertaken) {
		t.Errorf("it is begun: %v", err)
	}
	if latest := s.latest.Load().index; latest != 9 {
		t.Errorf("the latest is of entry %d", latest)
	}
	names, err := s.names()
	must(t, err)
	if len(names) != 1 || names[0] != installed.ID() {
		t.Errorf("there are %v", names)
	}
	again, err := create(9) // of the same entry, as an operator may ask for
	must(t, err)
	must(t, again.Close())
}

// A snapshot takes the place of a log that ends elsewhere, and of no other.
func TestSnapshots_WhichLogOneReplaces(t *testing.T) {
	var s snapshotStore
	s.latest.Store(&saved{place: place{10, 3}})
	for end, want := range map[place]bool{{10, 3}: false, {9, 3}: false, {9, 4}: false, {0, 0}: false, {10, 2}: true, {10, 4}: true, {11, 3}: true, {11, 2}: true} {
		if got := s.replaces(end); got != want {
			t.Errorf("a log that ends at %v: %v", end, got)
		}
	}
}

// Between the library's List and its Open newer snapshots may take the place of the one
// that it chose, whose files go one by one. It asks again, and no disk was at fault; but a
// latest snapshot that lacks a file ends the node.
func TestSnapshots_AReplacedOneEndsNoNode(t *testing.T) {
	cfg := &Config{DataDir: t.TempDir(), SnapshotsKept: 2, Logger: slog.New(slog.DiscardHandler)}
	s, err := openSnapshots(cfg, newFailStop(func(err error) { t.Error(err) }))
	must(t, err)
	_, trans := raft.NewInmemTransport("here")
	create := func(index uint64) string {
		sink, err := s.Create(1, index, 3, raft.Configuration{}, 1, trans)
		must(t, err)
		must(t, sink.Close())
		return sink.ID()
	}
	for _, lost := range []string{"meta.json", "state.bin", contentFile} {
		listed, latest := create(7), create(7)
		must(t, os.Remove(filepath.Join(s.dir, listed, lost)))
		if _, _, err := s.Open(listed); err == nil {
			t.Errorf("the older one lacks %s, and is opened", lost)
		}
		again, err := s.List()
		must(t, err)
		if _, content, err := s.Open(again[0].ID); err != nil || again[0].ID != latest {
			t.Errorf("the one that is listed then is %s: %v", again[0].ID, err)
		} else {
			must(t, content.Close())
		}
	}
	latest := create(8)
	reopened, err := openSnapshots(cfg, s.fail) // by the process after this one
	must(t, err)
	must(t, os.Remove(filepath.Join(s.dir, latest, contentFile)))
	for _, s := range []*snapshotStore{s, reopened} {
		var ended error
		s.fail = newFailStop(func(err error) { ended = err })
		if _, _, err := s.Open(latest); !errors.Is(err, ErrDamaged) || !errors.Is(ended, ErrDamaged) {
			t.Errorf("the latest lacks its content: %v; the node has ended with %v", err, ended)
		}
	}
}
