package sim

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// modesSeeds is how many seeds TestModes runs.
const modesSeeds = 250

// Every mode beside two-phase transactions, topics that change and operators who stop
// things, under the same faults and with shops that die and stand still: every promise of
// the others, and S15.
func TestModes(t *testing.T) {
	total := (&Campaign{From: 1, Seeds: modesSeeds, Options: Options{Modes: true}}).Run()
	for _, r := range total.Failed {
		tell(t, r, true)
	}
	if t.Failed() {
		return
	}
	for _, thing := range total.Missing() {
		t.Errorf("declared reachable, and not reached: %s", thing)
	}
	for _, what := range []string{
		"saga commit", "saga rollback", "tcc commit", "tcc rollback", "message commit", "message rollback",
		"workflow commit", "workflow rollback", "notify commit", "notify gave up", "stopped",
		"effect action", "effect compensate", "effect try", "effect confirm", "effect cancel", "effect local",
		"workflow cut off", "workflow resumed", "workflow replayed", "record: VOTE_CONFLICT",
		"subscribe: OK", "unsubscribe: OK", "topic of 0", "topic of 1", "topic of 2",
	} {
		if n := total.Coverage.Met[what]; n < modesSeeds/20 { // the rarest comes in one of eleven
			t.Errorf("%s: only %d times in %d seeds", what, n, modesSeeds)
		}
	}
	t.Logf("%d seeds, %.0f a minute", total.Seeds, float64(total.Seeds)/total.Seconds*60)
}

// S4 of these modes: without faults, what nobody refuses commits.
func TestModesCalm(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		plan := NewPlan(seed, Options{Modes: true, Calm: true})
		r := Run(plan, How{})
		if len(r.Violations) > 0 {
			t.Fatalf("seed %d: %v", seed, r.Violations[0])
		}
		if want := len(plan.Called) + len(plan.Txs); r.Commits != want {
			t.Errorf("seed %d: %d commits, want all %d", seed, r.Commits, want)
		}
	}
}

// The same plan is the same run, to the last word.
func TestModesAreAFunctionOfTheSeed(t *testing.T) {
	for seed := uint64(1); seed <= 15; seed++ {
		a, b := Run(NewPlan(seed, Options{Modes: true}), How{Trace: true}), Run(NewPlan(seed, Options{Modes: true}), How{Trace: true})
		if a.Hash != b.Hash || a.Steps != b.Steps || strings.Join(a.Story, "\n") != strings.Join(b.Story, "\n") {
			t.Errorf("seed %d: two runs differ: %d and %d steps", seed, a.Steps, b.Steps)
		}
	}
}

// The control: each rule of these modes finds what it is there for, by its own promise.
func TestPlantedBugsOfTheModesAreFound(t *testing.T) {
	for _, bug := range slices.Sorted(maps.Keys(ModeBugs)) {
		t.Run(string(bug), func(t *testing.T) {
			t.Parallel()
			for seed := uint64(1); seed <= plantedSeeds; seed++ {
				r := Run(NewPlan(seed, Options{Modes: true}), How{Bug: bug})
				if len(r.Violations) == 0 {
					continue
				}
				if r.Violations[0].Promise != ModeBugs[bug] {
					t.Errorf("want it found by %s", ModeBugs[bug])
				}
				t.Logf("seed %d: %v", seed, r.Violations[0])
				return
			}
			t.Errorf("not found in %d seeds", plantedSeeds)
		})
	}
}
