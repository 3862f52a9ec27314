package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/internal/bankstore/drivers"
	"github.com/quorate/quorate/internal/demo"
)

// newDemoCommand is `quorate demo`.
func newDemoCommand() *cobra.Command {
	o := demo.NewOptions()
	var postgres, mysql []string
	var mode, phase, output string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Move money between two banks while leaders are killed, then check every decision",
		Long: `demo starts a cluster of its own and two banks, each a process, and moves money between them in many
concurrent transactions, some of which must fail for lack of funds. At a transaction chosen beforehand the
leader kills itself (SIGKILL) at the chosen moment: before its decision, when it is in the log and nobody
was told, or after a caller was told. Then all processes are killed and started again, and the log, the
answers, the balances and the evidence rows are compared, transaction by transaction.

With --mode saga, tcc, message or workflow the banks' branches are called instead, behind the SDK's fence in
SQLite (or the databases named); the books then show each effect with how often it happened and in which order.

It exits 0 only if all of that fits, nothing is in doubt, and at least 90 % of the funded transfers committed.
A red run keeps its data directories and logs, and says where.`,
		Example: `  quorate demo
  quorate demo --transfers 2000 --kills 5 --kill-leader random --kill-participant -o json
  quorate demo --mode saga --transfers 500 --kills 3 --kill-leader random -o json
  quorate demo --postgres "$PG_DSN" --mysql "$MARIADB_DSN"`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "table" && output != "json" {
				return usageError(cmd, "-o %s: demo prints table or json", output)
			}
			stores, err := demoStores(postgres, mysql)
			if err != nil {
				return usageError(cmd, "%v", err)
			}
			o.Stores, o.Opener, o.Mode, o.KillLeader = stores, drivers.Open, demo.Mode(mode), demo.Phase(phase)
			o.Progress = demo.NewProgress(cmd.ErrOrStderr())
			return runDemo(cmd, o, output)
		},
	}
	f := cmd.Flags()
	f.StringVar(&mode, "mode", string(o.Mode), "how money moves: two-phase, saga, tcc, message or workflow")
	f.IntVar(&o.Transfers, "transfers", o.Transfers, "transfers to make; every tenth lacks the funds")
	f.IntVar(&o.Concurrency, "concurrency", o.Concurrency, "transfers at once, at most (fewer where kills lie close together)")
	f.StringVar(&phase, "kill-leader", string(o.KillLeader), "when the leader dies: before-decision, at-decision, after-decision, a place of the mode's own, or random")
	f.IntVar(&o.Kills, "kills", o.Kills, "how many leaders to kill, spread over the run; 0 for none")
	f.BoolVar(&o.KillParticipant, "kill-participant", false, "kill bank b, too, once: prepared, and its vote not sent")
	f.StringArrayVar(&postgres, "postgres", nil, "keep a bank in this Postgres database (DSN); may be given twice")
	f.StringArrayVar(&mysql, "mysql", nil, "keep a bank in this MySQL or MariaDB database (DSN); may be given twice")
	f.IntVar(&o.Nodes, "nodes", o.Nodes, "nodes of the cluster: 3 or 5")
	f.StringVar(&o.Profile, "profile", o.Profile, "timing profile of the nodes: fast or default")
	f.StringVar(&o.Dir, "data-dir", "", "keep everything in this new directory (default: a temporary one, removed after a green run)")
	f.Uint64Var(&o.Seed, "seed", 0, "seed of the random choices (default: a new one, printed)")
	f.StringVarP(&output, "output", "o", "table", "what is printed at the end: table or json")
	return cmd
}

// runDemo runs it and prints the result, a red one too.
func runDemo(cmd *cobra.Command, o demo.Options, output string) error {
	if err := o.Validate(); err != nil {
		return usageError(cmd, "%v", err)
	}
	result, err := demo.Run(cmd.Context(), o)
	if result == nil {
		return err
	}
	if output == "json" {
		return errors.Join(json.NewEncoder(cmd.OutOrStdout()).Encode(result), err)
	}
	return errors.Join(result.WriteTable(cmd.OutOrStdout()), err)
}

// demoStores gives the databases to bank a and then bank b; a bank without one
// is embedded.
func demoStores(postgres, mysql []string) ([2]demo.StoreSpec, error) {
	var specs []demo.StoreSpec
	for _, dsn := range postgres {
		specs = append(specs, demo.StoreSpec{Kind: demo.Postgres, DSN: dsn})
	}
	for _, dsn := range mysql {
		specs = append(specs, demo.StoreSpec{Kind: demo.MySQL, DSN: dsn})
	}
	if len(specs) > 2 {
		return [2]demo.StoreSpec{}, fmt.Errorf("%d databases for two banks: give at most two of --postgres and --mysql", len(specs))
	}
	specs = slices.Concat(specs, []demo.StoreSpec{{Kind: demo.Embedded}, {Kind: demo.Embedded}})
	return [2]demo.StoreSpec(specs[:2]), nil
}
