package sim

import (
	"flag"
	"os"
	"strings"
	"testing"
	"time"
)

var (
	flagSeeds   = flag.Uint64("sim.seeds", 0, "how many seeds to run; 0: as many as the time allows")
	flagFrom    = flag.Uint64("sim.from", 1, "the first seed")
	flagSeed    = flag.Uint64("sim.seed", 0, "run this seed alone")
	flagTrace   = flag.Bool("sim.trace", false, "print the story of the seed, whole")
	flagMinutes = flag.Float64("sim.minutes", 0.4, "how long to run, where -sim.seeds does not say")
	flagJSON    = flag.String("sim.json", "", "append the figures to this file, as a line of JSON")
	flagHistory = flag.Uint64("sim.history", 10, "judge the history of one seed in so many as well; 0: of none")
	flagDeclare = flag.String("sim.declare", "", "write what was reached to this file, in the form of reachable.txt")
	flagModes   = flag.Bool("sim.modes", false, "let every mode take part, and not two-phase transactions alone")
	flagTable   = flag.Bool("sim.table", false, "print the table of what was reached")
)

// Thousands of clusters, each with faults of its own, and every promise that the
// oracle knows: S1-S6, S7-S14 in part, S17, S18.
func TestSeeds(t *testing.T) {
	if *flagSeed != 0 {
		replay(t, *flagSeed)
		return
	}
	c := &Campaign{From: *flagFrom, Seeds: *flagSeeds, HistoryEvery: *flagHistory, Options: Options{Modes: *flagModes}}
	if *flagModes {
		c.HistoryEvery = 0 // the model of histories is of two-phase transactions
	}
	if c.Seeds == 0 {
		c.Until = time.Now().Add(time.Duration(*flagMinutes * float64(time.Minute)))
	}
	total := c.Run()
	t.Logf("%d seeds, %d counted, %.0f a minute: %d events, %d messages, %d decisions (%d commits), %d acknowledgements, %d histories, %d writes lost, %d torn",
		total.Seeds, total.Counted, float64(total.Seeds)/total.Seconds*60, total.Events, total.Delivered, total.Decisions, total.Commits,
		total.Acked, total.Histories, total.LostWrite, total.TornWrite)
	t.Logf("faults %v", total.Faults)
	writeJSON(t, total)
	for _, r := range total.Failed {
		tell(t, r, *flagModes)
	}
	if *flagTable || testing.Verbose() {
		total.Coverage.Print(os.Stdout)
	}
	if *flagDeclare != "" {
		declare(t, total)
		return
	}
	if len(total.Failed) == 0 && *flagHistory != 1 { // nobody ends a branch by hand where all is judged
		for _, thing := range total.Missing() {
			t.Errorf("declared reachable, and not reached in %d seeds: %s", total.Seeds, thing)
		}
	}
}

// tell prints a failing seed: how to replay it, and its story with less in it.
func tell(t *testing.T, r *Result, modes bool) {
	how := How{History: r.Histories > 0}
	small := Shrink(NewPlan(r.Seed, Options{Modes: modes}), how)
	flags := ""
	if modes {
		flags = " -sim.modes"
	}
	t.Errorf("seed %d: %v\nreplay: go test ./chaos/sim -run TestSeeds%s -sim.seed=%d -sim.trace\n%s", r.Seed, r.Violations[0], flags, r.Seed, Story(small, how))
}

func replay(t *testing.T, seed uint64) {
	how := How{Trace: *flagTrace, History: !*flagModes && *flagHistory != 0 && seed%*flagHistory == 0}
	r := Run(NewPlan(seed, Options{Modes: *flagModes}), how)
	if *flagTrace {
		os.Stdout.WriteString(strings.Join(r.Story, "\n") + "\n")
	}
	t.Logf("%d events, %d messages, %d commits, %d rollbacks, faults %v, ended at %v", r.Steps, r.Delivered, r.Commits, r.Rollbacks, r.Faults, r.Ended)
	if len(r.Violations) > 0 {
		tell(t, r, *flagModes)
	}
}

func declare(t *testing.T, total *Totals) {
	f, err := os.Create(*flagDeclare)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := total.Declare(f); err != nil {
		t.Fatal(err)
	}
}

func writeJSON(t *testing.T, total *Totals) {
	if *flagJSON == "" {
		return
	}
	f, err := os.OpenFile(*flagJSON, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := total.WriteJSON(f); err != nil {
		t.Fatal(err)
	}
}

// S4: without a fault, with every branch prepared and nobody asking for a rollback,
// everything commits.
func TestWithoutFaultsEverythingCommits(t *testing.T) {
	for seed := uint64(1); seed <= 100; seed++ {
		r := Run(NewPlan(seed, Options{Calm: true}), How{History: seed%10 == 0})
		for _, v := range r.Violations {
			t.Fatalf("seed %d: %v", seed, v)
		}
		if r.Rollbacks > 0 || r.Commits == 0 {
			t.Fatalf("S4: seed %d: %d commits and %d rollbacks without a fault", seed, r.Commits, r.Rollbacks)
		}
	}
}

func TestTheSameSeedIsTheSameRun(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		how := How{Trace: true}
		a, b := Run(NewPlan(seed, Options{}), how), Run(NewPlan(seed, Options{}), how)
		if a.Hash != b.Hash || a.Steps != b.Steps || strings.Join(a.Story, "\n") != strings.Join(b.Story, "\n") {
			t.Fatalf("seed %d: two runs differ: %x after %d events, %x after %d", seed, a.Hash, a.Steps, b.Hash, b.Steps)
		}
	}
}
