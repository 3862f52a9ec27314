package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"google.golang.org/grpc"

	"github.com/quorate/quorate/internal/proc"
)

// Node is one `quorate serve` process, which may be killed and started again.
type Node struct {
	// Name is `n1`, `n2`, ...
	Name string
	// HTTP, GRPC and Raft are the addresses (host:port) it listens on.
	HTTP, GRPC, Raft string
	// DataDir is its data directory, LogPath the file with what it says.
	DataDir, LogPath string

	cluster *Cluster
	args    []string
	join    string // gRPC addresses of the others

	mu      sync.Mutex
	process *proc.Process // the latest one; nil before the first start
	starts  int
	conn    *grpc.ClientConn
}

// newNode describes node k, from 0, of a cluster with the given ports.
func newNode(c *Cluster, k int, ports []Ports) *Node {
	cfg := c.cfg
	address := func(port int) string { return net.JoinHostPort(cfg.Host, strconv.Itoa(port)) }
	name := "n" + strconv.Itoa(k+1)
	n := &Node{
		Name: name, cluster: c,
		HTTP: address(ports[k].HTTP), GRPC: address(ports[k].GRPC), Raft: address(ports[k].Raft),
		DataDir: filepath.Join(cfg.Dir, name), LogPath: filepath.Join(cfg.Dir, name+".log"),
	}
	n.args = []string{
		cfg.Command, "--name", name, "--data-dir", n.DataDir, "--profile", cfg.Profile,
		"--listen-http", n.HTTP, "--listen-grpc", n.GRPC, "--listen-raft", n.Raft,
	}
	// Every node but the first joins the others: on a later start the flags are
	// ignored, so it does not matter who leads then.
	var others []string
	for i, p := range ports {
		if i != k {
			others = append(others, address(p.GRPC))
		}
	}
	n.join = strings.Join(others, ",")
	switch {
	case k > 0:
		n.args = append(n.args, "--join", n.join)
	case len(others) > 0:
		n.args = append(n.args, "--bootstrap", "--seeds", n.join)
	default:
		n.args = append(n.args, "--bootstrap")
	}
	n.args = append(n.args, cfg.Args...)
	return n
}

// Start starts the process of an ended node, with its data, and returns at once.
func (n *Node) Start() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process != nil && n.process.Running() {
		return fmt.Errorf("start %s: it runs already, as pid %d", n.Name, n.process.Pid())
	}
	var env []string
	if n.cluster.cfg.Env != nil {
		env = n.cluster.cfg.Env(n.Name, n.starts+1)
	}
	p, err := proc.Start(proc.Spec{
		Name: n.Name, Path: n.cluster.cfg.Binary, Args: n.args, LogPath: n.LogPath,
		// Settings in the user's shell are for the user's own nodes.
		Env: env, DropEnv: "QUORATE_",
	})
	if err != nil {
		return err
	}
	n.starts++
	n.process = p
	n.cluster.cfg.Log.Debug("node started", "node", n.Name, "pid", p.Pid())
	go n.watch(p)
	return nil
}

// watch tells the cluster's owner about an end that nobody asked for.
func (n *Node) watch(p *proc.Process) {
	<-p.Exited()
	n.cluster.cfg.Log.Debug("node ended", "node", n.Name, "pid", p.Pid(), "how", p.Err())
	if n.cluster.cfg.OnExit != nil && !n.cluster.isStopping() {
		n.cluster.cfg.OnExit(n, p.Err())
	}
}

// current returns the latest process, nil before the first start.
func (n *Node) current() *proc.Process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.process
}

// Pid returns the process id of the latest start, 0 when there was none.
func (n *Node) Pid() int {
	if p := n.current(); p != nil {
		return p.Pid()
	}
	return 0
}

// Running says whether its process has not ended.
func (n *Node) Running() bool {
	p := n.current()
	return p != nil && p.Running()
}

// Exited is closed when the process of the latest start has ended, by whatever
// reason. A Restart makes a new channel.
func (n *Node) Exited() <-chan struct{} { return n.current().Exited() }

// ExitCode waits for the end and returns the exit code, -1 after a signal.
func (n *Node) ExitCode() int { return n.current().ExitCode() }

// Kill ends the process with SIGKILL and waits until it is gone.
func (n *Node) Kill() error { return n.current().Kill() }

// Pause stops the process where it stands (SIGSTOP) until Resume.
func (n *Node) Pause() error { return n.current().Signal(syscall.SIGSTOP) }

// Resume lets a paused process go on (SIGCONT).
func (n *Node) Resume() error { return n.current().Signal(syscall.SIGCONT) }

// Stop asks the process to end (SIGTERM) and waits.
func (n *Node) Stop(ctx context.Context) error { return n.current().Stop(ctx) }

// Restart starts an ended node again, with its data, and waits until it serves.
func (n *Node) Restart(ctx context.Context) error {
	if err := n.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, StartTimeout)
	defer cancel()
	return n.WaitReady(ctx)
}

// shutdown is Stop for the end of the cluster: a paused process must be let go
// on first, and the connection is closed.
func (n *Node) shutdown(ctx context.Context) error {
	p := n.current()
	if p == nil {
		return nil
	}
	err := errors.Join(p.Signal(syscall.SIGCONT), p.Stop(ctx))
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.conn != nil {
		err = errors.Join(err, n.conn.Close())
		n.conn = nil
	}
	return err
}
