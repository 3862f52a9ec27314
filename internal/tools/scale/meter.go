package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ownCPU is what this process has used of the CPU.
func ownCPU() time.Duration {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		return 0 // never of this process
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// heap is what the live objects take, after a collection.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// mallocs counts allocations since the start.
func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

// processUse is another process' CPU time and resident memory.
func processUse(pid int) (cpu time.Duration, residentBytes uint64, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	// Counted behind the program's name: utime, stime and rss are fields 14, 15 and
	// 24; times are in hundredths of a second, memory in pages.
	text := string(stat)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	var values [3]uint64
	for i, at := range []int{14 - 3, 15 - 3, 24 - 3} {
		if len(fields) <= at {
			return 0, 0, fmt.Errorf("/proc/%d/stat is of an unknown form", pid)
		}
		if values[i], err = strconv.ParseUint(fields[at], 10, 64); err != nil {
			return 0, 0, err
		}
	}
	return time.Duration(values[0]+values[1]) * 10 * time.Millisecond, values[2] * uint64(os.Getpagesize()), nil
}

// latencies of one measurement; it is not safe for concurrent use.
type latencies []time.Duration

// quantile is the nearest-rank quantile, in milliseconds.
func (l latencies) quantile(q float64) float64 {
	if len(l) == 0 {
		return 0
	}
	sorted := slices.Clone(l)
	slices.Sort(sorted)
	i := int(q*float64(len(sorted))+0.999999) - 1
	return millis(sorted[max(0, min(i, len(sorted)-1))])
}

func (l latencies) max() float64 { return l.quantile(1) }

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func median(values []float64) float64 {
	values = slices.Clone(values)
	slices.Sort(values)
	return values[len(values)/2]
}

// thousands is a number as people read it.
func thousands(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
