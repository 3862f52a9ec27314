package raftnode

import (
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// library is one instance of hashicorp/raft. A node mostly has one for its
// whole life; see replaceLibrary.
type library struct {
	*raft.Raft
	leads <-chan bool   // its LeaderCh
	gone  chan struct{} // closed when another has taken its place
}

// raft returns the instance in use.
func (n *Node) raft() *library { return n.current.Load() }

// startLibrary starts an instance on what is on disk.
func (n *Node) startLibrary() error {
	// Without a Close: the transport outlives the instance.
	wire := struct {
		raft.Transport
		raft.WithPreVote
	}{n.trans, n.trans}
	instance, err := raft.NewRaft(n.raftConfig(), n.machine, n.stores.logs, n.stores.stable, n.stores.snapshots, wire)
	if err != nil {
		return fmt.Errorf("start the node in %s: %w", n.cfg.DataDir, errors.Join(err, n.machine.unreadable))
	}
	instance.RegisterObserver(raft.NewObserver(nil, false, n.observe))
	n.current.Store(&library{Raft: instance, leads: instance.LeaderCh(), gone: make(chan struct{})})
	return nil
}

// logReplaced is called by the log store, on the library's main goroutine, when
// a snapshot of the leader's took the place of a log that went on differently.
//
// The library has no place for this: it goes on believing that its log ends
// where the old one did. So it looks in vain for entries that the leader's fit
// to, is sent the snapshot again, for ever (hashicorp/raft #697; saying that the
// store is monotonic empties the log and leaves that), and it would weigh
// candidates against an entry that is gone. Only an instance that reads its
// disk anew knows better. Therefore this one does nothing any more, not even
// vote, and another takes its place.
func (n *Node) logReplaced() {
	n.counters.logsReplaced.Add(1)
	n.cfg.Logger.Warn("the log had diverged and was replaced by the leader's snapshot")
	n.wait.Add(1)
	go n.replaceLibrary()
}

// replaceLibrary puts a new instance into the place of one whose main goroutine
// has ended.
func (n *Node) replaceLibrary() {
	defer n.wait.Done()
	n.lifecycle.Lock()
	defer n.lifecycle.Unlock()
	select {
	case <-n.closing:
		return
	default:
	}
	old := n.raft()
	begun := time.Now()
	if err := old.Shutdown().Error(); err != nil {
		n.fail.fail(fmt.Errorf("stop the library to replace its log: %w", err))
		return
	}
	if err := n.startLibrary(); err != nil {
		n.fail.fail(fmt.Errorf("after the log was replaced: %w", err))
		return
	}
	close(old.gone)
	n.cfg.Logger.Info("goes on from the leader's snapshot", "after", time.Since(begun).Round(time.Millisecond))
}

// raftConfig is the library's part of the configuration.
func (n *Node) raftConfig() *raft.Config {
	cfg := raft.DefaultConfig()
	cfg.LocalID = n.self
	cfg.HeartbeatTimeout = n.cfg.Profile.HeartbeatTimeout
	cfg.ElectionTimeout = n.cfg.Profile.ElectionTimeout
	cfg.LeaderLeaseTimeout = n.cfg.Profile.LeaseTimeout
	cfg.CommitTimeout = min(50*time.Millisecond, n.cfg.Profile.HeartbeatTimeout/10)
	cfg.MaxAppendEntries = 64 // bounded by bytes as well, see boundMessage; the library makes room for as many at each commit
	cfg.BatchApplyCh = true   // several entries that wait for the disk share one fsync
	cfg.ShutdownOnRemove = false
	cfg.TrailingLogs = n.cfg.TrailingEntries
	cfg.SnapshotInterval = n.cfg.SnapshotInterval
	cfg.SnapshotThreshold = n.snapshotDueEntries()
	cfg.NoLegacyTelemetry = true
	cfg.Logger = libraryLogger(n.cfg.Logger, "raft")
	return cfg
}

// observe counts the leaders seen; it lets no observation through.
func (n *Node) observe(o *raft.Observation) bool {
	if l, ok := o.Data.(raft.LeaderObservation); ok && l.LeaderID != "" {
		n.counters.leaderChanges.Add(1)
	}
	return false
}
