package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// newTxRetryCommand is `quorate tx retry`.
func newTxRetryCommand(flags *clientFlags) *cobra.Command {
	var branch string
	cmd := &cobra.Command{
		Use:   "retry GID|key:K",
		Short: "Call the branches now, without waiting for the back-off",
		Long: `retry makes due at once what waits: the outcome that a branch is told, a saga's step or its compensation, a confirmation,
a delivery, and the initiator of a message or a workflow that is asked. The back-off begins anew.`,
		Args: exactArgs("GID|key:K"),
	}
	cmd.RunE = withClient(flags, func(cmd *cobra.Command, c *client, args []string) error {
		var answer *quoratev1.RetryResponse
		err := c.call(cmd.Context(), "retry transaction "+args[0], func(ctx context.Context, conn *grpc.ClientConn) (err error) {
			answer, err = quoratev1.NewTransactionServiceClient(conn).Retry(ctx, &quoratev1.RetryRequest{Transaction: args[0], Branch: branch})
			return err
		})
		if err != nil {
			return err
		}
		if machine(flags.output) {
			return printMessage(cmd.OutOrStdout(), flags.output, answer)
		}
		if answer.GetBranches() == 0 {
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "nothing to retry: nothing of %s waits to be called\n", args[0])
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s called now; see how it goes: quorate tx show %s\n",
			plural(int(answer.GetBranches()), "branch is", "branches are"), args[0])
		return err
	})
	cmd.Flags().StringVar(&branch, "branch", "", "only this branch")
	return cmd
}
