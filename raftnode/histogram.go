package raftnode

import (
	"slices"
	"sync"
	"time"
)

// latencyBounds are the upper bounds of a histogram's buckets, in seconds:
// powers of two from a quarter of a millisecond to eight seconds.
var latencyBounds = func() []float64 {
	bounds := make([]float64, 16)
	for i := range bounds {
		bounds[i] = 0.00025 * float64(uint(1)<<i)
	}
	return bounds
}()

// latestKept is over how many of the latest observations percentiles are taken.
const latestKept = 512

// Histogram is a copy of a histogram at one moment.
type Histogram struct {
	// Bounds are the upper bounds of the buckets in seconds, ascending.
	Bounds []float64
	// Counts are the observations of each bucket, not cumulated; the last is of
	// those above every bound.
	Counts []uint64
	// Count and SumSeconds are over all observations.
	Count      uint64
	SumSeconds float64
	// P50, P90, P99 and Max are of the latest 512 observations.
	P50, P90, P99, Max time.Duration
}

// histogram counts durations.
type histogram struct {
	mu     sync.Mutex
	counts [17]uint64
	count  uint64
	sum    float64
	latest [latestKept]time.Duration
}

func (h *histogram) observe(d time.Duration) {
	seconds := d.Seconds()
	bucket, _ := slices.BinarySearch(latencyBounds, seconds)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts[bucket]++
	h.latest[h.count%latestKept] = d
	h.count++
	h.sum += seconds
}

func (h *histogram) snapshot() Histogram {
	h.mu.Lock()
	kept := append([]time.Duration(nil), h.latest[:min(h.count, latestKept)]...)
	s := Histogram{Bounds: latencyBounds, Counts: append([]uint64(nil), h.counts[:]...), Count: h.count, SumSeconds: h.sum}
	h.mu.Unlock()
	if len(kept) == 0 {
		return s
	}
	slices.Sort(kept)
	at := func(share float64) time.Duration { return kept[int(share*float64(len(kept)-1))] }
	s.P50, s.P90, s.P99, s.Max = at(0.50), at(0.90), at(0.99), kept[len(kept)-1]
	return s
}
