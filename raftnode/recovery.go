package raftnode

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// Forced recovery, for when a majority of a cluster's nodes is lost for ever:
//
//  1. Make sure that the lost nodes stay lost. If they ever started again they
//     would go on as a cluster of their own, with the same id.
//  2. Choose the one surviving node with the longest log ("applied" in its
//     status), stop all others and wipe their data directories.
//  3. Write peers.json into its data directory, with this node alone:
//     [{"id": "NODE ID", "address": "HOST:PORT"}]
//  4. Start it. It applies all of its log, opens a new incarnation of the
//     cluster, and renames the file to peers.json.used.
//  5. Join the others with empty data directories.
//
// What the lost majority had decided and this node never heard is gone. The new
// incarnation therefore withholds every transaction that such a decision may
// have been about, until an operator decides it, and makes participants refuse
// the leaders of the old one. (PROTOCOL.md, section 1, "Epoch".)
//
// Only a node alone may be recovered, although the library could force several
// nodes at once: their logs may end at different places, and each would make
// its own version of the new incarnation at the same index.

// Names of the file that forces a recovery, before and after.
const (
	peersFile     = "peers.json"
	peersFileUsed = "peers.json.used"
)

// RecoveryMarginMS is added to the time that has passed since the last entry of
// a recovered log, in milliseconds: clients may have heard later clocks.
const RecoveryMarginMS = 60_000

// Recoverer is a Machine that can be recovered by force.
type Recoverer interface {
	// RecoverCommand returns the command that opens a new incarnation after
	// everything applied so far. passedMS is how long ago, at most, the lost
	// nodes may have told a clock to anyone.
	RecoverCommand(passedMS uint64) []byte
}

// State makes a Machine of the transactions' state machine.
func State(s *fsm.State) Machine { return state{s} }

type state struct{ *fsm.State }

var _ Recoverer = state{}

func (s state) Pin() io.WriterTo { return s.State.Pin() }

// RecoverCommand raises the incarnation and withholds what the lost nodes may
// have decided.
func (s state) RecoverCommand(passedMS uint64) []byte {
	clock := s.Clock()
	return fsm.MarshalCommand(&logpb.Command{Kind: &logpb.Command_Recover{Recover: &logpb.Recover{
		Incarnation:  clock.Incarnation + 1,
		HoldBeforeMs: clock.ClockMS + passedMS,
	}}})
}

// recover forces a recovery when an operator asks for one by peers.json. It
// runs before the library starts. Interrupted, it is simply done again; that
// may raise the incarnation twice, which harms nothing.
func (n *Node) recover() error {
	path := filepath.Join(n.cfg.DataDir, peersFile)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	forced, err := n.readPeers(path)
	if err != nil {
		return fmt.Errorf("forced recovery by %s: %w", path, err)
	}
	last, err := n.recoverTo(forced)
	if err != nil {
		return fmt.Errorf("forced recovery by %s: %w", path, err)
	}
	if err := errors.Join(os.Rename(path, filepath.Join(n.cfg.DataDir, peersFileUsed)), syncDir(n.cfg.DataDir)); err != nil {
		return fmt.Errorf("forced recovery by %s: %w", path, err)
	}
	n.cfg.Logger.Warn("recovered by force: this node alone is now the cluster; wipe all others before they join", "index", last)
	return nil
}

// readPeers reads peers.json, which must name this node alone.
func (n *Node) readPeers(path string) (raft.Configuration, error) {
	forced, err := raft.ReadConfigJSON(path)
	if err != nil {
		return forced, fmt.Errorf(`%w; it must read [{"id": "%s", "address": "%s"}]`, err, n.self, n.cfg.Address)
	}
	if len(forced.Servers) != 1 || forced.Servers[0].ID != n.self || string(forced.Servers[0].Address) != n.cfg.Address {
		return forced, fmt.Errorf(`it must name this node alone: [{"id": "%s", "address": "%s"}]; wipe the other nodes and join them again`, n.self, n.cfg.Address)
	}
	return forced, nil
}

// recoverTo applies everything on disk, opens a new incarnation, and puts a
// snapshot with the forced configuration in the place of the log.
func (n *Node) recoverTo(forced raft.Configuration) (index uint64, err error) {
	if id, _ := n.id.get(); id.ClusterID.IsZero() {
		return 0, errors.New("this node belongs to no cluster yet: there is nothing to recover")
	}
	r, ok := n.machine.m.(Recoverer)
	if !ok {
		return 0, errors.New("the state machine cannot be recovered")
	}
	end, err := n.load()
	if err != nil {
		return 0, err
	}
	var passed time.Duration
	if !end.wall.IsZero() {
		passed = max(n.cfg.Wall().Sub(end.wall), 0)
	}
	command := r.RecoverCommand(uint64(passed/time.Millisecond) + RecoveryMarginMS)
	entry := &raft.Log{Index: end.index + 1, Term: end.term, Type: raft.LogCommand, Data: n.encode(n.machine.m.ClockMS(), [][]byte{command})}
	n.machine.awaited.Add(1)
	defer n.machine.awaited.Add(-1)
	a, ok := n.machine.Apply(entry).(applied)
	if !ok {
		return 0, n.fail.cause()
	}
	if a.results[0].Code != fsm.OK {
		return 0, fmt.Errorf("open a new incarnation: refused: %v %s", a.results[0].Code, a.results[0].Detail)
	}
	if err := n.store(entry.Index, entry.Term, forced); err != nil {
		return 0, err
	}
	return entry.Index, n.dropLog()
}

// logEnd is where a log on disk ends.
type logEnd struct {
	index, term uint64
	wall        time.Time // of the last entry that carries one
}

// load restores the latest snapshot and applies the whole log after it.
func (n *Node) load() (end logEnd, err error) {
	list, err := n.stores.snapshots.List()
	if err != nil {
		return end, err
	}
	if len(list) > 0 {
		meta, content, err := n.stores.snapshots.Open(list[0].ID)
		if err != nil {
			return end, err
		}
		err = errors.Join(n.machine.Restore(content), content.Close())
		if err != nil {
			return end, err
		}
		end = logEnd{meta.Index, meta.Term, time.UnixMilli(int64(snapshotOrder(meta.ID)[2]))}
	}
	last, err := n.stores.logs.LastIndex()
	if err != nil {
		return end, err
	}
	for index := end.index + 1; index <= last; index++ {
		l := new(raft.Log)
		if err := n.stores.logs.GetLog(index, l); err != nil {
			return end, err
		}
		if l.Type == raft.LogCommand {
			batch, err := fsm.DecodeEntry(l.Data)
			if err != nil {
				return end, fmt.Errorf("read log entry %d: %w", index, err)
			}
			n.machine.Apply(l)
			if err := n.fail.cause(); err != nil {
				return end, err
			}
			end.wall = time.UnixMilli(int64(batch.GetWallMs()))
		}
		end.index, end.term = l.Index, l.Term
	}
	if end.index == 0 {
		return end, errors.New("the data directory holds no log: there is nothing to recover")
	}
	return end, nil
}

// store writes a snapshot of the machine under the forced configuration.
func (n *Node) store(index, term uint64, forced raft.Configuration) error {
	snapshot, err := n.machine.Snapshot()
	if err != nil {
		return err
	}
	defer snapshot.Release()
	sink, err := n.stores.snapshots.Create(1, index, term, forced, 1, n.trans)
	if err != nil {
		return err
	}
	return snapshot.Persist(sink)
}

// dropLog removes every entry: those of configurations would undo the forced one.
func (n *Node) dropLog() error {
	first, err := n.stores.logs.FirstIndex()
	if err != nil || first == 0 {
		return err
	}
	last, err := n.stores.logs.LastIndex()
	if err != nil {
		return err
	}
	return n.stores.logs.DeleteRange(first, last)
}
