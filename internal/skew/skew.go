// Package skew builds programs whose clock is wrong.
//
// It replaces a few lines of the standard library's package time for the length
// of a build (go build -overlay): the whole process then lives by another clock,
// the Raft library's timers and gRPC's keepalives as well as our own code. The
// sources hold no switch, so no build that lacks the overlay can be skewed; and
// what is skewed is not only what we thought of injecting.
//
// A program built so takes its clock from the environment variable named by
// [Variable] at its start; without it, the clock is right.
package skew

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Variable names the environment variable that sets the clock of a skewed
// program; see [Clock].
const Variable = "QUORATE_TEST_CLOCK"

// Clock is how wrong a clock is.
type Clock struct {
	// Rate is how many seconds it counts in a second, in hundredths; 0 counts as
	// 100, which is right.
	Rate int
	// Jumps of the wall clock. The monotonic clock never jumps.
	Jumps []Jump
}

// Jump is a step of the wall clock.
type Jump struct {
	// After is when it happens, counted from the program's start in real time.
	After time.Duration
	// By is how far, either way.
	By time.Duration
}

// Env is the clock as an entry of an environment.
func (c Clock) Env() string {
	words := []string{}
	if c.Rate != 0 {
		words = append(words, fmt.Sprintf("rate=%d", c.Rate))
	}
	for _, j := range c.Jumps {
		words = append(words, fmt.Sprintf("jump=%d@%d", j.By.Nanoseconds(), j.After.Nanoseconds()))
	}
	return Variable + "=" + strings.Join(words, " ")
}

func (c Clock) String() string {
	var words []string
	if c.Rate != 0 && c.Rate != 100 {
		words = append(words, fmt.Sprintf("%.2fx as fast", float64(c.Rate)/100))
	}
	for _, j := range c.Jumps {
		words = append(words, fmt.Sprintf("%+v after %v", j.By, j.After.Round(time.Millisecond)))
	}
	return strings.Join(words, ", ")
}

// marker is in every skewed program, and in no other: put together here, so that
// it is not in this one.
func marker() string {
	return strings.Join([]string{"quorate: the clock", "of this program", "may be wrong"}, " ")
}

// IsSkewed says whether a program was built so.
func IsSkewed(program string) (bool, error) {
	text, err := os.ReadFile(program)
	return bytes.Contains(text, []byte(marker())), err
}

// Build builds a package of the module in dir to output, with the clock that
// can be set.
func Build(ctx context.Context, dir, output, pkg string) error {
	work, err := os.MkdirTemp("", "quorate-skew-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	overlay, err := Overlay(ctx, work)
	if err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-overlay", overlay, "-o", output, pkg)
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s with a skewed clock: %w\n%s", pkg, err, out)
	}
	return nil
}

// Overlay writes the changed files into work, and the list of them that the go
// command wants, whose path it returns.
func Overlay(ctx context.Context, work string) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("ask for GOROOT: %w", err)
	}
	replace := map[string]string{}
	for name, changes := range patches {
		source := filepath.Join(strings.TrimSpace(string(out)), "src", "time", name)
		text, err := os.ReadFile(source)
		if err != nil {
			return "", err
		}
		for _, c := range changes {
			if n := strings.Count(string(text), c.old); n != c.times {
				return "", fmt.Errorf("%s holds %q %d times, not %d: this Go's package time is another one; mend internal/skew", source, c.old, n, c.times)
			}
			text = []byte(strings.ReplaceAll(string(text), c.old, strings.ReplaceAll(c.new, "MARKER", marker())))
		}
		copied := filepath.Join(work, name)
		if err := os.WriteFile(copied, text, 0o600); err != nil {
			return "", err
		}
		replace[source] = copied
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(work, "overlay.json")
	return path, os.WriteFile(path, list, 0o600)
}
