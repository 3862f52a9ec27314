package api

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate/fsm"
)

// nodeCollector reads the node's figures when it is scraped, so that they cost
// nothing in between and all belong to one moment.
type nodeCollector struct {
	coordinator Coordinator
	cluster     Cluster
}

// desc describes one series that nodeCollector makes.
func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("quorate_"+name, help, labels, nil)
}

var (
	descOpen          = desc("transactions_open", "Transactions that have not ended.", "mode", "state")
	descRetained      = desc("transactions_retained", "Ended transactions that wait for their retention.")
	descTombstones    = desc("tombstones", "Rollbacks of transactions that were never begun.")
	descInDoubt       = desc("transactions_in_doubt", "Branches that are prepared and have not ended.")
	descOldestInDoubt = desc("oldest_in_doubt_age_seconds", "Age of the oldest branch in doubt, by the cluster clock.")
	descHeuristics    = desc("branches_heuristic", "Branches whose own outcome differs from the decision, or is unknown.")
	descQuarantined   = desc("transactions_quarantined", "Transactions set aside because an invariant broke.")
	descWithheld      = desc("transactions_withheld", "Transactions that wait for an operator after a restore.")
	descDue           = desc("branches_due", "Branches that must be told their outcome (leader only).")
	descStuck         = desc("branches_stuck", "Branches due for longer than the stuck threshold (leader only).", "mode")
	descSessions      = desc("sessions", "Participants attached (leader only).")
	descCalls         = desc("branch_calls_in_flight", "Calls to endpoints under way (leader only).")
	descWaiters       = desc("waiting_callers", "Callers that wait for a decision (leader only).")

	descHasLeader     = desc("raft_has_leader", "1 while a leader is known.")
	descIsLeader      = desc("raft_is_leader", "1 while this node leads.")
	descTerm          = desc("raft_term", "Raft's term.")
	descLeaderChanges = desc("raft_leader_changes_total", "Changes of leader seen by this node.")
	descApplied       = desc("raft_applied_index", "Last entry that the state machine applied.")
	descCommit        = desc("raft_commit_index", "Last entry known to be committed.")
	descLag           = desc("raft_commit_to_apply_lag", "Entries committed and not applied yet.")
	descProposals     = desc("proposals_total", "Commands proposed on this node, by result.", "result")
	descPending       = desc("proposals_pending", "Commands that wait for their entry.")
	descFsync         = desc("log_fsync_duration_seconds", "Appends to the log, fsync included.")
	descLogBytes      = desc("log_bytes_total", "Bytes of the entries written to the log.")
	descSnapshot      = desc("snapshot_duration_seconds", "Writing snapshots.")
)

// Describe implements prometheus.Collector.
func (c nodeCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descOpen, descRetained, descTombstones, descInDoubt, descOldestInDoubt, descHeuristics, descQuarantined,
		descWithheld, descDue, descStuck, descSessions, descCalls, descWaiters, descHasLeader, descIsLeader, descTerm,
		descLeaderChanges, descApplied, descCommit, descLag, descProposals, descPending, descFsync, descLogBytes, descSnapshot,
	} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c nodeCollector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	count := func(d *prometheus.Desc, value uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
	}
	c.transactions(gauge)
	status := c.cluster.Status()
	gauge(descHasLeader, truth(status.LeaderID != ""))
	gauge(descIsLeader, truth(status.Role == RoleLeader))
	gauge(descTerm, float64(status.Term))
	count(descLeaderChanges, status.LeaderChanges)
	gauge(descApplied, float64(status.AppliedIndex))
	gauge(descCommit, float64(status.CommitIndex))
	gauge(descLag, float64(status.lag()))
	count(descProposals, status.Committed, "committed")
	count(descProposals, status.Refused, "refused")
	count(descProposals, status.Unknown, "unknown")
	gauge(descPending, float64(status.Pending))
	out <- status.LogWrite.metric(descFsync)
	count(descLogBytes, status.LogBytes)
	out <- status.Snapshot.metric(descSnapshot)
}

func (c nodeCollector) transactions(gauge func(*prometheus.Desc, float64, ...string)) {
	stats := c.coordinator.Stats()
	open := stats.Counts.Open
	for state, number := range open[0] {
		open[1][state] += number // a tombstone has no mode: it counts as two-phase
	}
	for mode, states := range open {
		for state, number := range states {
			// Modes that nobody uses would be dozens of series of zeros.
			if mode > 0 && (number != 0 || mode == 1 && openState(fsm.TxState(state))) {
				gauge(descOpen, float64(number), modeText(fsm.Mode(mode)), stateText(fsm.TxState(state)))
			}
		}
	}
	gauge(descRetained, float64(stats.Counts.Finished))
	gauge(descTombstones, float64(stats.Counts.Tombstones))
	gauge(descInDoubt, float64(stats.Counts.InDoubt))
	gauge(descOldestInDoubt, stats.OldestInDoubt.Seconds())
	gauge(descHeuristics, float64(stats.Counts.Heuristics))
	gauge(descQuarantined, float64(stats.Counts.Quarantined))
	gauge(descWithheld, float64(stats.Counts.Withheld))
	gauge(descDue, float64(stats.Due))
	stats.Stuck[1] += stats.Stuck[0]
	for mode, number := range stats.Stuck {
		if mode == 1 || mode > 1 && number != 0 {
			gauge(descStuck, float64(number), modeText(fsm.Mode(mode)))
		}
	}
	gauge(descSessions, float64(stats.Sessions))
	gauge(descCalls, float64(stats.InFlight))
	gauge(descWaiters, float64(stats.Waiters))
}

// openState tells of a state that a transaction does not stay in for good.
func openState(s fsm.TxState) bool {
	switch s {
	case fsm.StateActive, fsm.StateSealed, fsm.StateCommitting, fsm.StateRollingBack:
		return true
	default:
		return false
	}
}

// metric is the histogram as Prometheus wants it: cumulated.
func (h Histogram) metric(d *prometheus.Desc) prometheus.Metric {
	buckets := make(map[float64]uint64, len(h.Bounds))
	var sum uint64
	for i, bound := range h.Bounds {
		if i < len(h.Counts) {
			sum += h.Counts[i]
		}
		buckets[bound] = sum
	}
	return prometheus.MustNewConstHistogram(d, h.Count, h.SumSeconds, buckets)
}

// lag is how many committed entries are not applied yet.
func (s ClusterStatus) lag() uint64 {
	return s.CommitIndex - min(s.AppliedIndex, s.CommitIndex)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
