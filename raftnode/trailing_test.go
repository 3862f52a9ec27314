package raftnode

import (
	"fmt"
	"strings"
	"testing"
)

func TestSizes(t *testing.T) {
	var s sizes
	for index := uint64(100); index < 200; index++ {
		s.set(index, 10)
	}
	for _, test := range []struct {
		bytes         int64
		most, entries uint64
	}{{1000, 500, 100}, {999, 500, 99}, {1000, 50, 50}, {55, 50, 5}, {5, 50, 1}, {0, 0, 0}} {
		if got := s.trailing(test.bytes, test.most); got != test.entries {
			t.Errorf("%d bytes, %d entries at most: %d", test.bytes, test.most, got)
		}
	}
	s.keep(150, 179)
	if got := s.trailing(1000, 500); got != 30 || s.first != 150 {
		t.Errorf("%d entries from %d", got, s.first)
	}
	s.set(180, 500)
	if got := s.trailing(505, 500); got != 1 {
		t.Errorf("%d entries", got)
	}
	s.set(300, 1) // behind a snapshot that took the log's place
	if got := s.trailing(1000, 500); got != 1 || s.first != 300 {
		t.Errorf("%d entries from %d", got, s.first)
	}
	s.keep(301, 400)
	if len(s.bytes) != 0 {
		t.Error("they are gone")
	}
}

// What stays behind a snapshot is bounded by bytes as well as by number, after a
// restart, too.
func TestTrailing_IsBoundedByBytes(t *testing.T) {
	c := newCluster(t, 1, func(_ int, cfg *Config) {
		cfg.EntryCommandsMax = 1
		cfg.TrailingEntries = 50
		cfg.TrailingBytes = 100 << 10
	})
	node := c.members[0]
	large := func(n int) {
		for range n {
			c.set("large", strings.Repeat("v", 10<<10)) // one register: the snapshot stays small
		}
	}
	left := func() uint64 { return node.stores.log.last.Load() - node.stores.log.first.Load() + 1 }
	large(30)
	must(t, node.Snapshot(c.ctx()))
	if got := left(); got < 8 || got > 10 {
		t.Errorf("%d entries of 10 KiB are left, with 100 KiB to stay", got)
	}
	c.stop(node)
	c.start(node)
	c.leader()
	large(1)
	must(t, node.Snapshot(c.ctx()))
	if got := left(); got < 8 || got > 14 { // a term begins with some small ones
		t.Errorf("%d entries are left after a restart", got)
	}
	for i := range 60 {
		c.set("small", fmt.Sprint(i))
	}
	must(t, node.Snapshot(c.ctx()))
	if got := left(); got != 50 {
		t.Errorf("%d small entries are left, with 50 to stay", got)
	}
	// A snapshot that is larger than the bytes that stay is more to send than they.
	c.set("huge", strings.Repeat("v", 200<<10))
	must(t, node.Snapshot(c.ctx()))
	large(30)
	must(t, node.Snapshot(c.ctx()))
	if got := left(); got < 17 || got > 21 {
		t.Errorf("%d entries of 10 KiB are left, with a snapshot of 200 KiB", got)
	}
}
