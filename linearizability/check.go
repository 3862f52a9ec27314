package linearizability

import (
	"cmp"
	"context"
	"runtime"
	"slices"
	"sync"
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
	// ViolationsMax bounds how many are reported, default 100; Report.Omitted
	// counts the rest.
	ViolationsMax int
}

const (
	timeoutDefaultCheck  = 30 * time.Second
	violationsMaxDefault = 100
)

// Check judges a history by every model and every invariant. It never skips: what
// it cannot decide in time, or when ctx ends, is a violation.
func Check(ctx context.Context, h *History, options Options) Report {
	if options.Timeout <= 0 {
		options.Timeout = timeoutDefaultCheck
	}
	if options.Parallel <= 0 {
		options.Parallel = runtime.GOMAXPROCS(0)
	}
	if options.ViolationsMax <= 0 {
		options.ViolationsMax = violationsMaxDefault
	}
	began := time.Now()
	j := &judge{ctx: ctx, history: h, options: options, compiler: newCompiler(h)}
	j.quiescent = slices.ContainsFunc(h.Observations, func(o Observation) bool { return o.Sight == SightQuiescent })
	j.stats.Checked = map[string]int{}
	j.stats.Operations, j.stats.Observations = len(h.Operations), len(h.Observations)
	j.run()
	j.stats.Duration = time.Since(began)
	violations, omitted := j.conclude()
	return Report{Violations: violations, Omitted: omitted, Stats: j.stats}
}

// judge is one check under way.
type judge struct {
	ctx      context.Context
	history  *History
	options  Options
	compiler *compiler
	// quiescent: the history says that its end was waited for.
	quiescent bool

	mu         sync.Mutex
	violations []Violation
	stats      Stats
}

func (j *judge) run() {
	log := newReplay(j.history, j.compiler)
	j.compiler.log = log
	ops := usable(j.history, log)
	j.stats.Removed = log.removed
	for i := range j.history.Operations {
		switch j.history.Operations[i].Status {
		case StatusUnknown:
			j.stats.Unknown++
		case StatusFailed:
			j.stats.Failed++
		}
	}
	j.invariants(ops, log)
	parts := partitions(ops)
	keys := keyPartitions(ops)
	j.stats.GIDs, j.stats.Keys = len(parts), len(keys)
	j.each(len(parts), func(i int) { j.checkGID(parts[i]) })
	j.each(len(keys), func(i int) { j.checkKey(keys[i]) })
	j.count("S7", len(parts)+len(keys))
}

// each runs do for 0..n-1 on the workers.
func (j *judge) each(n int, do func(i int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(j.options.Parallel, max(n, 1)) {
		wg.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// broken records a violation.
func (j *judge) broken(v Violation) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.violations = append(j.violations, v)
}

func (j *judge) count(promise string, n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.stats.Checked[promise] += n
}

// conclude puts the violations in order and leaves out what only repeats: a
// transaction with two decisions is not linearizable either, and saying so in the
// most general terms would hide the plain ones.
func (j *judge) conclude() (shown []Violation, omitted int) {
	specific := map[string]bool{}
	for _, v := range j.violations {
		if v.Promise != promiseLinearizable && v.GID != "" {
			specific[v.GID] = true
		}
	}
	out := j.violations[:0:0]
	for _, v := range j.violations {
		if v.Promise == promiseLinearizable && specific[v.GID] {
			for i := range j.violations {
				if j.violations[i].GID == v.GID && j.violations[i].HTML == "" {
					j.violations[i].HTML = v.HTML
				}
			}
		}
	}
	for _, v := range j.violations {
		if v.Promise != promiseLinearizable || !specific[v.GID] {
			out = append(out, v)
		}
	}
	slices.SortStableFunc(out, func(a, b Violation) int {
		return cmp.Or(cmp.Compare(rank(a.Promise), rank(b.Promise)), cmp.Compare(a.GID, b.GID), cmp.Compare(a.Text, b.Text))
	})
	if extra := len(out) - j.options.ViolationsMax; extra > 0 {
		return out[:j.options.ViolationsMax:j.options.ViolationsMax], extra
	}
	return out, 0
}
