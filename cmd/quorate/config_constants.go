package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/quorate/quorate/api"
	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/config"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/raftnode"
)

// constants are what no setting changes on one node: the replicated limits, the
// protocol's times, and what a profile stands for.
func constants(profile string) []shownSetting {
	shown := replicatedLimits()
	add := func(source, key, value, unit, help string) {
		shown = append(shown, shownSetting{Key: key, Value: value, Source: source, Default: value, Unit: unit, Help: help})
	}
	span := func(source, key string, d time.Duration, help string) {
		add(source, key, d.String(), "duration", help)
	}
	span("constant", "protocol.clock_stale_max", coordinator.ClockStaleMax, "Oldest cluster clock that an SDK makes a GID of.")
	span("constant", "protocol.tick_idle_max", coordinator.TickIdleMax, "A leader advances the cluster's clock at least so often.")
	span("constant", "protocol.recovery_margin", fsm.RecoveryMarginMS*time.Millisecond, "What retention leaves to recovery beyond the longest transaction.")

	raft, driver := profileOf(profile)
	source := "profile " + raft.Name
	span(source, "raft.heartbeat_timeout", raft.HeartbeatTimeout, "How long a follower waits for its leader.")
	span(source, "raft.election_timeout", raft.ElectionTimeout, "How long a candidate waits for an election to end.")
	span(source, "raft.lease_timeout", raft.LeaseTimeout, "How long a leader serves without hearing from a quorum.")
	span(source, "session.heartbeat", driver.SessionHeartbeat, "How often a participant must be heard of.")
	span(source, "session.grace", driver.SessionGrace, "How long a participant may be away before it counts as lost.")
	span(source, "delivery.backoff_min", driver.BackoffMin, "First pause between two deliveries to one branch.")
	span(source, "delivery.backoff_max", driver.BackoffMax, "Longest such pause, where tx.retry_max does not say otherwise.")
	span(source, "delivery.report_hold_max", driver.ReportHoldMax, "How long a branch's report waits for those of its transaction's other branches, to be one record with them.")
	span(source, "delivery.report_ride_max", driver.ReportRideMax, "How long a report on which nothing hangs waits for a caller's command, to be in its log entry.")
	span(source, "delivery.timeout", driver.DeliveryTimeout, "How long one delivery may take, where tx.call_timeout does not say otherwise.")
	span(source, "delivery.callback_after", driver.CallbackAfter, "When a message is first checked back, or a workflow resumed, where its plan does not say.")
	add(source, "delivery.notify_attempts_max", strconv.Itoa(driver.NotifyAttemptsMax), "attempts", "Attempts at a best-effort branch, where its plan does not say.")
	span("constant", "delivery.retry_interval_max", coordinator.RetryIntervalMax, "Longest pause between two calls that a plan may ask for.")
	span("constant", "delivery.call_timeout_max", coordinator.CallTimeoutMax, "Longest deadline of a call that a plan may ask for.")
	span(source, "cluster.audit_interval", driver.AuditInterval, "How often the leader compares the nodes' states.")

	node := raftnode.DefaultConfig()
	add("constant", "raft.entry_bytes_max", strconv.Itoa(node.EntryBytesMax), "bytes", "Commands of one log entry together.")
	add("constant", "raft.queue_calls_max", strconv.Itoa(node.QueueCallsMax), "calls", "Calls that may wait to be replicated.")
	add("constant", "coordinator.sessions_max", strconv.Itoa(driver.SessionsMax), "sessions", "Participants' sessions attached at once.")
	add("constant", "coordinator.proposals_pending_max", strconv.Itoa(driver.ProposalsPendingMax), "commands", "Commands that may wait for their entry.")
	add("constant", "api.message_bytes_max", strconv.Itoa(api.MessageBytesMax), "bytes", "Largest message or body taken in.")
	add("constant", "participant.pinned_connections_max", strconv.Itoa(participant.PinnedConnectionsMax), "connections", "Connections that one resource may keep pinned to prepared or held branches.")
	return shown
}

// replicatedLimits are the limits that Apply reads.
func replicatedLimits() []shownSetting {
	l := fsm.DefaultLimits()
	ms := func(v uint64) string { return (time.Duration(v) * time.Millisecond).String() }
	number := func(v any) string { return fmt.Sprint(v) }
	var shown []shownSetting
	for _, s := range []struct{ name, value, unit, help string }{
		{"transaction_timeout_default", ms(l.GetTransactionTimeoutDefaultMs()), "duration", "A transaction that names no timeout has this one."},
		{"transaction_timeout_max", ms(l.GetTransactionTimeoutMaxMs()), "duration", "Longest timeout of a transaction."},
		{"retention", ms(l.GetRetentionMs()), "duration", "How long finished transactions are kept and their ids remembered."},
		{"clock_advance_max", ms(l.GetClockAdvanceMaxMs()), "duration", "Most that one log entry advances the cluster's clock."},
		{"branches_per_transaction_max", number(l.GetBranchesPerTransactionMax()), "branches", "Branches of one transaction."},
		{"branch_id_bytes_max", number(l.GetBranchIdBytesMax()), "bytes", "Length of a branch's id."},
		{"key_bytes_max", number(l.GetKeyBytesMax()), "bytes", "Length of a transaction's key."},
		{"payload_bytes_max", number(l.GetPayloadBytesMax()), "bytes", "Payload of one branch."},
		{"command_bytes_max", number(l.GetCommandBytesMax()), "bytes", "One command in the log."},
		{"active_transactions_max", number(l.GetActiveTransactionsMax()), "transactions", "Transactions that have not ended."},
		{"retained_stubs_max", number(l.GetRetainedStubsMax()), "transactions", "Finished transactions that are remembered."},
		{"tombstones_max", number(l.GetTombstonesMax()), "transactions", "Rollbacks of transactions that were never begun."},
		{"labels_max", number(l.GetLabelsMax()), "labels", "Labels of one transaction."},
		{"text_bytes_max", number(l.GetTextBytesMax()), "bytes", "Length of a resource, endpoint, detail, reason or label."},
		{"drops_per_tick_max", number(l.GetDropsPerTickMax()), "transactions", "Finished transactions dropped at one tick."},
		{"expiries_per_tick_max", number(l.GetExpiriesPerTickMax()), "transactions", "Transactions that one tick may time out."},
		{"topics_max", number(l.GetTopicsMax()), "topics", "Topics of the cluster."},
		{"subscribers_per_topic_max", number(l.GetSubscribersPerTopicMax()), "subscribers", "Subscribers of one topic."},
		{"headers_max", number(l.GetHeadersMax()), "headers", "Headers that a plan carries to its branches."},
		{"transaction_bytes_max", number(l.GetTransactionBytesMax()), "bytes", "Payloads, results and headers of one transaction together."},
	} {
		shown = append(shown, shownSetting{Key: "limits." + s.name, Value: s.value, Source: "replicated", Default: s.value, Unit: s.unit, Help: s.help})
	}
	return shown
}

// profileOf returns what a profile's name stands for.
func profileOf(name string) (raftnode.Profile, coordinator.Settings) {
	if name == "fast" {
		return raftnode.Fast(), coordinator.FastSettings()
	}
	return raftnode.Default(), coordinator.DefaultSettings()
}

// driverSettings are the coordinator's, with what an operator may set.
func driverSettings(cfg *config.Config) coordinator.Settings {
	_, s := profileOf(cfg.Raft.Profile)
	s.StuckAfter = cfg.Tx.StuckAfter
	if cfg.Tx.CallTimeout > 0 {
		s.DeliveryTimeout = cfg.Tx.CallTimeout
	}
	if cfg.Tx.RetryMax > 0 {
		s.BackoffMax = max(cfg.Tx.RetryMax, s.BackoffMin)
	}
	s.CallsMax, s.CallsPerResourceMax = cfg.Tx.InFlight, cfg.Tx.InFlightResource
	return s
}
