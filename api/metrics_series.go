package api

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
)

// Series that each transaction moves are looked up by their labels once: reading the
// labels out of numbers, and the labels' hash, cost more than the counting.

// Sizes of the tables: numbers that are not in them are looked up each time.
const (
	modesMax      = 8
	operationsMax = 16
	decisionsMax  = 4
)

// lookups is a table of what was looked up.
type lookups[T any] struct{ places []atomic.Pointer[T] }

func lookupsOf[T any](n int) lookups[T] { return lookups[T]{make([]atomic.Pointer[T], n)} }

// at returns what belongs to a place; a place out of the table is looked up anew.
func (k *lookups[T]) at(place int, look func() T) T {
	if place < 0 || place >= len(k.places) {
		return look()
	}
	if found := k.places[place].Load(); found != nil {
		return *found
	}
	found := look()
	k.places[place].Store(&found)
	return found
}

// place numbers a choice out of several, each below its most; -1 where one is not.
func place(choices ...int) int {
	at := 0
	for i := 0; i < len(choices); i += 2 {
		if n, most := choices[i], choices[i+1]; n >= 0 && n < most {
			at = at*most + n
		} else {
			return -1
		}
	}
	return at
}

// counted is a counter and the time that goes with it.
type counted struct {
	count prometheus.Counter
	took  prometheus.Observer
}

// series are the tables of one node.
type series struct {
	started  lookups[prometheus.Counter]
	decided  lookups[prometheus.Observer]
	finished lookups[counted]
	calls    lookups[counted]
}

func newSeries() series {
	return series{
		started: lookupsOf[prometheus.Counter](modesMax), decided: lookupsOf[prometheus.Observer](modesMax),
		finished: lookupsOf[counted](modesMax * decisionsMax),
		calls:    lookupsOf[counted](modesMax * operationsMax * len(protocols) * len(results)),
	}
}

var (
	protocols = [...]string{coordinator.ProtocolSession, coordinator.ProtocolGRPC, coordinator.ProtocolHTTP}
	results   = [...]string{
		coordinator.ResultDone, coordinator.ResultBusy, coordinator.ResultRefused, coordinator.ResultError, coordinator.ResultLost,
	}
)

// callPlace is the place of an attempt at a branch.
func callPlace(mode fsm.Mode, operation fsm.Operation, protocol, result string) int {
	return place(int(mode), modesMax, int(operation), operationsMax, indexOf(protocols[:], protocol), len(protocols), indexOf(results[:], result), len(results))
}

func indexOf(all []string, one string) int {
	for i, text := range all {
		if text == one {
			return i
		}
	}
	return -1
}
