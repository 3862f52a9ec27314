package sim

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var (
	flagSeeds = flag.Uint64("sim.seeds", 20, "how many seeds to run")
	flagFrom  = flag.Uint64("sim.from", 1, "the first seed")
	flagSeed  = flag.Uint64("sim.seed", 0, "run this seed alone")
	flagTrace = flag.Bool("sim.trace", false, "print the story of the seed")
)

func TestSeeds(t *testing.T) {
	if *flagSeed != 0 {
		r := Run(NewPlan(*flagSeed, Options{}), BugNone, *flagTrace)
		if *flagTrace {
			os.Stdout.WriteString(strings.Join(r.Story, "\n") + "\n")
		}
		t.Logf("%+v", r.Violations)
		t.Logf("steps %d delivered %d commits %d rollbacks %d faults %v ended %v", r.Steps, r.Delivered, r.Commits, r.Rollbacks, r.Faults, r.Ended)
		if len(r.Violations) > 0 {
			t.Fail()
		}
		return
	}
	for seed := *flagFrom; seed < *flagFrom+*flagSeeds; seed++ {
		r := Run(NewPlan(seed, Options{}), BugNone, false)
		if len(r.Violations) > 0 {
			t.Errorf("seed %d: %v", seed, r.Violations[0])
		}
		if testing.Verbose() {
			t.Logf("seed %d steps %d delivered %d commits %d rollbacks %d faults %v ended %v", seed, r.Steps, r.Delivered, r.Commits, r.Rollbacks, r.Faults, r.Ended)
		}
	}
}

func TestTheSameSeedIsTheSameRun(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		a, b := Run(NewPlan(seed, Options{}), BugNone, true), Run(NewPlan(seed, Options{}), BugNone, true)
		if a.Hash != b.Hash || a.Steps != b.Steps || strings.Join(a.Story, "\n") != strings.Join(b.Story, "\n") {
			t.Fatalf("seed %d: two runs differ: %x after %d events, %x after %d", seed, a.Hash, a.Steps, b.Hash, b.Steps)
		}
	}
}
