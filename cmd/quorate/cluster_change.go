package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/fsm"
)

// done prints the answer of a change: the message for programs, a line for
// people.
func done(cmd *cobra.Command, flags *clientFlags, answer proto.Message, format string, args ...any) error {
	if machine(flags.output) {
		return printMessage(cmd.OutOrStdout(), flags.output, answer)
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), format+"\n", args...)
	return err
}

// newClusterAddCommand is `quorate cluster add`.
func newClusterAddCommand(flags *clientFlags) *cobra.Command {
	node := &quoratev1.AddNodeRequest{}
	cmd := &cobra.Command{
		Use:   "add NODE-ID --raft HOST:PORT --grpc HOST:PORT --http HOST:PORT [--name NAME]",
		Short: "Admit a node (it does so itself with `serve --join`)",
		Long: `add admits a node as a non-voter and lets it vote once it has caught up; --non-voter leaves it without a vote until
promoted. A node started with "quorate serve --join" asks for this by itself; by hand it is needed only where the node
cannot reach the leader's gRPC address. The node's id stands in identity.json in its data directory.

A node whose version cannot read the cluster's log is refused. Added by hand it is taken to be of the version of this
program; say --feature-level where it is not.`,
		Args: exactArgs("NODE-ID"),
	}
	cmd.RunE = withClient(flags, func(cmd *cobra.Command, c *client, args []string) error {
		for _, f := range []struct{ name, value, what string }{
			{"raft", node.RaftAddress, "the address at which the other nodes find it"},
			{"grpc", node.GrpcAddress, "the address that clients are sent to"},
			{"http", node.HttpAddress, "the address that its HTTP API has"},
		} {
			if f.value == "" {
				return usageError(cmd, "--%s is missing: %s", f.name, f.what)
			}
		}
		node.Id = args[0]
		var answer *quoratev1.AddNodeResponse
		err := c.cluster(cmd.Context(), "add node "+node.Id, func(ctx context.Context, s quoratev1.ClusterServiceClient) (err error) {
			answer, err = s.AddNode(ctx, node)
			return err
		})
		if err != nil {
			return err
		}
		what := "is in as a non-voter; when it has caught up: quorate cluster promote " + node.Id
		if answer.GetVoter() {
			what = "is in and votes"
		}
		return done(cmd, flags, answer, "node %s %s", node.Id, what)
	})
	f := cmd.Flags()
	f.StringVar(&node.Name, "name", "", "label of the node")
	f.StringVar(&node.RaftAddress, "raft", "", "address at which the other nodes find it")
	f.StringVar(&node.GrpcAddress, "grpc", "", "address of its gRPC API, that clients are sent to")
	f.StringVar(&node.HttpAddress, "http", "", "address of its HTTP API")
	f.BoolVar(&node.NonVoter, "non-voter", false, "without a vote")
	f.Uint32Var(&node.FeatureLevel, "feature-level", fsm.FeatureLevel, "newest feature level of the log that its version reads")
	return cmd
}

// newClusterPromoteCommand is `quorate cluster promote`.
func newClusterPromoteCommand(flags *clientFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "promote NODE",
		Short: "Give a caught-up non-voter its vote (NODE is an id or a name)",
		Args:  exactArgs("NODE"),
	}
	cmd.RunE = withClient(flags, func(cmd *cobra.Command, c *client, args []string) error {
		var answer *quoratev1.PromoteResponse
		err := c.cluster(cmd.Context(), "promote node "+args[0], func(ctx context.Context, s quoratev1.ClusterServiceClient) (err error) {
			answer, err = s.Promote(ctx, &quoratev1.PromoteRequest{Node: args[0]})
			return err
		})
		if err != nil {
			return err
		}
		return done(cmd, flags, answer, "node %s votes", args[0])
	})
	return cmd
}

// newClusterRemoveCommand is `quorate cluster remove`.
func newClusterRemoveCommand(flags *clientFlags) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "remove NODE",
		Short: "Take a node out of the cluster for ever (NODE is an id or a name)",
		Long: `remove takes a node out. Its id is not used again: to bring the machine back, empty its data directory and start it
with --join. A removal that would leave the cluster without a working quorum is refused; --force insists.`,
		Args: exactArgs("NODE"),
	}
	cmd.RunE = withClient(flags, func(cmd *cobra.Command, c *client, args []string) error {
		var answer *quoratev1.RemoveResponse
		err := c.cluster(cmd.Context(), "remove node "+args[0], func(ctx context.Context, s quoratev1.ClusterServiceClient) (err error) {
			answer, err = s.Remove(ctx, &quoratev1.RemoveRequest{Node: args[0], Force: force})
			return err
		})
		if err != nil {
			return err
		}
		return done(cmd, flags, answer, "node %s is out; stop its process and empty its data directory", args[0])
	})
	cmd.Flags().BoolVar(&force, "force", false, "although the quorum would then depend on every remaining node")
	return cmd
}

// newClusterTransferLeaderCommand is `quorate cluster transfer-leader`.
func newClusterTransferLeaderCommand(flags *clientFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "transfer-leader [NODE]",
		Short: "Hand leadership to another node (an id or a name; without one, the most caught-up)",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError(cmd, "unexpected argument %q", args[1])
			}
			return nil
		},
	}
	cmd.RunE = withClient(flags, func(cmd *cobra.Command, c *client, args []string) error {
		request := &quoratev1.TransferLeaderRequest{}
		if len(args) == 1 {
			request.Node = args[0]
		}
		var answer *quoratev1.TransferLeaderResponse
		err := c.cluster(cmd.Context(), "transfer leadership", func(ctx context.Context, s quoratev1.ClusterServiceClient) (err error) {
			answer, err = s.TransferLeader(ctx, request)
			return err
		})
		if err != nil {
			return err
		}
		return done(cmd, flags, answer, "node %s leads", answer.GetLeaderId())
	})
	return cmd
}
