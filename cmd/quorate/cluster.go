package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// newClusterCommand is `quorate cluster`.
func newClusterCommand() *cobra.Command {
	flags := &clientFlags{}
	cmd := group(&cobra.Command{
		Use:   "cluster",
		Short: "Look at the cluster's nodes, add and remove them",
	})
	flags.add(cmd, os.Getenv)
	cmd.AddCommand(
		newClusterStatusCommand(flags),
		newClusterAddCommand(flags),
		newClusterPromoteCommand(flags),
		newClusterRemoveCommand(flags),
		newClusterTransferLeaderCommand(flags),
	)
	return cmd
}

// cluster makes a request of the leader's ClusterService.
func (c *client) cluster(ctx context.Context, what string, request func(context.Context, quoratev1.ClusterServiceClient) error) error {
	return c.call(ctx, what, func(ctx context.Context, conn *grpc.ClientConn) error {
		return request(ctx, quoratev1.NewClusterServiceClient(conn))
	})
}
