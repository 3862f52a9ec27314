package raftnode

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
)

// Node is one node of a cluster. Its methods may be called from any goroutine.
type Node struct {
	cfg     Config
	self    raft.ServerID
	id      *identity
	unlock  func() error
	fail    *failStop
	stores  *stores
	trans   *transport
	machine *machine

	lifecycle sync.Mutex // held while an instance of the library starts or stops
	current   atomic.Pointer[library]

	dying sync.Map // ids of leaders whose process may be gone, while that is found out
	// behind gets the term of a candidate whose log is behind this node's.
	behind chan uint64

	progress progress
	rounds   *rounds
	peers    *peers
	write    histogram // of the log, fsync included
	counters counters

	leadership chan Leadership
	settled    chan settlement
	reign      atomic.Pointer[reign] // nil unless this node leads and serves

	queue    *queue
	calls    sync.Pool     // of *call, those that nobody refers to
	packed   [][]byte      // of the last entry, cleared; belongs to pack
	slots    chan struct{} // one token for each entry that is not committed
	flights  flights
	inFlight chan *entry
	answered chan struct{} // closed when no entry will be answered any more
	reads    chan read

	goroutines sync.Mutex // held while closing is closed, and where a call adds to wait
	closeOnce  sync.Once
	closeErr   error
	closing    chan struct{} // closed when Close begins
	closed     chan struct{} // closed when Close is done
	wait       sync.WaitGroup
}

// Open opens the node of a data directory, or makes a new one, and starts it.
// It verifies everything on disk first. A new node waits to be added by the
// leader of a cluster, or founds one by Bootstrap.
func Open(cfg Config, m Machine) (_ *Node, err error) {
	if cfg.Fatal == nil {
		cfg.Fatal = exit(cfg.Logger)
	}
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("open a node: %w", err)
	}
	n := &Node{
		cfg:        cfg,
		fail:       newFailStop(cfg.Fatal),
		rounds:     newRounds(),
		leadership: make(chan Leadership),
		settled:    make(chan settlement),
		calls:      sync.Pool{New: newCall},
		queue:      newQueue(cfg.QueueCallsMax, cfg.QueueBytesMax),
		slots:      make(chan struct{}, cfg.EntriesInFlightMax),
		inFlight:   make(chan *entry, cfg.EntriesInFlightMax+entriesApplyingMax),
		answered:   make(chan struct{}),
		reads:      make(chan read),
		behind:     make(chan uint64, 1),
		closing:    make(chan struct{}),
		closed:     make(chan struct{}),
	}
	n.peers = newPeers(n.alarmInstalls, n.alarmSetBack)
	n.machine = &machine{m: m, progress: &n.progress, fail: n.fail, notify: cfg.Applied, due: n.snapshotDue, pinning: n.boundTrailing, grown: make(chan struct{}, 1)}
	n.flights.n, n.machine.flights = n, &n.flights
	n.machine.readLevel()
	if err := n.start(); err != nil {
		return nil, errors.Join(withRoom(err), n.release())
	}
	return n, nil
}

// start opens what the node consists of, from the disk up.
func (n *Node) start() (err error) {
	if err := makeDir(n.cfg.DataDir); err != nil {
		return err
	}
	if n.unlock, err = lockDir(n.cfg.DataDir); err != nil {
		return err
	}
	if n.id, err = openIdentity(n.cfg.DataDir, n.cfg.NodeID); err != nil {
		return err
	}
	id, _ := n.id.get()
	n.self = raft.ServerID(id.NodeID)
	if n.stores, err = openStores(&n.cfg, n.fail, &n.write); err != nil {
		return err
	}
	layer, err := newStream(&n.cfg, n.id, n.connectionEnded)
	if err != nil {
		return err
	}
	n.trans = newTransport(&n.cfg, layer, n.rounds, n.peers, n.consider, n.currentTerm)
	if err := n.recover(); err != nil {
		return err
	}
	n.stores.log.replaced = n.logReplaced
	n.stores.log.behind.may = n.mayWriteBehind
	n.trans.onDisk, n.trans.settle = n.stores.log.reaches, n.stores.log.settle
	if err := n.startLibrary(); err != nil {
		return err
	}
	n.fail.running.Store(true)
	n.wait.Add(5)
	go n.writeBehind()
	go n.watchGrowth()
	go n.watchLeadership()
	go n.pack()
	go n.serveReads()
	go n.answer()
	return nil
}

// Identity returns which node this is, and of which cluster.
func (n *Node) Identity() Identity {
	id, _ := n.id.get()
	return id
}

// AdoptCluster gives a new node the id of the cluster that it joins. It is
// refused to a node of another cluster.
func (n *Node) AdoptCluster(cluster fsm.GID) error { return n.id.adopt(cluster) }

// View calls f while nothing is applied. f reads the machine and must be quick;
// it must not call the node.
func (n *Node) View(f func()) {
	n.machine.mu.RLock()
	defer n.machine.mu.RUnlock()
	f()
}

// Snapshot writes a snapshot now and shortens the log. It does nothing when
// nothing was applied since the last one.
func (n *Node) Snapshot(ctx context.Context) error {
	err := n.await(ctx, n.raft().Snapshot())
	if errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return nil
	}
	return err
}

// snapshotDue is how many bytes of commands after the last snapshot make the next
// one due.
func (n *Node) snapshotDue() int64 {
	return max(n.cfg.SnapshotBytes, n.stores.snapshots.latest.Load().bytes)
}

// snapshotDueEntries is the same for their number, which grows with the state as well:
// else a large state would be written anew with every few megabytes of the log.
func (n *Node) snapshotDueEntries() uint64 {
	return n.cfg.SnapshotEntries * uint64(max(1, n.stores.snapshots.latest.Load().bytes/n.cfg.SnapshotBytes))
}

// watchGrowth takes the snapshots that the log's bytes make due.
func (n *Node) watchGrowth() {
	defer n.wait.Done()
	for {
		select {
		case <-n.machine.grown:
		case <-n.closing:
			return
		}
		if err := n.Snapshot(context.Background()); err != nil && !errors.Is(err, ErrClosed) {
			n.cfg.Logger.Info("a snapshot that is due was not taken; the next one will be", "error", err)
		}
	}
}

// Shutdown hands leadership over, when this node has it and another can take
// it, and closes the node. Leadership that cannot be handed over within ctx and
// Config.TransferMax is simply dropped.
func (n *Node) Shutdown(ctx context.Context) error {
	if n.reign.Load() != nil && n.voters() > 1 {
		if err := n.TransferLeadership(ctx, ""); err != nil {
			n.cfg.Logger.Info("leadership was not handed over before the stop", "error", err)
		}
	}
	return n.Close()
}

// Close stops the node. Entries in flight are waited for as long as the node
// leads; whoever still waits is answered with ErrClosed or ErrUnknown.
func (n *Node) Close() error {
	n.closeOnce.Do(func() {
		n.goroutines.Lock()
		close(n.closing)
		n.goroutines.Unlock()
		// Futures that the library holds when it stops are never answered. A
		// leader without a quorum gives up within its lease, so this is short.
		select {
		case <-n.answered:
		case <-n.fail.failed:
		case <-time.After(2*n.cfg.Profile.ElectionTimeout + time.Second):
		}
		n.closeErr = n.release()
		close(n.closed)
		if n.fail.cause() == nil {
			n.wait.Wait()
		}
	})
	<-n.closed
	return n.closeErr
}

// spawn starts a goroutine on behalf of a call, unless the node is being closed.
func (n *Node) spawn(f func()) {
	n.goroutines.Lock()
	defer n.goroutines.Unlock()
	select {
	case <-n.closing:
	default:
		n.wait.Add(1)
		go func() {
			defer n.wait.Done()
			f()
		}()
	}
}

// release lets go of what start has opened, from the top down.
func (n *Node) release() error {
	var errs []error
	n.lifecycle.Lock()
	defer n.lifecycle.Unlock()
	if library := n.raft(); library != nil {
		errs = append(errs, library.Shutdown().Error())
	}
	if n.trans != nil {
		errs = append(errs, n.trans.Close())
	}
	if n.stores != nil {
		errs = append(errs, n.stores.close())
	}
	if n.unlock != nil {
		errs = append(errs, n.unlock())
	}
	return errors.Join(errs...)
}

// alarmSetBack speaks up when a node has forgotten what it acknowledged.
func (n *Node) alarmSetBack(err error) {
	n.counters.nodesSetBack.Add(1)
	n.cfg.Logger.Error("a node was set back and is sent nothing: remove it, and join it anew with an empty data directory", "error", err)
}

// alarmInstalls speaks up when a node does not get on with its snapshots.
func (n *Node) alarmInstalls(id raft.ServerID, index uint64, times int) {
	n.counters.installAlarms.Add(1)
	n.cfg.Logger.Error("a node was sent the same snapshot again and again: restart it, or remove it and join it anew with an empty data directory",
		"node", string(id), "snapshot", index, "times", times)
}
