package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// waitOf is the flag --wait of a command that decides.
func waitOf(cmd *cobra.Command, c *client, flags *clientFlags, text string) (quoratev1.Wait, error) {
	value, ok := parseWord(text, "WAIT_", quoratev1.Wait_value)
	if !ok {
		return 0, usageError(cmd, "--wait %s: allowed are decision, finish, none", text)
	}
	c.attempt = flags.timeout // waiting is what the node is asked for
	return quoratev1.Wait(value), nil
}

// newTxCommitCommand is `quorate tx commit`.
func newTxCommitCommand(flags *clientFlags) *cobra.Command {
	var set []string
	var wait string
	cmd := &cobra.Command{
		Use:   "commit GID|key:K",
		Short: "Ask for the commit and wait for the decision",
		Long: `commit seals the set of branches and asks for the commit: it is decided when the last branch has voted. The exit
code is 0 only when the transaction commits; 6 when it rolls back.`,
		Args: exactArgs("GID|key:K"),
	}
	cmd.RunE = withClient(flags, func(cmd *cobra.Command, c *client, args []string) error {
		request := &quoratev1.CommitRequest{Transaction: args[0]}
		if len(set) > 0 {
			request.Set = &quoratev1.BranchSet{Ids: set}
		}
		var err error
		if request.Wait, err = waitOf(cmd, c, flags, wait); err != nil {
			return err
		}
		var answer *quoratev1.CommitResponse
		err = c.call(cmd.Context(), "commit transaction "+args[0], func(ctx context.Context, conn *grpc.ClientConn) (err error) {
			answer, err = quoratev1.NewTransactionServiceClient(conn).Commit(ctx, request)
			return err
		})
		if err != nil {
			return err
		}
		if machine(flags.output) {
			err = printMessage(cmd.OutOrStdout(), flags.output, answer)
		} else {
			_, err = fmt.Fprintln(cmd.OutOrStdout(), commitText(answer))
		}
		if err == nil && answer.GetDecision() == quoratev1.Decision_DECISION_ROLLBACK {
			return withCode(exitRejected, fmt.Errorf("transaction %s was not committed: it rolls back (%s)", answer.GetGid(), reasonWord(answer.GetReason())))
		}
		return err
	})
	cmd.Flags().StringSliceVar(&set, "branch", nil, "the exact set of branches, where they entered by their votes (named entry)")
	cmd.Flags().StringVar(&wait, "wait", "decision", "wait for the decision, the finish, or not at all: decision, finish, none")
	return cmd
}

func commitText(a *quoratev1.CommitResponse) string {
	text := fmt.Sprintf("%s  %s", a.GetGid(), stateWord(a.GetState()))
	if a.GetDecision() != quoratev1.Decision_DECISION_UNSPECIFIED {
		text += fmt.Sprintf("  decision %s  index %d", decisionWord(a.GetDecision()), a.GetIndex())
	}
	if a.GetDetail() != "" {
		text += "  " + a.GetDetail()
	}
	return text
}

// newTxRollbackCommand is `quorate tx rollback`.
func newTxRollbackCommand(flags *clientFlags) *cobra.Command {
	var operator, reason, wait string
	cmd := &cobra.Command{
		Use:   "rollback GID|key:K",
		Short: "Decide rollback; refused once commit is decided",
		Long: `rollback decides rollback for a transaction that is not decided. A decision never changes: after a commit it is
refused. A transaction that is withheld or quarantined needs --operator and --reason: then it is an operator's decision,
and both stand in the log.`,
		Args: exactArgs("GID|key:K"),
	}
	cmd.RunE = withClient(flags, func(cmd *cobra.Command, c *client, args []string) error {
		if operator != "" && reason == "" {
			return usageError(cmd, "--operator without --reason: an operator's decision carries its reason")
		}
		request := &quoratev1.RollbackRequest{Transaction: args[0], Detail: reason}
		if operator != "" {
			request.Detail, request.Operator, request.OperatorReason = "", operator, reason
		}
		var err error
		if request.Wait, err = waitOf(cmd, c, flags, wait); err != nil {
			return err
		}
		var answer *quoratev1.RollbackResponse
		err = c.call(cmd.Context(), "roll back transaction "+args[0], func(ctx context.Context, conn *grpc.ClientConn) (err error) {
			answer, err = quoratev1.NewTransactionServiceClient(conn).Rollback(ctx, request)
			return err
		})
		if err != nil {
			return err
		}
		if machine(flags.output) {
			return printMessage(cmd.OutOrStdout(), flags.output, answer)
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s  %s  decision %s  index %d\n",
			answer.GetGid(), stateWord(answer.GetState()), decisionWord(answer.GetDecision()), answer.GetIndex())
		return err
	})
	cmd.Flags().StringVar(&operator, "operator", "", "who decides, for the log; makes it an operator's decision")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the log")
	cmd.Flags().StringVar(&wait, "wait", "decision", "wait for the decision, the finish, or not at all: decision, finish, none")
	return cmd
}
