package demo

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// Result is what a run found: the fields of `quorate demo -o json`.
type Result struct {
	Transfers  int `json:"transfers"`
	Committed  int `json:"committed"`
	RolledBack int `json:"rolled_back"`
	// Unknown counts the calls that ended without an answer at the time. Each was
	// settled by Get, and is one of the committed or rolled back.
	Unknown int `json:"unknown"`
	// InDoubt counts transactions of the run that had not ended on every branch.
	InDoubt int `json:"in_doubt"`
	// CommitRatio is committed / funded transfers.
	CommitRatio float64 `json:"commit_ratio"`
	TotalBefore int64   `json:"total_before"`
	TotalAfter  int64   `json:"total_after"`
	LeaderKills int     `json:"leader_kills"`
	// KillPhases counts the leader kills by failpoint.
	KillPhases       map[Phase]int `json:"kill_phases"`
	ParticipantKills int           `json:"participant_kills"`
	// FailoverMS has, for each leader kill, the milliseconds until a client was
	// told a decision that a later leader made.
	FailoverMS []float64 `json:"failover_ms"`
	// Mismatches counts the contradictions between the log, what clients were
	// told, balances and evidence rows.
	Mismatches int `json:"mismatches"`

	// Details are the mismatches in words.
	Details []string `json:"-"`
	// Reasons counts the rolled back transfers by why.
	Reasons map[string]int `json:"-"`
	// Unexplained are transfers that rolled back and nobody knows why.
	Unexplained []string `json:"-"`
	// Surprises are processes that ended though nobody aimed at them.
	Surprises []string `json:"-"`

	wantKills            int
	wantParticipantKills int
	funded               int
}

// commitRatioMin is the least part of the funded transfers that must commit:
// below it a run proves little (GUARANTEES: S4).
const commitRatioMin = 0.9

// Failures says why the run is red, one sentence each; none means green.
func (r *Result) Failures() []string {
	var out []string
	fail := func(bad bool, format string, args ...any) {
		if bad {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	fail(r.Committed+r.RolledBack != r.Transfers, "%d committed + %d rolled back is not %d transfers", r.Committed, r.RolledBack, r.Transfers)
	fail(r.InDoubt != 0, "%d transactions are still in doubt", r.InDoubt)
	fail(r.Mismatches != 0, "%d mismatches between the log, the answers and the banks", r.Mismatches)
	fail(r.TotalBefore != r.TotalAfter, "the money was %d before and is %d after", r.TotalBefore, r.TotalAfter)
	fail(r.LeaderKills != r.wantKills, "%d leaders were killed, want %d", r.LeaderKills, r.wantKills)
	fail(r.ParticipantKills != r.wantParticipantKills, "%d participants were killed, want %d", r.ParticipantKills, r.wantParticipantKills)
	fail(len(r.FailoverMS) != r.wantKills, "%d failovers were measured, want %d", len(r.FailoverMS), r.wantKills)
	fail(r.CommitRatio < commitRatioMin, "only %d of %d funded transfers committed, want %.0f %%", r.Committed, r.funded, 100*commitRatioMin)
	fail(len(r.Unexplained) != 0, "no reason is known for the rollback of %s", strings.Join(r.Unexplained, ", "))
	for _, s := range r.Surprises {
		fail(true, "%s", s)
	}
	return out
}

// WriteTable prints the closing table.
func (r *Result) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	row("transfers", "%d  (%d funded)", r.Transfers, r.funded)
	row("committed", "%d  (%.1f %% of the funded)", r.Committed, 100*r.CommitRatio)
	row("rolled back", "%d%s", r.RolledBack, counted(r.Reasons))
	row("unknown at the time", "%d  (settled by Get)", r.Unknown)
	row("in doubt", "%d", r.InDoubt)
	row("leader kills", "%d%s", r.LeaderKills, counted(r.KillPhases))
	row("participant kills", "%d", r.ParticipantKills)
	row("failover", "%s", milliseconds(r.FailoverMS))
	row("money", "%d before, %d after", r.TotalBefore, r.TotalAfter)
	row("mismatches", "%d", r.Mismatches)
	return t.Flush()
}

// counted is "  (3 this, 1 that)", the most frequent first; empty for none.
func counted[K ~string](counts map[K]int) string {
	keys := make([]K, 0, len(counts))
	for k := range counts {
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return ""
	}
	slices.SortFunc(keys, func(a, b K) int {
		if counts[a] != counts[b] {
			return counts[b] - counts[a]
		}
		return strings.Compare(string(a), string(b))
	})
	parts := make([]string, len(keys))
	for i, k := range keys {
		parts[i] = fmt.Sprintf("%d %s", counts[k], string(k))
	}
	return "  (" + strings.Join(parts, ", ") + ")"
}

func milliseconds(all []float64) string {
	if len(all) == 0 {
		return "-"
	}
	parts := make([]string, len(all))
	for i, ms := range all {
		parts[i] = fmt.Sprintf("%.0f", ms)
	}
	return strings.Join(parts, ", ") + " ms until a client heard the next leader's decision"
}
