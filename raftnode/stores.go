package raftnode

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/segment"
	"go.etcd.io/bbolt"
)

// boltMmapBytes is the address space that bbolt reserves at once: growing the
// mapping later stops every reader and writer.
const boltMmapBytes = 1 << 30

// stores are what a node keeps on disk.
type stores struct {
	logs      *recentLogs // log with its end in memory
	log       *logStore
	stable    *stableStore
	snapshots *snapshotStore
	path      string // of the log, for messages
	close     func() error
}

// openStores opens the log, the vote and the snapshots of a data directory and
// verifies every byte that the node will rely on: a node with a damaged log
// must neither vote nor win an election with it.
func openStores(cfg *Config, fail *failStop, write *histogram) (_ *stores, err error) {
	s := &stores{}
	var logs raft.LogStore
	var stable raft.StableStore
	if logs, stable, err = s.openLog(cfg, fail); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if cfg.WrapLogStore != nil {
		logs = cfg.WrapLogStore(logs)
	}
	if cfg.WrapStableStore != nil {
		stable = cfg.WrapStableStore(stable)
	}
	high, err := openHighwater(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	closeStores := s.close // of the log's store
	s.close = func() error { return errors.Join(closeStores(), high.f.Close()) }
	s.stable = &stableStore{inner: stable, path: s.path, fail: fail, max: cfg.StoreOperationMax, high: high}
	if s.snapshots, err = openSnapshots(cfg, fail); err != nil {
		return nil, err
	}
	s.log = &logStore{behind: behind{kick: make(chan struct{}, 1)}, inner: logs, path: s.path, fail: fail, max: cfg.StoreOperationMax, write: write, snapshots: s.snapshots, high: high}
	s.logs = newRecentLogs(s.log)
	closeFiles := s.close
	s.close = func() error { s.log.stopBehind(); return closeFiles() }
	if err := s.stable.verify(); err != nil {
		return nil, err
	}
	if err := s.log.verify(); err != nil {
		return nil, err
	}
	if err := s.verifyTerm(); err != nil {
		return nil, err
	}
	return s, nil
}

// end returns the last entry of the log, or of the snapshot when the log is empty.
func (s *stores) end() (place, error) {
	latest := s.snapshots.latest.Load().place
	last := s.log.last.Load()
	if last < latest.index || last == 0 {
		return latest, nil
	}
	var l raft.Log
	err := s.logs.GetLog(last, &l)
	return place{last, l.Term}, err
}

// logFiles are where the log stores keep their files in a data directory.
var logFiles = map[string]string{LogStoreBolt: "log.db", LogStoreWAL: "wal"}

// chooseLog settles which log store a data directory has: what was begun with one
// cannot go on with another.
func chooseLog(cfg *Config) error {
	for _, kind := range []string{LogStoreBolt, LogStoreWAL} {
		_, err := os.Stat(filepath.Join(cfg.DataDir, logFiles[kind]))
		switch {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			return fmt.Errorf("open the log: %w", err)
		case cfg.LogStore == "":
			cfg.LogStore = kind
		case cfg.LogStore != kind:
			return fmt.Errorf("open the log: %s holds %s, so it was made with the log store %q: start it without naming one, or with that, not with %q",
				cfg.DataDir, logFiles[kind], kind, cfg.LogStore)
		}
	}
	if cfg.LogStore == "" {
		cfg.LogStore = LogStoreDefault
	}
	return nil
}

// openLog opens the chosen log store, which also keeps term and vote.
func (s *stores) openLog(cfg *Config, fail *failStop) (logs raft.LogStore, stable raft.StableStore, err error) {
	if err := chooseLog(cfg); err != nil {
		return nil, nil, err
	}
	switch cfg.LogStore {
	case LogStoreWAL:
		return s.openWAL(cfg, fail)
	default:
		return s.openBolt(cfg)
	}
}

// openBolt opens a log in bbolt, with fsync on each write. The freelist is not
// written but rebuilt at start, and kept as a map: both spare work on each write.
func (s *stores) openBolt(cfg *Config) (raft.LogStore, raft.StableStore, error) {
	s.path = filepath.Join(cfg.DataDir, logFiles[LogStoreBolt])
	if err := checkBolt(s.path); err != nil {
		return nil, nil, err
	}
	var store *raftboltdb.BoltStore
	err := faultsArePanics("open "+s.path, func() (err error) {
		store, err = raftboltdb.New(raftboltdb.Options{
			Path: s.path,
			BoltOptions: &bbolt.Options{
				Timeout:         time.Second,
				NoFreelistSync:  true,
				FreelistType:    bbolt.FreelistMapType,
				InitialMmapSize: boltMmapBytes,
			},
		})
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	s.close = store.Close
	return store, store, nil
}

// openWAL opens a log in raft-wal, which makes its next file in the background
// and tells a failure of that, a full disk for one, to its log alone.
func (s *stores) openWAL(cfg *Config, fail *failStop) (raft.LogStore, raft.StableStore, error) {
	s.path = filepath.Join(cfg.DataDir, logFiles[LogStoreWAL])
	if err := makeDir(s.path); err != nil {
		return nil, nil, err
	}
	if err := checkWAL(s.path); err != nil {
		return nil, nil, err
	}
	logger := libraryLogger(cfg.Logger, "wal")
	logger.RegisterSink(&errorSink{func(msg string, args ...any) {
		fail.fail(fmt.Errorf("%s: %s: %v", s.path, msg, args))
	}})
	var store *wal.WAL
	err := faultsArePanics("open "+s.path, func() (err error) {
		store, err = wal.Open(s.path, wal.WithLogger(logger), wal.WithSegmentFiler(segment.NewFiler(s.path, newZeroAheadFS())))
		return err
	})
	if errors.Is(err, wal.ErrCorrupt) || errors.Is(err, os.ErrNotExist) {
		err = withRemedy(fmt.Errorf("%w: %w", ErrDamaged, err))
	}
	if err != nil {
		return nil, nil, err
	}
	s.close = store.Close
	return store, store, nil
}

// faultsArePanics runs f so that a truncated file, whose mapped pages fault on
// access, becomes an error instead of the end of the process.
func faultsArePanics(what string, f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = withRemedy(fmt.Errorf("%s: %w: %v", what, ErrDamaged, p))
		}
	}()
	if err := f(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
