package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/fsm/logpb"
)

// settleMax bounds the wait for what was promised.
const settleMax = 2 * time.Minute

// decideTurns is how often each node has its turn of a load.
const decideTurns = 5

// attended are the resources of the two participants that attend to what is decided here.
var attended = []string{"attended-a", "attended-b"}

// deciding is a node beside whose live transactions others are decided, and what was
// seen of it.
type deciding struct {
	*node
	live int

	each                   latencies
	rate, cpu, allocations []float64 // each turn's
}

// measureDecide decides transactions of two branches in a closed loop, two
// participants acknowledging, beside so many live ones that nobody attends to. The
// nodes, one of each size, take turns.
func measureDecide(ctx context.Context, o *options, out *results) (err error) {
	defer keepHeadroom()()
	var nodes []*deciding
	defer func() {
		for _, n := range nodes {
			err = errors.Join(err, n.close())
		}
	}()
	for _, live := range o.live {
		n, err := openNode(ctx, o, func(f *filler) error { return f.fillLive(live, false) })
		if err != nil {
			return err
		}
		nodes = append(nodes, &deciding{node: n, live: live})
		if err := nodes[len(nodes)-1].ready(ctx, o); err != nil {
			return err
		}
	}
	runtime.GC() // of what the fills have left
	for range decideTurns {
		for _, n := range nodes {
			if err := n.turn(ctx, o); err != nil {
				return err
			}
		}
	}
	for _, n := range nodes {
		var ofFirst []float64
		for i, us := range n.cpu {
			ofFirst = append(ofFirst, us/nodes[0].cpu[i])
		}
		out.add("decide", thousands(n.live)+" live",
			figure{"per_second", median(n.rate)},
			figure{"p50_ms", n.each.quantile(0.5)}, figure{"p99_ms", n.each.quantile(0.99)}, figure{"max_ms", n.each.max()},
			figure{"cpu_us_per_tx", median(n.cpu)}, figure{"cpu_of_the_first", median(ofFirst)}, figure{"allocs_per_tx", median(n.allocations)})
	}
	for _, n := range nodes {
		if err := n.snapshotUnder(ctx, o, out); err != nil {
			return err
		}
	}
	return nil
}

// ready waits until the driver has looked at what is live, and warms the way up.
func (n *deciding) ready(ctx context.Context, o *options) error {
	n.lead()
	if err := until(ctx, settleMax, func() bool { return n.c.Stats().Due >= n.beside() }); err != nil {
		return fmt.Errorf("the driver has not looked at what is live: %w", err)
	}
	var reported atomic.Int64
	for i, r := range attended {
		if err := n.attend(holderOf(i), attendant{reported: &reported}, r); err != nil {
			return err
		}
	}
	_, err := closedLoop(ctx, o.callers, time.Second, n.operate)
	return err
}

// beside is how many branches of the decided half are due.
func (n *deciding) beside() int { return n.live / 2 * 2 }

func (n *deciding) operate(ctx context.Context) error {
	return n.submit(ctx, attended, logpb.VoteKind_VOTE_KIND_PREPARED)
}

// turn is one of a load, until all that it decided has been acknowledged.
func (n *deciding) turn(ctx context.Context, o *options) error {
	used, counted := ownCPU(), mallocs()
	load, err := closedLoop(ctx, o.callers, o.duration/decideTurns, n.operate)
	if err != nil {
		return err
	}
	if err := until(ctx, settleMax, func() bool { return n.c.Stats().Due <= n.beside() }); err != nil {
		return err
	}
	done := float64(len(load.each))
	n.each = append(n.each, load.each...)
	n.rate = append(n.rate, done/time.Since(load.began).Seconds())
	n.cpu = append(n.cpu, micros(ownCPU()-used)/done)
	n.allocations = append(n.allocations, float64(mallocs()-counted)/done)
	return nil
}

// snapshotUnder is the same load while a snapshot is pinned and written to the
// node's disk.
func (n *deciding) snapshotUnder(ctx context.Context, o *options, out *results) error {
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
	load, err := closedLoop(ctx, o.callers, time.Minute, n.operate)
	wait.Wait()
	if failed != nil {
		return failed
	}
	if err != nil {
		return err
	}
	out.add("decide", thousands(n.live)+" live, snapshot",
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
