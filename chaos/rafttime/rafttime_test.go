package rafttime

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var (
	flagHours = flag.Float64("rafttime.hours", 1, "virtual hours in all")
	flagEach  = flag.Float64("rafttime.each", 0.1, "virtual hours of one run, at most; each has a seed of its own")
	flagSeed  = flag.Uint64("rafttime.seed", 1, "the first seed")
	flagNodes = flag.Int("rafttime.nodes", 0, "3 or 5 nodes; 0 for both by turns")
	flagStorm = flag.Float64("rafttime.storms", 1, "how many of the storms of clients break, from 0 to 1: fewer make an hour cheaper")
	flagJSON  = flag.String("rafttime.json", "", "write the sum of the reports to this file")
)

// memoryDir is a directory that costs no disk.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "rafttime")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// run makes one run in a bubble.
func run(t *testing.T, cfg Config) (r Report, broken, trace []string) {
	t.Helper()
	cfg.Dir = memoryDir(t)
	defer os.RemoveAll(cfg.Dir) // a campaign makes many, of hundreds of megabytes each
	begun := time.Now()
	ended := false
	defer func() {
		r.Seconds = time.Since(begun).Seconds()
		// Futures that the library holds when it is shut down are never answered,
		// and a goroutine waits for each (raftnode's await says so): in a process
		// that ends it does no harm, but a bubble calls it a deadlock.
		if p := recover(); p != nil && (!ended || !strings.Contains(fmt.Sprint(p), "blocked goroutines remain")) {
			panic(p)
		}
	}()
	synctest.Test(t, func(*testing.T) {
		r, broken, trace = Run(cfg)
		ended = true
	})
	return r, broken, trace
}

// TestRaft runs clusters for a while.
func TestRaft(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(300)) // what lives is small, and what is thrown away is not
	total := Report{Suite: "rafttime", Seed: *flagSeed, Nodes: *flagNodes}
	for seed := *flagSeed; total.VirtualHours < *flagHours && !t.Failed(); seed++ {
		cfg := Config{Seed: seed, Nodes: *flagNodes, Storms: *flagStorm, For: time.Duration(min(*flagEach, *flagHours) * float64(time.Hour))}
		if cfg.Nodes == 0 {
			cfg.Nodes = 3 + 2*int(seed%2)
		}
		r, broken, trace := run(t, cfg)
		total.Add(r)
		save(t, total)
		if len(broken) > 0 {
			t.Errorf("seed %d, %d nodes:\n%s\nafter\n%s\nagain, most likely: go test ./chaos/rafttime -run TestRaft -rafttime.seed=%d -rafttime.nodes=%d -rafttime.hours=%g",
				seed, cfg.Nodes, strings.Join(broken, "\n"), strings.Join(trace, "\n"), seed, cfg.Nodes, cfg.For.Hours())
		}
	}
	t.Logf("%s", save(t, total))
}

// save writes the sum so far, so that a run that is ended early has counted.
func save(t *testing.T, total Report) []byte {
	t.Helper()
	line, err := json.Marshal(total)
	if err == nil && *flagJSON != "" {
		err = os.WriteFile(*flagJSON, append(line, '\n'), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return line
}

// TestALazyDiskIsFound plants the bug that a disk says done before it is (bbolt's
// NoSync): what a crash then takes back must be noticed.
func TestALazyDiskIsFound(t *testing.T) {
	for seed := uint64(1); seed <= 5; seed++ {
		r, broken, _ := run(t, Config{Seed: seed, Nodes: 3, For: 6 * time.Minute, Storms: 1, Lazy: true})
		if len(broken) > 0 && r.LostWrites > 0 {
			t.Logf("seed %d: %s", seed, broken[0])
			return
		}
	}
	t.Error("disks lost what they had acknowledged, and nobody noticed")
}
