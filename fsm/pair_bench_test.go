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

// unreported is how many transactions are decided and not reported yet: a branch's report
// waits up to 100 ms for those of the others.
const unreported = 1500

// pairs are the batches of n Submits each, and of the Reports of those that came some time
// before. Ten transactions are born in a millisecond.
func pairs(n, from, count int) (batches []*logpb.Batch) {
	var late []*logpb.Batch
	add := func(reports *logpb.Batch, bornMS uint64) {
		reports.ClockMs = bornMS
		batches = append(batches, reports)
	}
	var bornMS uint64
	for at := from; at < from+count; at += n {
		bornMS = testStartMS + uint64(at/10)
		submits, reports := fastPathAt(bornMS, min(n, from+count-at), at)
		add(&logpb.Batch{WallMs: 1_700_000_000_000, FeatureLevel: FeatureLevel, Commands: submits}, bornMS)
		late = append(late, &logpb.Batch{WallMs: 1_700_000_000_000, FeatureLevel: FeatureLevel, Commands: reports})
		if len(late) > unreported/n {
			add(late[0], bornMS)
			late = late[1:]
		}
	}
	for _, reports := range late {
		add(reports, bornMS)
	}
	return batches
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
				for _, batch := range pairs(500, 0, retained) {
					x.apply(batch)
				}
				var entries [][]byte
				for _, batch := range pairs(n, retained, b.N) {
					entries = append(entries, EncodeEntry(nil, batch))
				}
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
