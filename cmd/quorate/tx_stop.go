package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// newTxStopCommand is `quorate tx stop`.
func newTxStopCommand(flags *clientFlags) *cobra.Command {
	var operator, reason string
	var yes bool
	cmd := &cobra.Command{
		Use:   "stop GID|key:K",
		Short: "End a transaction by hand, whatever its branches did",
		Long: `stop ends a transaction that can end in no other way: an undecided one rolls back, and no branch of it is called any more.
What was done stays done, what was not compensated stays so, and who was not told never is: use it where that is known and
settled by other means. A rollback compensates; resolve speaks for one branch. Who stopped it and why stand in the log for
ever.`,
		Example: `  quorate tx stop 01JD9S7KQ0000000000000000 --operator jane --reason "the partner's service is gone for good; refunded by hand, case 4711"`,
		Args:    exactArgs("GID|key:K"),
	}
	cmd.RunE = withClient(flags, func(cmd *cobra.Command, c *client, args []string) error {
		for _, f := range []struct{ name, value string }{{"operator", operator}, {"reason", reason}} {
			if strings.TrimSpace(f.value) == "" {
				return usageError(cmd, "--%s is missing: an operator's word says who ends it and why", f.name)
			}
		}
		if !yes {
			if err := confirmStop(cmd, c, args[0]); err != nil {
				return err
			}
		}
		var answer *quoratev1.StopResponse
		err := c.call(cmd.Context(), "stop transaction "+args[0], func(ctx context.Context, conn *grpc.ClientConn) (err error) {
			answer, err = quoratev1.NewTransactionServiceClient(conn).Stop(ctx, &quoratev1.StopRequest{Transaction: args[0], Operator: operator, Reason: reason})
			return err
		})
		if err != nil {
			return err
		}
		if machine(flags.output) {
			return printMessage(cmd.OutOrStdout(), flags.output, answer)
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "transaction %s is %s, stopped by %s; no branch of it is called any more\n", args[0], stateWord(answer.GetState()), operator)
		return err
	})
	f := cmd.Flags()
	f.StringVar(&operator, "operator", "", "who says so")
	f.StringVar(&reason, "reason", "", "why, and what was done instead")
	f.BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// confirmStop shows what is left undone and wants the GID's end typed.
func confirmStop(cmd *cobra.Command, c *client, transaction string) error {
	answer, err := c.get(cmd.Context(), transaction)
	if err != nil {
		return err
	}
	tx, w := answer.GetTransaction(), cmd.ErrOrStderr()
	fmt.Fprintf(w, "Transaction %s (%s) is %s, decision %s.\n", tx.GetGid(), modeWord(tx.GetMode()), stateOf(tx), decisionWord(tx.GetDecision()))
	for _, b := range tx.GetBranches() {
		if !b.GetTerminal() {
			fmt.Fprintf(w, "  %s is left as it is; last error: %s\n", nameOf(tx, b.GetSpec().GetId()), orNone(b.GetDelivery().GetLastError()))
		}
	}
	tail := tx.GetGid()[max(0, len(tx.GetGid())-4):]
	fmt.Fprintf(w, "Nobody is called for it any more, for ever.\nType the last four characters of the GID (%s) to go on: ", tail)
	typed, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if !strings.EqualFold(strings.TrimSpace(typed), tail) {
		fmt.Fprintln(w)
		return withCode(exitUsage, errors.New("not confirmed, so nothing was changed; a script gives --yes"))
	}
	return nil
}
