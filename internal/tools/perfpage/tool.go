package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// toolCase is one line that a program of internal/tools has measured. The names of
// figures hold their units.
type toolCase struct {
	Case    string             `json:"case"`
	Figures map[string]float64 `json:"figures"`
}

// tool is a part that such a program measures, and its table.
type tool struct {
	name, title string
	// doc is what is measured.
	doc string
	// args follow `go run`.
	args []string
	// of is what a line is about.
	of      string
	columns []column
}

// column is a figure's place in a table.
type column struct{ title, figure string }

// toolMax is how long one part may take.
const toolMax = 30 * time.Minute

// tools are those parts, in the page's order.
var tools = []tool{
	{
		name: "scale/apply", title: "Applying beside live ones", of: "live",
		doc: "A whole transaction (submit, two reports) is applied from its entries' bytes, by states that hold so many live ones and take turns. " +
			"\"Live\" is half begun, half decided with both branches to be told. Medians of turns, on which garbage is seldom collected.",
		args: scalePart("apply"),
		columns: []column{
			{"CPU us a transaction", "cpu_us_per_tx"}, {"of the first's", "cpu_of_the_first"}, {"allocations", "allocs_per_tx"},
			{"p99 of an entry, ms", "entry_p99_ms"}, {"bytes a live one", "bytes_per_live"},
		},
	},
	{
		name: "scale/decide", title: "Deciding beside live ones", of: "live",
		doc: "Nodes in one process, each with its own disk and driver, take turns: 64 callers, two branches told and acknowledged; the CPU is that of the " +
			"node, its callers and participants together, garbage collection included. Then the same while a snapshot is taken.",
		args: scalePart("decide"),
		columns: []column{
			{"a second", "per_second"}, {"p50 ms", "p50_ms"}, {"p99 ms", "p99_ms"}, {"longest ms", "max_ms"},
			{"CPU us a transaction", "cpu_us_per_tx"}, {"of the first's", "cpu_of_the_first"}, {"allocations", "allocs_per_tx"}, {"the snapshot took, ms", "snapshot_ms"},
		},
	},
	{
		name: "scale/lead", title: "A new leader that finds them", of: "decided and untold",
		doc: "A node is elected that finds a million transactions which are decided and whose branches are to be told. It looks at them page by page " +
			"between its other steps. Meanwhile one caller asks for a decision after the other; refused are those that were told OVERLOAD, or that there " +
			"was no leader yet, which asked again a millisecond later and are charged for it. A thousand participants have up to a thousand reports each under way, and these are " +
			"taken before new work is.",
		args: scalePart("lead"),
		columns: []column{
			{"first decision ms", "first_decision_ms"}, {"first delivery ms", "first_delivery_ms"}, {"decisions meanwhile: p50 ms", "decision_p50_ms"},
			{"p99 ms", "decision_p99_ms"}, {"longest ms", "decision_max_ms"}, {"refused", "refused"}, {"reports a second", "reported_per_second"},
		},
	},
	{
		name: "scale/finished", title: "Finished ones in retention", of: "what",
		doc: "Two branches each, no labels, beside 100,000 live ones. Then an entry is applied every 4 ms, which counts from when it was due, first with " +
			"nothing beside, then while a snapshot is pinned and written; and the snapshot is restored, in one thread, which is what a node does before" +
			" anything else when it starts.",
		args: scalePart("finished"),
		columns: []column{
			{"bytes each", "bytes_each"}, {"us to make or restore one", "us_per_tx"}, {"applied: p50 ms", "p50_ms"}, {"p99 ms", "p99_ms"}, {"longest ms", "max_ms"},
			{"pinned ms", "pin_ms"}, {"snapshot MB", "snapshot_mb"}, {"written s", "snapshot_s"}, {"restored s", "restore_s"},
		},
	},
	{
		name: "scale/participants", title: "Participants attached", of: "attached",
		doc:  "Each over a connection of its own, a heartbeat a second, nothing to do; then transactions of two of them, one after the other.",
		args: scalePart("participants"),
		columns: []column{
			{"leader's CPU, % of a core", "idle_cpu_percent"}, {"CPU us a heartbeat, both ways", "idle_cpu_us_per_heartbeat"}, {"KB of memory each", "kb_each"},
			{"decided and acknowledged: p50 ms", "finish_p50_ms"}, {"p99 ms", "finish_p99_ms"},
		},
	},
	{
		name: "scale/nodes", title: "Five nodes beside three", of: "nodes",
		doc:  "The scenario `decide`, 64 callers, in turns, all nodes on this machine.",
		args: scalePart("nodes"),
		columns: []column{
			{"a second", "per_second"}, {"p50 ms", "p50_ms"}, {"p99 ms", "p99_ms"}, {"leader CPU us", "leader_cpu_us_per_tx"},
		},
	},
	{
		name: "scale/slow", title: "A slow follower", of: "nodes",
		doc:  "Decisions that nobody is told of, 64 callers, while each write of one follower's log takes 500 ms more, and without, in turns.",
		args: scalePart("slow"),
		columns: []column{
			{"a second", "per_second"}, {"p50 ms", "p50_ms"}, {"p99 ms", "p99_ms"}, {"longest ms", "max_ms"},
			{"p99, with to without", "p99_ratio"}, {"terms that passed", "terms_passed"},
		},
	},
	failoverUnder("idle", "one caller that asks for a decision after the other"),
	failoverUnder("loaded", "a steady rate of a fifth of what the cluster did in a closed loop just before"),
	failoverUnder("full", "a closed loop of 64 callers"),
}

func scalePart(name string) []string { return []string{"./internal/tools/scale", "-parts", name} }

func failoverUnder(load, doc string) tool {
	return tool{
		name: "failover/" + load, title: "A leader's death, " + load, of: "profile, load",
		doc: "From the SIGKILL of the leader of three to the first decision that was asked for after it and acknowledged, as a client of the Go SDK sees it; the load is " +
			doc + ".",
		args: []string{"./internal/tools/failover", "-kills", "30", "-loads", load},
		columns: []column{
			{"decisions a second, gaps included", "per_second"}, {"kills", "kills"}, {"p50 ms", "p50_ms"}, {"p99 ms", "p99_ms"}, {"longest ms", "max_ms"},
		},
	}
}

// runTool builds the program that measures a part, and runs it: go run would not hand on
// the signal at which it stops its cluster.
func runTool(ctx context.Context, s settings, p part) (got result, err error) {
	got.Command = "go run " + strings.Join(p.args, " ")
	dir, err := os.MkdirTemp("", "quorate-tool-")
	if err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	program := filepath.Join(dir, "tool")
	if _, err := output(ctx, toolMax, "go", "build", "-o", program, p.args[0]); err != nil {
		return got, err
	}
	binary, err := filepath.Abs(s.binary) // nodes have directories of their own
	if err != nil {
		return got, err
	}
	out, err := output(ctx, toolMax, program, append(slices.Clone(p.args[1:]), "-binary", binary, "-o", "json")...)
	if err != nil {
		return got, err
	}
	if err := json.Unmarshal(out, &got.Cases); err != nil {
		return got, err
	}
	if len(got.Cases) == 0 {
		return got, fmt.Errorf("%s has measured nothing", got.Command)
	}
	return got, nil
}

// scaleFigures renders what those programs have measured.
func scaleFigures(r *results) string {
	var b strings.Builder
	for _, t := range tools {
		if got := r.find(t.name); got != nil {
			t.write(&b, got)
		}
	}
	b.WriteString("\n")
	return b.String()
}

func (t tool) write(b *strings.Builder, got *result) {
	fmt.Fprintf(b, "\n### %s\n\n%s\n\n| %s |", t.title, t.doc, t.of)
	for _, c := range t.columns {
		fmt.Fprintf(b, " %s |", c.title)
	}
	b.WriteString("\n|" + strings.Repeat("---|", 1+len(t.columns)) + "\n")
	for _, one := range got.Cases {
		fmt.Fprintf(b, "| %s |", one.Case)
		for _, c := range t.columns {
			if v, ok := one.Figures[c.figure]; ok {
				fmt.Fprintf(b, " %s |", grouped(v))
			} else {
				b.WriteString(" |")
			}
		}
		b.WriteString("\n")
	}
	writeStamp(b, got)
}
