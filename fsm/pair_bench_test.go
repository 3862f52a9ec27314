package fsm

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm/logpb"
)

// retained is how many finished transactions stand while BenchmarkPair measures, as
// some seconds of load leave them.
const retained = 100_000

// pairEntries are entries of n submits each, every one followed by that of their
// reports.
func pairEntries(n, from, count int) (entries [][]byte) {
	for at := from; at < from+count; at += n {
		submits, reports := fastPath(n, at)
		entries = append(entries, entryOf(submits), entryOf(reports))
	}
	return entries
}

// cpuTime is what the process has used, the collector's work too. It says more than
// the clock on a machine that others share.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkPair is what a transaction of two branches costs a node: its Submit, and
// its Reports some entries later, among finished ones that wait for retention; as
// the node does that answers, and as one that follows, by how many share an entry.
func BenchmarkPair(b *testing.B) {
	for _, n := range []int{1, 16, 64} {
		for _, follows := range []bool{false, true} {
			name := map[bool]string{false: "apply", true: "follow"}[follows]
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				x := newBencher(b)
				for from := 0; from < retained; from += 500 {
					submits, reports := fastPath(500, from)
					x.apply(&logpb.Batch{ClockMs: testStartMS, FeatureLevel: FeatureLevel, Commands: submits})
					x.apply(&logpb.Batch{ClockMs: testStartMS, FeatureLevel: FeatureLevel, Commands: reports})
				}
				entries := pairEntries(n, retained, b.N)
				b.ReportAllocs()
				b.ResetTimer()
				begun := cpuTime(b)
				for _, entry := range entries {
					x.index++
					var err error
					if follows {
						err = x.s.Follow(x.index, 1, entry)
					} else {
						_, err = x.s.ApplyEntry(x.index, 1, entry)
					}
					if err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(cpuTime(b)-begun)/float64(b.N), "cpu-ns/op")
			})
		}
	}
}
