package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is all that was measured.
type Report struct {
	// Machine, LogStore, Nodes and the rest say under which conditions.
	Machine  string        `json:"machine"`
	LogStore string        `json:"log_store"`
	Nodes    int           `json:"nodes"`
	Profile  string        `json:"profile"`
	Runs     int           `json:"runs"`
	Duration time.Duration `json:"duration_ns"`
	Rate     float64       `json:"rate,omitempty"`
	Rows     []Row         `json:"-"`
}

func newReport(o Options) *Report {
	return &Report{
		LogStore: o.LogStore, Nodes: o.Nodes, Profile: o.Profile, Runs: o.Runs, Duration: o.Duration, Rate: o.Rate,
		Machine: fmt.Sprintf("%s/%s, %d CPUs, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version()),
	}
}

// FullRow is a row with all that it was made of.
type FullRow struct {
	Row
	Slices     map[string][]Slice   `json:"slices"`
	Footprints map[string]Footprint `json:"footprints,omitempty"`
}

// FullReport is a report with all that it was made of.
type FullReport struct {
	Report
	Rows []FullRow `json:"rows"`
}

// Full is the report with each run of each side.
func (r *Report) Full() FullReport {
	full := FullReport{Report: *r}
	for _, row := range r.Rows {
		full.Rows = append(full.Rows, FullRow{Row: row, Slices: row.Slices, Footprints: row.Footprints})
	}
	return full
}

// WriteRuns writes the conditions and each run of each side, as one object.
func (r *Report) WriteRuns(w io.Writer) error { return json.NewEncoder(w).Encode(r.Full()) }

// WriteJSON writes the rows as a list.
func (r *Report) WriteJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r.Rows)
}

// WriteTable writes the rows for people; wide adds what each side cost.
func (r *Report) WriteTable(w io.Writer, wide bool) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SCENARIO\tCALLERS\tA SECOND\tP50\tP99\tFLOOR\tRATIO\tRECORDS\tBEFORE\tLEADER CPU\tOF FLOOR'S\tP50/PROPOSE\tRATE/ETCD")
	for _, row := range r.Rows {
		fmt.Fprintf(t, "%s\t%d\t%.0f\t%.2fms\t%.2fms\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", row.Scenario, row.Callers, row.PerSecond, row.P50MS, row.P99MS,
			figure(row.Floor, "%.0f"), figure(row.Ratio, "%.2f"), figure(row.Records, "%.2f"), figure(row.Before, "%.0f"),
			figure(row.LeaderUS, "%.0fus"), figure(row.OfFloorCPU(), "%.2f"), figure(row.OfPropose, "%.2f"), figure(row.OfEtcd, "%.2f"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if wide {
		if err := r.writeSides(w); err != nil {
			return err
		}
		if err := r.writeFootprints(w); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "\nmedian of %d runs of %v each, taking turns with the floor; %d nodes on one machine, log store %s, fsync on; %s\n", r.Runs, r.Duration, r.Nodes, r.LogStore, r.Machine)
	return err
}

// OfFloorCPU is the leader's CPU an operation as a multiple of the floor's; nil: unknown.
func (r Row) OfFloorCPU() *float64 {
	if r.LeaderUS == nil || r.FloorLeaderUS == nil || *r.FloorLeaderUS == 0 {
		return nil
	}
	return ptr(*r.LeaderUS / *r.FloorLeaderUS)
}

// sidesShown are the sides in the order in which they are written.
var sidesShown = []string{sideProduct, sideFloor, proposeName, sideEtcd}

// writeSides writes each side's medians, and the spread of its runs.
func (r *Report) writeSides(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nSCENARIO\tCALLERS\tSIDE\tA SECOND (LEAST-MOST)\tRATIO (LEAST-MOST)\tP50\tP99\tP99.9\tMAX\tRECORDS\tENTRIES\tFSYNCS\tLEADER\tFOLLOWERS\tLOAD\tSTORES")
	for _, row := range r.Rows {
		for _, name := range sidesShown {
			of := row.Slices[name]
			if len(of) == 0 {
				continue
			}
			m := func(value func(Slice) float64) float64 { return median(of, value) }
			least, most := spread(of, perSecond)
			ratio := "-"
			if name == sideProduct && row.RatioSpread != nil {
				ratio = fmt.Sprintf("%.2f (%.2f-%.2f)", *row.Ratio, row.RatioSpread[0], row.RatioSpread[1])
			}
			cost := "-\t-\t-\t-\t-"
			if of[0].Cost != nil {
				cost = fmt.Sprintf("%.2f\t%.3f\t%.3f\t%.0fus\t%.0fus", m(func(s Slice) float64 { return s.Cost.Records }),
					m(func(s Slice) float64 { return s.Cost.Entries }), m(func(s Slice) float64 { return s.Cost.Writes }),
					m(leaderUS), m(func(s Slice) float64 { return s.Cost.FollowersUS }))
			}
			cost += "\t" + loadCost(of)
			fmt.Fprintf(t, "%s\t%d\t%s\t%.0f (%.0f-%.0f)\t%s\t%.2fms\t%.2fms\t%.2fms\t%.2fms\t%s\n", row.Scenario, row.Callers, name,
				m(perSecond), least, most, ratio, m(p50), m(func(s Slice) float64 { return millis(s.P99) }),
				m(func(s Slice) float64 { return millis(s.P999) }), m(func(s Slice) float64 { return millis(s.Max) }), cost)
		}
	}
	return t.Flush()
}

// loadCost is what an operation took of the CPU outside of the nodes.
func loadCost(of []Slice) string {
	load := "-"
	switch {
	case of[0].LoadUS != nil:
		load = fmt.Sprintf("%.0fus", median(of, func(s Slice) float64 { return *s.LoadUS }))
	case of[0].Cost != nil:
		load = fmt.Sprintf("%.0fus", median(of, func(s Slice) float64 { return s.Cost.LoadUS }))
	}
	var stores []string
	for _, kind := range slices.Sorted(maps.Keys(of[0].StoresUS)) {
		stores = append(stores, fmt.Sprintf("%s %.0fus", kind, median(of, func(s Slice) float64 { return s.StoresUS[kind] })))
	}
	if stores == nil {
		stores = []string{"-"}
	}
	return load + "\t" + strings.Join(stores, ", ")
}

// writeFootprints writes what one operation leaves, once a scenario.
func (r *Report) writeFootprints(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nONE OPERATION\tSIDE\tRECORDS\tBEFORE ITS ANSWER\tLOG BYTES\tSENT\tBYTES\tRECEIVED\tBYTES\tBRANCH CALLS\tBYTES")
	seen := map[string]bool{}
	for _, row := range r.Rows {
		if seen[row.Scenario] {
			continue
		}
		seen[row.Scenario] = true
		for _, name := range sidesShown {
			if f, ok := row.Footprints[name]; ok {
				fmt.Fprintf(t, "%s\t%s\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\n", row.Scenario, name,
					f.Records, f.Before, f.LogBytes, f.SentMessages, f.SentBytes, f.ReceivedMessages, f.ReceivedBytes, f.BranchCalls, f.BranchBytes)
			}
		}
	}
	return t.Flush()
}

func figure(v *float64, format string) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf(format, *v)
}

// line is the row in one line, for the progress.
func (r Row) line() string {
	text := fmt.Sprintf("%s, %d callers: %.0f a second, p50 %.2fms, p99 %.2fms", r.Scenario, r.Callers, r.PerSecond, r.P50MS, r.P99MS)
	if r.Ratio != nil {
		text += fmt.Sprintf("; the floor %.0f, ratio %.2f", *r.Floor, *r.Ratio)
	}
	return strings.TrimSpace(text)
}

// ms shows a latency.
func ms(d time.Duration) string { return fmt.Sprintf("%.2fms", millis(d)) }
