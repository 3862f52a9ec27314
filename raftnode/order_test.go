package raftnode

import (
	"errors"
	"fmt"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/internal/testkit"
)

// A leader counts itself late for commands alone: whatever else is in the batch, wherever
// it stands, all of it waits for the disk.
func TestBehind_WhatMayBeWrittenBehind(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.set("x", "1")
	leader := c.leader()
	command, configuration := &raft.Log{Type: raft.LogCommand}, &raft.Log{Type: raft.LogConfiguration}
	for _, test := range []struct {
		logs []*raft.Log
		may  bool
	}{
		{[]*raft.Log{command}, true}, {[]*raft.Log{command, {Type: raft.LogNoop}, {Type: raft.LogBarrier}}, true},
		{[]*raft.Log{configuration}, false}, {[]*raft.Log{configuration, command}, false}, {[]*raft.Log{command, configuration}, false},
	} {
		if may := leader.mayWriteBehind(test.logs); may != test.may {
			t.Errorf("%d entries that end with %v: %v", len(test.logs), test.logs[len(test.logs)-1].Type, may)
		}
		if c.others(leader)[0].mayWriteBehind(test.logs) {
			t.Error("a follower writes behind")
		}
	}
}

// Entries that may not be written behind come behind those that were, on the disk too;
// and what was dropped is not on the disk any more, when others take its place.
func TestBehind_TheDisksOrder(t *testing.T) {
	cfg := testConfig(t)
	must(t, makeDir(cfg.DataDir))
	stores, err := openStores(&cfg, newFailStop(func(err error) { t.Error(err) }), new(histogram))
	must(t, err)
	log := func(index, term uint64) *raft.Log {
		return &raft.Log{Index: index, Term: term, Type: raft.LogCommand, Data: fmt.Append(nil, index, term)}
	}
	s, behind := stores.log, true
	s.behind.may = func([]*raft.Log) bool { return behind }
	must(t, stores.logs.StoreLogs([]*raft.Log{log(1, 1), log(2, 1)}))
	must(t, stores.logs.StoreLogs([]*raft.Log{log(3, 1)}))
	behind = false
	must(t, stores.logs.StoreLogs([]*raft.Log{log(4, 1)}))
	if disk := s.onDisk.index.Load(); disk != 4 {
		t.Errorf("the disk has %d of 4", disk)
	}
	must(t, stores.logs.DeleteRange(3, 4))
	addsUp(t, s)
	behind = true
	must(t, stores.logs.StoreLogs([]*raft.Log{log(3, 2), log(4, 2), log(5, 2)}))
	if on, _ := s.onDisk.get(3); on || s.onDisk.index.Load() != 2 {
		t.Errorf("entry 3 of term 2 was accepted, and counts as written: the disk has %d", s.onDisk.index.Load())
	}
	read := make(chan error, 1)
	go func() { read <- s.GetLog(5, new(raft.Log)) }()
	testkit.Eventually(t, within, func() bool {
		s.onDisk.mu.Lock()
		defer s.onDisk.mu.Unlock()
		return s.onDisk.changed != nil || len(read) > 0
	}, "who reads from the disk waits")
	s.catchUp()
	must(t, <-read)
	addsUp(t, s)
	for index, term := range map[uint64]uint64{1: 1, 2: 1, 3: 2, 4: 2, 5: 2} {
		for name, from := range map[string]raft.LogStore{"memory": stores.logs, "the disk": s} {
			var l raft.Log
			must(t, from.GetLog(index, &l))
			if l.Term != term || string(l.Data) != string(log(index, term).Data) {
				t.Errorf("entry %d in %s is of term %d", index, name, l.Term)
			}
		}
	}
	must(t, stores.logs.DeleteRange(4, 5)) // and nothing comes in its place
	for name, from := range map[string]raft.LogStore{"memory": stores.logs, "the disk": s} {
		if err := from.GetLog(4, new(raft.Log)); !errors.Is(err, raft.ErrLogNotFound) {
			t.Errorf("entry 4 was dropped, and in %s it is: %v", name, err)
		}
	}
	if end, err := stores.end(); err != nil || end != (place{3, 2}) {
		t.Errorf("the log ends at %v (%v)", end, err)
	}
	addsUp(t, s)
	_, trans := raft.NewInmemTransport("here")
	sink, err := stores.snapshots.Create(1, 2, 1, raft.Configuration{}, 1, trans)
	must(t, err)
	must(t, sink.Close())
	must(t, stores.logs.DeleteRange(1, 2))
	addsUp(t, s)
	behind = false
	must(t, stores.logs.StoreLogs([]*raft.Log{log(4, 3), log(5, 3)}))
	must(t, stores.stable.SetUint64([]byte(keyTerm), 3))
	must(t, stores.close())
	stores, err = openStores(&cfg, newFailStop(func(err error) { t.Error(err) }), new(histogram)) // and so it is read again
	must(t, err)
	addsUp(t, stores.log)
	must(t, stores.close())
}

// addsUp holds where all is written: the log's ends, the mark beside it and the sizes of
// its entries say the same.
func addsUp(t *testing.T, s *logStore) {
	t.Helper()
	first, last := s.first.Load(), s.last.Load()
	if disk := s.onDisk.index.Load(); disk != last || s.high.now.last != last {
		t.Errorf("the log ends at %d, the disk's at %d, and the mark says %d", last, disk, s.high.now.last)
	}
	if s.sizes.first != first || uint64(len(s.sizes.bytes)) != last-first+1 {
		t.Errorf("the log goes from %d to %d, and the sizes of %d entries from %d on are known", first, last, len(s.sizes.bytes), s.sizes.first)
	}
}

// A snapshot has taken the place of the whole log, and the process ends before the next
// entry comes. What the mark beside the log says is in the snapshot: nothing is lost.
func TestHighwater_ASnapshotAlone(t *testing.T) {
	cfg := testConfig(t)
	must(t, makeDir(cfg.DataDir))
	open := func() *stores {
		s, err := openStores(&cfg, newFailStop(func(err error) { t.Error(err) }), new(histogram))
		must(t, err)
		return s
	}
	s := open()
	must(t, s.stable.SetUint64([]byte(keyTerm), 1))
	for index := uint64(5); index <= 9; index++ {
		must(t, s.logs.StoreLog(&raft.Log{Index: index, Term: 1}))
	}
	_, trans := raft.NewInmemTransport("here")
	sink, err := s.snapshots.Create(1, 20, 1, raft.Configuration{}, 1, trans)
	must(t, err)
	must(t, sink.Close())
	must(t, s.logs.DeleteRange(5, 9))
	must(t, s.close())
	s = open()
	if end, err := s.end(); err != nil || end != (place{20, 1}) {
		t.Errorf("it ends at %v (%v)", end, err)
	}
	must(t, s.close())
}

// Of what is not written with every entry a power cut may take nothing either: the mark
// where it goes back, which would call what was never there lost, and who the node is.
func TestSynced_WhatIsSeldomWritten(t *testing.T) {
	cfg := testConfig(t)
	must(t, makeDir(cfg.DataDir))
	id, err := openIdentity(cfg.DataDir, "")
	must(t, err)
	testkit.Synced(t, id.path)
	must(t, id.found(testCluster))
	testkit.Synced(t, id.path)
	stores, err := openStores(&cfg, newFailStop(func(err error) { t.Error(err) }), new(histogram))
	must(t, err)
	defer func() { must(t, stores.close()) }()
	for index := uint64(1); index <= 9; index++ {
		must(t, stores.logs.StoreLog(&raft.Log{Index: index, Term: 1}))
	}
	must(t, stores.logs.DeleteRange(7, 9))
	testkit.Synced(t, stores.log.high.path)
}
