package sim

import (
	"strings"
	"testing"
	"time"
)

// modesSeeds is how many seeds TestModes runs.
const modesSeeds = 250

// Sagas, TCC and messages beside two-phase transactions, under the same faults and
// with shops that die and stand still: every promise of the others, and S15.
func TestModes(t *testing.T) {
	cover := NewCoverage()
	began := time.Now()
	for seed := uint64(1); seed <= modesSeeds; seed++ {
		r := Run(NewPlan(seed, Options{Modes: true}), How{})
		cover.Add(r.Coverage)
		if len(r.Violations) > 0 {
			story := Run(NewPlan(seed, Options{Modes: true}), How{Trace: true}).Story
			t.Fatalf("seed %d: %v\n%s", seed, r.Violations[0], strings.Join(story[max(0, len(story)-80):], "\n"))
		}
	}
	for _, what := range []string{
		"saga commit", "saga rollback", "tcc commit", "tcc rollback", "message commit", "message rollback",
		"effect action", "effect compensate", "effect try", "effect confirm", "effect cancel", "effect local",
	} {
		if cover.Met[what] < modesSeeds/10 {
			t.Errorf("%s: only %d times in %d seeds", what, cover.Met[what], modesSeeds)
		}
	}
	t.Logf("%d seeds in %v", modesSeeds, time.Since(began).Round(time.Millisecond))
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

// The same plan is the same run.
func TestModesAreAFunctionOfTheSeed(t *testing.T) {
	a, b := Run(NewPlan(7, Options{Modes: true}), How{}), Run(NewPlan(7, Options{Modes: true}), How{})
	if a.Hash != b.Hash || a.Steps != b.Steps {
		t.Errorf("two runs of one seed differ: %d and %d steps", a.Steps, b.Steps)
	}
}

// The control: shops without a fence are found out.
func TestModesWithoutAFenceAreFound(t *testing.T) {
	for seed := uint64(1); seed <= plantedSeeds; seed++ {
		if r := Run(NewPlan(seed, Options{Modes: true}), How{Bug: BugShopWithoutFence}); len(r.Violations) > 0 {
			if r.Violations[0].Promise != "S15" {
				t.Errorf("seed %d: %v", seed, r.Violations[0])
			}
			t.Logf("seed %d: %v", seed, r.Violations[0])
			return
		}
	}
	t.Errorf("not found in %d seeds", plantedSeeds)
}
