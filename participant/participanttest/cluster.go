package participanttest

import (
	"crypto/rand"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	quoratev1 "github.com/quorate/quorate/api/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// Settings of every Cluster.
const (
	heartbeat  = 100 * time.Millisecond
	grace      = time.Second
	redelivery = 25 * time.Millisecond
	retention  = 30 * time.Minute
	// commitWait bounds one Commit's wait for the decision; the client asks again.
	commitWait = time.Second
	// staleMax is participant.ClockStaleMax, stated independently.
	staleMax = time.Minute
)

// Cluster is a stand-in for a cluster. All methods may be called concurrently.
type Cluster struct {
	mu       sync.Mutex
	id       string
	nodes    []*node
	leader   int // index of the leading node, -1 for none
	term     uint64
	inc      uint64
	index    uint64
	started  time.Time
	baseMS   uint64
	floorMS  uint64
	skew     time.Duration // what Advance has added
	txs      map[string]*tx
	keys     map[string]string
	sessions map[*session]bool
	changed  chan struct{} // closed and replaced when a transaction has changed
	holding  bool
	copies   int
	plain    bool // it knows no batches of frames
	before   Hook
	after    Hook
	closed   bool
	wg       sync.WaitGroup
	stop     chan struct{}
}

// Call is a request as a Hook sees it.
type Call struct {
	// Node is the index of the node that was asked.
	Node int
	// Method is the rpc's name, such as `Begin`; for frames of a session `Session/Vote` and
	// the like.
	Method string
	// Request is the rpc's or the frame's message. It must not be changed.
	Request proto.Message
}

// Hook looks at a call and may make it fail. The error of a frame ends its session.
type Hook func(Call) error

// NewCluster starts a cluster of n nodes; the first one leads. It is stopped when
// the test ends.
func NewCluster(t testing.TB, n int) *Cluster {
	t.Helper()
	c := &Cluster{
		id: ulid.MustNew(ulid.Now(), rand.Reader).String(), term: 1, inc: 1, index: 1,
		started: time.Now(), baseMS: ulid.Now(),
		txs: make(map[string]*tx), keys: make(map[string]string), sessions: make(map[*session]bool),
		changed: make(chan struct{}), copies: 1, stop: make(chan struct{}),
	}
	for i := range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatalf("listen for node %d: %v", i, err)
		}
		nd := &node{c: c, index: i, address: l.Addr().String()}
		c.nodes = append(c.nodes, nd)
		nd.serve(l)
	}
	c.wg.Add(1)
	go c.drive()
	t.Cleanup(c.close)
	return c
}

func (c *Cluster) close() {
	c.mu.Lock()
	c.closed = true
	servers := make([]*grpc.Server, 0, len(c.nodes))
	for _, n := range c.nodes {
		if n.server != nil {
			servers = append(servers, n.server)
		}
	}
	c.mu.Unlock()
	close(c.stop)
	for _, s := range servers {
		s.Stop()
	}
	c.wg.Wait()
}

// Addresses are the nodes' gRPC addresses: seeds for participant.Dial.
func (c *Cluster) Addresses() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]string, len(c.nodes))
	for i, n := range c.nodes {
		out[i] = n.address
	}
	return out
}

// ID is the cluster's id.
func (c *Cluster) ID() string { return c.id }

// Lead makes node i the leader, in a new term; -1 leaves the cluster without one.
// Sessions end.
func (c *Cluster) Lead(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leader = i
	c.term++
	for s := range c.sessions {
		s.end(c.notLeader())
	}
	for _, x := range c.txs {
		for _, b := range x.branches {
			b.vouched = false
		}
	}
	c.notify()
}

// Stop kills node i: connections to it break. If it led, there is no leader until Lead.
func (c *Cluster) Stop(i int) {
	c.mu.Lock()
	server := c.nodes[i].server
	c.nodes[i].server = nil
	if c.leader == i {
		c.leader = -1
	}
	c.mu.Unlock()
	if server != nil {
		server.Stop()
	}
}

// Start starts node i again, at its old address.
func (c *Cluster) Start(t testing.TB, i int) {
	t.Helper()
	l, err := net.Listen("tcp", c.nodes[i].address)
	if err != nil {
		t.Fatalf("start node %d again: %v", i, err)
	}
	c.nodes[i].serve(l)
}

// Break ends every session as a broken connection would.
func (c *Cluster) Break() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.sessions {
		s.end(errBroken)
	}
}

// Advance moves the cluster's clock, and so the deadlines, by d.
func (c *Cluster) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.skew += d
	c.tick()
}

// RaiseFloor sets the floor of the evidence to the cluster's clock.
func (c *Cluster) RaiseFloor() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.floorMS = c.clockMS()
}

// Restore opens a new incarnation, as a restore from a backup does.
func (c *Cluster) Restore() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inc++
}

// HoldDeliveries stops the delivery of decisions, or lets it go on.
func (c *Cluster) HoldDeliveries(hold bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.holding = hold
}

// SingleFrames has the cluster speak as one that knows no batches of frames, from the
// next attach on, and end a session that sends one.
func (c *Cluster) SingleFrames(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.plain = on
}

// Duplicate has every delivery sent n times.
func (c *Cluster) Duplicate(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.copies = n
}

// Before sets a hook that runs before a request takes effect; nil for none.
func (c *Cluster) Before(h Hook) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.before = h
}

// After sets a hook that runs after a request took effect and before it is
// answered; nil for none.
func (c *Cluster) After(h Hook) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.after = h
}

// Sessions is the number of attached sessions.
func (c *Cluster) Sessions() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.sessions)
}

// Transactions are copies of every transaction that the cluster has seen.
func (c *Cluster) Transactions() []*quoratev1.Transaction {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]*quoratev1.Transaction, 0, len(c.txs))
	for _, x := range c.txs {
		out = append(out, x.proto())
	}
	return out
}

// Transaction is a copy of one transaction; nil when the GID is unseen.
func (c *Cluster) Transaction(gid string) *quoratev1.Transaction {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.txs[gid]
	if x == nil {
		return nil
	}
	return x.proto()
}

// clockMS is the cluster's clock. c.mu is held, here and below.
func (c *Cluster) clockMS() uint64 {
	return c.baseMS + uint64((time.Since(c.started) + c.skew).Milliseconds())
}

func (c *Cluster) horizonMS() uint64 { return c.clockMS() - uint64(retention.Milliseconds()) }

func (c *Cluster) header(n *node) *quoratev1.ResponseHeader {
	return &quoratev1.ResponseHeader{
		AppliedIndex: c.index, ClockMs: c.clockMS(), FloorMs: max(c.floorMS, c.horizonMS()), Epoch: c.epoch(),
		NodeId: n.address, ClusterId: c.id,
	}
}

func (c *Cluster) epoch() *quoratev1.Epoch {
	return &quoratev1.Epoch{Incarnation: c.inc, Term: c.term}
}

// notify wakes whoever waits for a change.
func (c *Cluster) notify() {
	c.index++
	close(c.changed)
	c.changed = make(chan struct{})
}

// drive delivers what is due, again and again.
func (c *Cluster) drive() {
	defer c.wg.Done()
	ticker := time.NewTicker(redelivery)
	defer ticker.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-ticker.C:
			c.mu.Lock()
			c.tick()
			c.deliver()
			c.mu.Unlock()
		}
	}
}
