package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/bench"
)

// The page's parts between markers are computed; all else is written by people.
const (
	beginMark  = "<!-- figures: written by make bench, from performance.json -->"
	endMark    = "<!-- end of figures -->"
	beginScale = "<!-- scale: written by make bench, from performance.json -->"
	endScale   = "<!-- end of scale -->"
)

func writePage(path string, r *results) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	page, err := replaced(string(text), r)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, []byte(page), 0o644)
}

// replaced is the page with the figures of r.
func replaced(page string, r *results) (string, error) {
	page, err := between(page, beginMark, endMark, figures(r))
	if err != nil {
		return "", err
	}
	return between(page, beginScale, endScale, scaleFigures(r))
}

// between is the page with other text between two marks.
func between(page, begin, end, text string) (string, error) {
	before, rest, ok := strings.Cut(page, begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return "", fmt.Errorf("it lacks the lines %q and %q, between which figures go", begin, end)
	}
	return before + begin + "\n" + text + end + after, nil
}

// figures renders all that was measured.
func figures(r *results) string {
	var b strings.Builder
	if len(r.Parts) == 0 {
		b.WriteString("\nNothing was measured yet.\n\n")
		return b.String()
	}
	docs := map[string]bench.Described{}
	for _, d := range bench.Scenarios() {
		docs[d.Name] = d
	}
	writeAims(&b, r)
	for _, p := range benched {
		writeScenario(&b, r, p, docs[p.scenario])
	}
	writeFootprints(&b, r)
	writeGo(&b, r.find(partGo))
	writeProfiles(&b, r.find(partProfile))
	return b.String()
}

// writeScenario is one table: both log stores, each number of callers.
func writeScenario(b *strings.Builder, r *results, p part, doc bench.Described) {
	var of []*result
	for _, store := range logStores {
		if got := r.find(p.name + "/" + store); got != nil {
			of = append(of, got)
		}
	}
	if len(of) == 0 {
		return
	}
	over := ""
	if slices.Contains(p.args, "--stream") {
		over = " Submits go over a stream that 64 callers share, of the floor, too."
	}
	fmt.Fprintf(b, "\n### %s\n\n%s. The floor: %s.%s\n\n", p.name, capital(doc.Doc), doc.Floor, over)
	b.WriteString("| log store | callers | a second (least to most) | p50 ms | p99 ms | floor a second | ratio (least to most) | records: before the answer, in all | leader CPU us | of the floor's | p50 of propose's | rate of etcd's |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	var others []string
	for _, got := range of {
		for _, row := range got.Bench.Rows {
			line := tableRow(got.Bench.LogStore, row)
			if row.Scenario == p.scenario || row.Scenario == p.name {
				b.WriteString(line)
			} else {
				others = append(others, line)
			}
		}
	}
	b.WriteString(strings.Join(others, ""))
	for _, got := range of {
		writeStamp(b, got)
	}
}

// tableRow is one row; that of another, in the same turns, begins with its name.
func tableRow(store string, row bench.FullRow) string {
	name := store
	switch row.Scenario {
	case "propose":
		name = "propose, " + store
	case "etcd-put":
		name = "etcd's puts, beside " + store
	}
	rate := fmt.Sprintf("%s (%s to %s)", grouped(row.PerSecond), grouped(row.RateSpread[0]), grouped(row.RateSpread[1]))
	ratio := "-"
	if row.Ratio != nil && row.RatioSpread != nil {
		ratio = fmt.Sprintf("**%.2f** (%.2f to %.2f)", *row.Ratio, row.RatioSpread[0], row.RatioSpread[1])
	}
	records := shown(row.Records, "%.2f")
	if row.Before != nil {
		records = fmt.Sprintf("%.0f, %s", *row.Before, records)
	}
	floor := "-"
	if row.Floor != nil {
		floor = grouped(*row.Floor)
	}
	return fmt.Sprintf("| %s | %d | %s | %.2f | %.2f | %s | %s | %s | %s | %s | %s | %s |\n", name, row.Callers, rate, row.P50MS, row.P99MS, floor, ratio,
		records, shown(row.LeaderUS, "%.0f"), shown(row.OfFloorCPU(), "%.2f"), shown(row.OfPropose, "%.2f"), shown(row.OfEtcd, "%.2f"))
}

// writeStamp says when, of what, on what, and with which command.
func writeStamp(b *strings.Builder, of *result) {
	fmt.Fprintf(b, "\n`%s`: %s UTC, commit %s, %s, fsync of 4 KiB %d us, %s", of.Command, of.Stamp.Date, of.Stamp.Commit, of.Stamp.Machine, of.Stamp.FsyncUS, of.Stamp.Go)
	if of.Stamp.Etcd != "" && strings.Contains(of.Command, "etcd") {
		fmt.Fprintf(b, ", etcd %s", of.Stamp.Etcd)
	}
	if of.Stamp.Load > 0 {
		fmt.Fprintf(b, ", load average before %.1f", of.Stamp.Load)
	}
	if of.Bench != nil {
		fmt.Fprintf(b, "; medians of %d runs of %v, %d nodes", of.Bench.Runs, of.Bench.Duration.Round(time.Millisecond), of.Bench.Nodes)
	}
	b.WriteString(".\n")
}

// writeFootprints is what single operations leave, product beside floor.
func writeFootprints(b *strings.Builder, r *results) {
	var lines []string
	for _, p := range benched {
		got := r.find(p.name + "/" + logStores[0])
		if got == nil || len(got.Bench.Rows) == 0 {
			continue
		}
		for _, side := range []string{"product", "floor"} {
			f, ok := got.Bench.Rows[0].Footprints[side]
			if !ok {
				continue
			}
			lines = append(lines, fmt.Sprintf("| %s | %s | %.0f | %.0f | %s | %.0f | %s | %.0f | %s | %.0f | %s |\n", p.name, side, f.Before, f.Records, grouped(f.LogBytes),
				f.SentMessages, grouped(f.SentBytes), f.ReceivedMessages, grouped(f.ReceivedBytes), f.BranchCalls, grouped(f.BranchBytes)))
		}
	}
	if len(lines) == 0 {
		return
	}
	b.WriteString("\n### One operation alone\n\nWhat it leaves in the log, and the messages between the load with its participants and the leader: whether the floor does the same work.\n\n")
	b.WriteString("| scenario | side | records before the answer | in all | log bytes | sent | bytes | received | bytes | branch calls | bytes |\n|---|---|---|---|---|---|---|---|---|---|---|\n")
	b.WriteString(strings.Join(lines, ""))
}

// writeGo is the Go benchmarks' table.
func writeGo(b *strings.Builder, got *result) {
	if got == nil {
		return
	}
	b.WriteString("\n### Go benchmarks\n\n| package | benchmark | ns | bytes allocated | allocations | more |\n|---|---|---|---|---|---|\n")
	for _, g := range got.Go {
		var more []string
		for _, unit := range sortedUnits(g.Figures) {
			more = append(more, fmt.Sprintf("%s %s", grouped(g.Figures[unit]), unit))
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s |\n", g.Package, g.Name, grouped(g.Figures["ns/op"]), grouped(g.Figures["B/op"]), grouped(g.Figures["allocs/op"]), strings.Join(more, ", "))
	}
	writeStamp(b, got)
}

// writeProfiles is where the leaders' CPU goes.
func writeProfiles(b *strings.Builder, got *result) {
	if got == nil {
		return
	}
	fmt.Fprintf(b, "\n### Where the leader's CPU goes\n\n`%s` with %d callers: shares of the leader's CPU, and microseconds a transaction.", profiledScenario, profiledCallers)
	for _, p := range got.Profiles {
		fmt.Fprintf(b, " The %s's took %.0f us a transaction, and %.1f s in all.", p.Side, p.LeaderUS, p.Seconds)
	}
	b.WriteString("\n")
	for _, table := range []struct {
		title string
		of    func(profileTop) []share
		mark  string
	}{
		{"what", func(p profileTop) []share { return p.Areas }, ""},
		{"function", func(p profileTop) []share { return p.Functions }, "`"},
	} {
		fmt.Fprintf(b, "\n| %s of the product's | share | us | %s of the floor's | share | us |\n|---|---|---|---|---|---|\n", table.title, table.title)
		var columns [][]share
		longest := 0
		for _, p := range got.Profiles {
			columns = append(columns, table.of(p))
			longest = max(longest, len(table.of(p)))
		}
		for i := range longest {
			b.WriteString("|")
			for k, column := range columns {
				if i < len(column) {
					fmt.Fprintf(b, " %s%s%s | %.1f %% | %.1f |", table.mark, column[i].What, table.mark, 100*column[i].Of, column[i].Of*got.Profiles[k].LeaderUS)
				} else {
					b.WriteString(" | | |")
				}
			}
			b.WriteString("\n")
		}
	}
	writeStamp(b, got)
}
