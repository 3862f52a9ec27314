package main

import (
	"context"
	"runtime"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// A figure is the median of so many turns, of so many transactions each: what else the
// machine does, and a collection of garbage, fall on few of them.
const (
	applyTurns        = 15
	applyTransactions = 8192
)

// besideLive is a state that holds so many live transactions, and what was seen of it.
type besideLive struct {
	f       *filler
	live    int
	perLive float64 // bytes

	wall, cpu []float64 // microseconds a transaction, each turn's
	allocated []float64 // a transaction
	each      latencies // of entries
}

// measureApply applies whole transactions (submit, two reports) from their bytes, as a
// follower does, to states with so many live ones, which take turns.
func measureApply(ctx context.Context, o *options, out *results) error {
	var states []*besideLive
	for _, n := range o.live {
		f, err := newFiller(nil)
		if err != nil {
			return err
		}
		before := heap()
		if err := f.fillLive(n, false); err != nil {
			return err
		}
		states = append(states, &besideLive{f: f, live: n, perLive: float64(heap()-before) / float64(n)})
	}
	for range applyTurns {
		for _, s := range states {
			if ctx.Err() != nil {
				return nil
			}
			if err := s.turn(); err != nil {
				return err
			}
		}
	}
	for _, s := range states {
		var ofFirst []float64
		for i, us := range s.cpu {
			ofFirst = append(ofFirst, us/states[0].cpu[i])
		}
		out.add("apply", thousands(s.live)+" live",
			figure{"us_per_tx", median(s.wall)}, figure{"cpu_us_per_tx", median(s.cpu)}, figure{"cpu_of_the_first", median(ofFirst)},
			figure{"allocs_per_tx", median(s.allocated)},
			figure{"entry_p99_ms", s.each.quantile(0.99)}, figure{"entry_max_ms", s.each.max()},
			figure{"bytes_per_live", s.perLive})
	}
	runtime.KeepAlive(states)
	return nil
}

func (s *besideLive) turn() error {
	entries := s.f.lives(applyTransactions)
	used, counted, begun := ownCPU(), mallocs(), time.Now()
	for _, entry := range entries {
		at := time.Now()
		s.f.index++
		if _, err := s.f.s.ApplyEntry(s.f.index, 1, entry); err != nil {
			return err
		}
		s.each = append(s.each, time.Since(at))
	}
	s.wall = append(s.wall, micros(time.Since(begun))/applyTransactions)
	s.cpu = append(s.cpu, micros(ownCPU()-used)/applyTransactions)
	s.allocated = append(s.allocated, float64(mallocs()-counted)/applyTransactions)
	return nil
}

// lives are the entries of so many whole lives.
func (f *filler) lives(n int) [][]byte {
	var entries [][]byte
	for range n / entryTransactions {
		var first, then []*logpb.Command
		for range entryTransactions {
			c, gid := f.decided()
			first = append(first, c)
			then = append(then, reportOf(gid, "1"), reportOf(gid, "2"))
		}
		entries = append(entries, fsm.EncodeEntry(nil, f.batch(first)), fsm.EncodeEntry(nil, f.batch(then)))
	}
	return entries
}
