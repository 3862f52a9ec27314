package chaos

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var (
	chaosFor  = flag.Duration("chaos.duration", 12*time.Second, "how long TestChaos hurts the cluster")
	chaosSeed = flag.Uint64("chaos.seed", 0, "seed of TestChaos; 0: a new one")
)

// binary is the quorate program of this source, built once.
var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "quorate-chaos-test-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "quorate")
	if out, err := exec.Command("go", "build", "-o", binary, "../cmd/quorate").CombinedOutput(); err != nil {
		return 1, fmt.Errorf("build quorate: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// options are those of a short run in the test's directory, which stays when the
// test fails.
func options(t *testing.T) Options {
	t.Helper()
	o := NewOptions()
	o.Binary, o.Clients, o.Rate, o.Workloads = binary, 8, 40, []string{"registers"}
	dir, err := os.MkdirTemp("", "quorate-chaos-run-")
	if err != nil {
		t.Fatal(err)
	}
	o.Dir = dir
	o.Progress = t.Output()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("everything is kept in %s", dir)
			return
		}
		_ = os.RemoveAll(dir)
	})
	return o
}

// A minute of the real thing, shortened: leaders and followers die and stand
// still, and every promise holds.
func TestChaos(t *testing.T) {
	o := options(t)
	o.Duration, o.Seed, o.Faults = *chaosFor, *chaosSeed, []string{"kill", "pause"}
	v, err := Run(t.Context(), o)
	if err != nil {
		t.Fatalf("%v\nfindings: %v\nvacuous: %v", err, findings(v), vacuousBecause(v))
	}
	t.Logf("%d operations, %d commits, faults %v, failover %+v", v.Operations, v.Commits, v.Faults, v.FailoverMS)
	if len(v.Faults) == 0 || v.Commits == 0 || v.Replay.Commands == 0 || !v.Replay.Whole {
		t.Errorf("a green run that shows nothing: %+v", v)
	}
}

// Control: without faults the run is green, and what is only asked to commit does.
func TestControlWithoutFaultsIsGreen(t *testing.T) {
	o := options(t)
	o.Duration, o.Faults = 3*time.Second, []string{"none"}
	v, err := Run(t.Context(), o)
	if err != nil {
		t.Fatalf("%v\nfindings: %v\nvacuous: %v", err, findings(v), vacuousBecause(v))
	}
	if len(v.Faults) != 0 || v.Unknown > v.Operations/100 {
		t.Errorf("faults %v, %d of %d operations unknown: want none of either", v.Faults, v.Unknown, v.Operations)
	}
}

// Control: faults that never fire prove nothing, and a green run of them would
// lie. The run says so, and is red.
func TestControlFaultsThatNeverFireAreVacuous(t *testing.T) {
	whole := Table
	t.Cleanup(func() { Table = whole })
	Table = []Fault{{
		Name: "cut-nothing", Kind: "partition", Doc: "a partition that drops no byte", Hold: Range{Max: time.Millisecond},
		Inject: func(context.Context, *Env) (*Injection, error) {
			return &Injection{
				Target: "nobody", Heal: func(context.Context) error { return nil },
				Evidence: func() (string, error) { return "", errors.New("no byte was dropped") },
			}, nil
		},
	}}
	o := options(t)
	o.Duration = 2 * time.Second
	v, err := Run(t.Context(), o)
	if err == nil || v == nil || !v.Vacuous || !v.Clean() {
		t.Fatalf("error %v, verdict %+v: want a clean run that is vacuous", err, v)
	}
	if because := vacuousBecause(v); !strings.Contains(because, "no evidence for cut-nothing of nobody: no byte was dropped") {
		t.Errorf("vacuous because %s", because)
	}
}

// An interrupted run heals what it hurt and leaves no process.
func TestInterruptLeavesNoProcess(t *testing.T) {
	o := options(t)
	o.Duration, o.Faults = time.Hour, []string{"pause-follower", "kill-follower"}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(4*time.Second, cancel)
	v, err := Run(ctx, o)
	if err == nil {
		t.Error("an interrupted run is green")
	}
	if v != nil && !strings.Contains(vacuousBecause(v), "interrupted") {
		t.Errorf("vacuous because %s: want it to name the interruption", vacuousBecause(v))
	}
	left, _ := exec.Command("pgrep", "-f", o.Dir).Output()
	if text := strings.TrimSpace(string(left)); text != "" {
		t.Errorf("processes are left: %s", text)
	}
}

func findings(v *Verdict) string {
	if v == nil {
		return "no verdict"
	}
	var b strings.Builder
	for _, f := range v.Findings {
		b.WriteString("\n  " + f.String())
	}
	return b.String()
}

func vacuousBecause(v *Verdict) string {
	if v == nil {
		return "no verdict"
	}
	return strings.Join(v.VacuousBecause, "; ")
}

// Partitions, bad links, and messages that come twice, late or not at all.
func TestChaosOfTheNetwork(t *testing.T) {
	o := options(t)
	o.Duration, o.Seed, o.Faults = *chaosFor, *chaosSeed, []string{"partition", "link", "duplicate"}
	v, err := Run(t.Context(), o)
	if err != nil {
		t.Fatalf("%v\nfindings: %v\nvacuous: %v", err, findings(v), vacuousBecause(v))
	}
	t.Logf("%d operations, %d commits, faults %v", v.Operations, v.Commits, v.Faults)
	if len(v.Faults) == 0 || v.Commits == 0 || !v.Replay.Whole {
		t.Errorf("a green run that shows nothing: %+v", v)
	}
}
