package chaos

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/quorate/quorate/chaos/bank"
	"github.com/quorate/quorate/chaos/disks"
	"github.com/quorate/quorate/chaos/links"
	"github.com/quorate/quorate/internal/cluster"
	"github.com/quorate/quorate/internal/failpoint"
	"github.com/quorate/quorate/internal/skew"
)

// Env is what faults and workloads may touch. Its methods may be called from
// any goroutine; its fields are set before the first workload starts, and not
// changed after.
type Env struct {
	// Options of the run.
	Options Options
	// Cluster is the cluster under attack; nil while only Possible is asked.
	Cluster *cluster.Cluster
	// Dir is the run's directory: node data, logs, histories, ledgers.
	Dir string
	// Log says what is done, for whoever reads a red run.
	Log *slog.Logger
	// Start is the base of every time of the run: histories, ledger and timeline
	// count nanoseconds from here on the monotonic clock.
	Start time.Time

	// Volumes are the nodes' disks by name, where a fault that cuts their power was
	// chosen; nil otherwise.
	Volumes map[string]*disks.Volume

	// Links are the proxies between all processes, where a fault of the network was
	// chosen; nil otherwise.
	Links *links.Network
	// Relays are proxies before the nodes' gRPC that know calls, where a fault of
	// duplicates was chosen; nil otherwise.
	Relays *links.Relays

	sights *sights       // through which running nodes are aimed at
	bank   *bankWorkload // nil while, or where, that workload does not run

	modes *modesWorkload // the same

	databases *bank.Servers // of all workloads; nil before the first one asks
	claims    claims
	steps     steps

	clocks map[string]skew.Clock // of nodes whose clock is wrong, at their next start

	mu        sync.Mutex
	rand      *rand.Rand
	settings  []NodeEnv
	expected  map[string]int // nodes that may end, and by how many faults
	doomed    map[int]bool   // pids that a fault has ended, or is about to
	claimed   map[string]bool
	surprises []string
	processes map[string][]Process
	address   func(from string, n *cluster.Node) string
}

// NodeEnv returns environment entries for the start-th start of a node, counted
// from 1.
type NodeEnv func(node string, start int) []string

// Process is a companion of the cluster, such as a participant, that faults may
// hurt.
type Process interface {
	Name() string
	Running() bool
	Kill() error
	Pause() error
	Resume() error
	// Restart starts it again after it has ended, and waits until it serves.
	Restart(context.Context) error
}

// newEnv returns the environment of a run whose cluster is not started yet.
func newEnv(o Options) *Env {
	return &Env{
		Options: o, Dir: o.Dir, Log: o.Log, Start: time.Now(),
		rand:     rand.New(rand.NewPCG(o.Seed, 0x9e3779b97f4a7c15)),
		expected: map[string]int{}, doomed: map[int]bool{}, claimed: map[string]bool{}, processes: map[string][]Process{},
	}
}

// Now is the time since the run's start.
func (e *Env) Now() time.Duration { return time.Since(e.Start) }

// IntN draws from the run's seeded source, as do Float and Chance.
func (e *Env) IntN(n int) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.rand.IntN(n)
}

// Float draws from [0,1).
func (e *Env) Float() float64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.rand.Float64()
}

// Chance is true with probability p.
func (e *Env) Chance(p float64) bool { return e.Float() < p }

// Between draws a duration of the range.
func (e *Env) Between(r Range) time.Duration {
	if r.Max <= r.Min {
		return r.Min
	}
	return r.Min + time.Duration(e.Float()*float64(r.Max-r.Min))
}

// NewRand returns a source of its own for a goroutine, seeded from the run's.
func (e *Env) NewRand() *rand.Rand {
	e.mu.Lock()
	defer e.mu.Unlock()
	return rand.New(rand.NewPCG(e.rand.Uint64(), e.rand.Uint64()))
}

// Range is a span of durations to draw from.
type Range struct{ Min, Max time.Duration }

// AddNodeEnv adds environment to every later start of a node.
func (e *Env) AddNodeEnv(f NodeEnv) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.settings = append(e.settings, f)
}

func (e *Env) nodeEnv(node string, start int) []string {
	e.mu.Lock()
	settings := slices.Clone(e.settings)
	e.mu.Unlock()
	var env []string
	for _, f := range settings {
		env = append(env, f(node, start)...)
	}
	return joinFailpoints(env)
}

// joinFailpoints makes one entry of all that arm failpoints, so that several
// faults can: of two entries of one name a process sees the last one only.
func joinFailpoints(env []string) []string {
	var specs, others []string
	for _, entry := range env {
		if spec, ok := strings.CutPrefix(entry, failpoint.Variable+"="); ok {
			specs = append(specs, spec)
		} else {
			others = append(others, entry)
		}
	}
	if len(specs) == 0 {
		return others
	}
	return append(others, failpoint.Variable+"="+strings.Join(specs, ";"))
}

// SetAddresses says through which address a client reaches a node: that of a
// proxy, where links are proxied.
func (e *Env) SetAddresses(f func(from string, n *cluster.Node) string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.address = f
}

// Address is where the client named from dials the node's gRPC.
func (e *Env) Address(from string, n *cluster.Node) string {
	e.mu.Lock()
	f := e.address
	e.mu.Unlock()
	if f == nil {
		return n.GRPC
	}
	return f(from, n)
}

// AddProcess makes a companion process known under a role, such as
// `participant` or `initiator`.
func (e *Env) AddProcess(role string, p Process) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.processes[role] = append(e.processes[role], p)
}

// Processes returns the companions of a role.
func (e *Env) Processes(role string) []Process {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.processes[role])
}

// Leader returns the node that leads now, or nil.
func (e *Env) Leader(ctx context.Context) *cluster.Node {
	if n, ok := e.Cluster.Leader(ctx); ok {
		return n
	}
	return nil
}

// Claim reserves a node for one fault, so that two faults of a window hurt
// different nodes; false when another one has it. Release ends it.
func (e *Env) Claim(n *cluster.Node) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.claimed[n.Name] {
		return false
	}
	e.claimed[n.Name] = true
	return true
}

// Release ends a claim.
func (e *Env) Release(n *cluster.Node) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.claimed, n.Name)
}

// ClaimFollower claims a running node that does not lead, drawn at random; nil
// when there is none.
func (e *Env) ClaimFollower(ctx context.Context) *cluster.Node {
	leader := e.Leader(ctx)
	nodes := slices.Clone(e.Cluster.Nodes())
	e.mu.Lock()
	e.rand.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	e.mu.Unlock()
	for _, n := range nodes {
		if n != leader && n.Running() && e.Claim(n) {
			return n
		}
	}
	return nil
}

// ClaimLeader claims the node that leads; nil when there is none or another
// fault has it.
func (e *Env) ClaimLeader(ctx context.Context) *cluster.Node {
	if n := e.Leader(ctx); n != nil && e.Claim(n) {
		return n
	}
	return nil
}

// Expect says that a node may end by itself from now on (a failpoint, a store
// error) until the returned function is called. A node that ends unexpected is
// an anomaly.
func (e *Env) Expect(n *cluster.Node) (done func()) {
	e.mu.Lock()
	e.expected[n.Name]++
	e.mu.Unlock()
	return sync.OnceFunc(func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.expected[n.Name]--
	})
}

// Doom says that the process which a node runs now ends by a fault's hand. It
// must be called before the blow, or while Expect holds.
func (e *Env) Doom(n *cluster.Node) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.doomed[n.Pid()] = true
}

// nodeExited is told of each process of a node that ended, some time after.
func (e *Env) nodeExited(n *cluster.Node, err error) {
	var ended *exec.ExitError
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.expected[n.Name] > 0 || errors.As(err, &ended) && e.doomed[ended.Pid()] {
		return
	}
	e.surprises = append(e.surprises, fmt.Sprintf("%s ended though nothing was aimed at it (%v); see %s", n.Name, err, n.LogPath))
}

// Surprise notes something that must not happen; it is an anomaly of the run.
func (e *Env) Surprise(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	e.Log.Warn("surprise", "what", text)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.surprises = append(e.surprises, text)
}

func (e *Env) takeSurprises() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.surprises)
}
