package sim

import (
	"testing"
	"time"
)

func TestPlantedBugsAreFound(t *testing.T) {
	for _, bug := range Bugs {
		t.Run(string(bug), func(t *testing.T) {
			start := time.Now()
			for seed := uint64(1); seed <= 3000; seed++ {
				if r := Run(NewPlan(seed, Options{}), How{Bug: bug}); len(r.Violations) > 0 {
					t.Logf("seed %d after %v: %v", seed, time.Since(start).Round(time.Millisecond), r.Violations[0])
					return
				}
			}
			t.Errorf("not found in 3000 seeds, %v", time.Since(start))
		})
	}
}
