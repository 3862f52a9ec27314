package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// newTxResolveCommand is `quorate tx resolve`.
func newTxResolveCommand(flags *clientFlags) *cobra.Command {
	var branch, outcome, operator, reason string
	var yes bool
	cmd := &cobra.Command{
		Use:   "resolve GID|key:K --branch B --outcome OUTCOME --operator WHO --reason WHY",
		Short: "Say in the log what a branch did that cannot report itself",
		Long: `resolve ends a branch by an operator's word, when its participant never comes back: look into its database first.
It changes no decision and no database. Who says so and why stand in the log for ever. If the branch does come back, it
is told the decision all the same, and its own report stands beside this one.`,
		Example: `  quorate tx resolve 01JD9S7KQ0000000000000000 --branch 2 --outcome committed --operator jane --reason "host lost, row 4711 seen in the standby"`,
		Args:    exactArgs("GID|key:K"),
	}
	cmd.RunE = withClient(flags, func(cmd *cobra.Command, c *client, args []string) error {
		for _, f := range []struct{ name, value string }{{"branch", branch}, {"outcome", outcome}, {"operator", operator}, {"reason", reason}} {
			if strings.TrimSpace(f.value) == "" {
				return usageError(cmd, "--%s is missing: an operator's word names the branch, the outcome, who says so and why", f.name)
			}
		}
		value, ok := parseWord(outcome, "OUTCOME_", quoratev1.Outcome_value)
		if !ok || value == int32(quoratev1.Outcome_OUTCOME_GAVE_UP) {
			return usageError(cmd, "--outcome %s: allowed are %s", outcome, strings.Join(resolvable(), ", "))
		}
		if !yes {
			if err := confirmResolve(cmd, c, args[0], branch, outcome); err != nil {
				return err
			}
		}
		var answer *quoratev1.ResolveResponse
		err := c.call(cmd.Context(), fmt.Sprintf("resolve branch %s of transaction %s", branch, args[0]), func(ctx context.Context, conn *grpc.ClientConn) (err error) {
			answer, err = quoratev1.NewTransactionServiceClient(conn).Resolve(ctx, &quoratev1.ResolveRequest{
				Transaction: args[0], Branch: branch, Outcome: quoratev1.Outcome(value), Operator: operator, Reason: reason,
			})
			return err
		})
		if err != nil {
			return err
		}
		if machine(flags.output) {
			return printMessage(cmd.OutOrStdout(), flags.output, answer)
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "branch %s of %s is resolved as %s by %s; the transaction is %s\n",
			branch, args[0], outcome, operator, stateWord(answer.GetState()))
		return err
	})
	f := cmd.Flags()
	f.StringVar(&branch, "branch", "", "the branch")
	f.StringVar(&outcome, "outcome", "", "what it did: "+strings.Join(resolvable(), ", "))
	f.StringVar(&operator, "operator", "", "who says so")
	f.StringVar(&reason, "reason", "", "why, and how it is known")
	f.BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// resolvable lists the outcomes that an operator may name: only the coordinator
// itself gives up.
func resolvable() []string {
	return slices.DeleteFunc(wordsOf("OUTCOME_", quoratev1.Outcome_name), func(word string) bool {
		return word == outcomeWord(quoratev1.Outcome_OUTCOME_GAVE_UP)
	})
}

// confirmResolve shows the branch as it stands and wants its id typed.
func confirmResolve(cmd *cobra.Command, c *client, transaction, branch, outcome string) error {
	answer, err := c.get(cmd.Context(), transaction)
	if err != nil {
		return err
	}
	tx := answer.GetTransaction()
	var found *quoratev1.Branch
	for _, b := range tx.GetBranches() {
		if b.GetSpec().GetId() == branch {
			found = b
		}
	}
	if found == nil {
		return withCode(exitNotFound, fmt.Errorf("transaction %s has no branch %s: quorate tx show %s", tx.GetGid(), branch, tx.GetGid()))
	}
	w := cmd.ErrOrStderr()
	fmt.Fprintf(w, "Transaction %s is %s, decision %s.\n", tx.GetGid(), stateOf(tx), decisionWord(tx.GetDecision()))
	fmt.Fprintf(w, "Branch %s at %s voted %s, reported %s, last error: %s\n", branch, orNone(found.GetSpec().GetResource()),
		voteWord(found.GetVote()), outcomeWord(found.GetOutcome()), orNone(found.GetDelivery().GetLastError()))
	fmt.Fprintf(w, "It will stand in the log as %s, by your word, for ever.\nType the branch's id to go on: ", outcome)
	typed, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if strings.TrimSpace(typed) != branch {
		fmt.Fprintln(w)
		return withCode(exitUsage, errors.New("not confirmed, so nothing was changed; a script gives --yes"))
	}
	return nil
}
