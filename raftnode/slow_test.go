package raftnode

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// slowDisk is how much longer each write of the slow follower takes.
const slowDisk = 500 * time.Millisecond

// A follower with a slow disk falls behind, is sent many entries at once and then
// snapshots, and holds up nobody: commands go on at the other two's pace, and nearly all
// are answered before they are on the slow disk. That is so on a machine of any speed, and
// of any speed from one second to the next. How long they take is compared with what they
// take before and after, as well as that can be.
func TestSlowFollower_HoldsUpNobody(t *testing.T) {
	var slow disk
	c := newCluster(t, 3, func(i int, cfg *Config) {
		steady(cfg)
		cfg.Logger = slog.New(slog.DiscardHandler)
		cfg.SnapshotBytes, cfg.TrailingBytes, cfg.TrailingEntries = 1<<20, 1<<20, 200
		if i == 2 {
			slow.on(cfg)
		}
	})
	leader := c.leader()
	if leader == c.members[2] {
		must(t, leader.TransferLeadership(c.ctx(), string(c.members[0].self)))
		leader = c.leader()
	}
	before := load(t, leader, time.Second, nil)
	slow.break_(func(operation string) error {
		if operation == "append" {
			time.Sleep(slowDisk)
		}
		return nil
	})
	var ahead, answered atomic.Int64
	last := &c.members[2].stores.log.last
	during := load(t, leader, 4*time.Second, func(p Proposed) {
		answered.Add(1)
		if p.Index > last.Load() {
			ahead.Add(1)
		}
	})
	behind := leader.raft().LastIndex() - last.Load()
	slow.break_(func(string) error { return nil })
	after := load(t, leader, time.Second, nil)
	t.Logf("a command took p50 %v, p99 %v; with a follower %v slower p50 %v, p99 %v, and of %d %d were answered before it had them; it was %d entries behind; afterwards p50 %v, p99 %v",
		at(before, 0.5), at(before, 0.99), slowDisk, at(during, 0.5), at(during, 0.99), answered.Load(), ahead.Load(), behind, at(after, 0.5), at(after, 0.99))
	if leader.reign.Load() == nil {
		t.Error("the leader was deposed")
	}
	if ahead.Load() < answered.Load()*3/4 {
		t.Errorf("of %d commands %d were answered before the slow disk had them: the others may have waited for it", answered.Load(), ahead.Load())
	}
	if p90, otherwise := at(during, 0.9), max(at(before, 0.99), at(after, 0.99)); p90 > slowDisk && p90 > 2*otherwise {
		t.Errorf("p90 %v, without a slow disk p99 %v: commands wait for it", p90, otherwise)
	}
	c.set("after", "1")
	c.converge("after", "1")
}

func at(sorted []time.Duration, share float64) time.Duration {
	return sorted[int(share*float64(len(sorted)-1))]
}

// load has 32 callers propose for a while and returns how long each command took,
// in ascending order. each, if there is one, hears of every answer as it comes.
func load(t testing.TB, leader *member, d time.Duration, each func(Proposed)) (took []time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	command := set("load", strings.Repeat("v", 1000))
	var mu sync.Mutex
	var wait sync.WaitGroup
	for range 32 {
		wait.Go(func() {
			var own []time.Duration
			for ctx.Err() == nil {
				begun := time.Now()
				p, err := leader.Propose(context.Background(), command)
				if err != nil {
					t.Error(err)
					return
				}
				if each != nil {
					each(p)
				}
				own = append(own, time.Since(begun))
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, own...)
		})
	}
	wait.Wait()
	slices.Sort(took)
	return took
}
