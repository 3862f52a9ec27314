package coordinator

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Timers fire in the order of their times, and of those that are set for one moment in
// the order in which they were set, however often they were set anew or stopped.
func TestTimersFireInOrder(t *testing.T) {
	start := time.Unix(1000, 0)
	setFlag(t, "rapid.checks", strconv.Itoa(500))
	rapid.Check(t, func(rt *rapid.T) {
		type armed struct {
			i   int
			at  time.Time
			seq int
		}
		var ts timers
		all := make([]timer, 12)
		var want []armed
		var fired, due []int
		drop := func(i int) { want = slices.DeleteFunc(want, func(a armed) bool { return a.i == i }) }
		now := start
		for seq := range rapid.IntRange(1, 60).Draw(rt, "steps") {
			i := rapid.IntRange(0, len(all)-1).Draw(rt, "timer")
			switch rapid.IntRange(0, 5).Draw(rt, "what") {
			case 0:
				ts.stop(&all[i])
				drop(i)
			case 1:
				now = now.Add(time.Duration(rapid.IntRange(0, 5).Draw(rt, "passes")) * time.Second)
				ts.expire(now, nil)
				for len(want) > 0 && !want[0].at.After(now) {
					due, want = append(due, want[0].i), want[1:]
				}
			default:
				at := now.Add(time.Duration(rapid.IntRange(0, 9).Draw(rt, "in")) * time.Second)
				ts.arm(&all[i], at, func() { fired = append(fired, i) })
				drop(i)
				want = append(want, armed{i, at, seq})
				slices.SortFunc(want, func(a, b armed) int {
					if c := a.at.Compare(b.at); c != 0 {
						return c
					}
					return a.seq - b.seq
				})
			}
			if !slices.Equal(fired, due) {
				rt.Fatalf("fired %v, due were %v", fired, due)
			}
			if next, ok := ts.next(); ok != (len(want) > 0) || ok && !next.Equal(want[0].at) {
				rt.Fatalf("next is %v, %v; set are %v", next, ok, want)
			}
			for i := range all {
				if all[i].armed() != slices.ContainsFunc(want, func(a armed) bool { return a.i == i }) {
					rt.Fatalf("timer %d is armed: %v; set are %v", i, all[i].armed(), want)
				}
			}
		}
	})
}

// What a timer sets for the same moment waits for the next call: expire ends.
func TestATimerThatSetsItselfEnds(t *testing.T) {
	var ts timers
	var self timer
	now, n := time.Unix(1, 0), 0
	var again func()
	again = func() { n++; ts.arm(&self, now, again) }
	ts.arm(&self, now, again)
	for i := range 3 {
		if ts.expire(now, nil); n != i+1 {
			t.Fatalf("fired %d times after %d calls", n, i+1)
		}
	}
}
