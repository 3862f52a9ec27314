package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// Join starts an ended node whose directory was emptied, as a new node that joins
// the others: the first one, too, which founded the cluster, must join then.
func (n *Node) Join() error {
	n.mu.Lock()
	n.args = slices.DeleteFunc(slices.Clone(n.args), func(arg string) bool { return arg == "--bootstrap" })
	for i, arg := range n.args {
		if arg == "--seeds" {
			n.args[i] = "--join"
		}
	}
	n.mu.Unlock()
	return n.Start()
}

// Service is the node's own ClusterService, for changes of the cluster: only the
// leader makes them, the others say who leads.
func (n *Node) Service() (quoratev1.ClusterServiceClient, error) {
	conn, err := n.connection()
	if err != nil {
		return nil, err
	}
	return quoratev1.NewClusterServiceClient(conn), nil
}

// AskLeader calls f with the service of the node that leads now.
func (c *Cluster) AskLeader(ctx context.Context, f func(quoratev1.ClusterServiceClient) error) error {
	leader, ok := c.Leader(ctx)
	if !ok {
		return errors.New("no node says that it leads")
	}
	service, err := leader.Service()
	if err != nil {
		return err
	}
	if err := f(service); err != nil {
		return fmt.Errorf("asked of %s: %w", leader.Name, err)
	}
	return nil
}

// TransferLeader hands leadership to a node, or to the most caught-up one when
// it is nil.
func (c *Cluster) TransferLeader(ctx context.Context, to *Node) error {
	name := ""
	if to != nil {
		name = to.Name
	}
	return c.AskLeader(ctx, func(s quoratev1.ClusterServiceClient) error {
		_, err := s.TransferLeader(ctx, &quoratev1.TransferLeaderRequest{Node: name})
		return err
	})
}
