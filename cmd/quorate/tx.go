package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// newTxCommand is `quorate tx`.
func newTxCommand() *cobra.Command {
	flags := &clientFlags{}
	cmd := group(&cobra.Command{
		Use:   "tx",
		Short: "List transactions, read their stories, decide and mend them",
		Long: `tx reads and changes transactions. A transaction is named by its GID (26 characters) or by the key that its
initiator gave it: key:order-4711.`,
	})
	flags.add(cmd, os.Getenv)
	cmd.AddCommand(
		newTxLsCommand(flags),
		newTxShowCommand(flags),
		newTxCommitCommand(flags),
		newTxRollbackCommand(flags),
		newTxRetryCommand(flags),
		newTxResolveCommand(flags),
		newTxStopCommand(flags),
		newTxSubmitCommand(flags),
		newTxWaitCommand(flags),
	)
	return cmd
}

// withClient runs a command that asks a cluster.
func withClient(flags *clientFlags, run func(cmd *cobra.Command, c *client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := flags.check(cmd); err != nil {
			return err
		}
		c, err := flags.dial()
		if err != nil {
			return err
		}
		defer c.Close()
		return run(cmd, c, args)
	}
}

// get reads a transaction from the leader.
func (c *client) get(ctx context.Context, transaction string) (*quoratev1.GetResponse, error) {
	var answer *quoratev1.GetResponse
	err := c.call(ctx, "read transaction "+transaction, func(ctx context.Context, conn *grpc.ClientConn) (err error) {
		answer, err = quoratev1.NewTransactionServiceClient(conn).Get(ctx, &quoratev1.GetRequest{Transaction: transaction})
		return err
	})
	return answer, err
}
