package raftnode

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// slowDisk is how much longer each write of the slow follower takes.
const slowDisk = 500 * time.Millisecond

// A follower with a slow disk falls behind, is sent many entries at once and then
// snapshots, and holds up nobody: commands go on at the other two's pace, whose
// disks are not looked at half a second apart.
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
	before := load(t, leader, time.Second)
	slow.break_(func(operation string) error {
		if operation == "append" {
			time.Sleep(slowDisk)
		}
		return nil
	})
	during := load(t, leader, 4*time.Second)
	t.Logf("a command took p50 %v, p99 %v; with a follower %v slower p50 %v, p99 %v; it is %d entries behind",
		at(before, 0.5), at(before, 0.99), slowDisk, at(during, 0.5), at(during, 0.99), leader.raft().LastIndex()-c.members[2].stores.log.last.Load())
	if leader.reign.Load() == nil {
		t.Error("the leader was deposed")
	}
	if p90 := at(during, 0.9); p90 > slowDisk/2 && p90 > 2*at(before, 0.99) {
		t.Errorf("p90 %v: commands wait for the slow disk", p90)
	}
	slow.break_(func(string) error { return nil })
	c.set("after", "1")
	c.converge("after", "1")
}

func at(sorted []time.Duration, share float64) time.Duration {
	return sorted[int(share*float64(len(sorted)-1))]
}

// load has 32 callers propose for a while and returns how long each command took,
// in ascending order.
func load(t testing.TB, leader *member, d time.Duration) (took []time.Duration) {
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
				if _, err := leader.Propose(context.Background(), command); err != nil {
					t.Error(err)
					return
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
