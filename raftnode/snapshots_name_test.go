package raftnode

import (
	"log/slog"
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
