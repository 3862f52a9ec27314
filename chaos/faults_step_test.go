package chaos

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/quorate/quorate/internal/failpoint"
)

// Leaders die under each mode in turn, at each place that it has passed, and a mode
// that has passed none is left out.
func TestStepsTakeTurns(t *testing.T) {
	o := NewOptions()
	o.Dir = t.TempDir()
	o.Modes = []string{modeSaga, modeTCC, modeMessage}
	env := newEnv(o)
	var err error
	if env.sights, err = newSights(filepath.Join(o.Dir, "aim"), 3); err != nil {
		t.Fatal(err)
	}
	if _, err := armSteps(env); err != nil {
		t.Fatal(err)
	}
	if mode, _ := env.steps.next(env); mode != "" {
		t.Fatalf("nobody has passed anything, and it aims at %s", mode)
	}
	for mode, phases := range map[string][]string{modeSaga: {failpoint.Begun, failpoint.AtDecision}, modeTCC: {failpoint.Enlisted}} {
		for _, phase := range phases {
			if err := os.WriteFile(env.sights.file(modeScope(mode), phase, "note", "passed"), []byte("\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 8 {
		mode, phase := env.steps.next(env)
		env.steps.try(mode, phase)
		env.steps.dead(modeKeys(mode)+"000001#01", phase)
	}
	died := env.steps.died
	if died[modeSaga][failpoint.Begun] != 2 || died[modeSaga][failpoint.AtDecision] != 2 || died[modeTCC][failpoint.Enlisted] != 4 || len(died) != 2 {
		t.Errorf("died %v", died)
	}
	env.steps.dead("transfer-7", failpoint.Begun)
	if len(env.steps.died) != 2 {
		t.Error("a key of another workload is taken for one of a mode")
	}
}
