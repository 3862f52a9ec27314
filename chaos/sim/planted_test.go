package sim

import (
	"strings"
	"testing"
)

// plantedSeeds is within how many seeds a planted bug must be found: a few seconds.
const plantedSeeds = 1000

// A simulator counts once it has been shown to catch: each of these breaks one rule
// in the simulated parts. The unplanted control is TestSeeds, over the same seeds.
func TestPlantedBugsAreFound(t *testing.T) {
	for _, bug := range Bugs {
		t.Run(string(bug), func(t *testing.T) {
			t.Parallel()
			for seed := uint64(1); seed <= plantedSeeds; seed++ {
				if r := Run(NewPlan(seed, Options{}), How{Bug: bug}); len(r.Violations) > 0 {
					t.Logf("seed %d: %v", seed, r.Violations[0])
					return
				}
			}
			t.Errorf("not found in %d seeds", plantedSeeds)
		})
	}
}

func TestAFailingSeedTellsAShortStory(t *testing.T) {
	how := How{Bug: BugVoteBeforePrepared}
	plan := NewPlan(1, Options{})
	before := Run(plan, how)
	if len(before.Violations) == 0 {
		t.Fatal("seed 1 does not find the planted bug any more: choose another")
	}
	small := Shrink(plan, how)
	after := Run(small, how)
	if len(after.Violations) == 0 || after.Violations[0].Promise != before.Violations[0].Promise {
		t.Fatalf("shrunk, it is another failure: %v, before %v", after.Violations, before.Violations)
	}
	if len(small.Faults)+len(small.Txs) >= len(plan.Faults)+len(plan.Txs) {
		t.Errorf("%d faults and %d transactions, and none could be left out", len(plan.Faults), len(plan.Txs))
	}
	if story := Story(small, how); !strings.Contains(story, "ORACLE") {
		t.Errorf("the story does not come to the point:\n%s", story)
	}
}
