package chaos

import (
	"fmt"
	"io"
	"strings"
)

// Listed is a fault as `--list` shows it.
type Listed struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
	Doc  string `json:"doc"`
	// Impossible says why it cannot be made here; empty: it can.
	Impossible string `json:"not_possible_here,omitempty"`
}

// List tells every fault of the table, and which are possible here.
func List(o Options) []Listed {
	env := newEnv(o)
	all := make([]Listed, len(Table))
	for i, f := range Table {
		all[i] = Listed{Name: f.Name, Kind: f.Kind, Doc: f.Doc}
		if err := f.possible(env); err != nil {
			all[i].Impossible = err.Error()
		}
	}
	return all
}

// WorkloadNames lists what --workloads may name.
func WorkloadNames() []string {
	var names []string
	for _, kind := range workloadKinds {
		names = append(names, kind.name)
	}
	return names
}

// WriteTable prints the verdict for people.
func (v *Verdict) WriteTable(w io.Writer) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-14s %s\n", name, fmt.Sprintf(format, args...))
	}
	fmt.Fprintln(&b)
	v.writeFaults(&b)
	fmt.Fprintln(&b)
	line("operations", "%d in %.0f s (%.0f a second), %d of unknown outcome", v.Operations, v.DurationS, v.OpsPerSecond, v.Unknown)
	line("decisions", "%d commits and %d rollbacks acknowledged; %d commits while a fault lasted, %d after a heal", v.Commits, v.Rollbacks, v.CommitsDuring, v.CommitsAfter)
	if v.FailoverMS.N > 0 {
		line("failover", "p50 %.0f ms, p99 %.0f ms, max %.0f ms over %d leaders killed", v.FailoverMS.P50, v.FailoverMS.P99, v.FailoverMS.Max, v.FailoverMS.N)
	}
	if v.IsolatedMS.N > 0 {
		line("", "a leader cut off: p50 %.0f ms, p99 %.0f ms, max %.0f ms over %d", v.IsolatedMS.P50, v.IsolatedMS.P99, v.IsolatedMS.Max, v.IsolatedMS.N)
	}
	if v.CombinedMS.N > 0 {
		line("", "with other faults at once: p50 %.0f ms, p99 %.0f ms, max %.0f ms over %d", v.CombinedMS.P50, v.CombinedMS.P99, v.CombinedMS.Max, v.CombinedMS.N)
	}
	if v.ProbeMS.N > 0 {
		line("availability", "a decision under a single fault took p50 %.0f ms, p99 %.0f ms, max %.0f ms (%d probes)", v.ProbeMS.P50, v.ProbeMS.P99, v.ProbeMS.Max, v.ProbeMS.N)
	}
	if v.LateMS.N > 0 {
		line("machine", "woke this process up p50 %.0f ms, p99 %.0f ms, max %.0f ms late", v.LateMS.P50, v.LateMS.P99, v.LateMS.Max)
	}
	v.writeModes(line)
	if v.Replay != nil {
		line("logs", "%d entries, %d commands, equal on all nodes up to %d", v.Replay.Entries, v.Replay.Commands, v.Replay.Compared)
	}
	for _, name := range sortedNames(v.Counts) {
		line("", "%s: %d", strings.ReplaceAll(name, "_", " "), v.Counts[name])
	}
	fmt.Fprintln(&b)
	for i, f := range v.Findings {
		const most = 20
		if i == most {
			line("ANOMALY", "... and %d more", len(v.Findings)-most)
			break
		}
		line("ANOMALY", "%s", f)
	}
	for _, text := range v.VacuousBecause {
		line("VACUOUS", "%s", text)
	}
	line("seed", "%d", v.Seed)
	line("verdict", "%s", v.word())
	_, err := io.WriteString(w, b.String())
	return err
}

// writeFaults prints how often each fault was made.
func (v *Verdict) writeFaults(b *strings.Builder) {
	fmt.Fprintf(b, "  %-30s %6s\n", "FAULT", "TIMES")
	for _, name := range sortedNames(v.Faults) {
		fmt.Fprintf(b, "  %-30s %6d\n", name, v.Faults[name])
	}
	if len(v.Faults) == 0 {
		fmt.Fprintf(b, "  %-30s %6d\n", "(none)", 0)
	}
	for _, name := range sortedNames(v.Phases) {
		fmt.Fprintf(b, "  %-30s %6d\n", "  aimed at "+name, v.Phases[name])
	}
	for _, line := range impossible(v.Impossible) {
		fmt.Fprintf(b, "  %s\n", line)
	}
}

// impossible tells what could not be made here, a line for each reason.
func impossible(why map[string]string) []string {
	names := map[string][]string{}
	for _, name := range sortedNames(why) {
		names[why[name]] = append(names[why[name]], name)
	}
	var lines []string
	for _, reason := range sortedNames(names) {
		lines = append(lines, fmt.Sprintf("not possible here (%s): %s", reason, strings.Join(names[reason], ", ")))
	}
	return lines
}

// word is the verdict in a word or two.
func (v *Verdict) word() string {
	switch {
	case v.Green():
		return "clean: no promise was broken"
	case v.Clean():
		return "VACUOUS: nothing was broken, and nothing is proved"
	case v.Lost > 0:
		return fmt.Sprintf("RED: %d anomalies, %d acknowledgements lost", v.Anomalies, v.Lost)
	}
	return fmt.Sprintf("RED: %d anomalies", v.Anomalies)
}
