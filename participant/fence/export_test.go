package fence

import (
	"context"
	"time"
)

// SetNow replaces the wall clock.
func SetNow(f *Fence, now func() time.Time) {
	f.now = now
	f.sweepAfter.Store(now().Add(f.sweepEvery).UnixMilli())
}

// SetRedisNow is SetNow of a fence in Redis.
func SetRedisNow(r *Redis, now func() time.Time) {
	r.now = now
	r.sweepAfter.Store(now().Add(r.sweepEvery).UnixMilli())
}

// Judge is what an error of the fence's own statements means.
func Judge(err error) error {
	return new(Fence).judge(context.Background(), context.Background(), err)
}
