package skew

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// program is small: it imports time alone, so that building it takes seconds.
const program = `package main

import "time"

func main() {
	begun, wall := time.Now(), time.Now().UnixNano()
	timer := time.NewTimer(200 * time.Millisecond)
	<-timer.C
	println(time.Since(begun).Milliseconds(), (time.Now().UnixNano()-wall)/1e6)
}
`

// ran is what the program measured of its own 200 ms timer, in milliseconds, and
// how long it ran in truth.
func run(t *testing.T, binary string, env ...string) (mono, wall int64, truth time.Duration) {
	t.Helper()
	cmd := exec.Command(binary)
	cmd.Env = append(os.Environ(), env...)
	begun := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	truth = time.Since(begun)
	if _, err := fmt.Sscan(string(out), &mono, &wall); err != nil {
		t.Fatalf("it said %q: %v", out, err)
	}
	return mono, wall, truth
}

func TestClocksAreWrongAsAsked(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module p\n\ngo 1.26\n", "main.go": program} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	binary := filepath.Join(dir, "p")
	if err := Build(t.Context(), dir, binary, "."); err != nil {
		t.Fatal(err)
	}
	if skewed, err := IsSkewed(binary); err != nil || !skewed {
		t.Errorf("the program is not known as skewed: %v", err)
	}
	if self, err := os.Executable(); err != nil {
		t.Error(err)
	} else if skewed, err := IsSkewed(self); err != nil || skewed {
		t.Errorf("this test is taken for a skewed program: %v", err)
	}

	t.Run("right without being asked", func(t *testing.T) {
		mono, wall, truth := run(t, binary)
		if mono < 200 || truth < 200*time.Millisecond || wall < 199 || wall > 10_000 {
			t.Errorf("a timer of 200 ms took %d ms, %d by the wall, %v in truth", mono, wall, truth)
		}
	})
	t.Run("four times as fast", func(t *testing.T) {
		mono, wall, truth := run(t, binary, Clock{Rate: 400}.Env())
		if mono < 200 || wall < 199 || truth < 50*time.Millisecond || truth > 4*time.Duration(mono)*time.Millisecond {
			t.Errorf("a timer of 200 ms took %d ms, %d by the wall, %v in truth", mono, wall, truth)
		}
		if truth >= 200*time.Millisecond {
			t.Logf("slow machine: %v", truth)
		}
	})
	t.Run("half as fast", func(t *testing.T) {
		mono, _, truth := run(t, binary, Clock{Rate: 50}.Env())
		if mono < 200 || truth < 400*time.Millisecond {
			t.Errorf("a timer of 200 ms took %d ms, %v in truth", mono, truth)
		}
	})
	t.Run("a day ahead, and back", func(t *testing.T) {
		day := int64(24 * time.Hour / time.Millisecond)
		_, wall, _ := run(t, binary, Clock{Jumps: []Jump{{After: 100 * time.Millisecond, By: 24 * time.Hour}}}.Env())
		if wall < day || wall > day+10_000 {
			t.Errorf("the wall clock moved %d ms", wall)
		}
		mono, wall, _ := run(t, binary, Clock{Jumps: []Jump{{After: 100 * time.Millisecond, By: -24 * time.Hour}}}.Env())
		if wall > -day+10_000 || mono < 200 || mono > 10_000 {
			t.Errorf("the wall clock moved %d ms, the monotonic one %d", wall, mono)
		}
	})
}
