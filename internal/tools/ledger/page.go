package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// total is one line of the totals: which figures of which suites it adds up.
type total struct {
	name   string
	wanted float64 // 0: no number was set
	of     func(row) float64
}

func (t total) sum(rows []row) float64 {
	sum := 0.0
	for _, r := range rows {
		sum += t.of(r)
	}
	return sum
}

// count adds up counts by name, of the named suites, or of all.
func count(suites string, names ...string) func(row) float64 {
	return func(r row) float64 {
		if suites != "" && !slices.Contains(strings.Fields(suites), r.suite) {
			return 0
		}
		sum := 0.0
		for _, name := range names {
			sum += r.counts[name]
		}
		return sum
	}
}

// totals are what the suites promise together.
var totals = []total{
	{"simulator seeds", 200_000, count("sim", "seeds")},
	{"distinct model states", 10_000_000, count("search", "states")},
	{"virtual cluster-hours of Raft", 500, count("rafttime", "virtual_hours")},
	{"kill -9 of nodes", 1000, count("chaos", "kills")},
	{"... of a leader", 300, count("chaos", "leader_kills")},
	{"partitions", 500, count("chaos", "partitions")},
	{"pauses of nodes", 300, count("chaos", "pauses")},
	{"... of a leader", 100, count("chaos", "leader_pauses")},
	{"power losses", 100, count("", "cuts", "power_losses")},
	{"... whose canary was lost", 100, count("", "canaries_lost")},
	{"corruptions", 200, count("corruption", "cases")},
	{"... detected, repaired or harmless", 200, count("corruption", "detected", "repaired", "harmless")},
	{"decisions acknowledged under real faults", 200_000, count("chaos power", "acknowledged_commits", "acknowledged_rollbacks")},
	{"anomalies", 0, func(r row) float64 { return r.anomalies }},
}

// page is the whole page.
func page(rows []row) string {
	var b strings.Builder
	b.WriteString(`# Chaos ledger

What the suites have done to this code, a row a run, and what came of it. Rows are added by ` + "`go run ./internal/tools/ledger`" + `
from the suites' own summaries; the totals are computed from the rows. A commit with a plus had changes that are in no commit.
An anomaly is a promise that a suite saw broken, or thought so; [TRACK_RECORD.md](TRACK_RECORD.md) tells which it was, a bug of ours
or a mistake of the suite's, and the run stays here. Clean runs are those without one, and what they count alone must be enough.

## Totals

| what | so far | in clean runs | wanted |
|---|---|---|---|
`)
	clean := slices.DeleteFunc(slices.Clone(rows), func(r row) bool { return r.anomalies > 0 })
	for _, t := range totals {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", t.name, grouped(t.sum(rows)), grouped(t.sum(clean)), grouped(t.wanted))
	}
	fmt.Fprintf(&b, "| runs | %d | %d | |\n", len(rows), len(clean))
	b.WriteString("\n## Runs\n\n| date (UTC) | commit | suite | seeds | seconds | faults | counts | anomalies |\n|---|---|---|---|---|---|---|---|\n")
	for _, r := range rows {
		b.WriteString(r.String() + "\n")
	}
	return b.String()
}

// grouped is a number with its thousands apart.
func grouped(f float64) string {
	whole, fraction, _ := strings.Cut(strconv.FormatFloat(f, 'f', 1, 64), ".")
	var groups []string
	for len(whole) > 3 {
		groups = append([]string{whole[len(whole)-3:]}, groups...)
		whole = whole[:len(whole)-3]
	}
	text := strings.Join(append([]string{whole}, groups...), ",")
	if fraction != "0" {
		text += "." + fraction
	}
	return text
}
