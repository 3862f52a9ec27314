// Mutate asks whether a package's tests would notice a bug: it plants one at a
// time, a negated condition or a dropped statement, and runs the package's own
// tests against it. The source is never touched: `go test -overlay` reads the
// mutant from a temporary file. The same seed plants the same bugs.
//
//	go run ./internal/tools/mutate -pkg ./fsm -n 50 -seed 1 -min 45 -testflags -rapid.nofailfile
//
// Tests that keep what failed beside the source must be told not to, as above:
// one mutant's failure would be replayed against the next.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"
)

// config is what the flags say.
type config struct {
	pkg     string
	n       int
	seed    uint64
	min     int
	jobs    int
	timeout time.Duration
	only    string
	flags   string
	list    bool
}

func main() {
	var c config
	flag.StringVar(&c.pkg, "pkg", "./fsm", "directory of the package to mutate")
	flag.IntVar(&c.n, "n", 50, "mutants that build to try")
	flag.Uint64Var(&c.seed, "seed", 1, "seed of the sample")
	flag.IntVar(&c.min, "min", 0, "mutants that must be killed")
	flag.IntVar(&c.jobs, "jobs", runtime.GOMAXPROCS(0), "mutants tried at a time")
	flag.DurationVar(&c.timeout, "timeout", 2*time.Minute, "time for one mutant's tests; one that hangs is killed")
	flag.StringVar(&c.only, "only", "", "plant only in files whose name holds this")
	flag.StringVar(&c.flags, "testflags", "", "flags for the package's tests, separated by spaces")
	flag.BoolVar(&c.list, "list", false, "list all mutants and stop")
	flag.Parse()
	if err := run(c); err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

func run(c config) error {
	mutants, err := find(c.pkg, c.only)
	if err != nil {
		return err
	}
	if c.list {
		for _, m := range mutants {
			fmt.Println(m)
		}
		return nil
	}
	if len(mutants) == 0 {
		return fmt.Errorf("nothing to mutate in %s", c.pkg)
	}
	// The package must be green as it is, or every mutant would seem killed.
	if out, err := test(c, ""); err != nil {
		return fmt.Errorf("%s fails without a mutant: %w\n%s", c.pkg, err, out)
	}
	random := rand.New(rand.NewPCG(c.seed, 0))
	random.Shuffle(len(mutants), func(i, j int) { mutants[i], mutants[j] = mutants[j], mutants[i] })

	killed, survived, err := try(c, mutants)
	if err != nil {
		return err
	}
	fmt.Printf("\n%d of %d mutants killed (seed %d, %d possible)\n", killed, killed+survived, c.seed, len(mutants))
	if killed < c.min {
		return fmt.Errorf("%d mutants killed, at least %d must be", killed, c.min)
	}
	return nil
}

// try plants mutants until n have built, and reports each.
func try(c config, mutants []mutant) (killed, survived int, err error) {
	dir, err := os.MkdirTemp("", "mutate-")
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()

	var (
		mu      sync.Mutex
		next    int
		running int
		failed  error
		group   sync.WaitGroup
	)
	// take hands out the next mutant while more are wanted.
	take := func() (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		if failed != nil || next == len(mutants) || killed+survived+running >= c.n {
			return 0, false
		}
		running++
		next++
		return next - 1, true
	}
	for range c.jobs {
		group.Go(func() {
			for i, ok := take(); ok; i, ok = take() {
				verdict, err := judge(c, dir, i, mutants[i])
				mu.Lock()
				running--
				switch {
				case err != nil:
					failed = errors.Join(failed, err)
				case verdict == "killed":
					killed++
				case verdict == "SURVIVED":
					survived++
				}
				if verdict != "unbuildable" {
					fmt.Printf("%-9s %s\n", verdict, mutants[i])
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	return killed, survived, failed
}

// judge runs the tests against one mutant.
func judge(c config, dir string, i int, m mutant) (string, error) {
	source, err := os.ReadFile(m.file)
	if err != nil {
		return "", err
	}
	path, err := filepath.Abs(m.file)
	if err != nil {
		return "", err
	}
	mutated := filepath.Join(dir, fmt.Sprintf("%d.go", i))
	if err := os.WriteFile(mutated, m.apply(source), 0o600); err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, fmt.Sprintf("%d.json", i))
	content, err := json.Marshal(map[string]any{"Replace": map[string]string{path: mutated}})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(overlay, content, 0o600); err != nil {
		return "", err
	}
	if err := exec.Command("go", "build", "-overlay", overlay, c.pkg).Run(); err != nil {
		return "unbuildable", nil // an unused variable, most often
	}
	out, err := test(c, overlay)
	if err == nil {
		return "SURVIVED", nil
	}
	if bytes.Contains(out, []byte("[build failed]")) {
		return "unbuildable", nil
	}
	return "killed", nil
}

// test runs the package's own tests.
func test(c config, overlay string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout+30*time.Second)
	defer cancel()
	args := []string{"test", "-count=1", "-failfast", "-vet=off", "-timeout", c.timeout.String()}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	args = append(append(args, c.pkg), strings.Fields(c.flags)...)
	return exec.CommandContext(ctx, "go", args...).CombinedOutput()
}

// String names a mutant: where it is, and what is planted.
func (m mutant) String() string {
	return fmt.Sprintf("%s:%d %s: %s", m.file, m.line, m.kind, strings.Join(strings.Fields(m.text), " "))
}
