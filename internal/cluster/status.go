package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/proc"
)

const (
	// pollInterval is how long a wait lets pass between two looks.
	pollInterval = 20 * time.Millisecond
	// askTimeout bounds one question to one node: a paused one never answers.
	askTimeout = 500 * time.Millisecond
)

// Status asks the node what it knows of its cluster.
func (n *Node) Status(ctx context.Context) (*quoratev1.StatusResponse, error) {
	return n.StatusAt(ctx, 0)
}

// StatusAt is Status with the digest of the state right after an index, 0 for
// the present one.
func (n *Node) StatusAt(ctx context.Context, index uint64) (*quoratev1.StatusResponse, error) {
	conn, err := n.connection()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return quoratev1.NewClusterServiceClient(conn).Status(ctx, &quoratev1.StatusRequest{DigestAt: index})
}

// connection returns the node's connection, made at the first use; it finds
// the node again after a restart.
func (n *Node) connection() (*grpc.ClientConn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.conn != nil {
		return n.conn, nil
	}
	creds := insecure.NewCredentials()
	if n.cluster.cfg.TLS != nil {
		creds = credentials.NewTLS(n.cluster.cfg.TLS)
	}
	conn, err := grpc.NewClient(n.GRPC,
		grpc.WithTransportCredentials(creds),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: pollInterval, Multiplier: 1.5, MaxDelay: 10 * pollInterval},
			MinConnectTimeout: askTimeout,
		}))
	if err != nil {
		return nil, fmt.Errorf("connect to %s at %s: %w", n.Name, n.GRPC, err)
	}
	n.conn = conn
	return conn, nil
}

// WaitReady waits until the node answers and knows a leader. It gives up at
// once when the process ends.
func (n *Node) WaitReady(ctx context.Context) error {
	return n.cluster.poll(ctx, n.Name+" to serve", func() error {
		status, err := n.Status(ctx)
		if err != nil {
			return err
		}
		if status.GetLeaderId() == "" {
			return errors.New("it knows no leader")
		}
		return nil
	}, n)
}

// Leader asks the running nodes who leads and returns the node that says it
// does, in the newest term; false when none says so.
func (c *Cluster) Leader(ctx context.Context) (*Node, bool) {
	var leader *Node
	var term uint64
	for _, n := range c.nodes {
		if !n.Running() {
			continue
		}
		status, err := n.Status(ctx)
		if err != nil || status.GetRole() != quoratev1.Role_ROLE_LEADER {
			continue
		}
		if leader == nil || status.GetTerm() > term {
			leader, term = n, status.GetTerm()
		}
	}
	return leader, leader != nil
}

// WaitLeader waits until a node leads.
func (c *Cluster) WaitLeader(ctx context.Context) (*Node, error) {
	return c.waitLeader(ctx, nil)
}

// waitLeader is WaitLeader that gives up when a needed node has ended.
func (c *Cluster) waitLeader(ctx context.Context, needed []*Node) (*Node, error) {
	var leader *Node
	err := c.poll(ctx, "a leader", func() error {
		n, ok := c.Leader(ctx)
		if !ok {
			return errors.New("no node says that it leads")
		}
		leader = n
		return nil
	}, needed...)
	return leader, err
}

// WaitWhole waits until every node of the cluster is a voter that the leader
// has heard from lately, and has applied what was committed by then: one that
// was restarted may have much to apply, and is no successor before it has.
func (c *Cluster) WaitWhole(ctx context.Context) error {
	if err := c.poll(ctx, "every node to be a voter", func() error { return c.IsWhole(ctx) }); err != nil {
		return err
	}
	var committed uint64 // what the leader had committed at the first look
	return c.poll(ctx, "every node to have applied the log", func() error {
		if committed == 0 {
			leader, ok := c.Leader(ctx)
			if !ok {
				return errors.New("no node says that it leads")
			}
			status, err := leader.Status(ctx)
			if err != nil {
				return err
			}
			committed = status.GetCommitIndex()
		}
		for _, node := range c.nodes {
			status, err := node.Status(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", node.Name, err)
			}
			if applied := status.GetHeader().GetAppliedIndex(); applied < committed {
				return fmt.Errorf("%s has applied up to %d of %d", node.Name, applied, committed)
			}
		}
		return nil
	})
}

// IsWhole says whether every node is a voter that the leader has heard from
// lately, or why not.
func (c *Cluster) IsWhole(ctx context.Context) error {
	leader, ok := c.Leader(ctx)
	if !ok {
		return errors.New("no node says that it leads")
	}
	status, err := leader.Status(ctx)
	if err != nil {
		return err
	}
	voters := 0
	for _, node := range status.GetNodes() {
		if node.GetVoter() && (node.GetHealthy() || node.GetLeader()) {
			voters++
		}
	}
	if voters < len(c.nodes) {
		return fmt.Errorf("%d of %d nodes are healthy voters", voters, len(c.nodes))
	}
	return nil
}

// poll calls look until it succeeds. A needed node that has ended ends the wait
// with the last words of its log; with none named, that is all of them, and
// only before they were ever up.
func (c *Cluster) poll(ctx context.Context, what string, look func() error, needed ...*Node) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		err := look()
		if err == nil {
			return nil
		}
		if ended := firstEnded(c.nodes, needed); ended != nil {
			return fmt.Errorf("wait for %s: %s has ended (exit code %d); the end of %s:\n%s", what, ended.Name, ended.ExitCode(), ended.LogPath, proc.LastLines(ended.LogPath, 5))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w; last seen: %w", what, context.Cause(ctx), err)
		case <-ticker.C:
		}
	}
}

// firstEnded returns a needed node that has ended or, when none is named, any
// node once all have.
func firstEnded(all, needed []*Node) *Node {
	for _, n := range needed {
		if !n.Running() {
			return n
		}
	}
	if len(needed) > 0 {
		return nil
	}
	for _, n := range all {
		if n.Running() {
			return nil
		}
	}
	return all[0]
}
