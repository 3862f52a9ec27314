package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/pprof/profile"

	"github.com/quorate/quorate/internal/bench"
)

// profileTop is where a leader's CPU goes.
type profileTop struct {
	Side    string  `json:"side"`
	Seconds float64 `json:"seconds"` // of CPU
	// LeaderUS is what the leader needed for a transaction.
	LeaderUS float64 `json:"leader_cpu_us_per_tx"`
	// Areas are shares of what the samples were in, Functions of the functions
	// themselves, the largest first.
	Areas     []share `json:"areas"`
	Functions []share `json:"functions"`
}

type share struct {
	What string  `json:"what"`
	Of   float64 `json:"of"`
}

// profiled is the load under which the leader is looked at.
const (
	profiledScenario = "decide"
	profiledCallers  = 64
	profiledFor      = 15 * time.Second
	profiledStore    = "wal"
)

// runProfile profiles all nodes of product and floor, and sums their leaders up.
func runProfile(ctx context.Context, s settings, _ part) (got result, err error) {
	dir, err := os.MkdirTemp("", "quorate-profile-")
	if err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	args := []string{"bench", profiledScenario, "--callers", strconv.Itoa(profiledCallers), "--log-store", profiledStore, "--runs", "1", "--duration", profiledFor.String()}
	got.Command = "quorate " + strings.Join(args, " ") + " --cpu-profile DIR"
	out, err := output(ctx, 5*time.Minute, s.binary, append(args, "--cpu-profile", dir, "-o", "runs")...)
	if err != nil {
		return got, err
	}
	var report bench.FullReport
	if err := json.Unmarshal(out, &report); err != nil {
		return got, err
	}
	for _, side := range []string{"product", "floor"} {
		leader, err := busiest(filepath.Join(dir, side))
		if err != nil {
			return got, err
		}
		one := top(side, leader)
		if slices := report.Rows[0].Slices[side]; len(slices) > 0 && slices[0].Cost != nil {
			one.LeaderUS = slices[0].Cost.LeaderUS
		}
		got.Profiles = append(got.Profiles, one)
	}
	return got, nil
}

// busiest is the leader's profile: followers have less to do.
func busiest(dir string) (leader *profile.Profile, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "n*.cpu.pprof")) // of nodes
	if err != nil {
		return nil, err
	}
	for _, path := range files {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		p, err := profile.Parse(f)
		_ = f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if leader == nil || total(p) > total(leader) {
			leader = p
		}
	}
	if leader == nil {
		return nil, fmt.Errorf("no profile was written to %s", dir)
	}
	return leader, nil
}

// total is the CPU of all samples, in nanoseconds: the last value of each.
func total(p *profile.Profile) (sum int64) {
	for _, s := range p.Sample {
		sum += s.Value[len(s.Value)-1]
	}
	return sum
}

// functionsShown is how many functions are named.
const functionsShown = 20

// top sums a profile up.
func top(side string, p *profile.Profile) profileTop {
	all := total(p)
	areas, functions := map[string]int64{}, map[string]int64{}
	for _, s := range p.Sample {
		cpu := s.Value[len(s.Value)-1]
		stack := frames(s)
		areas[areaOf(stack)] += cpu
		if len(stack) > 0 {
			functions[stack[0]] += cpu
		}
	}
	t := profileTop{Side: side, Seconds: float64(all) / 1e9, Areas: shares(areas, all), Functions: shares(functions, all)}
	t.Functions = t.Functions[:min(len(t.Functions), functionsShown)]
	return t
}

// frames are the names of a sample's functions, the innermost first.
func frames(s *profile.Sample) (names []string) {
	for _, at := range s.Location {
		for _, line := range at.Line {
			if line.Function != nil {
				names = append(names, line.Function.Name)
			}
		}
	}
	return names
}

func shares(of map[string]int64, all int64) (list []share) {
	for what, cpu := range of {
		list = append(list, share{what, float64(cpu) / float64(all)})
	}
	slices.SortFunc(list, func(a, b share) int { return cmp.Or(cmp.Compare(b.Of, a.Of), strings.Compare(a.What, b.What)) })
	return list
}
