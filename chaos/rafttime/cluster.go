package rafttime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/raftnode"
)

// member is a place for a node: its disk, and its process while one runs.
type member struct {
	name    string
	address string
	dir     string
	id      string // of the node whose disk this is
	disk    *disk
	watches bool // it has no vote, and is to have none

	mu       sync.Mutex
	node     *raftnode.Node // nil while no process runs
	machine  *machine
	process  int           // counts its processes
	stopping bool          // it is being closed
	gone     chan struct{} // closed when the process has ended
}

// cluster is a cluster under test. The goroutine of the run alone starts and stops
// its nodes; clients look on.
type cluster struct {
	*judge
	cfg     Config
	net     *network
	random  *rand.Rand // of the run's goroutine
	members []*member
	made    int // members, for their names
	weather weather
	wait    sync.WaitGroup
}

// profile is the default one. A commit's news reach a follower with the next
// message, so that an idle virtual hour costs its heartbeats and no more.
func profile() raftnode.Profile { return raftnode.Default() }

func newCluster(cfg Config) *cluster {
	return &cluster{judge: newJudge(), cfg: cfg, net: newNetwork(cfg.Seed), random: rand.New(rand.NewPCG(cfg.Seed, 1)), weather: newWeather(cfg.Seed)}
}

// add makes a place for a node, with an empty disk.
func (c *cluster) add() *member {
	c.made++
	name := fmt.Sprintf("n%d", c.made)
	m := &member{name: name, address: name + ":7000", dir: filepath.Join(c.cfg.Dir, name)}
	m.disk = newDisk(c.cfg.Lazy, func(format string, args ...any) { c.breach(name+": "+format, args...) })
	c.members = append(c.members, m)
	return m
}

// found founds the cluster and joins the others to it.
func (c *cluster) found() error {
	for range c.cfg.Nodes {
		if err := c.start(c.add()); err != nil {
			return err
		}
	}
	first := c.members[0]
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := first.node.Bootstrap(ctx); err != nil {
		return err
	}
	if c.cfg.Seed/2%2 == 1 { // with three nodes and with five, by turns
		watcher := c.add()
		watcher.watches = true
		if err := c.start(watcher); err != nil {
			return err
		}
	}
	for _, m := range c.members[1:] {
		if err := c.join(m); err != nil {
			return err
		}
	}
	return nil
}

// start starts a process on a member's disk.
func (c *cluster) start(m *member) error {
	state := &machine{State: fsm.New(), node: m.name, judge: c.judge}
	m.process++
	process, gone := m.process, make(chan struct{})
	cfg := raftnode.DefaultConfig()
	cfg.DataDir, cfg.Address = m.dir, m.address
	cfg.Profile = profile()
	cfg.Listener, cfg.Dial = c.net.listen(m.address), c.net.dial(m.address)
	cfg.Logger = slog.New(slog.DiscardHandler)
	cfg.SnapshotBytes = 2 << 10 // in the middle of a load, not only at an interval
	cfg.SnapshotEntries, cfg.SnapshotInterval, cfg.TrailingEntries, cfg.SnapshotsKept = 60, 15*time.Second, 16, 2
	cfg.Applied = func(index uint64) { c.claimed(m.name, state.Clock().AppliedIndex, index) }
	cfg.Fatal = func(err error) { c.stopped(m, process, err) }
	disk := m.disk.open(func() { go c.crash(m, process, true) })
	cfg.WrapLogStore = func(raft.LogStore) raft.LogStore { return disk }
	cfg.WrapStableStore = func(raft.StableStore) raft.StableStore { return disk }
	node, err := raftnode.Open(cfg, state)
	if err != nil {
		return fmt.Errorf("start %s: %w\nits disk was told last: %s", m.name, err, m.disk.tale())
	}
	m.mu.Lock()
	m.node, m.machine, m.gone, m.stopping = node, state, gone, false
	m.mu.Unlock()
	m.id = node.Identity().NodeID
	c.wait.Add(1)
	go func() {
		defer c.wait.Done()
		for l := range node.Leadership() {
			if l.Leader {
				c.event("%s leads in term %d", m.name, l.Term)
				c.leads(m.name, l.Term)
				c.storm(80 * time.Millisecond)
			}
		}
	}()
	return nil
}

// stopped: a node has stopped itself. It may, when it was crashing; and it must
// where it was set back, which only a lazy disk does.
func (c *cluster) stopped(m *member, process int, err error) {
	if errors.Is(err, errCrashed) {
		return
	}
	c.breach("%s stopped itself: %v", m.name, err)
	go c.crash(m, process, false)
}

// crash ends a process as kill -9 does: nothing that it still does reaches the
// network or the disk.
func (c *cluster) crash(m *member, process int, aimed bool) {
	m.mu.Lock()
	if m.node == nil || m.process != process || m.stopping {
		m.mu.Unlock()
		return
	}
	m.stopping = true
	node := m.node
	m.mu.Unlock()
	leader, known := node.Leader()
	leads := known && leader.ID == m.id
	c.event("%s crashes (leads: %v, at a write: %v)", m.name, leads, aimed)
	c.count(func(r *Report) {
		r.Crashes++
		if leads {
			r.Leaders++
		}
		if aimed {
			r.Aimed++
		}
	})
	m.disk.crashes()
	c.net.kill(m.address)
	c.end(m, node)
}

// stop ends a process in good order.
func (c *cluster) stop(m *member) {
	m.mu.Lock()
	if m.node == nil || m.stopping {
		m.mu.Unlock()
		return
	}
	m.stopping = true
	node := m.node
	m.mu.Unlock()
	c.event("%s stops", m.name)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	node.Shutdown(ctx) //nolint:errcheck // leadership that cannot be handed over is dropped
	c.net.kill(m.address)
	c.end(m, node)
}

// end waits for what is left of a process.
func (c *cluster) end(m *member, node *raftnode.Node) {
	node.Close() // a crashed process closes nothing in order
	m.mu.Lock()
	defer m.mu.Unlock()
	m.node, m.machine = nil, nil
	close(m.gone)
}

// await returns once no process of the member runs.
func (m *member) await() {
	m.mu.Lock()
	gone, running := m.gone, m.node != nil
	m.mu.Unlock()
	if running {
		<-gone
	}
}

// running returns the process, if one runs and is not ending.
func (m *member) running() (*raftnode.Node, *machine) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopping {
		return nil, nil
	}
	return m.node, m.machine
}

// leader returns a member that believes that it leads.
func (c *cluster) leader() *member {
	for _, m := range c.members {
		if node, _ := m.running(); node != nil {
			if l, ok := node.Leader(); ok && l.ID == node.Identity().NodeID {
				return m
			}
		}
	}
	return nil
}

// errNoLeader: nobody leads within the time.
var errNoLeader = errors.New("nobody leads")

// withLeader calls f with whoever leads until it succeeds.
func (c *cluster) withLeader(most time.Duration, f func(context.Context, *raftnode.Node) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	err := errNoLeader
	for ctx.Err() == nil {
		if m := c.leader(); m != nil {
			if node, _ := m.running(); node != nil {
				attempt, stop := context.WithTimeout(ctx, 5*time.Second)
				err = f(attempt, node)
				stop()
				if err == nil {
					return nil
				}
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	return err
}

// join admits a running node, and makes it a voter unless it only watches.
func (c *cluster) join(m *member) error {
	err := c.withLeader(2*time.Minute, func(ctx context.Context, leader *raftnode.Node) error {
		return leader.AddNonvoter(ctx, m.id, m.address, fsm.GID{})
	})
	if err == nil && !m.watches {
		err = c.withLeader(2*time.Minute, func(ctx context.Context, leader *raftnode.Node) error { return leader.Promote(ctx, m.id) })
	}
	if err != nil {
		return fmt.Errorf("join %s: %w", m.name, err)
	}
	return nil
}

// replace takes a member out of the cluster, its disk lost, and puts a new node
// in its place.
func (c *cluster) replace(m *member) error {
	c.event("%s is replaced", m.name)
	m.await()
	err := c.withLeader(2*time.Minute, func(ctx context.Context, leader *raftnode.Node) error {
		return leader.Remove(ctx, m.id, true)
	})
	if err != nil && !errors.Is(err, raftnode.ErrUnknownNode) {
		return fmt.Errorf("remove %s: %w", m.name, err)
	}
	for i, other := range c.members {
		if other == m {
			c.members = append(c.members[:i:i], c.members[i+1:]...)
		}
	}
	if err := os.RemoveAll(m.dir); err != nil {
		return err
	}
	next := c.add()
	next.watches = m.watches
	if err := c.start(next); err != nil {
		return err
	}
	c.count(func(r *Report) { r.Membership++ })
	return c.join(next)
}
