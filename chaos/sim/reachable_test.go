package sim

import "testing"

// Every cell of the modes' tables is declared reachable, so that a campaign that misses it
// is red, or left out with a reason; and no reason stands for what is reached.
func TestEveryCellOfTheModesIsReachedOrLeftOutWithAReason(t *testing.T) {
	lines := map[string]bool{}
	for thing := range declared(reachableModesText) {
		lines[thing] = true
	}
	if len(lines) < 500 {
		t.Fatalf("only %d lines are declared", len(lines))
	}
	for _, wrong := range checkDeclared(lines) {
		t.Error(wrong)
	}
}
