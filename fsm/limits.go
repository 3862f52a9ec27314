package fsm

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/quorate/quorate/fsm/logpb"
)

// What the limits themselves must keep to.
const (
	// ClockStaleMaxMS is how old a cluster clock an SDK may use to make a GID.
	ClockStaleMaxMS = 60_000
	// RecoveryMarginMS is what retention leaves to recovery beyond the longest
	// transaction.
	RecoveryMarginMS = 60_000
	// TickIdleMaxMS: the leader proposes a Tick at least so often.
	TickIdleMaxMS = 10_000
	// BranchIDBytesMax is what an XA xid has room for.
	BranchIDBytesMax = 32
	// KeyBytesMax is the longest key ever allowed.
	KeyBytesMax = 1024
	// NodesMax is how many nodes the directory holds.
	NodesMax = 64
)

// DefaultLimits are those of a cluster that was founded without any.
func DefaultLimits() *logpb.Limits {
	return &logpb.Limits{
		TransactionTimeoutDefaultMs: 30_000,
		TransactionTimeoutMaxMs:     600_000,
		RetentionMs:                 1_800_000,
		ClockAdvanceMaxMs:           15_000,
		BranchesPerTransactionMax:   256,
		BranchIdBytesMax:            BranchIDBytesMax,
		KeyBytesMax:                 128,
		PayloadBytesMax:             64 << 10,
		CommandBytesMax:             256 << 10,
		ActiveTransactionsMax:       1_000_000,
		RetainedStubsMax:            20_000_000,
		TombstonesMax:               1_000_000,
		LabelsMax:                   32,
		TextBytesMax:                1024,
		DropsPerTickMax:             4096,
		ExpiriesPerTickMax:          4096,
		TopicsMax:                   1024,
		SubscribersPerTopicMax:      256,
		HeadersMax:                  32,
		TransactionBytesMax:         1 << 20,
	}
}

// Of the limits, the first limitCountV1 are of the first version.
const (
	limitCountV1 = 16
	limitCount   = 20
)

// limitsOf takes limits from where an earlier version may have written them:
// those that it did not know stand at their defaults.
func limitsOf(l *logpb.Limits) *logpb.Limits {
	d := DefaultLimits()
	return mergeLimits(&logpb.Limits{
		TopicsMax: d.TopicsMax, SubscribersPerTopicMax: d.SubscribersPerTopicMax,
		HeadersMax: d.HeadersMax, TransactionBytesMax: d.TransactionBytesMax,
	}, l)
}

// limitValues lists the limits in order of their field numbers.
func limitValues(l *logpb.Limits) [limitCount]uint64 {
	return [limitCount]uint64{
		l.GetTransactionTimeoutDefaultMs(), l.GetTransactionTimeoutMaxMs(), l.GetRetentionMs(),
		l.GetClockAdvanceMaxMs(), uint64(l.GetBranchesPerTransactionMax()), uint64(l.GetBranchIdBytesMax()),
		uint64(l.GetKeyBytesMax()), uint64(l.GetPayloadBytesMax()), uint64(l.GetCommandBytesMax()),
		l.GetActiveTransactionsMax(), l.GetRetainedStubsMax(), l.GetTombstonesMax(),
		uint64(l.GetLabelsMax()), uint64(l.GetTextBytesMax()),
		uint64(l.GetDropsPerTickMax()), uint64(l.GetExpiriesPerTickMax()),
		uint64(l.GetTopicsMax()), uint64(l.GetSubscribersPerTopicMax()),
		uint64(l.GetHeadersMax()), l.GetTransactionBytesMax(),
	}
}

// mergeLimits is base with every field of change that is not zero.
func mergeLimits(base, change *logpb.Limits) *logpb.Limits {
	merged := proto.CloneOf(base)
	if change != nil {
		proto.Merge(merged, change)
	}
	return merged
}

// checkLimits says what is wrong with limits, "" when nothing is.
func checkLimits(l *logpb.Limits) string {
	for i, v := range limitValues(l) {
		if v == 0 {
			return fmt.Sprintf("limits: field %d is zero", i+1)
		}
	}
	for _, c := range []struct {
		name    string
		v       uint64
		low, up uint64
	}{
		{"transaction_timeout_max_ms", l.TransactionTimeoutMaxMs, 1, 7 * 86_400_000},
		{"transaction_timeout_default_ms", l.TransactionTimeoutDefaultMs, 1, l.TransactionTimeoutMaxMs},
		// Retention must outlast whatever a live transaction may still ask.
		{"retention_ms", l.RetentionMs, l.TransactionTimeoutMaxMs + ClockStaleMaxMS + RecoveryMarginMS, 366 * 86_400_000},
		// Below the Tick's pace an idle cluster's clock would fall behind for good.
		{"clock_advance_max_ms", l.ClockAdvanceMaxMs, TickIdleMaxMS, 3_600_000},
		{"branches_per_transaction_max", uint64(l.BranchesPerTransactionMax), 1, 65_536},
		{"branch_id_bytes_max", uint64(l.BranchIdBytesMax), 1, BranchIDBytesMax},
		{"key_bytes_max", uint64(l.KeyBytesMax), 1, KeyBytesMax},
		{"text_bytes_max", uint64(l.TextBytesMax), 16, 65_536},
		{"topics_max", uint64(l.TopicsMax), 1, 65_536},
		{"subscribers_per_topic_max", uint64(l.SubscribersPerTopicMax), 1, 65_536},
		{"headers_max", uint64(l.HeadersMax), 1, 1024},
		{"transaction_bytes_max", l.TransactionBytesMax, 1, 64 << 20},
		{"drops_per_tick_max", uint64(l.DropsPerTickMax), 1, 1 << 20},
		{"expiries_per_tick_max", uint64(l.ExpiriesPerTickMax), 1, 1 << 20},
	} {
		if c.v < c.low || c.v > c.up {
			return fmt.Sprintf("limits.%s is %d: it must lie between %d and %d", c.name, c.v, c.low, c.up)
		}
	}
	return ""
}
