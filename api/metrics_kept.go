package api

import (
	"maps"
	"sync"
	"sync/atomic"
)

// kept keeps what was found by its labels. To look a series up by its labels costs more
// than to count in it; those of every transaction are looked up once. Keys must be few, as
// the series are.
type kept[K comparable, V any] struct {
	find  func(K) V
	known atomic.Pointer[map[K]V] // never changed: replaced
	mu    sync.Mutex              // of who replaces it
}

func keep[K comparable, V any](find func(K) V) *kept[K, V] { return &kept[K, V]{find: find} }

func (k *kept[K, V]) get(key K) V {
	if known := k.known.Load(); known != nil {
		if v, ok := (*known)[key]; ok {
			return v
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	more := map[K]V{}
	if known := k.known.Load(); known != nil {
		more = maps.Clone(*known)
	}
	v := k.find(key)
	more[key] = v
	k.known.Store(&more)
	return v
}
