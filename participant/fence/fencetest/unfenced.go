package fencetest

import (
	"context"
	"maps"
	"sync"

	"github.com/quorate/quorate/participant/fence"
)

// Unfenced is a store of counters without a fence: every check fails against it. It shows
// that the checks can.
type Unfenced struct {
	mu sync.Mutex
	n  map[string]int64
}

var _ Sender = (*Unfenced)(nil)

// Do implements [Store].
func (u *Unfenced) Do(_ context.Context, _ fence.Call, w Work) error {
	if w.During != nil {
		w.During()
	}
	if w.End == nil {
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.n == nil {
			u.n = make(map[string]int64)
		}
		u.n[w.Counter] += w.N
	}
	return w.End
}

// Value implements [Store].
func (u *Unfenced) Value(_ context.Context, counter string) (int64, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return maps.Clone(u.n)[counter], nil
}

// Sweep implements [Store].
func (u *Unfenced) Sweep(context.Context, string, uint64) error { return nil }

// Send implements [Sender].
func (u *Unfenced) Send(ctx context.Context, _ string, w Work) error {
	return u.Do(ctx, fence.Call{}, w)
}

// Committed implements [Sender] by what it can see.
func (u *Unfenced) Committed(ctx context.Context, gid string) (bool, error) {
	n, err := u.Value(ctx, gid)
	return n > 0, err
}
