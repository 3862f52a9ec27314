package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/internal/bankstore"
	"github.com/quorate/quorate/internal/bankstore/drivers"
	"github.com/quorate/quorate/internal/bench"
	"github.com/quorate/quorate/internal/headroom"
)

// newBenchCommand is `quorate bench`.
func newBenchCommand() *cobra.Command {
	o := bench.NewOptions()
	var stores []string
	var output string
	client := clientFlags{}
	cmd := &cobra.Command{
		Use:   "bench SCENARIO...",
		Short: "Measure a cluster on this machine, beside what Raft and gRPC alone would do",
		Long: `bench starts a cluster of processes with real disks and fsync on, makes transactions for a while, and prints how many
a second there were, how long they took and what they cost. Beside it runs a cluster of the floor: nodes that take the
same calls and put the same bytes through the same Raft node, with no protocol. Slices of both alternate; RATIO is the
product's share of the floor. After each slice every answer is compared with the state, at all nodes.

Scenarios:
` + scenarioHelp() + `

A closed loop (the default) has so many callers that each call again when they were answered. With --rate the loop is
open: calls are due by a timetable, and latency counts from when a call was due, so a stall is charged to every call that
it delayed. Set --callers to how many may be under way at once.`,
		Example: `  quorate bench decide --callers 1,64,256 --duration 10s
  quorate bench decide managed saga read --runs 5 -o json
  quorate bench decide submit --stream --callers 256
  quorate bench decide --rate 2000 --callers 512
  quorate bench decide --peer etcd
  quorate bench transfer --store postgres --store mysql`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains([]string{"table", "wide", "json", "runs"}, output) {
				return usageError(cmd, "-o %s: bench prints table, wide, json or runs", output)
			}
			var err error
			if o.Stores, err = benchStores(stores); err != nil {
				return usageError(cmd, "%v", err)
			}
			o.Scenarios, o.Opener, o.Progress = args, drivers.Open, cmd.ErrOrStderr()
			if cmd.Flags().Changed("endpoints") {
				o.Endpoints = client.endpoints
				if o.Creds, err = client.credentials(); err != nil {
					return usageError(cmd, "%v", err)
				}
			}
			if err := o.Validate(); err != nil {
				return usageError(cmd, "%v", err)
			}
			return runBench(cmd, o, output)
		},
	}
	f := cmd.Flags()
	f.IntSliceVar(&o.Callers, "callers", o.Callers, "numbers of callers at once; each is measured by itself")
	f.DurationVar(&o.Duration, "duration", o.Duration, "length of one slice")
	f.DurationVar(&o.WarmUp, "warm-up", o.WarmUp, "load before each slice that is not counted")
	f.IntVar(&o.Runs, "runs", o.Runs, "slices of each side, which take turns; medians are printed")
	f.Float64Var(&o.Rate, "rate", 0, "open loop: so many calls a second, whatever becomes of them (default: closed loop)")
	f.BoolVar(&o.Stream, "stream", false, "submit over a stream that callers share, not by a call each (decide, submit, saga); of the floor, too")
	f.StringVar(&o.LogStore, "log-store", o.LogStore, "the nodes' log store: boltdb or wal")
	f.IntVar(&o.Nodes, "nodes", o.Nodes, "nodes of the cluster: 1, 3 or 5")
	f.StringVar(&o.Profile, "profile", o.Profile, "timing profile of the nodes: fast or default")
	f.BoolVar(&o.NoFloor, "no-floor", false, "measure the product alone")
	f.StringVar(&o.Peer, "peer", "", "measure another system's puts beside it: etcd, when it is installed")
	f.StringSliceVar(&client.endpoints, "endpoints", nil, "gRPC addresses of a running cluster to load, without a floor (default: a cluster of its own)")
	client.addTLS(f, os.Getenv)
	f.StringArrayVar(&stores, "store", nil, "where transfer keeps its money, twice: embedded, postgres or mysql (private servers of this machine's packages), postgres=DSN or mysql=DSN")
	f.StringVar(&o.ProfileDir, "cpu-profile", "", "write CPU profiles of each node, and of the load, for each slice into this directory: DIR/product/n1.cpu.pprof, n1.2.cpu.pprof, ..., load.cpu.pprof, ...")
	f.StringVar(&o.Dir, "dir", "", "keep data and logs in this directory (default: a temporary one, removed at the end)")
	f.StringVarP(&output, "output", "o", "table", "what is printed: table, wide, json, or runs (JSON with each run of each side)")
	return cmd
}

// scenarioHelp lists the scenarios.
func scenarioHelp() string {
	var b strings.Builder
	for _, s := range bench.Scenarios() {
		fmt.Fprintf(&b, "  %-9s %s\n", s.Name, s.Doc)
	}
	return strings.TrimRight(b.String(), "\n")
}

// runBench prints what was measured, also when the run ends early.
func runBench(cmd *cobra.Command, o bench.Options, output string) error {
	begun := time.Now()
	defer headroom.Keep(slog.New(slog.DiscardHandler))() // as nodes do, so that the load takes no more of the machine than it must
	report, err := bench.Run(cmd.Context(), o)
	if report == nil || err != nil && len(report.Rows) == 0 {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s  ended after %v\n", time.Now().Format(time.TimeOnly), time.Since(begun).Round(time.Second))
	switch output {
	case "json":
		return errors.Join(report.WriteJSON(cmd.OutOrStdout()), err)
	case "runs":
		return errors.Join(report.WriteRuns(cmd.OutOrStdout()), err)
	}
	return errors.Join(report.WriteTable(cmd.OutOrStdout(), output == "wide"), err)
}

// benchStores gives a store to each bank; embedded ones are made of nothing.
func benchStores(named []string) ([2]bankstore.Spec, error) {
	stores := [2]bankstore.Spec{{Kind: bankstore.Embedded}, {Kind: bankstore.Embedded}}
	if len(named) > len(stores) {
		return stores, fmt.Errorf("--store is given %d times: a transfer has two banks", len(named))
	}
	for i, name := range named {
		kind, dsn, _ := strings.Cut(name, "=")
		stores[i] = bankstore.Spec{Kind: bankstore.Kind(kind), DSN: dsn}
		switch stores[i].Kind {
		case bankstore.Embedded:
		case bankstore.Postgres, bankstore.MySQL:
		default:
			return stores, fmt.Errorf("--store %s: want embedded, postgres or mysql, and =DSN for one that runs already", name)
		}
	}
	return stores, nil
}
