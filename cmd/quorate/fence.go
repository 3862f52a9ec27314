package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/internal/bankstore"
	"github.com/quorate/quorate/internal/bankstore/drivers"
	"github.com/quorate/quorate/participant/fence"
)

// newFenceCommand is `quorate fence`.
func newFenceCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "fence",
		Short: "The table by which a participant does each branch operation once",
	})
	cmd.AddCommand(newFenceInitCommand())
	return cmd
}

// fenceFlags are the flags of `quorate fence init`.
type fenceFlags struct {
	dsn, dsnFile, database, table string
	print                         bool
	timeout                       time.Duration
}

func newFenceInitCommand() *cobra.Command {
	var flags fenceFlags
	cmd := &cobra.Command{
		Use:   "init --dsn DSN",
		Short: "Create the fence table in a participant's database, where it is missing",
		Long: `init creates the table that package participant/fence keeps: the record of which saga steps, TCC tries and message
deliveries a participant has done, written in the local transaction of the work itself. It may be run again at any time.

Drivers for Postgres, MySQL, MariaDB and SQLite are built in. Redis and the embedded store need no table, so there is
nothing to create in them, and no driver of theirs is built in: fence.NewRedis looks at a Redis' settings when a
participant starts.`,
		Example: `  quorate fence init --dsn postgres://shop:secret@localhost:5432/shop
  quorate fence init --dsn-file /run/secrets/dsn --table app.quorate_fence
  quorate fence init --print --database mysql > fence.sql`,
		Args: cobra.NoArgs,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return runFenceInit(cmd, flags) }
	cmd.Flags().StringVar(&flags.dsn, "dsn", "", "the database: postgres://…, user:password@tcp(host:3306)/db or file:…; others see it in the list of processes, so prefer --dsn-file for one with a password")
	cmd.Flags().StringVar(&flags.dsnFile, "dsn-file", "", "read the DSN from this file")
	cmd.Flags().StringVar(&flags.database, "database", "", "postgres, mysql or sqlite, where the DSN does not tell")
	cmd.Flags().StringVar(&flags.table, "table", fence.TableDefault, "name of the table, or schema.name; it is quoted, so case counts")
	cmd.Flags().BoolVar(&flags.print, "print", false, "print the SQL and touch no database")
	cmd.Flags().DurationVar(&flags.timeout, "timeout", 30*time.Second, "bound of the whole command")
	return cmd
}

func runFenceInit(cmd *cobra.Command, flags fenceFlags) error {
	if flags.timeout <= 0 {
		return usageError(cmd, "--timeout must be greater than zero")
	}
	dsn := flags.dsn
	if flags.dsnFile != "" {
		if dsn != "" {
			return usageError(cmd, "--dsn and --dsn-file are both given")
		}
		text, err := os.ReadFile(flags.dsnFile)
		if err != nil {
			return fmt.Errorf("read --dsn-file: %w", err)
		}
		dsn = strings.TrimSpace(string(text))
	}
	if dsn == "" && !flags.print {
		return usageError(cmd, "--dsn is missing: which database shall have the table?")
	}
	kind := fence.Database(flags.database)
	if kind == "" {
		var err error
		if kind, err = databaseOf(dsn); err != nil {
			return usageError(cmd, "%v", err)
		}
	}
	f, err := fence.New(kind, fence.Table(flags.table))
	if err != nil {
		return usageError(cmd, "%v", err)
	}
	if flags.print {
		_, err := fmt.Fprintln(cmd.OutOrStdout(), strings.Join(f.SQL(), ";\n")+";")
		return err
	}
	connector, err := drivers.Open(bankstore.Kind(kind), dsn)
	if err != nil {
		return usageError(cmd, "the DSN cannot be read by the driver of %s: %v", kind, err)
	}
	db := sql.OpenDB(connector)
	defer func() { _ = db.Close() }()
	ctx, cancel := context.WithTimeout(cmd.Context(), flags.timeout)
	defer cancel()
	if err := db.PingContext(ctx); err != nil {
		return withCode(exitUnreachable, fmt.Errorf("connect to the %s database: %w", kind, err))
	}
	if err := f.Init(ctx, db); err != nil {
		return err
	}
	if err := f.Probe(ctx, db); err != nil {
		if !errors.Is(err, fence.ErrUnsafe) {
			return err
		}
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "warning: %v\n", err)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "table %s is ready (%s)\n", flags.table, kind)
	return err
}

// databaseOf tells the kind of a database by its DSN.
func databaseOf(dsn string) (fence.Database, error) {
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(dsn, w) {
				return true
			}
		}
		return false
	}
	scheme, _, _ := strings.Cut(dsn, "://")
	switch {
	case dsn == "":
		return "", errors.New("--database is missing: postgres, mysql or sqlite")
	case scheme == "redis" || scheme == "rediss":
		return "", errors.New("redis needs no table, and no driver of its is built in; fence.NewRedis looks at its settings when a participant starts")
	case scheme == "postgres" || scheme == "postgresql", has("dbname=", "host=") && !has("("):
		return fence.Postgres, nil
	case has("@tcp(", "@unix(", "@(") || strings.HasPrefix(dsn, "tcp("):
		return fence.MySQL, nil
	case strings.HasPrefix(dsn, "file:"), strings.HasSuffix(dsn, ".db"), strings.HasSuffix(dsn, ".sqlite"):
		return fence.SQLite, nil
	}
	return "", errors.New("the DSN does not tell which database it is: name it with --database postgres, mysql or sqlite")
}
