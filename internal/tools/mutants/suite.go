package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// suite is one way to notice a bug: a package's tests, or the binary run
// against itself.
type suite struct {
	name string
	doc  string
	// dir of the tests, from the root; "" for the binary.
	dir string
	// args are the test binary's flags, or the binary's arguments. {seed} stands
	// for the seed, {dir} for a directory that is removed afterwards.
	args []string
	// touching: the bug is tried where it changes a file whose path begins so, since
	// the suite runs no other code of ours; empty means any.
	touching []string
	// judge reads the output of a suite whose exit code says less than its words;
	// nil: the exit code decides.
	judge func(out []byte) (red bool, sign string)
	// limit is far above what the suite takes without a bug. A suite that passes
	// it has noticed something: that it hangs.
	limit time.Duration
}

// smoke is run before the binary is broken, without a fault: what fails here does
// not work at all, and nothing would be learned from a suite that is red too.
var smoke = suite{
	name: "smoke", doc: "a demo without faults",
	args:  []string{"demo", "--kills", "0", "--transfers", "60", "--seed", "{seed}", "--data-dir", "{dir}/demo", "-o", "json"},
	limit: 2 * time.Minute,
}

// happy names, for a package, the tests of its work without faults: its smoke.
var happy = map[string]string{
	"fsm":                  "TestAC4",
	"coordinator":          "TestTransactionFromBeginToEnd",
	"raftnode":             "TestThreeNodes",
	"participant":          "TestRunCommitsEveryBranch|TestRunRollsBackOnError",
	"participant/embedded": "TestLocalTransactions|TestCommitWaits",
	"participant/fence":    "TestNativeCallsAreRead",
	"api":                  "TestSessionStory",
	"api/branchcall":       "TestGRPCAnswers",
	"cmd/quorate":          "TestTransactionsByTheCommandLine",
}

// smokeOf is the smoke of what a suite runs; ok is false where there is none.
func smokeOf(s suite) (_ suite, ok bool) {
	if s.dir == "" {
		return smoke, true
	}
	tests, ok := happy[s.dir]
	s.name, s.args = "smoke of "+s.dir, []string{"-test.run=" + tests}
	return s, ok
}

// suites are tried in this order, the quick ones first.
var suites = []suite{
	{
		name: "sim", doc: "chaos/sim: the deterministic simulator", dir: "chaos/sim",
		args:     []string{"-test.run=TestSeeds$", "-sim.seeds=400"},
		touching: []string{"fsm/", "coordinator/core", "coordinator/timers"}, limit: 10 * time.Minute,
	},
	{
		name: "sim-modes", doc: "chaos/sim: every mode, topics and stops in it", dir: "chaos/sim",
		args:     []string{"-test.run=TestModes$|TestModesCalm"},
		touching: []string{"fsm/due", "fsm/order", "fsm/modes", "fsm/step", "fsm/workflow", "fsm/topic", "fsm/stop", "coordinator/core_answer", "coordinator/core_call", "coordinator/core_retry"}, limit: 10 * time.Minute,
	},
	{
		name: "search", doc: "chaos/search: every order of events on the pure core", dir: "chaos/search",
		args:     []string{"-test.run=TestSmallest$"},
		touching: []string{"fsm/"}, limit: 10 * time.Minute,
	},
	{
		name: "rafttime", doc: "chaos/rafttime: Raft in virtual time", dir: "chaos/rafttime",
		touching: []string{"raftnode/"}, limit: 10 * time.Minute,
	},
	{
		name: "demo", doc: "quorate demo: leaders and a participant killed at chosen moments, then everything",
		args: []string{"demo", "--transfers", "300", "--kills", "4", "--kill-leader", "random", "--kill-participant",
			"--seed", "{seed}", "--data-dir", "{dir}/demo", "-o", "json"},
		limit: 5 * time.Minute,
	},
	{
		name: "chaos", doc: "quorate chaos: real processes under random faults",
		args:  []string{"chaos", "--duration", "60s", "--seed", "{seed}", "--dir", "{dir}/chaos", "-o", "json"},
		judge: judgeChaos,
		limit: 10 * time.Minute,
	},
	{
		name: "bank", doc: "quorate chaos with money in every kind of store: participants, initiators and databases under faults",
		args: []string{"chaos", "--workloads", "bank", "--databases", "installed", "--faults", "participant,database,kill",
			"--duration", "60s", "--seed", "{seed}", "--dir", "{dir}/chaos", "-o", "json"},
		touching: []string{"participant/", "coordinator/", "api/"}, judge: judgeChaos, limit: 10 * time.Minute,
	},
	{
		name: "demo-saga", doc: "quorate demo --mode saga: leaders and a bank killed at a saga's own places",
		args: []string{"demo", "--mode", "saga", "--transfers", "200", "--kills", "3", "--kill-leader", "random", "--kill-participant",
			"--seed", "{seed}", "--data-dir", "{dir}/demo", "-o", "json"},
		touching: []string{"participant/fence/"}, limit: 5 * time.Minute,
	},
	{
		name: "demo-tcc", doc: "quorate demo --mode tcc: the same of a TCC",
		args: []string{"demo", "--mode", "tcc", "--transfers", "200", "--kills", "3", "--kill-leader", "random", "--kill-participant",
			"--seed", "{seed}", "--data-dir", "{dir}/demo", "-o", "json"},
		touching: []string{"participant/fence/"}, limit: 5 * time.Minute,
	},
	{
		name: "modes", doc: "quorate chaos --modes all: sagas, TCC, messages, workflows under faults, each first answer dropped",
		args: []string{"chaos", "--workloads", "modes", "--modes", "all", "--faults", "kill,pause,branch",
			"--duration", "40s", "--seed", "{seed}", "--dir", "{dir}/chaos", "-o", "json"},
		touching: []string{"participant/fence/"}, judge: judgeChaos, limit: 10 * time.Minute,
	},
}

// judgeChaos reads the verdict. A run that was only vacuous, as on a machine that
// is too busy, has not noticed anything.
func judgeChaos(out []byte) (red bool, sign string) {
	for line := range bytes.Lines(out) {
		var v struct {
			Anomalies, Lost int
			Linearizable    bool
			Vacuous         bool
			Findings        []struct{ Promise, Text string }
		}
		if !bytes.HasPrefix(line, []byte(`{"seed"`)) || json.Unmarshal(line, &v) != nil {
			continue
		}
		sign = fmt.Sprintf("%d anomalies, %d lost", v.Anomalies, v.Lost)
		if len(v.Findings) > 0 {
			f := v.Findings[0]
			text, _, _ := strings.Cut(f.Text, "\n")
			sign = f.Promise + ": " + text[:min(len(text), 90)]
		}
		if red = v.Anomalies > 0 || v.Lost > 0 || !v.Linearizable; !red && v.Vacuous {
			sign = "vacuous"
		}
		return red, sign
	}
	return true, "no verdict: " + lastLine(out)
}

// testsOf is the suite of a package's own tests.
func testsOf(pkg string) suite {
	return suite{name: filepath.ToSlash(filepath.Clean(pkg)) + " tests", dir: filepath.Clean(pkg), limit: 10 * time.Minute}
}

// only is the suite cut down to the tests that a regular expression names.
func (s suite) only(first string) suite {
	s.args = append([]string{"-test.run=" + first}, s.args...)
	return s
}

// tests says that the suite is a package's own tests.
func (s *suite) tests() bool { return strings.HasSuffix(s.name, " tests") }

func suiteNamed(name string) (suite, bool) {
	for _, s := range suites {
		if s.name == name {
			return s, true
		}
	}
	return suite{}, false
}

// suitesOf are those to try on a bug: its packages' own tests, then the others.
func suitesOf(b *bug) []suite {
	var try []suite
	for _, pkg := range b.Tests {
		try = append(try, testsOf(pkg))
	}
	if len(b.Suites) > 0 {
		for _, name := range b.Suites {
			s, _ := suiteNamed(name)
			try = append(try, s)
		}
		return try
	}
	for _, s := range suites {
		if len(s.touching) == 0 || b.touches(s.touching...) {
			try = append(try, s)
		}
	}
	return try
}

// built says whether the suite is there to be run.
func (s *suite) built(root string) bool {
	switch {
	case s.dir != "":
		found, _ := filepath.Glob(filepath.Join(root, s.dir, "*_test.go"))
		return len(found) > 0
	case s.args[0] == "chaos":
		_, err := os.Stat(filepath.Join(root, "cmd/quorate/chaos.go"))
		return err == nil
	default:
		return true
	}
}

// arguments are the suite's with the seed and the directory put in.
func (s *suite) arguments(seed uint64, dir string) []string {
	args := make([]string, len(s.args))
	for i, a := range s.args {
		switch a {
		case "{seed}":
			a = strconv.FormatUint(seed, 10)
		case "{dir}/demo", "{dir}/chaos":
			a = filepath.Join(dir, filepath.Base(a))
		}
		args[i] = a
	}
	return args
}
