// Package cluster runs a Quorate cluster as real processes on this machine:
// `quorate serve`, three or five times, each with its own data directory, its
// own ports and its own log file. `quorate dev`, `quorate demo` and the
// end-to-end tests stand on it: they kill nodes with SIGKILL, start them again
// and ask who leads.
//
// Children never outlive the process that started them (package proc).
package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/quorate/quorate/internal/freeport"
)

// Config says what to run.
type Config struct {
	// Binary is the quorate program; empty: the running one (os.Executable).
	Binary string
	// Command is the program's command that runs a node; empty: serve.
	Command string
	// Nodes is how many nodes: 1, 3 or 5.
	Nodes int
	// Dir holds a data directory (`n1`, `n2`, ...) and a log file (`n1.log`, ...)
	// for each node, and `cluster.json`, which remembers the ports. A directory
	// used before is started again with what it holds.
	Dir string
	// Host is the address that every listener binds to; empty: 127.0.0.1.
	Host string
	// BasePort is the HTTP port of the first node: node k adds 10(k-1). 0, or
	// when one of them is taken: free ports.
	BasePort int
	// Profile of the nodes, `fast` or `default`; empty: `fast`.
	Profile string
	// Args are more flags for every node.
	Args []string
	// Env returns more environment for a node's start, such as
	// QUORATE_FAILPOINTS=...; start counts from 1, so that a failpoint can be
	// armed for the first start only. Nil: none.
	Env func(node string, start int) []string
	// Prepare, when set, is called with every node once its addresses are chosen
	// and before the first process is started.
	Prepare func(nodes []*Node) error
	// TLS, when set, is used to ask the nodes for their status.
	TLS *tls.Config
	// OnExit, when set, is called from a goroutine of its own whenever a node's
	// process ends other than by Stop; err is as of proc.Process.Err.
	OnExit func(n *Node, err error)
	// Log receives what the cluster does with its processes; nil: nothing.
	Log *slog.Logger
}

// How long the parts of a cluster's life may take before they are an error.
const (
	// StartTimeout bounds Start and Restart when the context does not.
	StartTimeout = 60 * time.Second
	// StopTimeout is how long a node may take to end when asked.
	StopTimeout = 10 * time.Second
)

// Cluster is a set of running nodes. Its methods may be called from any
// goroutine.
type Cluster struct {
	cfg   Config
	nodes []*Node
	// taken are the nodes' ports, where they were free ones: nodes are killed, and
	// must get theirs back.
	taken freeport.Set

	mu       sync.Mutex
	stopping bool
}

// Start starts every node and returns when a leader serves and every node is a
// voter. On an error everything that was started has been stopped again.
func Start(ctx context.Context, cfg Config) (*Cluster, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("start cluster: %w", err)
	}
	c := &Cluster{cfg: cfg}
	ports, err := rememberedPorts(&c.taken, cfg)
	if err != nil {
		c.taken.Release()
		return nil, err
	}
	for k := range ports {
		c.nodes = append(c.nodes, newNode(c, k, ports))
	}
	if cfg.Prepare != nil {
		if err := cfg.Prepare(c.nodes); err != nil {
			c.taken.Release()
			return nil, fmt.Errorf("start cluster: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, StartTimeout)
	defer cancel()
	if err := c.startAll(ctx); err != nil {
		_ = c.stopAll() // the error that matters is the first one
		return nil, err
	}
	return c, nil
}

func (c *Cluster) startAll(ctx context.Context) error {
	for _, n := range c.nodes {
		if err := n.Start(); err != nil {
			return err
		}
	}
	if _, err := c.waitLeader(ctx, c.nodes); err != nil {
		return err
	}
	return c.WaitWhole(ctx)
}

func (cfg Config) withDefaults() (Config, error) {
	if cfg.Nodes != 1 && cfg.Nodes != 3 && cfg.Nodes != 5 {
		return cfg, fmt.Errorf("start cluster: %d nodes: a cluster here has 1, 3 or 5 (an even number tolerates no more failures than one less)", cfg.Nodes)
	}
	if cfg.Dir == "" {
		return cfg, errors.New("start cluster: no directory given")
	}
	if cfg.Binary == "" {
		binary, err := os.Executable()
		if err != nil {
			return cfg, fmt.Errorf("start cluster: find this program: %w", err)
		}
		cfg.Binary = binary
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return cfg, fmt.Errorf("start cluster: %w", err)
	}
	cfg.Dir = dir
	if cfg.Host == "" {
		cfg.Host = "127.0.0.1"
	}
	if cfg.Profile == "" {
		cfg.Profile = "fast"
	}
	if cfg.Command == "" {
		cfg.Command = "serve"
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return cfg, nil
}

// Nodes returns the nodes, n1 first.
func (c *Cluster) Nodes() []*Node { return c.nodes }

// Node returns a node by its name.
func (c *Cluster) Node(name string) (*Node, bool) {
	for _, n := range c.nodes {
		if n.Name == name {
			return n, true
		}
	}
	return nil, false
}

// Endpoints returns the gRPC addresses of all nodes: seeds for a client.
func (c *Cluster) Endpoints() []string {
	endpoints := make([]string, len(c.nodes))
	for i, n := range c.nodes {
		endpoints[i] = n.GRPC
	}
	return endpoints
}

// Stop asks every node to end, all at once, and waits; what does not end in
// StopTimeout is killed and reported.
func (c *Cluster) Stop() error { return c.stopAll() }

func (c *Cluster) stopAll() error {
	c.mu.Lock()
	c.stopping = true
	c.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.Background(), StopTimeout)
	defer cancel()
	errs := make([]error, len(c.nodes))
	var wg sync.WaitGroup
	for i, n := range c.nodes {
		wg.Go(func() { errs[i] = n.shutdown(ctx) })
	}
	wg.Wait()
	c.taken.Release()
	return errors.Join(errs...)
}

func (c *Cluster) isStopping() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopping
}
