package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// row is one run of a suite.
type row struct {
	date, commit, suite, seeds, seconds string
	// faults and counts are `name number` pairs.
	faults, counts map[string]float64
	anomalies      float64
}

// leftOut are figures of a summary that are no counts: they cannot be added up.
var leftOut = []string{
	"seed", "first_seed", "seeds_from", "duration_s", "seconds", "nodes", "depth", "commit_ratio", "operations_per_second", "compared_to_index", "rate", "p50", "p99", "max", "n",
}

// anomalyNames are what suites call that which must be 0.
var anomalyNames = []string{"anomalies", "violations", "wrong", "lost", "reversed", "failures"}

// rowOf reads a summary: fields of known names, `faults` as it stands, every
// other number as a count.
func rowOf(summary map[string]any, s stamp) row {
	r := row{date: s.date, commit: s.commit, faults: map[string]float64{}, counts: map[string]float64{}}
	r.suite = fmt.Sprint(summary["suite"])
	if commit, ok := summary["commit"].(string); ok && commit != "" {
		r.commit = commit
	}
	for _, name := range []string{"duration_s", "seconds"} {
		if seconds, ok := number(summary[name]); ok {
			r.seconds = strconv.FormatFloat(seconds, 'f', 0, 64)
		}
	}
	if seed, ok := summary["seed"].(json.Number); ok {
		r.seeds = seed.String()
	} else if first, ok := summary["first_seed"].(json.Number); ok {
		r.seeds = "from " + first.String()
	}
	for name, value := range summary {
		switch value := value.(type) {
		case map[string]any:
			if name == "faults" {
				numbers(value, r.faults)
			} else if name == "counts" {
				numbers(value, r.counts)
				maps.DeleteFunc(r.counts, func(name string, _ float64) bool { return ofWorkload(name) })
			}
		case json.Number:
			n, _ := number(value)
			switch {
			case slices.Contains(anomalyNames, name):
				r.anomalies += n
			case !slices.Contains(leftOut, name) && n != 0:
				r.counts[name] = n
			}
		}
	}
	return r
}

// ofWorkload tells a workload's own figures, which are in its verdict: there are
// too many of them for a row.
func ofWorkload(name string) bool {
	return strings.HasPrefix(name, "registers_") || strings.HasPrefix(name, "bank_")
}

func numbers(from map[string]any, to map[string]float64) {
	for name, value := range from {
		if n, ok := number(value); ok && n != 0 {
			to[name] += n
		}
	}
}

func number(value any) (float64, bool) {
	n, ok := value.(json.Number)
	if !ok {
		return 0, false
	}
	f, err := n.Float64()
	return f, err == nil
}

// String is the row as it stands on the page.
func (r row) String() string {
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s | %s |",
		r.date, r.commit, r.suite, r.seeds, r.seconds, pairs(r.faults), pairs(r.counts), plain(r.anomalies))
}

// parseRows reads the rows of a page.
func parseRows(page string) []row {
	var rows []row
	for line := range strings.SplitSeq(page, "\n") {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 8 || !strings.HasPrefix(line, "| 20") {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		anomalies, _ := strconv.ParseFloat(cells[7], 64)
		rows = append(rows, row{
			date: cells[0], commit: cells[1], suite: cells[2], seeds: cells[3], seconds: cells[4],
			faults: parsePairs(cells[5]), counts: parsePairs(cells[6]), anomalies: anomalies,
		})
	}
	return rows
}

// pairs writes figures by name, in order.
func pairs(m map[string]float64) string {
	words := make([]string, 0, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		words = append(words, name+" "+plain(m[name]))
	}
	return strings.Join(words, ", ")
}

func parsePairs(text string) map[string]float64 {
	m := map[string]float64{}
	for word := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(word), " ")
		if f, err := strconv.ParseFloat(value, 64); ok && err == nil {
			m[name] += f
		}
	}
	return m
}

// plain is a number without an exponent and without needless digits.
func plain(f float64) string {
	return strings.TrimSuffix(strings.TrimRight(strconv.FormatFloat(f, 'f', 1, 64), "0"), ".")
}
