package main

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/fsm/logpb"
)

// settleMax bounds the wait for what was promised.
const settleMax = 2 * time.Minute

// measureDecide decides transactions of two branches in a closed loop, two
// participants acknowledging, beside so many live ones that nobody attends to.
func measureDecide(ctx context.Context, o *options, out *results) error {
	for _, live := range o.live {
		if err := decideBeside(ctx, o, out, live); err != nil {
			return err
		}
	}
	return nil
}

func decideBeside(ctx context.Context, o *options, out *results, live int) (err error) {
	n, err := openNode(ctx, o, func(f *filler) error { return f.fillLive(live, false) })
	if err != nil {
		return err
	}
	defer func() {
		if closed := n.close(); err == nil {
			err = closed
		}
	}()
	n.lead()
	beside := live / 2 * 2 // branches of the decided half
	if err := until(ctx, settleMax, func() bool { return n.c.Stats().Due >= beside }); err != nil {
		return fmt.Errorf("the driver has not looked at what is live: %w", err)
	}
	runtime.GC() // of what the fill has left
	var reported atomic.Int64
	resources := []string{"attended-a", "attended-b"}
	for i, r := range resources {
		if err := n.attend(holderOf(i), attendant{reported: &reported}, r); err != nil {
			return err
		}
	}
	operate := func(ctx context.Context) error { return n.submit(ctx, resources, logpb.VoteKind_VOTE_KIND_PREPARED) }
	if _, err := closedLoop(ctx, o.callers, time.Second, operate); err != nil {
		return err
	}
	used, counted := ownCPU(), mallocs()
	load, err := closedLoop(ctx, o.callers, o.duration, operate)
	if err != nil {
		return err
	}
	if err := until(ctx, settleMax, func() bool { return n.c.Stats().Due <= beside }); err != nil {
		return err
	}
	done := float64(len(load.each))
	out.add("decide", thousands(live)+" live",
		figure{"per_second", done / time.Since(load.began).Seconds()},
		figure{"p50_ms", load.each.quantile(0.5)}, figure{"p99_ms", load.each.quantile(0.99)}, figure{"max_ms", load.each.max()},
		figure{"cpu_us_per_tx", micros(ownCPU()-used) / done}, figure{"allocs_per_tx", float64(mallocs()-counted) / done})
	return snapshotUnder(ctx, o, out, n, live, operate)
}

// snapshotUnder is the same load while a snapshot is pinned and written to the
// node's disk.
func snapshotUnder(ctx context.Context, o *options, out *results, n *node, live int, operate func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var took time.Duration
	var failed error
	var wait sync.WaitGroup
	wait.Go(func() {
		begun := time.Now()
		failed = n.raft.Snapshot(ctx)
		took = time.Since(begun)
		cancel()
	})
	load, err := closedLoop(ctx, o.callers, time.Minute, operate)
	wait.Wait()
	if failed != nil {
		return failed
	}
	if err != nil {
		return err
	}
	out.add("decide", thousands(live)+" live, snapshot",
		figure{"snapshot_ms", millis(took)}, figure{"per_second", float64(len(load.each)) / took.Seconds()},
		figure{"p50_ms", load.each.quantile(0.5)}, figure{"p99_ms", load.each.quantile(0.99)}, figure{"max_ms", load.each.max()})
	return nil
}

// loaded is what a loop saw.
type loaded struct {
	each  latencies
	began time.Time
}

// closedLoop has callers operate for so long, or until ctx ends. An operation that
// fails ends it, unless that is why.
func closedLoop(ctx context.Context, callers int, d time.Duration, operate func(ctx context.Context) error) (loaded, error) {
	l := loaded{began: time.Now()}
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex
	var wait sync.WaitGroup
	for range callers {
		wait.Go(func() {
			var mine latencies
			for time.Since(l.began) < d && inner.Err() == nil {
				at := time.Now()
				err := operate(inner)
				if inner.Err() != nil {
					break
				}
				if err != nil {
					cancel(err)
					break
				}
				mine = append(mine, time.Since(at))
			}
			mu.Lock()
			l.each = append(l.each, mine...)
			mu.Unlock()
		})
	}
	wait.Wait()
	if ctx.Err() != nil {
		return l, nil
	}
	return l, context.Cause(inner)
}

// until waits for a condition.
func until(ctx context.Context, most time.Duration, holds func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
