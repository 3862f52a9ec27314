package bench

import (
	"fmt"
	"slices"
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
	// LoadUS and StoresUS are the CPU of an operation in the load with the SDK and in the
	// private database servers, where there are such.
	LoadUS   *float64           `json:"load_us,omitempty"`
	StoresUS map[string]float64 `json:"stores_us,omitempty"`
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

	// Before are the records that were in the log when the caller was answered.
	Before *float64 `json:"records_before_answer"`
	// FloorLeaderUS is what the floor's leader needed.
	FloorLeaderUS *float64 `json:"floor_leader_cpu_us_per_tx"`
	// RateSpread is the least and the most of the runs, RatioSpread that of their ratios
	// to the floor's run that took turns with them.
	RateSpread  [2]float64  `json:"per_second_spread"`
	RatioSpread *[2]float64 `json:"ratio_spread"`
	// OfPropose is the median latency as a multiple of the one of propose in the same
	// turns; OfEtcd the rate as a multiple of etcd's puts in the same turns.
	OfPropose *float64 `json:"p50_of_propose"`
	OfEtcd    *float64 `json:"rate_of_etcd"`

	// Slices has each measurement by side, Footprints one operation's traces.
	Slices     map[string][]Slice   `json:"-"`
	Footprints map[string]Footprint `json:"-"`
}

// rowsOf sums the slices up: one row of the product with its floor, and one of each
// other that took turns with them.
func rowsOf(name string, callers int, sides []side, took [][]Slice) []Row {
	var rows []Row
	by := map[string][]Slice{}
	for i, s := range sides {
		by[s.name] = took[i]
		switch s.name {
		case sideFloor:
		case sideProduct:
			rows = append(rows, rowOf(name, callers, s.name, took[i]))
		default:
			rows = append(rows, rowOf(s.name, callers, s.name, took[i]))
		}
	}
	if len(by[sideProduct]) > 0 {
		rows[0].beside(by)
	}
	return rows
}

func rowOf(name string, callers int, side string, of []Slice) Row {
	row := Row{
		Scenario: name, Callers: callers, Slices: map[string][]Slice{side: of},
		PerSecond: median(of, perSecond), P50MS: median(of, p50), P99MS: median(of, func(s Slice) float64 { return millis(s.P99) }),
	}
	row.RateSpread[0], row.RateSpread[1] = spread(of, perSecond)
	if of[0].Cost != nil {
		row.Records = ptr(median(of, func(s Slice) float64 { return s.Cost.Records }))
		row.LeaderUS = ptr(median(of, leaderUS))
	}
	return row
}

// beside compares the product with those that took turns with it.
func (r *Row) beside(by map[string][]Slice) {
	if floor := by[sideFloor]; len(floor) > 0 {
		r.Slices[sideFloor] = floor
		r.Floor = ptr(median(floor, perSecond))
		r.Ratio = ptr(r.PerSecond / *r.Floor)
		var ratios []Slice
		for i := range min(len(floor), len(by[sideProduct])) {
			ratios = append(ratios, Slice{PerSecond: by[sideProduct][i].PerSecond / floor[i].PerSecond})
		}
		r.RatioSpread = new([2]float64)
		r.RatioSpread[0], r.RatioSpread[1] = spread(ratios, perSecond)
		if floor[0].Cost != nil {
			r.FloorLeaderUS = ptr(median(floor, leaderUS))
		}
	}
	if propose := by[proposeName]; len(propose) > 0 {
		r.OfPropose = ptr(r.P50MS / median(propose, p50))
	}
	if etcd := by[sideEtcd]; len(etcd) > 0 {
		r.OfEtcd = ptr(r.PerSecond / median(etcd, perSecond))
	}
}

func perSecond(s Slice) float64 { return s.PerSecond }
func p50(s Slice) float64       { return millis(s.P50) }
func leaderUS(s Slice) float64  { return s.Cost.LeaderUS }

func ptr(v float64) *float64 { return &v }

// spread is the least and the most.
func spread(of []Slice, value func(Slice) float64) (least, most float64) {
	least, most = value(of[0]), value(of[0])
	for _, s := range of {
		least, most = min(least, value(s)), max(most, value(s))
	}
	return least, most
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
