package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// newTxWaitCommand is `quorate tx wait`.
func newTxWaitCommand(flags *clientFlags) *cobra.Command {
	var until string
	cmd := &cobra.Command{
		Use:   "wait GID|key:K",
		Short: "Wait until a transaction is decided, or finished",
		Long: `wait returns when the transaction is decided (--for decision) or when every branch has ended (--for finish). The exit
code is 0 when it commits, 6 when it rolls back, 4 when --timeout passed first.`,
		Args: exactArgs("GID|key:K"),
	}
	cmd.RunE = withClient(flags, func(cmd *cobra.Command, c *client, args []string) error {
		if until != "decision" && until != "finish" {
			return usageError(cmd, "--for %s: allowed are decision, finish", until)
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), flags.timeout)
		defer cancel()
		tx, err := c.await(ctx, args[0], until == "finish")
		if err != nil {
			return err
		}
		if machine(flags.output) {
			err = printMessage(cmd.OutOrStdout(), flags.output, tx)
		} else {
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s  %s  decision %s\n", tx.GetGid(), stateOf(tx), decisionWord(tx.GetDecision()))
		}
		if err == nil && tx.GetDecision() == quoratev1.Decision_DECISION_ROLLBACK {
			return withCode(exitRejected, fmt.Errorf("transaction %s rolls back (%s)", tx.GetGid(), reasonWord(tx.GetReason())))
		}
		return err
	})
	cmd.Flags().StringVar(&until, "for", "decision", "what to wait for: decision, finish")
	return cmd
}

// await reads the transaction again after each of its events until it stands
// as asked. Where events cannot be had it looks every retryPause.
func (c *client) await(ctx context.Context, transaction string, finish bool) (*quoratev1.Transaction, error) {
	for {
		answer, err := c.get(ctx, transaction)
		if err != nil {
			return nil, err
		}
		tx := answer.GetTransaction()
		finished := tx.GetState() == quoratev1.State_STATE_COMMITTED || tx.GetState() == quoratev1.State_STATE_ROLLED_BACK
		if finished || (!finish && tx.GetDecision() != quoratev1.Decision_DECISION_UNSPECIFIED) {
			return tx, nil
		}
		if !c.event(ctx, tx.GetGid(), answer.GetHeader().GetAppliedIndex()) {
			select {
			case <-ctx.Done():
			case <-time.After(retryPause):
			}
		}
		if ctx.Err() != nil {
			return nil, withCode(exitUnreachable, fmt.Errorf("wait for transaction %s: it is still %s: %w", tx.GetGid(), stateOf(tx), context.Cause(ctx)))
		}
	}
}

// event returns when something happened to the transaction after the index, or
// false when the watch ended for another reason.
func (c *client) event(ctx context.Context, gid string, after uint64) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := c.conn(c.targets()[0])
	if err != nil {
		return false
	}
	stream, err := quoratev1.NewTransactionServiceClient(conn).Watch(ctx, &quoratev1.WatchRequest{AfterIndex: after, Transaction: gid})
	if err != nil {
		return false
	}
	_, err = stream.Recv()
	return err == nil
}
