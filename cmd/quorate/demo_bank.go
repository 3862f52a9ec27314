package main

import (
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/internal/bankstore/drivers"
	"github.com/quorate/quorate/internal/branchbank"
	"github.com/quorate/quorate/internal/demo"
	"github.com/quorate/quorate/internal/detour"
	"github.com/quorate/quorate/internal/failpoint"
)

// newDemoBankCommand is the hidden command that `quorate demo` starts twice.
func newDemoBankCommand() *cobra.Command {
	return &cobra.Command{
		Use:    demo.BankCommand,
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			config, err := demo.ParseBankConfig(args, os.Getenv)
			if err != nil {
				return usageError(cmd, "%v", err)
			}
			if err := armBank(cmd); err != nil {
				return err
			}
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			return demo.Serve(cmd.Context(), config, drivers.Open, log)
		},
	}
}

// newBranchBankCommand is the hidden command for banks whose branches are called.
func newBranchBankCommand() *cobra.Command {
	return &cobra.Command{
		Use:    branchbank.Command,
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			config, err := branchbank.ParseProcess(args, os.Getenv)
			if err != nil {
				return usageError(cmd, "%v", err)
			}
			if err := armBank(cmd); err != nil {
				return err
			}
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			return branchbank.Serve(cmd.Context(), config, drivers.Open, log)
		},
	}
}

// armBank arms what the environment asks of a bank's process.
func armBank(cmd *cobra.Command) error {
	if err := failpoint.Arm(os.Getenv(failpoint.Variable)); err != nil {
		return usageError(cmd, "%v", err)
	}
	if err := detour.Arm(os.Getenv(detour.Variable)); err != nil {
		return usageError(cmd, "%v", err)
	}
	return nil
}
