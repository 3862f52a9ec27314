package main

import (
	"bufio"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// goBenchmark is one line of `go test -bench`.
type goBenchmark struct {
	Package string             `json:"package"`
	Name    string             `json:"name"`
	Figures map[string]float64 `json:"figures"` // by unit
}

// goPackages are those with benchmarks of what every transaction runs through, and
// goWanted the benchmarks.
var goPackages = []string{"./fsm", "./coordinator", "./api", "./raftnode", "./participant/...", "./internal/bench/..."}

// goTime is how long each runs.
const goTime = "300ms"

// runGo runs the Go benchmarks.
func runGo(ctx context.Context, _ settings, _ part) (result, error) {
	// Failover is measured elsewhere, and takes minutes.
	args := slices.Concat([]string{"test", "-run", "^$", "-bench", ".", "-skip", "BenchmarkFailover", "-benchmem", "-benchtime", goTime}, goPackages)
	out, err := output(ctx, 20*time.Minute, "go", args...)
	if err != nil {
		return result{}, err
	}
	got := result{Command: "go " + strings.Join(args, " "), Go: parseGo(string(out))}
	if len(got.Go) == 0 {
		return got, fmt.Errorf("no benchmark ran:\n%s", out)
	}
	return got, nil
}

// cpus is what `go test` appends to a benchmark's name.
var cpus = regexp.MustCompile(`-\d+$`)

// parseGo reads `pkg: P` and `BenchmarkX-2  N  1.5 ns/op  3 B/op ...`.
func parseGo(out string) (all []goBenchmark) {
	pkg := ""
	for lines := bufio.NewScanner(strings.NewReader(out)); lines.Scan(); {
		line := lines.Text()
		if name, ok := strings.CutPrefix(line, "pkg: "); ok {
			pkg = strings.TrimPrefix(strings.TrimPrefix(name, "github.com/quorate/quorate"), "/")
			continue
		}
		words := strings.Fields(line)
		if len(words) < 4 || !strings.HasPrefix(words[0], "Benchmark") {
			continue
		}
		b := goBenchmark{Package: pkg, Name: cpus.ReplaceAllString(strings.TrimPrefix(words[0], "Benchmark"), ""), Figures: map[string]float64{}}
		for i := 2; i+1 < len(words); i += 2 {
			if v, err := strconv.ParseFloat(words[i], 64); err == nil {
				b.Figures[words[i+1]] = v
			}
		}
		all = append(all, b)
	}
	return all
}
