package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Slice is one measurement of one side.
type Slice struct {
	PerSecond float64       `json:"per_second"`
	P50       time.Duration `json:"p50_ns"`
	P99       time.Duration `json:"p99_ns"`
	P999      time.Duration `json:"p999_ns"`
	Max       time.Duration `json:"max_ns"`
	// Done is how many operations were counted, Compared how many answers were
	// compared with the state.
	Done     uint64 `json:"done"`
	Compared int    `json:"compared"`
	// Cost is nil where it could not be measured.
	Cost *Cost `json:"cost,omitempty"`
}

// Cost is what one operation took.
type Cost struct {
	// Records are the commands that it put into the log, Entries its share of the log's
	// entries, and Writes its share of the leader's writes to the log with their fsync.
	Records float64 `json:"records_per_tx"`
	Entries float64 `json:"entries_per_tx"`
	Writes  float64 `json:"fsyncs_per_tx"`
	// CPU of the leader, of all followers together, and of the load with the participants.
	LeaderUS    float64 `json:"leader_cpu_us_per_tx"`
	FollowersUS float64 `json:"followers_cpu_us_per_tx"`
	LoadUS      float64 `json:"load_cpu_us_per_tx"`
}

// newSlice sums a loop up.
func newSlice(m measured, used *meters, own time.Duration) Slice {
	h := m.latencies
	s := Slice{
		PerSecond: float64(m.done) / m.ended.Sub(m.began).Seconds(), Done: m.done,
		P50: h.Quantile(0.50), P99: h.Quantile(0.99), P999: h.Quantile(0.999), Max: h.Max(),
	}
	if used == nil {
		return s
	}
	each := func(v float64) float64 { return v / float64(m.done) }
	s.Cost = &Cost{
		Records: each(used.leader.records), Entries: each(used.leader.entries), Writes: each(used.leader.writes),
		LeaderUS: each(micro(used.leader.cpu)), FollowersUS: each(micro(used.followers)), LoadUS: each(micro(own)),
	}
	return s
}

func micro(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// checkFloor has the floor prove that it did its share: it answered after its records.
func (s Slice) checkFloor(sc scenario) error {
	if s.Cost != nil && s.Cost.Records < float64(sc.floorRecords) {
		return fmt.Errorf("the floor put %.2f records an operation into the log, and should put %d", s.Cost.Records, sc.floorRecords)
	}
	return nil
}

// Row is the result for one scenario and number of callers: medians of the runs.
type Row struct {
	Scenario  string   `json:"scenario"`
	Callers   int      `json:"callers"`
	PerSecond float64  `json:"per_second"`
	P50MS     float64  `json:"p50_ms"`
	P99MS     float64  `json:"p99_ms"`
	Floor     *float64 `json:"floor_per_second"`
	Ratio     *float64 `json:"ratio"`
	Records   *float64 `json:"records_per_tx"`
	LeaderUS  *float64 `json:"leader_cpu_us_per_tx"`

	// Slices has each measurement by side.
	Slices map[string][]Slice `json:"-"`
}

// rowsOf sums the slices up: one row of the product with its floor, and one of each
// other that took turns with them.
func rowsOf(name string, callers int, sides []side, took [][]Slice) []Row {
	var rows []Row
	var floor []Slice
	for i, s := range sides {
		switch s.name {
		case sideFloor:
			floor = took[i]
		case sideProduct:
			rows = append(rows, rowOf(name, callers, took[i]))
			rows[len(rows)-1].Slices = map[string][]Slice{sideProduct: took[i]}
		default:
			rows = append(rows, rowOf(s.name, callers, took[i]))
			rows[len(rows)-1].Slices = map[string][]Slice{s.name: took[i]}
		}
	}
	if len(floor) > 0 {
		perSecond := median(floor, func(s Slice) float64 { return s.PerSecond })
		ratio := rows[0].PerSecond / perSecond
		rows[0].Floor, rows[0].Ratio, rows[0].Slices[sideFloor] = &perSecond, &ratio, floor
	}
	return rows
}

func rowOf(name string, callers int, of []Slice) Row {
	row := Row{
		Scenario: name, Callers: callers,
		PerSecond: median(of, func(s Slice) float64 { return s.PerSecond }),
		P50MS:     median(of, func(s Slice) float64 { return millis(s.P50) }),
		P99MS:     median(of, func(s Slice) float64 { return millis(s.P99) }),
	}
	if of[0].Cost != nil {
		records := median(of, func(s Slice) float64 { return s.Cost.Records })
		leader := median(of, func(s Slice) float64 { return s.Cost.LeaderUS })
		row.Records, row.LeaderUS = &records, &leader
	}
	return row
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// median of an odd number is the middle one; of an even number, the mean of the middle two.
func median(of []Slice, value func(Slice) float64) float64 {
	values := make([]float64, len(of))
	for i, s := range of {
		values[i] = value(s)
	}
	slices.Sort(values)
	middle := len(values) / 2
	if len(values)%2 == 1 {
		return values[middle]
	}
	return (values[middle-1] + values[middle]) / 2
}

// Report is all that was measured.
type Report struct {
	Rows []Row
	// LogStore, Nodes, Runs and Machine say under which conditions.
	LogStore, Machine string
	Nodes, Runs       int
	Duration          time.Duration
}

func newReport(o Options) *Report {
	return &Report{
		LogStore: o.LogStore, Nodes: o.Nodes, Runs: o.Runs, Duration: o.Duration,
		Machine: fmt.Sprintf("%s/%s, %d CPUs, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version()),
	}
}

// WriteJSON writes the rows as a list.
func (r *Report) WriteJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r.Rows)
}

// WriteTable writes the rows for people; wide adds what each side cost.
func (r *Report) WriteTable(w io.Writer, wide bool) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SCENARIO\tCALLERS\tA SECOND\tP50\tP99\tFLOOR\tRATIO\tRECORDS\tLEADER CPU")
	for _, row := range r.Rows {
		fmt.Fprintf(t, "%s\t%d\t%.0f\t%.2fms\t%.2fms\t%s\t%s\t%s\t%s\n", row.Scenario, row.Callers, row.PerSecond, row.P50MS, row.P99MS,
			figure(row.Floor, "%.0f"), figure(row.Ratio, "%.2f"), figure(row.Records, "%.2f"), figure(row.LeaderUS, "%.0fus"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if wide {
		if err := r.writeSides(w); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "\nmedian of %d runs of %v each, taking turns with the floor; %d nodes on one machine, log store %s, fsync on; %s\n", r.Runs, r.Duration, r.Nodes, r.LogStore, r.Machine)
	return err
}

// writeSides writes each side's medians, and the spread of its runs.
func (r *Report) writeSides(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nSCENARIO\tCALLERS\tSIDE\tA SECOND (LEAST-MOST)\tP50\tP99\tP99.9\tMAX\tRECORDS\tENTRIES\tFSYNCS\tLEADER\tFOLLOWERS\tLOAD")
	for _, row := range r.Rows {
		for _, name := range []string{sideProduct, sideFloor, proposeName, sideEtcd} {
			of := row.Slices[name]
			if len(of) == 0 {
				continue
			}
			m := func(value func(Slice) float64) float64 { return median(of, value) }
			least := slices.MinFunc(of, func(a, b Slice) int { return int(a.PerSecond - b.PerSecond) }).PerSecond
			most := slices.MaxFunc(of, func(a, b Slice) int { return int(a.PerSecond - b.PerSecond) }).PerSecond
			cost := "-\t-\t-\t-\t-\t-"
			if of[0].Cost != nil {
				cost = fmt.Sprintf("%.2f\t%.3f\t%.3f\t%.0fus\t%.0fus\t%.0fus", m(func(s Slice) float64 { return s.Cost.Records }),
					m(func(s Slice) float64 { return s.Cost.Entries }), m(func(s Slice) float64 { return s.Cost.Writes }),
					m(func(s Slice) float64 { return s.Cost.LeaderUS }), m(func(s Slice) float64 { return s.Cost.FollowersUS }),
					m(func(s Slice) float64 { return s.Cost.LoadUS }))
			}
			fmt.Fprintf(t, "%s\t%d\t%s\t%.0f (%.0f-%.0f)\t%.2fms\t%.2fms\t%.2fms\t%.2fms\t%s\n", row.Scenario, row.Callers, name,
				m(func(s Slice) float64 { return s.PerSecond }), least, most,
				m(func(s Slice) float64 { return millis(s.P50) }), m(func(s Slice) float64 { return millis(s.P99) }),
				m(func(s Slice) float64 { return millis(s.P999) }), m(func(s Slice) float64 { return millis(s.Max) }), cost)
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
