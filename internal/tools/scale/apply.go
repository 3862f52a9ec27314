package main

import (
	"context"
	"runtime"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// applyTransactions is how many are applied for one figure.
const applyTransactions = 32_768

// measureApply applies whole transactions (submit, two reports) from their bytes,
// as a follower does, beside so many live ones.
func measureApply(ctx context.Context, o *options, out *results) error {
	f, err := newFiller(nil)
	if err != nil {
		return err
	}
	for _, n := range o.live {
		before, missing := heap(), n-f.s.Counts().Live
		if err := f.fillLive(missing, false); err != nil {
			return err
		}
		perLive := float64(heap()-before) / float64(missing)
		var wall, cpu []float64
		var each latencies
		var allocated uint64
		for range max(o.rounds, 1) {
			if ctx.Err() != nil {
				return nil
			}
			entries := f.lives(applyTransactions)
			runtime.GC()
			used, counted, begun := ownCPU(), mallocs(), time.Now()
			for _, entry := range entries {
				at := time.Now()
				f.index++
				if _, err := f.s.ApplyEntry(f.index, 1, entry); err != nil {
					return err
				}
				each = append(each, time.Since(at))
			}
			wall = append(wall, micros(time.Since(begun))/applyTransactions)
			cpu = append(cpu, micros(ownCPU()-used)/applyTransactions)
			allocated = mallocs() - counted
		}
		out.add("apply", thousands(n)+" live",
			figure{"us_per_tx", median(wall)}, figure{"cpu_us_per_tx", median(cpu)},
			figure{"allocs_per_tx", float64(allocated) / applyTransactions},
			figure{"entry_p99_ms", each.quantile(0.99)}, figure{"entry_max_ms", each.max()},
			figure{"bytes_per_live", perLive})
	}
	runtime.KeepAlive(f)
	return nil
}

// lives are the entries of so many whole lives.
func (f *filler) lives(n int) [][]byte {
	var entries [][]byte
	for range n / entryTransactions {
		var first, then []*logpb.Command
		for range entryTransactions {
			c, gid := f.decided()
			first = append(first, c)
			then = append(then, reportOf(gid, "1"), reportOf(gid, "2"))
		}
		entries = append(entries, fsm.EncodeEntry(nil, f.batch(first)), fsm.EncodeEntry(nil, f.batch(then)))
	}
	return entries
}
