package bench

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestHistogramIsWithinASixtyFourth holds quantiles of random durations, over nine
// powers of ten, against those of the sorted list.
func TestHistogramIsWithinASixtyFourth(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var h Histogram
	var all []time.Duration
	for range 20000 {
		d := time.Duration(math.Pow(10, 9*random.Float64()))
		h.Record(d)
		all = append(all, d)
	}
	slices.Sort(all)
	if h.Count() != uint64(len(all)) || h.Max() != all[len(all)-1] {
		t.Errorf("%d recorded, the longest %v", h.Count(), h.Max())
	}
	for _, q := range []float64{0, 0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1} {
		rank := max(int(math.Ceil(q*float64(len(all)))), 1)
		exact, got := all[rank-1], h.Quantile(q)
		if got < exact || float64(got) > float64(exact)*(1+1.0/64)+1 {
			t.Errorf("quantile %v is %v, want %v and at most a 64th more", q, got, exact)
		}
	}
}

func TestHistogramOfOddValues(t *testing.T) {
	var h Histogram
	if h.Quantile(0.5) != 0 || h.Max() != 0 {
		t.Error("an empty histogram has values")
	}
	for _, d := range []time.Duration{-time.Second, 0, 63, 64, 127, 128, math.MaxInt64} {
		h.Record(d) // must not be outside of the buckets
	}
	if got := h.Quantile(1); got != math.MaxInt64 {
		t.Errorf("the longest is %d", got)
	}
	if got := h.Quantile(0.1); got != 0 {
		t.Errorf("the shortest is %v", got)
	}
	for v := uint64(0); v < 1<<12; v++ {
		if i := bucketOf(v); v > bucketMax(i) || i > 0 && v <= bucketMax(i-1) {
			t.Fatalf("%d is in bucket %d, which ends at %d", v, i, bucketMax(i))
		}
	}
}
