package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/bench"
)

// part is what can be measured by itself.
type part struct {
	name string
	// scenario of the bench, and what else its command line says; empty: no bench.
	scenario string
	args     []string
	measure  func(context.Context, settings, part) (result, error)
}

var (
	callers   = []int{1, 64, 256}
	logStores = []string{"wal", "boltdb"}
)

// The parts that are no scenario.
const (
	partGo      = "go"
	partProfile = "profile"
)

// benched are the scenarios, in the page's order. Those beside etcd make its puts in
// the same turns; propose, within the leader's process, takes turns with decide.
var benched = []part{
	{name: "decide", scenario: "decide", args: []string{"propose", "--peer", "etcd"}},
	{name: "decide-stream", scenario: "decide", args: []string{"--stream", "--peer", "etcd"}},
	{name: "submit", scenario: "submit", args: []string{"--peer", "etcd"}},
	{name: "submit-stream", scenario: "submit", args: []string{"--stream", "--peer", "etcd"}},
	{name: "managed", scenario: "managed"},
	{name: "saga", scenario: "saga"},
	{name: "saga-stream", scenario: "saga", args: []string{"--stream"}},
	{name: "tcc", scenario: "tcc"},
	{name: "message", scenario: "message"},
	{name: "read", scenario: "read"},
	{name: "transfer", scenario: "transfer"},
	{name: "transfer-databases", scenario: "transfer", args: []string{"--store", "postgres", "--store", "mysql"}},
}

// parts are all of them: each scenario on each log store, then the others,
// those with a program of their own the last.
func parts() []part {
	var all []part
	for _, p := range benched {
		for _, store := range logStores {
			one := p
			one.name, one.args = p.name+"/"+store, append(slices.Clone(p.args), "--log-store", store)
			one.measure = runBench
			all = append(all, one)
		}
	}
	all = append(all, part{name: partGo, measure: runGo}, part{name: partProfile, measure: runProfile})
	for _, t := range tools {
		all = append(all, part{name: t.name, args: t.args, measure: runTool})
	}
	return all
}

// choose finds parts by name: decide is decide/wal and decide/boltdb, scale each part of it.
func choose(names []string) ([]part, error) {
	all := parts()
	if len(names) == 0 {
		return all, nil
	}
	var chosen []part
	for _, name := range names {
		before := len(chosen)
		for _, p := range all {
			if p.name == name || strings.HasPrefix(p.name, name+"/") {
				chosen = append(chosen, p)
			}
		}
		if len(chosen) == before {
			var known []string
			for _, p := range all {
				known = append(known, p.name)
			}
			return nil, fmt.Errorf("no part is named %q: there are %s", name, strings.Join(known, ", "))
		}
	}
	return chosen, nil
}

// runBench runs one scenario on one log store.
func runBench(ctx context.Context, s settings, p part) (result, error) {
	args := slices.Concat([]string{"bench", p.scenario}, p.args,
		[]string{"--callers", joined(callers), "--duration", s.duration.String(), "--runs", strconv.Itoa(s.runs)})
	// Three sides with their warm-up, as long again for what is compared, and a start.
	limit := 2*3*time.Duration(s.runs*len(callers))*(s.duration+time.Second) + 5*time.Minute
	out, err := output(ctx, limit, s.binary, append(args, "-o", "runs")...)
	if err != nil {
		return result{}, err
	}
	got := result{Command: "quorate " + strings.Join(args, " "), Bench: new(bench.FullReport)}
	return got, json.Unmarshal(out, got.Bench)
}

// output runs a program and returns what it printed; its progress is shown.
func output(ctx context.Context, limit time.Duration, program string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it took longer than %v", limit))
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it stops its cluster
	cmd.WaitDelay = 20 * time.Second
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s %s: %w", program, strings.Join(args, " "), errors.Join(err, context.Cause(ctx)))
	}
	return out.Bytes(), nil
}

func joined(numbers []int) string {
	var words []string
	for _, n := range numbers {
		words = append(words, strconv.Itoa(n))
	}
	return strings.Join(words, ",")
}
