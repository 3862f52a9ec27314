package main

import (
	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/internal/failpoint"
	"github.com/quorate/quorate/raftnode"
)

// injectDiskFaults puts the failpoints of the disk next to the disk, below all
// that raftnode does about a bad one. Without an armed failpoint nothing is put
// there.
func injectDiskFaults(cfg *raftnode.Config) {
	if !failpoint.Armed() {
		return
	}
	cfg.WrapLogStore = func(inner raft.LogStore) raft.LogStore { return &faultyLog{inner} }
	cfg.WrapStableStore = func(inner raft.StableStore) raft.StableStore { return &faultyStable{inner} }
}

// faultyLog is the store of the log on a disk that fails when it is told to.
type faultyLog struct{ raft.LogStore }

func (s *faultyLog) GetLog(index uint64, l *raft.Log) error {
	if err := failpoint.Hit(failpoint.StoreRead, failpoint.KeyLog); err != nil {
		return err
	}
	return s.LogStore.GetLog(index, l)
}

func (s *faultyLog) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

func (s *faultyLog) StoreLogs(logs []*raft.Log) error {
	return write(failpoint.KeyLog, func() error { return s.LogStore.StoreLogs(logs) })
}

func (s *faultyLog) DeleteRange(first, last uint64) error {
	return write(failpoint.KeyLog, func() error { return s.LogStore.DeleteRange(first, last) })
}

// faultyStable is the store of term and vote on such a disk.
type faultyStable struct{ raft.StableStore }

func (s *faultyStable) Get(key []byte) ([]byte, error) {
	if err := failpoint.Hit(failpoint.StoreRead, failpoint.KeyStable); err != nil {
		return nil, err
	}
	return s.StableStore.Get(key)
}

func (s *faultyStable) Set(key, value []byte) error {
	return write(failpoint.KeyStable, func() error { return s.StableStore.Set(key, value) })
}

// write writes between two failpoints: with the second one the write is on the
// disk and seems to have failed, or is known to nobody.
func write(key string, f func() error) error {
	if err := failpoint.Hit(failpoint.StoreWrite, key); err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	return failpoint.Hit(failpoint.StoreWritten, key)
}
