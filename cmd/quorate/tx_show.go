package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// newTxShowCommand is `quorate tx show`.
func newTxShowCommand(flags *clientFlags) *cobra.Command {
	var local bool
	cmd := &cobra.Command{
		Use:   "show GID|key:K",
		Short: "Tell a transaction's story",
		Long: `show tells what happened to a transaction, in the order of the log: when each branch joined and voted, when and at
which term and index the decision fell, which leaders were lost meanwhile, who has been told, and what comes next. Times
are the leaders' wall clocks, since the begin.`,
		Args: exactArgs("GID|key:K"),
	}
	cmd.RunE = withClient(flags, func(cmd *cobra.Command, c *client, args []string) error {
		get := c.get
		if local {
			get = c.getLocal
		}
		answer, err := get(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if machine(flags.output) {
			return printMessage(cmd.OutOrStdout(), flags.output, answer.GetTransaction())
		}
		return writeStory(cmd.OutOrStdout(), answer.GetTransaction(), answer.GetHeader(), time.Now(), flags.output == "wide")
	})
	cmd.Flags().BoolVar(&local, "local", false, "ask the first endpoint for what it has applied, without the leader")
	return cmd
}

// getLocal reads what the first node that answers has applied.
func (c *client) getLocal(ctx context.Context, transaction string) (*quoratev1.GetResponse, error) {
	var answer *quoratev1.GetResponse
	err := c.call(ctx, "read transaction "+transaction, func(ctx context.Context, conn *grpc.ClientConn) (err error) {
		answer, err = quoratev1.NewTransactionServiceClient(conn).Get(ctx, &quoratev1.GetRequest{
			Transaction: transaction, Consistency: quoratev1.Consistency_CONSISTENCY_LOCAL,
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("local read: %w", err)
	}
	return answer, nil
}
