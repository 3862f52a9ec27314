package main

import (
	"database/sql/driver"
	"fmt"
	"log/slog"
	"os"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/spf13/cobra"

	"github.com/quorate/quorate/internal/demo"
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
			if err := failpoint.Arm(os.Getenv(failpoint.Variable)); err != nil {
				return usageError(cmd, "%v", err)
			}
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			return demo.Serve(cmd.Context(), config, demoConnector, log)
		},
	}
}

// demoConnector opens the drivers that only the demo needs.
func demoConnector(kind demo.StoreKind, dsn string) (driver.Connector, error) {
	switch kind {
	case demo.Postgres:
		config, err := pgx.ParseConfig(dsn)
		if err != nil {
			return nil, err
		}
		return stdlib.GetConnector(*config), nil
	case demo.MySQL:
		config, err := mysql.ParseDSN(dsn)
		if err != nil {
			return nil, err
		}
		return mysql.NewConnector(config)
	}
	return nil, fmt.Errorf("no driver for %q", kind)
}
