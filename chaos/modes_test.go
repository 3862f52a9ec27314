package chaos

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// S15 under faults: leaders and banks die and stand still while sagas, TCC, messages
// and workflows run, each first answer is dropped, and each effect happened once.
func TestModes(t *testing.T) {
	run := func(d time.Duration) (*Verdict, error) {
		o := options(t)
		o.Duration, o.Seed, o.Faults, o.Workloads = d, *chaosSeed, []string{"kill", "step", "branch"}, nil
		o.UseModes([]string{"all"})
		return Run(t.Context(), o)
	}
	v, err := run(*chaosFor * 2 / 3)
	if err != nil && v != nil && v.Anomalies == 0 { // a busy machine does little in so short a time
		t.Logf("once more, for longer: %v", vacuousBecause(v))
		v, err = run(*chaosFor * 2)
	}
	if err != nil {
		t.Fatalf("%v\nfindings: %v\nvacuous: %v", err, findings(v), vacuousBecause(v))
	}
	for _, mode := range ModesAll {
		t.Logf("%s: %+v", mode, v.Modes[mode])
		if v.Modes[mode].Committed == 0 || v.Modes[mode].CalledAgain == 0 {
			t.Errorf("%s: a green run that shows nothing", mode)
		}
	}
}

// The control: banks without a fence, whose first answers are dropped. The run must be
// red, for S15.
func TestModesWithoutTheFenceAreRed(t *testing.T) {
	o := options(t)
	o.Duration, o.Faults = 3*time.Second, []string{"none"}
	o.Workloads, o.unfenced = nil, true
	o.UseModes([]string{"all"})
	v, err := Run(t.Context(), o)
	if err == nil {
		t.Fatal("a run without the fence is green")
	}
	if !slices.ContainsFunc(v.Findings, func(f Finding) bool { return f.Promise == "S15" && strings.Contains(f.Text, "took effect 2 times") }) {
		t.Errorf("no finding says that an effect happened twice: %v", findings(v))
	}
}

func TestUseModes(t *testing.T) {
	o := NewOptions()
	o.UseModes([]string{"all"})
	o.UseModes([]string{"saga", "tcc"})
	if !slices.Equal(o.Workloads, []string{"registers", "bank", "modes"}) || !slices.Equal(o.Modes, []string{"saga", "tcc"}) {
		t.Errorf("%v, %v", o.Workloads, o.Modes)
	}
	o.Modes = []string{"sage"}
	if err := o.Validate(); err == nil || !strings.Contains(err.Error(), "sage") || !strings.Contains(err.Error(), "workflow") {
		t.Errorf("a mode that there is not: %v", err)
	}
}

// A run in which a mode did nothing proves nothing about it.
func TestModesDoubts(t *testing.T) {
	o := NewOptions()
	o.UseModes([]string{"tcc"})
	w := newModesWorkload(o).(*modesWorkload)
	doubts := w.doubts(map[string]int64{"decided_tcc_commit": 1, "effects_try": 2, "effects_confirm": 2, "repeats_tcc": 1, "late_enlists_refused": 1, "called_again_tcc": 1})
	if len(doubts) != 2 {
		t.Errorf("doubts %v: want those of rollbacks and cancels", doubts)
	}
}
