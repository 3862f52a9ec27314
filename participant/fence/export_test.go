package fence

import "time"

// SetNow replaces the wall clock.
func SetNow(f *Fence, now func() time.Time) {
	f.now = now
	f.sweepAfter.Store(now().Add(f.sweepEvery).UnixMilli())
}
