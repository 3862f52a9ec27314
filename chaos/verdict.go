package chaos

import (
	"maps"
	"slices"
	"time"
)

// Verdict is what a run says. Its JSON begins with the fields that programs may
// rely on; more may be added after them, none is renamed.
type Verdict struct {
	Seed        uint64         `json:"seed"`
	DurationS   float64        `json:"duration_s"`
	Operations  int64          `json:"operations"`
	Commits     int64          `json:"acknowledged_commits"`
	Unknown     int64          `json:"unknown"`
	Faults      map[string]int `json:"faults"`
	Anomalies   int            `json:"anomalies"`
	Lost        int            `json:"lost"`
	Linear      bool           `json:"linearizable"`
	FailoverMS  Spread         `json:"failover_ms"`
	Vacuous     bool           `json:"vacuous"`
	Suite       string         `json:"suite"`
	Commit      string         `json:"commit,omitempty"`
	Nodes       int            `json:"nodes"`
	Profile     string         `json:"profile"`
	Rollbacks   int64          `json:"acknowledged_rollbacks"`
	CommitRatio float64        `json:"commit_ratio"`
	// OpsPerSecond is over the workloads' time, faults included.
	OpsPerSecond float64 `json:"operations_per_second"`
	// FailoverMS above is after kill -9 of a leader, and of nothing else;
	// IsolatedMS after a leader that was cut off or lost its power.
	IsolatedMS Spread `json:"failover_isolated_ms"`
	// CombinedMS are the gaps of leader kills in windows with other faults, which
	// may take the quorum away.
	CombinedMS Spread `json:"failover_combined_ms"`
	// ProbeMS are the times that probes took which were asked in windows of one
	// fault that leaves a quorum (L1).
	ProbeMS Spread `json:"probe_single_fault_ms"`
	// LateMS is how late the machine woke the suite's own process up, asked every 10 ms:
	// of a failover, as much may be the machine's.
	LateMS Spread `json:"machine_late_ms"`
	// Phases count the injections that were aimed at a failpoint and hit it.
	Phases map[string]int `json:"phases,omitempty"`
	// Failpoints count how often each was passed, on all nodes.
	Failpoints map[string]int64 `json:"failpoints,omitempty"`
	// Commits acknowledged while a fault lasted, and between a heal and the next one.
	CommitsDuring int64 `json:"commits_during_faults"`
	CommitsAfter  int64 `json:"commits_after_heal"`
	// WithoutEvidence counts injections that nothing showed; they are in no count.
	WithoutEvidence int `json:"without_evidence"`
	// ByFault are the commits acknowledged in and after the windows that held a
	// fault, by its name.
	ByFault map[string]Share `json:"commits_by_fault,omitempty"`
	// Modes is what each mode of the workload modes showed.
	Modes map[string]ModeReport `json:"modes,omitempty"`
	// Impossible says which faults could not be made here, and why.
	Impossible map[string]string `json:"not_possible_here,omitempty"`
	// Findings are the anomalies, in words.
	Findings []Finding `json:"findings,omitempty"`
	// VacuousBecause says why the run proves nothing.
	VacuousBecause []string         `json:"vacuous_because,omitempty"`
	Windows        []Window         `json:"windows,omitempty"`
	Counts         map[string]int64 `json:"counts,omitempty"`
	Replay         *ReplaySummary   `json:"replay,omitempty"`
	// Dir holds what a red run left; Command repeats the run.
	Dir     string `json:"dir,omitempty"`
	Command string `json:"command"`
}

// Clean says that no promise was seen broken.
func (v *Verdict) Clean() bool { return v.Anomalies == 0 && v.Lost == 0 && v.Linear }

// Green says that the run is clean and proves it.
func (v *Verdict) Green() bool { return v.Clean() && !v.Vacuous }

// Spread is a distribution of milliseconds; N counts it.
type Spread struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
	N   int     `json:"n"`
}

// spread is the nearest-rank distribution of durations.
func spread(all []time.Duration) Spread {
	if len(all) == 0 {
		return Spread{}
	}
	sorted := slices.Sorted(slices.Values(all))
	at := func(p float64) float64 {
		i := int(float64(len(sorted))*p+0.999999) - 1
		return milliseconds(sorted[max(0, min(i, len(sorted)-1))])
	}
	return Spread{P50: at(0.50), P99: at(0.99), Max: milliseconds(sorted[len(sorted)-1]), N: len(sorted)}
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Round(100*time.Microsecond)) / float64(time.Millisecond)
}

// Share is what was acknowledged around a fault: in how many windows, while they
// lasted, and after they were healed.
type Share struct {
	Windows int   `json:"windows"`
	During  int64 `json:"during"`
	After   int64 `json:"after"`
}

// byFault adds the windows up.
func byFault(windows []Window) map[string]Share {
	all := map[string]Share{}
	for _, w := range windows {
		names := map[string]bool{}
		for _, f := range w.Faults {
			names[f.Name] = true
		}
		for name := range names {
			s := all[name]
			all[name] = Share{s.Windows + 1, s.During + w.During, s.After + w.After}
		}
	}
	return all
}

// Window is one stretch of faults that were there at once.
type Window struct {
	// AtS, HealS, WholeS and EndS count seconds from the run's start: the first
	// injection, the start of the healing, the cluster whole again, and the next
	// window's start.
	AtS    float64 `json:"at_s"`
	HealS  float64 `json:"heal_s"`
	WholeS float64 `json:"whole_s"`
	EndS   float64 `json:"end_s"`
	Faults []Made  `json:"faults"`
	// Commits acknowledged in the calm before it, while it lasted and after, and
	// the rates a second of each.
	During int64 `json:"commits_during"`
	After  int64 `json:"commits_after"`
	// RateBefore, RateDuring and RateAfter are decisions acknowledged a second.
	RateBefore float64 `json:"rate_before"`
	RateDuring float64 `json:"rate_during"`
	RateAfter  float64 `json:"rate_after"`
	// FailoverMS is the time from a leader's loss to the first acknowledged
	// decision that was asked for after it; 0: no leader was lost.
	FailoverMS float64 `json:"failover_ms,omitempty"`

	base Progress // when its healing began
}

// Made is one fault of a window.
type Made struct {
	Name     string `json:"name"`
	Kind     string `json:"kind"`
	Target   string `json:"target"`
	Phase    string `json:"phase,omitempty"`
	Evidence string `json:"evidence"`
}

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
