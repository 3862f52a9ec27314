package raftnode

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"
)

// BenchmarkPropose is a cluster of three in one process, real disks and fsync:
// commands a second, the entries they made, and how long one took.
func BenchmarkPropose(b *testing.B) {
	for _, store := range []string{LogStoreBolt, LogStoreWAL} {
		for _, callers := range []int{1, 16, 256} {
			b.Run(fmt.Sprintf("%s/%d", store, callers), func(b *testing.B) {
				c := newCluster(b, 3, func(_ int, cfg *Config) {
					steady(cfg)
					cfg.LogStore = store
					cfg.Logger = slog.New(slog.DiscardHandler)
				})
				leader := c.leader()
				command := set("register", "a value of some length, as a vote has it")
				entries := leader.Metrics().Entries
				var latency histogram
				b.ResetTimer()
				var wait sync.WaitGroup
				for i := range callers {
					wait.Add(1)
					go func() {
						defer wait.Done()
						for range (b.N + callers - 1 - i) / callers {
							begun := time.Now()
							if _, err := leader.Propose(context.Background(), command); err != nil {
								b.Error(err)
								return
							}
							latency.observe(time.Since(begun))
						}
					}()
				}
				wait.Wait()
				b.StopTimer()
				made := leader.Metrics().Entries - entries
				l := latency.snapshot()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
				b.ReportMetric(float64(b.N)/float64(max(made, 1)), "commands/entry")
				b.ReportMetric(float64(l.P50.Microseconds())/1000, "p50-ms")
				b.ReportMetric(float64(l.P99.Microseconds())/1000, "p99-ms")
			})
		}
	}
}

// BenchmarkReadIndex is of reads that share their confirmations.
func BenchmarkReadIndex(b *testing.B) {
	c := newCluster(b, 3, func(_ int, cfg *Config) {
		steady(cfg)
		cfg.Logger = slog.New(slog.DiscardHandler)
	})
	c.set("x", "1")
	leader := c.leader()
	b.ResetTimer()
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := leader.ReadIndex(context.Background()); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
