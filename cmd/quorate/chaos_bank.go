package main

import (
	"fmt"
	"log/slog"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/chaos/bank"
	"github.com/quorate/quorate/internal/bankstore/drivers"
	"github.com/quorate/quorate/internal/detour"
	"github.com/quorate/quorate/internal/failpoint"
)

// newBankCommands are the hidden commands that the workload of money starts: the
// processes of participants and initiators.
func newBankCommands() []*cobra.Command {
	participant := &cobra.Command{
		Use: bank.ParticipantCommand, Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			plan, seat, start, err := bankArgs(cmd, args)
			if err != nil {
				return err
			}
			if err := failpoint.Arm(os.Getenv(failpoint.Variable)); err != nil {
				return usageError(cmd, "%v", err)
			}
			return bank.ServeParticipant(cmd.Context(), plan, seat, start, drivers.Open, bankLog(cmd))
		},
	}
	initiator := &cobra.Command{
		Use: bank.InitiatorCommand, Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			plan, seat, start, err := bankArgs(cmd, args)
			if err != nil {
				return err
			}
			return bank.ServeInitiator(cmd.Context(), plan, seat, start, bankLog(cmd))
		},
	}
	return []*cobra.Command{participant, initiator}
}

func bankArgs(cmd *cobra.Command, args []string) (plan, seat string, start int, err error) {
	if len(args) == 3 {
		if start, err = strconv.Atoi(args[2]); err == nil {
			return args[0], args[1], start, detour.Arm(os.Getenv(detour.Variable))
		}
	}
	return "", "", 0, usageError(cmd, "%s is started by quorate chaos: a plan, a seat and the number of the start follow", cmd.Name())
}

func bankLog(cmd *cobra.Command) *slog.Logger {
	return slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)).With("pid", fmt.Sprint(os.Getpid()))
}
