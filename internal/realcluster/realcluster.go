// Package realcluster is the real state machine, driver and API of three nodes in one
// process, over real sockets, for tests of what talks to them. Only the replication is
// played: one log in memory that every living node applies at once, and a leader that
// the test appoints.
package realcluster

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/api"
	"github.com/quorate/quorate/api/branchcall"
	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/testkit"
)

// foundedMS is the cluster's clock at its first entry: nothing can be born at zero.
const foundedMS = 1000

// patience bounds each wait.
const patience = 10 * time.Second

// Cluster is three nodes, of which the first leads.
type Cluster struct {
	t     testing.TB
	id    fsm.GID
	tls   *tls.Config
	allow *branchcall.Allow
	// caller calls branches on this machine.
	caller *branchcall.Caller
	// Grace of sessions.
	Grace time.Duration
	start time.Time // of the term
	base  uint64    // the machine's clock then

	mu      sync.Mutex
	entries [][]byte
	terms   []uint64
	term    uint64
	leader  int // -1 for none
	nodes   []*node
}

// node is one node; applying is guarded by the cluster's lock.
type node struct {
	cl      *Cluster
	index   int
	grpc    string
	http    string // another one after each start
	view    sync.RWMutex
	state   *fsm.State
	applied uint64
	coord   *coordinator.Coordinator
	server  *api.Server
	served  chan error // nil while down
}

// New starts three nodes, which end with the test.
func New(t testing.TB) *Cluster {
	t.Helper()
	return NewWith(t, func(*Cluster) {})
}

// NewTLS secures the nodes' listeners.
func NewTLS(t testing.TB, secure *tls.Config) *Cluster {
	t.Helper()
	return NewWith(t, func(cl *Cluster) { cl.tls = secure })
}

// NewWith changes what the nodes are started with.
func NewWith(t testing.TB, change func(*Cluster)) *Cluster {
	t.Helper()
	var random [10]byte
	_, _ = rand.Read(random[:])
	now := uint64(time.Now().UnixMilli())
	allow, err := branchcall.ParseAllow("localhost")
	if err != nil {
		t.Fatal(err)
	}
	id := fsm.NewGID(now, random)
	cl := &Cluster{
		t: t, id: id, leader: -1, Grace: 1200 * time.Millisecond,
		allow: allow, caller: branchcall.New(branchcall.Config{Allow: allow, ClusterID: id.String}),
	}
	change(cl)
	for i := range 3 {
		n := &node{cl: cl, index: i, grpc: fmt.Sprintf("127.0.0.1:%d", testkit.FreePort(t))}
		cl.nodes = append(cl.nodes, n)
		n.up()
	}
	t.Cleanup(func() {
		for _, n := range cl.nodes {
			n.down()
		}
		_ = cl.caller.Close()
	})
	cl.Lead(0)
	return cl
}

func (cl *Cluster) Addresses() []string {
	var out []string
	for _, n := range cl.nodes {
		out = append(out, n.grpc)
	}
	return out
}

// HTTP is where node i serves HTTP since its last start.
func (cl *Cluster) HTTP(i int) string { return cl.nodes[i].http }

// Lead appoints a leader for a new term: its first entry is a Tick.
func (cl *Cluster) Lead(i int) {
	cl.mu.Lock()
	old := cl.leader
	cl.term++
	cl.leader = i
	term := cl.term
	cl.start, cl.base = time.Now(), cl.nodes[i].state.ClockMS()
	commands := []*logpb.Command{{Kind: &logpb.Command_Tick{Tick: &logpb.Tick{}}}}
	if len(cl.entries) == 0 {
		cl.base = foundedMS
		commands = append(commands, &logpb.Command{Kind: &logpb.Command_Found{Found: &logpb.Found{ClusterId: cl.id.Bytes()}}})
	}
	cl.append(commands)
	cl.mu.Unlock()
	if old >= 0 && old != i && cl.nodes[old].served != nil {
		cl.nodes[old].coord.Leadership(false, term)
	}
	cl.nodes[i].coord.Leadership(true, term)
}

// Advance moves the cluster clock, by as many entries as it takes.
func (cl *Cluster) Advance(d time.Duration) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.base += uint64(d.Milliseconds())
	target := cl.nodes[cl.leader].state.ClockMS() + uint64(d.Milliseconds())
	for cl.nodes[cl.leader].state.ClockMS() < target {
		cl.append([]*logpb.Command{{Kind: &logpb.Command_Tick{Tick: &logpb.Tick{}}}})
	}
}

// Down ends node i at once: connections to it break. If it led, there is no leader
// until Lead.
func (cl *Cluster) Down(i int) { cl.nodes[i].down() }

// Up starts node i again, with an empty state that replays the log.
func (cl *Cluster) Up(i int) { cl.nodes[i].up() }

// append makes one entry and has every living node apply it. It returns the
// leader's results. cl.mu is held.
func (cl *Cluster) append(commands []*logpb.Command) ([]fsm.Result, uint64) {
	clock := cl.base + uint64(time.Since(cl.start).Milliseconds())
	entry := fsm.EncodeEntry(nil, &logpb.Batch{
		ClockMs: clock, WallMs: uint64(time.Now().UnixMilli()), FeatureLevel: fsm.FeatureLevel, Commands: commands,
	})
	cl.entries = append(cl.entries, entry)
	cl.terms = append(cl.terms, cl.term)
	var results []fsm.Result
	for _, n := range cl.nodes {
		if n.served != nil {
			if got := n.catchUp(); n.index == cl.leader {
				results = got
			}
		}
	}
	return results, uint64(len(cl.entries))
}

// catchUp applies what the node has not applied, and returns the last results.
func (n *node) catchUp() (results []fsm.Result) {
	for n.applied < uint64(len(n.cl.entries)) {
		n.view.Lock()
		n.applied++
		got, err := n.state.ApplyEntry(n.applied, n.cl.terms[n.applied-1], n.cl.entries[n.applied-1])
		n.view.Unlock()
		if err != nil {
			panic(err) // the node would stop
		}
		results = got
		n.coord.Applied(n.applied)
	}
	return results
}

// up starts the node, with an empty state that replays the log.
func (n *node) up() {
	n.cl.t.Helper()
	l, err := net.Listen("tcp", n.grpc)
	if err != nil {
		n.cl.t.Fatal(err)
	}
	h, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		n.cl.t.Fatal(err)
	}
	n.grpc, n.http = l.Addr().String(), h.Addr().String()
	n.view.Lock()
	n.state, n.applied = fsm.New(), 0
	n.view.Unlock()
	settings := coordinator.FastSettings()
	settings.SessionGrace = n.cl.Grace
	n.coord, err = coordinator.New(coordinator.Config{Log: n, Caller: n.cl.caller, Settings: settings})
	if err != nil {
		n.cl.t.Fatal(err)
	}
	n.server, err = api.NewServer(api.Config{NodeID: fmt.Sprint("n", n.index), Endpoints: n.cl.allow, LeaderWait: 500 * time.Millisecond, TLS: n.cl.tls}, api.Over(n.coord), n)
	if err != nil {
		n.cl.t.Fatal(err)
	}
	served := make(chan error, 1)
	server := n.server
	go func() { served <- server.Serve(api.Listeners{GRPC: l, HTTP: h}) }()
	n.cl.mu.Lock()
	defer n.cl.mu.Unlock()
	n.served = served
	n.catchUp()
}

// down ends the node at once: connections break.
func (n *node) down() {
	n.cl.mu.Lock()
	served := n.served
	n.served = nil
	if n.cl.leader == n.index {
		n.cl.leader = -1
	}
	n.cl.mu.Unlock()
	if served == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	n.server.Stop(ctx)
	_ = n.coord.Close()
	<-served //nolint:errcheck // it was told to end
}

// The node is its coordinator's Log.
var _ coordinator.Log = (*node)(nil)

func (n *node) Propose(_ context.Context, commands ...*logpb.Command) ([]fsm.Result, uint64, error) {
	n.cl.mu.Lock()
	defer n.cl.mu.Unlock()
	if n.cl.leader != n.index {
		return nil, 0, coordinator.ErrNotLeader
	}
	results, index := n.cl.append(commands)
	return results[len(results)-len(commands):], index, nil
}

func (n *node) ReadIndex(context.Context) (uint64, error) {
	n.cl.mu.Lock()
	defer n.cl.mu.Unlock()
	if n.cl.leader != n.index {
		return 0, coordinator.ErrNotLeader
	}
	return n.applied, nil
}

func (n *node) WaitApplied(_ context.Context, index uint64) error {
	n.cl.mu.Lock()
	defer n.cl.mu.Unlock()
	if n.applied < index {
		return errors.New("not applied, and nothing is on the way")
	}
	return nil
}

func (n *node) View(f func(*fsm.State)) {
	n.view.RLock()
	defer n.view.RUnlock()
	f(n.state)
}

func (n *node) Leader() (coordinator.LeaderInfo, bool) {
	n.cl.mu.Lock()
	defer n.cl.mu.Unlock()
	if n.cl.leader < 0 {
		return coordinator.LeaderInfo{}, false
	}
	l := n.cl.nodes[n.cl.leader]
	return coordinator.LeaderInfo{ID: fmt.Sprint("n", l.index), GRPCAddress: l.grpc, Term: n.cl.term}, true
}

// The node is its API's Cluster; membership is not played.
var _ api.Cluster = (*node)(nil)

var errNotPlayed = errors.New("membership is not played here")

func (n *node) Brief() api.ClusterStatus { return n.Status() }

func (n *node) Status() api.ClusterStatus {
	n.cl.mu.Lock()
	defer n.cl.mu.Unlock()
	s := api.ClusterStatus{NodeID: fmt.Sprint("n", n.index), ClusterID: n.cl.id.String(), Term: n.cl.term, AppliedIndex: n.applied}
	if n.cl.leader >= 0 {
		s.LeaderID = fmt.Sprint("n", n.cl.leader)
	}
	return s
}

func (n *node) DigestAt(ctx context.Context, index uint64) (digest string, err error) {
	if err := n.WaitApplied(ctx, index); err != nil {
		return "", err
	}
	n.View(func(s *fsm.State) {
		if d, known := s.DigestAt(index); known {
			digest = d.String()
		}
	})
	return digest, nil
}

func (n *node) AddNode(context.Context, api.Node, bool) (bool, error) { return false, errNotPlayed }
func (n *node) Promote(context.Context, string) error                 { return errNotPlayed }
func (n *node) Remove(context.Context, string, bool) error            { return errNotPlayed }
func (n *node) TransferLeader(context.Context, string) (string, error) {
	return "", errNotPlayed
}
func (n *node) SetLimits(context.Context, *logpb.Limits, string) error { return errNotPlayed }

func (n *node) Limits() (limits *logpb.Limits) {
	n.View(func(s *fsm.State) { limits = s.Limits() })
	return limits
}

// Transaction is a transaction's record on a living node.
func (cl *Cluster) Transaction(gid string) (rec *logpb.Transaction) {
	id, err := fsm.ParseGID(gid)
	if err != nil {
		cl.t.Fatal(err)
	}
	for _, n := range cl.nodes {
		cl.mu.Lock()
		up := n.served != nil
		cl.mu.Unlock()
		if up {
			n.View(func(s *fsm.State) { rec, _ = s.Get(id) })
			return rec
		}
	}
	return nil
}

// Unfinished is the number of transactions that have not ended, as the leader has it.
func (cl *Cluster) Unfinished() int {
	n := 0
	for _, node := range cl.nodes {
		cl.mu.Lock()
		leads := cl.leader == node.index
		cl.mu.Unlock()
		if leads {
			node.View(func(s *fsm.State) {
				for _, states := range s.Counts().Open {
					for _, open := range states {
						n += open
					}
				}
			})
		}
	}
	return n
}

// Settled waits until every transaction has ended.
func (cl *Cluster) Settled() {
	cl.t.Helper()
	testkit.Eventually(cl.t, patience, func() bool { return cl.Unfinished() == 0 }, "every transaction to end")
}
