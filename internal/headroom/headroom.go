// Package headroom lets the heap of a server grow by a certain size, at the least, between two
// garbage collections.
//
// Go's default is to collect when the heap has doubled. A node that keeps little, and makes
// tens of thousands of short-lived messages a second, then collects many times a second, to
// save memory that nobody is short of. With a headroom a small heap is collected by the
// megabyte, a large one as ever, and what a process takes is bounded by both.
package headroom

import (
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

const (
	// BytesMax is the headroom of a process where there is memory enough.
	BytesMax = 256 << 20
	// shareOfMemory of the machine, or of what the process may use of it, is the headroom
	// where it is less.
	shareOfMemory = 32
	// percentLeast is Go's own default: a heap larger than the headroom grows by itself.
	percentLeast = 100
	// heapLeast is what the runtime multiplies with the percentage where less is marked.
	heapLeast = 4 << 20
)

// Variable is the environment's word on collections: where it is set, it stands.
const Variable = "GOGC"

// Keep keeps the headroom from now on, until stop is called, and logs how much it is. The
// user's GOGC is left alone; GOMEMLIMIT goes before both, as the runtime sees to.
func Keep(logger *slog.Logger) (stop func()) {
	if own := os.Getenv(Variable); own != "" {
		logger.Info("garbage is collected as the environment says", Variable, own)
		return func() {}
	}
	bytes := Bytes(available())
	logger.Info("garbage is collected when the heap has doubled, and grown by the headroom", "headroom_mib", bytes>>20)
	return keep(bytes)
}

// Bytes is the headroom of a process that may use so much memory, 0 for unknown.
func Bytes(memory uint64) uint64 {
	if memory == 0 || memory/shareOfMemory > BytesMax {
		return BytesMax
	}
	return memory / shareOfMemory
}

// keep adapts the percentage after each collection.
func keep(bytes uint64) (stop func()) {
	collected, end, ended := make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	before := debug.SetGCPercent(percentLeast)
	go func() {
		defer close(ended)
		watch(collected)
		percent := percentLeast
		for {
			if next := percentFor(bytes, marked()); far(percent, next) {
				percent = next
				debug.SetGCPercent(percent)
			}
			select {
			case <-collected:
				watch(collected)
			case <-end:
				return
			}
		}
	}()
	return func() {
		close(end)
		<-ended
		debug.SetGCPercent(before)
	}
}

// watch sends once, when the next collection has ended.
func watch(collected chan<- struct{}) {
	// It holds a pointer: objects without any may share an allocation that lives on.
	runtime.AddCleanup(&struct{ p *int }{new(int)}, func(collected chan<- struct{}) {
		select {
		case collected <- struct{}{}:
		default:
		}
	}, collected)
}

// percentFor is the percentage by which what was marked grows by so many bytes.
func percentFor(bytes, marked uint64) int {
	marked = max(marked, heapLeast)
	return max(percentLeast, int((bytes*100+marked-1)/marked))
}

// far tells of a change that is worth its price: to set the percentage stops the world for
// some microseconds.
func far(percent, next int) bool {
	return next != percent && (next == percentLeast || 10*max(percent-next, next-percent) > percent)
}

// marked is what the last collection marked, and what the next one's goal counts from: the
// live heap, stacks and globals.
func marked() (sum uint64) {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(samples)
	for _, s := range samples {
		if s.Value.Kind() == metrics.KindUint64 {
			sum += s.Value.Uint64()
		}
	}
	return sum
}
