package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/chaos"
)

// newChaosCommand is `quorate chaos`.
func newChaosCommand() *cobra.Command {
	o := chaos.NewOptions()
	var output string
	var modes []string
	var list bool
	cmd := &cobra.Command{
		Use:   "chaos",
		Short: "Break a cluster of this binary on this machine, and check every promise",
		Long: `chaos starts a cluster of its own from this binary, lets clients use it, and hurts it for a while: processes are
killed and stopped, links cut, disks fail, two or three faults at once in half of the windows, aimed at the phases of the
protocol where that is possible. Then it heals everything, reads the stopped nodes' logs back, and compares them with
every answer that any client was given.

It exits 0 only if no promise was broken and the run proves it: every fault left evidence, and commits were acknowledged
during and after it. Otherwise the directory with history, ledger, logs and data stays, and the command that repeats the
run is printed. It needs neither root nor a database; with --modes it starts private servers of Postgres and MariaDB where they are
installed.`,
		Example: `  quorate chaos --duration 60s
  quorate chaos --duration 10m --nodes 5 --faults kill,pause -o json
  quorate chaos --modes all --duration 30m
  quorate chaos --list`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "table" && output != "json" {
				return usageError(cmd, "-o %s: chaos prints table or json", output)
			}
			if list {
				return listFaults(cmd.OutOrStdout(), o, output)
			}
			if cmd.Flags().Changed("modes") {
				o.UseModes(modes)
				if !cmd.Flags().Changed("databases") {
					o.Databases = []string{"installed"}
				}
			}
			if err := o.Validate(); err != nil {
				return usageError(cmd, "%v", err)
			}
			o.Progress = cmd.ErrOrStderr()
			return runChaos(cmd, o, output)
		},
	}
	f := cmd.Flags()
	f.DurationVar(&o.Duration, "duration", o.Duration, "how long faults are made; healing and checking come on top")
	f.Uint64Var(&o.Seed, "seed", 0, "seed of the random choices (default: a new one, printed)")
	f.IntVar(&o.Nodes, "nodes", o.Nodes, "nodes of the cluster: 3 or 5")
	f.StringSliceVar(&o.Faults, "faults", nil, "families or names of faults, or none (default: all that are possible here)")
	f.StringSliceVar(&o.Workloads, "workloads", o.Workloads, "what uses the cluster meanwhile")
	f.IntVar(&o.Clients, "clients", o.Clients, "clients of each workload")
	f.Float64Var(&o.Rate, "rate", o.Rate, "transactions a second, at most; 0 for as many as they can")
	f.Float64Var(&o.BankRate, "bank-rate", o.BankRate, "transactions a second of the workload bank, at most")
	f.StringSliceVar(&modes, "modes", nil, "also the workload modes, of these: all, saga, tcc, message, workflow, notify")
	f.Float64Var(&o.ModesRate, "modes-rate", o.ModesRate, "transactions a second of the workload modes, at most")
	f.StringArrayVar(&o.Databases, "databases", o.Databases, "where the workloads bank and modes keep money, besides files: sqlite, postgres, mariadb, installed (the default with --modes), none, postgres=DSN, mysql=DSN; may be repeated")
	f.StringVar(&o.Profile, "profile", o.Profile, "timing profile of the nodes: fast or default")
	f.StringVar(&o.Dir, "dir", "", "keep everything in this new directory (default: a temporary one, removed after a green run)")
	f.StringVar(&o.Binary, "binary", "", "another quorate program to break (default: this one)")
	f.BoolVar(&list, "list", false, "list the faults, and what is possible here, and end")
	f.StringVarP(&output, "output", "o", "table", "what is printed at the end: table or json")
	return cmd
}

// runChaos runs it and prints the verdict, a red one too.
func runChaos(cmd *cobra.Command, o chaos.Options, output string) error {
	verdict, err := chaos.Run(cmd.Context(), o)
	if verdict == nil {
		return err
	}
	if output == "json" {
		return errors.Join(json.NewEncoder(cmd.OutOrStdout()).Encode(verdict), err)
	}
	return errors.Join(verdict.WriteTable(cmd.OutOrStdout()), err)
}

// listFaults prints the table of faults.
func listFaults(w io.Writer, o chaos.Options, output string) error {
	listed := chaos.List(o)
	if output == "json" {
		return json.NewEncoder(w).Encode(listed)
	}
	var t table
	t.row("FAMILY", "FAULT", "HERE", "WHAT IT DOES")
	for _, f := range listed {
		here := "yes"
		if f.Impossible != "" {
			here = "no: " + f.Impossible
		}
		t.row(f.Kind, f.Name, here, f.Doc)
	}
	if err := t.write(w); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nworkloads: %s\n", strings.Join(chaos.WorkloadNames(), ", "))
	return err
}
