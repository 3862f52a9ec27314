package bench

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// A Histogram counts durations the way HdrHistogram does: buckets whose width is a
// fixed share of their value, here 1/64, from a nanosecond to nine years. Recording is
// one atomic addition, so that all callers share one.
type Histogram struct {
	counts [histogramBuckets]atomic.Uint64
	total  atomic.Uint64
	max    atomic.Int64
}

const (
	// subBits: each power of two is cut into 1<<subBits buckets.
	subBits          = 6
	histogramBuckets = (63 - subBits + 1) << subBits
)

// Record counts one duration; negative ones count as 0.
func (h *Histogram) Record(d time.Duration) {
	d = max(d, 0)
	h.counts[bucketOf(uint64(d))].Add(1)
	h.total.Add(1)
	for {
		old := h.max.Load()
		if int64(d) <= old || h.max.CompareAndSwap(old, int64(d)) {
			return
		}
	}
}

// Count is how many durations were recorded.
func (h *Histogram) Count() uint64 { return h.total.Load() }

// Max is the longest duration, exactly.
func (h *Histogram) Max() time.Duration { return time.Duration(h.max.Load()) }

// Quantile is the value that at least the share q of the durations does not exceed,
// up to a sixty-fourth too high; 0 when nothing was recorded.
func (h *Histogram) Quantile(q float64) time.Duration {
	total := h.total.Load()
	if total == 0 {
		return 0
	}
	rank := uint64(q * float64(total))
	if float64(rank) < q*float64(total) {
		rank++
	}
	rank = min(max(rank, 1), total)
	var seen uint64
	for i := range h.counts {
		if seen += h.counts[i].Load(); seen >= rank {
			return min(time.Duration(bucketMax(i)), h.Max())
		}
	}
	return h.Max()
}

// bucketOf is the bucket of a value: the exponent of its highest bit, then the
// subBits bits below it. Values below 1<<subBits have a bucket each.
func bucketOf(v uint64) int {
	exponent := bits.Len64(v) - 1 - subBits
	if exponent < 0 {
		return int(v)
	}
	return (exponent+1)<<subBits + int(v>>exponent)&(1<<subBits-1)
}

// bucketMax is the largest value of a bucket.
func bucketMax(i int) uint64 {
	exponent := i>>subBits - 1
	if exponent < 0 {
		return uint64(i)
	}
	return (uint64(i&(1<<subBits-1)|1<<subBits)+1)<<exponent - 1
}
