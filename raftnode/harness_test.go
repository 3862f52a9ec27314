package raftnode

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/testkit"
)

// within bounds everything that these tests wait for.
const within = 30 * time.Second

func TestMain(m *testing.M) {
	if settings := os.Getenv(processEnv); settings != "" {
		runProcess(settings)
		return
	}
	goleak.VerifyTestMain(m)
}

// registers is a Machine of named registers. A PutNode command sets the
// register of its id to its name; raftnode does not care what commands mean.
type registers struct {
	state registersState
	fail  error // returned by ApplyEntry when set
}

type registersState struct {
	Index, Clock uint64
	Incarnation  uint64
	Cluster      string
	Values       map[string]string
	Applied      []string // every register set, in order
	FirstOfTerm  []string // kind of the first command of each term
	Term         uint64
}

func newRegisters() *registers {
	return &registers{state: registersState{Values: map[string]string{}}}
}

func (r *registers) ApplyEntry(index, term uint64, entry []byte) ([]fsm.Result, error) {
	if r.fail != nil {
		return nil, r.fail
	}
	batch, err := fsm.DecodeEntry(entry)
	if err != nil {
		return nil, err
	}
	s := &r.state
	if index <= s.Index {
		return nil, fmt.Errorf("entry %d after %d", index, s.Index)
	}
	s.Index = index
	s.Clock = max(s.Clock, batch.GetClockMs())
	results := make([]fsm.Result, len(batch.GetCommands()))
	for i, c := range batch.GetCommands() {
		if term != s.Term {
			s.Term = term
			s.FirstOfTerm = append(s.FirstOfTerm, fmt.Sprintf("%T", c.GetKind()))
		}
		switch k := c.GetKind().(type) {
		case *logpb.Command_PutNode:
			s.Values[k.PutNode.GetNode().GetId()] = k.PutNode.GetNode().GetName()
			s.Applied = append(s.Applied, k.PutNode.GetNode().GetId())
			results[i].Detail = k.PutNode.GetNode().GetId()
		case *logpb.Command_Found:
			s.Cluster = fsm.GID(k.Found.GetClusterId()).String()
		case *logpb.Command_Recover:
			s.Incarnation = k.Recover.GetIncarnation()
			s.Clock = max(s.Clock, k.Recover.GetHoldBeforeMs())
		}
		results[i].Index = index
	}
	return results, nil
}

// Follow makes every node of these tests apply as the state machine does it: results where
// somebody waits for them, and nowhere else.
func (r *registers) Follow(index, term uint64, entry []byte) error {
	_, err := r.ApplyEntry(index, term, entry)
	return err
}

func (r *registers) ClockMS() uint64 { return r.state.Clock }

func (r *registers) NextFeatureLevel() uint32 { return fsm.LevelModes }

func (r *registers) Pin() io.WriterTo {
	content, err := json.Marshal(r.state)
	if err != nil {
		panic(err)
	}
	return pinnedBytes(content)
}

func (r *registers) Restore(source io.Reader) error {
	r.state = registersState{Values: map[string]string{}}
	return json.NewDecoder(source).Decode(&r.state)
}

func (r *registers) RecoverCommand(passedMS uint64) []byte {
	return fsm.MarshalCommand(&logpb.Command{Kind: &logpb.Command_Recover{Recover: &logpb.Recover{
		Incarnation: r.state.Incarnation + 1, HoldBeforeMs: r.state.Clock + passedMS}}})
}

type pinnedBytes []byte

func (p pinnedBytes) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(p)
	return int64(n), err
}

// set is the command that sets a register.
func set(register, value string) []byte {
	return fsm.MarshalCommand(&logpb.Command{Kind: &logpb.Command_PutNode{PutNode: &logpb.PutNode{Node: &logpb.Node{Id: register, Name: value}}}})
}

// member is one node of a test cluster, running or not.
type member struct {
	*Node
	cfg     Config
	machine *registers
	fatal   chan error // what the node stopped itself for
	running bool
}

// cluster is a real cluster in one process: TCP, disks, fsync.
type cluster struct {
	t       testing.TB
	members []*member
	adjust  func(i int, cfg *Config)
}

// newCluster founds a cluster and joins the other nodes to it as voters.
func newCluster(t testing.TB, size int, adjust func(i int, cfg *Config)) *cluster {
	t.Helper()
	c := &cluster{t: t, adjust: adjust}
	for range size {
		c.add()
	}
	c.must(c.members[0].Bootstrap(c.ctx()))
	for _, m := range c.members[1:] {
		c.join(m)
	}
	return c
}

// ctx bounds one call.
func (c *cluster) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	c.t.Cleanup(cancel)
	return ctx
}

func (c *cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// add makes a node that belongs to no cluster yet and starts it.
func (c *cluster) add() *member {
	c.t.Helper()
	m := &member{cfg: testConfig(c.t)}
	if c.adjust != nil {
		c.adjust(len(c.members), &m.cfg)
	}
	c.members = append(c.members, m)
	c.start(m)
	return m
}

// testConfig is that of a node in a directory of its own. Elections are quick,
// but not so quick that a busy machine causes them.
func testConfig(t testing.TB) Config {
	cfg := DefaultConfig()
	cfg.Profile = Fast()
	cfg.Profile.HeartbeatTimeout = 500 * time.Millisecond
	cfg.Profile.ElectionTimeout = 500 * time.Millisecond
	cfg.Profile.LeaseTimeout = 500 * time.Millisecond
	cfg.DataDir = filepath.Join(t.TempDir(), "node")
	cfg.Address = fmt.Sprintf("127.0.0.1:%d", testkit.FreePort(t))
	cfg.Logger = testkit.Logger(t)
	cfg.SnapshotBytes = 1 << 40 // a test that wants snapshots by bytes says so
	return cfg
}

// steady is for tests in which one leader stays.
func steady(cfg *Config) {
	cfg.Profile.HeartbeatTimeout = 2 * time.Second
	cfg.Profile.ElectionTimeout = 2 * time.Second
	cfg.Profile.LeaseTimeout = 2 * time.Second
}

// start opens a node that is not running.
func (c *cluster) start(m *member) {
	c.t.Helper()
	c.must(c.open(m))
}

func (c *cluster) open(m *member) error {
	m.machine = newRegisters()
	m.fatal = make(chan error, 1)
	m.cfg.Fatal = func(err error) { m.fatal <- err }
	var opened atomic.Pointer[Node]
	cfg := m.cfg
	cfg.Applied = func(index uint64) {
		m.cfg.Applied(index)
		if node := opened.Load(); node != nil {
			appliedIsOnTheDisk(c.t, node, index)
		}
	}
	node, err := Open(cfg, m.machine)
	if err != nil {
		return err
	}
	opened.Store(node)
	m.Node, m.running = node, true
	c.t.Cleanup(func() { c.stop(m) })
	return nil
}

// appliedIsOnTheDisk holds of every node in every one of these tests: a follower has
// written what it is told is committed, and a leader counts itself, and whoever answers
// it, only for what it has written. What is applied may be told to anyone.
func appliedIsOnTheDisk(t testing.TB, n *Node, index uint64) {
	if applied := n.progress.applied(); applied < index {
		t.Errorf("node %s tells of entry %d, and says that %d is applied", n.self, index, applied)
	}
	if disk := max(n.stores.log.onDisk.index.Load(), n.stores.snapshots.latest.Load().index); disk < index {
		t.Errorf("node %s has applied entry %d, and its disk has %d", n.self, index, disk)
	}
}

// queueAddsUp holds at all times: what the queue counts is what waits in it. What is lost
// here is lost to all later callers.
func queueAddsUp(t testing.TB, q *queue) {
	q.mu.Lock()
	defer q.mu.Unlock()
	waiting := 0
	for _, c := range q.calls {
		waiting += c.bytes
	}
	if q.bytes != waiting {
		t.Errorf("the queue counts %d bytes, and %d calls of %d bytes wait in it", q.bytes, len(q.calls), waiting)
	}
}

// nothingIsLeft holds of a node that was closed: every call was answered, and every entry
// has landed and given back its slot. What is lost here is lost to all later callers.
func nothingIsLeft(t testing.TB, n *Node) {
	t.Helper()
	left := func() string {
		n.flights.mu.Lock()
		defer n.flights.mu.Unlock()
		return fmt.Sprintf("%d calls, %d slots, %d entries (%d), %d awaited",
			n.counters.pending.Load(), len(n.slots), len(n.flights.entries), n.flights.count.Load(), n.machine.awaited.Load())
	}
	const nothing = "0 calls, 0 slots, 0 entries (0), 0 awaited"
	testkit.EventuallyNoError(t, within, func() error {
		if now := left(); now != nothing {
			return errors.New(now)
		}
		return nil
	}, "node %s is closed, and nothing is left", n.self)
}

// stop closes a node.
func (c *cluster) stop(m *member) {
	c.t.Helper()
	if !m.running {
		return
	}
	m.running = false
	queueAddsUp(c.t, m.queue)
	if err := m.Close(); err != nil && m.fail.cause() == nil {
		c.t.Errorf("close: %v", err)
	}
	if m.fail.cause() == nil {
		nothingIsLeft(c.t, m.Node)
	}
}

// join makes a running node a voter.
func (c *cluster) join(m *member) {
	c.t.Helper()
	c.retry(func(leader *member) error {
		return leader.AddNonvoter(c.ctx(), m.Identity().NodeID, m.cfg.Address, m.Identity().ClusterID)
	})
	c.retry(func(leader *member) error { return leader.Promote(c.ctx(), m.Identity().NodeID) })
}

// retry calls f with the leader until it succeeds.
func (c *cluster) retry(f func(leader *member) error) {
	c.t.Helper()
	testkit.EventuallyNoError(c.t, within, func() error {
		leader := c.tryLeader()
		if leader == nil {
			return errors.New("no leader")
		}
		return f(leader)
	})
}

// tryLeader returns the running node that leads and serves, or nil. It is none that is
// about to hear that its reign is over, as a founder may be that a busy machine let wait
// for its first election: it stands twice.
func (c *cluster) tryLeader() *member {
	for _, m := range c.members {
		if !m.running {
			continue
		}
		if r, library := m.reign.Load(), m.raft(); r != nil && library.State() == raft.Leader && library.CurrentTerm() == r.term {
			return m
		}
	}
	return nil
}

// leader waits for one.
func (c *cluster) leader() *member {
	c.t.Helper()
	var leader *member
	testkit.Eventually(c.t, within, func() bool {
		leader = c.tryLeader()
		return leader != nil
	}, "a leader")
	return leader
}

// others returns the running members beside one.
func (c *cluster) others(not *member) (others []*member) {
	for _, m := range c.members {
		if m != not && m.running {
			others = append(others, m)
		}
	}
	return others
}

// set sets a register through the leader, until it is acknowledged, and returns
// the entry's index.
func (c *cluster) set(register, value string) (index uint64) {
	c.t.Helper()
	c.retry(func(leader *member) error {
		p, err := leader.Propose(c.ctx(), set(register, value))
		index = p.Index
		return err
	})
	return index
}

// fill sets n registers of one prefix.
func (c *cluster) fill(prefix string, n int) {
	c.t.Helper()
	var wait sync.WaitGroup
	for i := range n {
		wait.Add(1)
		go func() {
			defer wait.Done()
			c.set(fmt.Sprintf("%s%d", prefix, i), "x")
		}()
	}
	wait.Wait()
}

// get reads a register of one node as it stands there.
func (m *member) get(register string) (value string) {
	m.View(func() { value = m.machine.state.Values[register] })
	return value
}

// converge waits until all running nodes hold the value.
func (c *cluster) converge(register, value string) {
	c.t.Helper()
	for _, m := range c.members {
		if m.running {
			testkit.Eventually(c.t, within, func() bool { return m.get(register) == value }, "node %s holds %s=%s", m.self, register, value)
		}
	}
}

// listenOn opens the address of a node by hand.
func listenOn(t testing.TB, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}
