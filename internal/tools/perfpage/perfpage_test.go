package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/pprof/profile"

	"github.com/quorate/quorate/internal/bench"
)

// TestThePageIsWhatWasMeasured: docs/performance.md holds the figures of
// docs/performance.json and no others, so that none is written by hand.
func TestThePageIsWhatWasMeasured(t *testing.T) {
	docs := filepath.Join("..", "..", "..", "docs")
	r, err := readResults(filepath.Join(docs, "performance.json"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(docs, "performance.md"))
	if err != nil {
		t.Fatal(err)
	}
	want, err := replaced(string(text), r)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Errorf("docs/performance.md is not what docs/performance.json gives: run `go run ./internal/tools/perfpage -render` (-want +got)\n%s", diff)
	}
}

func ptr(v float64) *float64 { return &v }

// sample is a result of each kind.
func sample() *results {
	r := &results{}
	when := stamp{Date: "2026-01-02 03:04", Commit: "abc", Machine: "2 x CPU", Go: "go1", Etcd: "3.4", FsyncUS: 120, Load: 0.25}
	row := bench.FullRow{
		Row: bench.Row{
			Scenario: "decide", Callers: 64, PerSecond: 12345.6, P50MS: 1.5, P99MS: 3, Floor: ptr(20000), Ratio: ptr(0.62), Records: ptr(3),
			LeaderUS: ptr(50), FloorLeaderUS: ptr(40), Before: ptr(1), RateSpread: [2]float64{12000, 13000}, RatioSpread: &[2]float64{0.6, 0.65},
			OfPropose: ptr(1.25), OfEtcd: ptr(1.7),
		},
		Slices:     map[string][]bench.Slice{"product": {{PerSecond: 12345.6, Cost: &bench.Cost{Records: 3}}}},
		Footprints: map[string]bench.Footprint{"product": {Before: 1, Records: 3, LogBytes: 800}, "floor": {Before: 1, Records: 2, LogBytes: 900}},
	}
	etcd := bench.FullRow{Row: bench.Row{Scenario: "etcd-put", Callers: 64, PerSecond: 7262}}
	r.put(result{Name: "profile", Command: "quorate bench decide", Stamp: when, Profiles: []profileTop{
		{Side: "product", Seconds: 4, LeaderUS: 100, Areas: []share{{"gRPC", 0.27}}, Functions: []share{{"runtime.mallocgc", 0.1}}}, {Side: "floor"},
	}})
	r.put(result{Name: "go", Command: "go test", Stamp: when, Go: []goBenchmark{{Package: "fsm", Name: "Apply/begin", Figures: map[string]float64{"ns/op": 1234, "B/op": 700, "allocs/op": 9}}}})
	r.put(result{Name: "failover/full", Command: "go run ./internal/tools/failover", Stamp: when, Cases: []toolCase{
		{Case: "fast, full", Figures: map[string]float64{"per_second": 2345.6, "kills": 30, "p50_ms": 160, "p99_ms": 300}},
	}})
	r.put(result{Name: "decide/wal", Command: "quorate bench decide --peer etcd", Stamp: when, Bench: &bench.FullReport{
		Report: bench.Report{LogStore: "wal", Nodes: 3, Runs: 5, Duration: 3e9}, Rows: []bench.FullRow{row, etcd},
	}})
	return r
}

func TestFiguresHoldWhatWasMeasured(t *testing.T) {
	text := figures(sample())
	for _, want := range []string{
		"### decide\n",
		"| wal | 64 | 12,346 (12,000 to 13,000) | 1.50 | 3.00 | 20,000 | **0.62** (0.60 to 0.65) | 1, 3 | 50 | 1.25 | 1.25 | 1.70 |",
		"| etcd's puts, beside wal | 64 | 7,262 (",
		"`quorate bench decide --peer etcd`: 2026-01-02 03:04 UTC, commit abc, 2 x CPU, fsync of 4 KiB 120 us, go1, etcd 3.4, load average before 0.2; medians of 5 runs of 3s, 3 nodes.",
		"| decide | product | 1 | 3 | 800 |", "| decide | floor | 1 | 2 | 900 |",
		"| fsm | Apply/begin | 1,234 | 700 | 9 |  |",
		"| gRPC | 27.0 % | 27.0 | | | |", "| `runtime.mallocgc` | 10.0 % | 10.0 | | | |", "The product's took 100 us a transaction, and 4.0 s in all.",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the figures lack %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "### saga") {
		t.Error("a scenario that was not measured has a table")
	}
	scale := scaleFigures(sample())
	for _, want := range []string{
		"### A leader's death, full\n", "| fast, full | 2,346 | 30 | 160 | 300 | |\n",
		"`go run ./internal/tools/failover`: 2026-01-02 03:04 UTC, commit abc,",
	} {
		if !strings.Contains(scale, want) {
			t.Errorf("the figures of scale lack %q:\n%s", want, scale)
		}
	}
	if strings.Contains(scale, "live ones") {
		t.Error("a part of scale that was not measured has a table")
	}
}

// TestAimsAreHeldAgainstFigures: what reaches its aim is told from what does not.
func TestAimsAreHeldAgainstFigures(t *testing.T) {
	r := sample()
	row := r.find("decide/wal").Bench.Rows[0]
	alone, propose, transfer := row, row, row
	alone.Callers, alone.OfPropose, alone.Records = 1, ptr(1.31), ptr(2)
	propose.Scenario, propose.Callers, propose.P50MS = "propose", 1, 0.5
	transfer.Scenario, transfer.Callers, transfer.P50MS = "transfer", 1, 3
	transfer.Slices = map[string][]bench.Slice{"floor": {{P50: 9e6}, {P50: 2e6}, {P50: 1e6}}}
	with := func(name string, rows ...bench.FullRow) {
		r.put(result{Name: name, Bench: &bench.FullReport{Report: bench.Report{LogStore: "wal"}, Rows: rows}})
	}
	with("decide/wal", alone, row, propose)
	with("transfer-databases/wal", transfer)
	text := figures(r)
	for _, want := range []string{
		"| `decide`, of its floor | 0.8 and more | 64 | 0.62 | - |", "| `decide`, of its floor | 0.8 and more | 256 | - | - |",
		"| p50 of `decide` alone, of that of `propose` | 1.3 at the most | 1 | 1.31 | - |",
		"| the leader's CPU of `decide`, of the floor's | 1.25 at the most | 64 | **1.25** | - |",
		"| records of `decide` before the answer | 1 | 1 | **1.00** | - |",
		"| records of `decide` in all | 2, rounded to tenths | 1 | **2.00** | - |", "| records of `decide` in all | 2, rounded to tenths | 64 | 3.00 | - |",
		"| p50 of such a `transfer` alone, beyond the loop's, in ms | two of `propose` | 1 | **1.00** | - |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the aims lack %q:\n%s", want, text)
		}
	}
	transfer.P50MS = 3.01
	with("transfer-databases/wal", transfer)
	if text := figures(r); !strings.Contains(text, "in ms | two of `propose` | 1 | 1.01 | - |") {
		t.Errorf("a transfer that takes too long:\n%s", text)
	}
}

// TestAPartIsRenewedAlone: the others stay, through the file and back.
func TestAPartIsRenewedAlone(t *testing.T) {
	r := sample()
	path := filepath.Join(t.TempDir(), "results.json")
	if err := r.write(path); err != nil {
		t.Fatal(err)
	}
	again, err := readResults(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, again); diff != "" {
		t.Errorf("through the file and back (-before +after):\n%s", diff)
	}
	old := figures(again)
	again.put(result{Name: "decide/boltdb", Bench: &bench.FullReport{Report: bench.Report{LogStore: "boltdb"}, Rows: []bench.FullRow{{Row: bench.Row{Scenario: "decide", Callers: 1}}}}})
	renewed := figures(again)
	if !strings.Contains(renewed, "| boltdb | 1 |") || len(again.Parts) != len(r.Parts)+1 {
		t.Errorf("the new part is not there:\n%s", renewed)
	}
	for line := range strings.Lines(old) {
		if !strings.Contains(renewed, line) {
			t.Errorf("lost: %s", line)
		}
	}
}

func TestPartsAreChosenByName(t *testing.T) {
	names := func(list ...string) string {
		chosen, err := choose(list)
		if err != nil {
			return err.Error()
		}
		var all []string
		for _, p := range chosen {
			all = append(all, p.name)
		}
		return strings.Join(all, " ")
	}
	for want, list := range map[string][]string{
		"decide/wal decide/boltdb":                    {"decide"},
		"saga/boltdb go":                              {"saga/boltdb", "go"},
		"transfer/wal transfer/boltdb":                {"transfer"},
		"failover/idle failover/loaded failover/full": {"failover"},
		`no part is named "sag": there `:              {"sag"},
	} {
		if got := names(list...); !strings.HasPrefix(got, want) {
			t.Errorf("%v: %s, want %s", list, got, want)
		}
	}
	if all := names(); !strings.Contains(all, "message/wal") || !strings.Contains(all, " go profile scale/apply ") {
		t.Errorf("all: %s", all)
	}
}

func TestGoBenchmarksAreRead(t *testing.T) {
	got := parseGo("goos: linux\npkg: github.com/quorate/quorate/fsm\nBenchmarkApply/begin-2 \t 1000\t 1234 ns/op\t 700 B/op\t 9 allocs/op\nBenchmarkEncode \t 7\t 1.5 ns/op\t 22.50 MB/s\nPASS\n")
	want := []goBenchmark{
		{"fsm", "Apply/begin", map[string]float64{"ns/op": 1234, "B/op": 700, "allocs/op": 9}},
		{"fsm", "Encode", map[string]float64{"ns/op": 1.5, "MB/s": 22.5}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestCPUIsCountedWhereItBelongs, by the innermost function that says whose it is.
func TestCPUIsCountedWhereItBelongs(t *testing.T) {
	p := &profile.Profile{SampleType: []*profile.ValueType{{Type: "cpu", Unit: "nanoseconds"}}}
	for want, stack := range map[string][]string{
		"fsm: the state machine":                          {"strings.Clone", "github.com/quorate/quorate/fsm.(*State).Apply", "github.com/quorate/quorate/raftnode.(*Node).run"},
		"memory allocation":                               {"runtime.nextFreeFast", "runtime.mallocgc", "github.com/quorate/quorate/fsm.(*State).Apply"},
		"garbage collection":                              {"runtime.scanobject", "runtime.gcDrain", "runtime.gcBgMarkWorker.func2", "runtime.systemstack"},
		"system calls: network":                           {"internal/runtime/syscall.Syscall6", "syscall.write", "internal/poll.(*FD).Write", "net.(*conn).Write", "google.golang.org/grpc/internal/transport.(*bufWriter).Flush"},
		"system calls: disk":                              {"internal/runtime/syscall.Syscall6", "syscall.fdatasync", "go.etcd.io/bbolt.(*DB).Update"},
		"goroutines: scheduling, channels, locks, timers": {"runtime.casgstatus", "runtime.park_m", "runtime.mcall"},
		"gRPC": {"google.golang.org/grpc/internal/transport.(*loopyWriter).run"},
	} {
		if got := areaOf(stack); got != want {
			t.Errorf("%v counts as %q, want %q", stack, got, want)
		}
		s := &profile.Sample{Value: []int64{10}}
		for _, name := range stack {
			f := &profile.Function{Name: name}
			s.Location = append(s.Location, &profile.Location{Line: []profile.Line{{Function: f}}})
		}
		p.Sample = append(p.Sample, s)
	}
	top := top("product", p)
	sum := 0.0
	for _, a := range top.Areas {
		sum += a.Of
	}
	if sum < 0.999 || sum > 1.001 || len(top.Areas) != 7 {
		text, _ := json.Marshal(top)
		t.Errorf("the areas add up to %v: %s", sum, text)
	}
	if top.Functions[0].What != "internal/runtime/syscall.Syscall6" {
		t.Errorf("the first function is %v", top.Functions[0])
	}
}
