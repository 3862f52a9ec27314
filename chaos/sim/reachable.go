package sim

import (
	_ "embed"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// reachableText declares what runs must reach: a line for each cell of the table
// and each other thing that is met, with how many of a thousand seeds reach it. It
// was measured: `go test ./chaos/sim -run TestSeeds -sim.seeds=20000 -sim.declare=FILE`.
//
//go:embed reachable.txt
var reachableText string

// expectedMin is how many seeds of a campaign should reach a thing before it is red
// that none does: by chance alone that happens once in 10^10 campaigns.
const expectedMin = 25

// things are what one run has reached, by the names of reachable.txt.
func (c *Coverage) things() []string {
	var some []string
	pairs := map[string]bool{}
	for cell := range c.Cells {
		some = append(some, cell.State+" | "+cell.Command+" | "+cell.Fault)
		if strings.Contains(cell.State, " ") { // of a mode: its cells are many, and the rarer ones count whatever was near
			pairs[cell.State+" | "+cell.Command+" | any"] = true
		}
	}
	some = slices.AppendSeq(some, maps.Keys(pairs))
	for what := range c.Met {
		some = append(some, "met | "+what)
	}
	return some
}

// Missing lists what is declared reachable, and should have been reached by now.
func (t *Totals) Missing() []string {
	var missing []string
	text := reachableText
	if t.Modes {
		text = reachableModesText
	}
	for thing, perThousand := range declared(text) {
		if expected := perThousand * float64(t.Seeds) / 1000; expected >= expectedMin && t.Reached[thing] == 0 {
			missing = append(missing, fmt.Sprintf("%s: about %.0f seeds should have", thing, expected))
		}
	}
	return missing
}

// declared reads the things of such a text, in order, with how many of a thousand
// seeds reach each.
func declared(text string) iter.Seq2[string, float64] {
	return func(yield func(string, float64) bool) {
		for line := range strings.Lines(text) {
			rate, thing, ok := strings.Cut(strings.TrimSpace(line), "\t")
			perThousand, err := strconv.ParseFloat(rate, 64)
			if !ok || err != nil {
				panic("sim: what is reachable: " + line)
			}
			if !yield(thing, perThousand) {
				return
			}
		}
	}
}

// rateMin is how many of a thousand seeds must reach a thing for it to be declared: what
// is rarer says nothing in a campaign of a few thousand.
const rateMin = 3

// Declare writes what this campaign has reached, in the form of reachable.txt; of one
// with every mode, what is not declared there.
func (t *Totals) Declare(w io.Writer) error {
	known := map[string]bool{}
	if t.Modes {
		for thing := range declared(reachableText) {
			known[thing] = true
		}
	}
	for _, thing := range slices.Sorted(maps.Keys(t.Reached)) {
		if known[thing] || t.Reached[thing]*1000 < rateMin*t.Seeds {
			continue
		}
		if _, err := fmt.Fprintf(w, "%.2f\t%s\n", float64(t.Reached[thing])*1000/float64(t.Seeds), thing); err != nil {
			return err
		}
	}
	return nil
}

// impossible says why a command never meets a state; the table leaves these out.
func impossible(state, command string) string {
	decided := state != "A" && state != "S"
	switch command {
	case "tick deadline":
		if decided {
			return "only what is undecided has a deadline"
		}
	case "tick retention":
		if state != "C+" && state != "R+" {
			return "only what has ended is dropped"
		}
	case "commit driver":
		if state != "S" && state != "R" {
			return "the driver speaks once in its term, of what is sealed; only a rollback can come between"
		}
	case "rollback driver":
		if decided {
			return "the driver gives up what is undecided; a decision that comes between is rare"
		}
	case "rollback participant":
		if state != "U" && state != "R" {
			return "the leader reads that the GID is unseen just before; only another's tombstone comes between"
		}
	case "report matching":
		if state == "U" {
			return "nobody has told the branch anything"
		}
	case "report contrary":
		if state != "C" && state != "C+" && state != "R" && state != "R+" {
			return "participants end nothing before it is decided"
		}
	}
	return ""
}
