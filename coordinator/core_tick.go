package coordinator

import (
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// tick decides when to propose the next Tick: at the next deadline, when
// something has been retained for long enough, and after TickIdle at the latest.
// It knows the cluster clock from the applied entries only; between them it adds
// its own elapsed time, which errs on the late side.
type tick struct {
	timer   timer
	pending bool // one is being proposed
	last    time.Time

	deadlineMS, retentionMS   uint64
	hasDeadline, hasRetention bool

	// The cluster clock was at least seenMS at seenAt.
	seenMS uint64
	seenAt time.Time
}

// tickGapMin lies between two Ticks that a clock lagging behind its deadline
// makes follow each other.
const tickGapMin = 5 * time.Millisecond

// readClock reads what the next Tick depends on.
func (c *Core) readClock(s *fsm.State) {
	c.clock = s.Clock()
	c.pulled = c.clock.AppliedIndex
	c.packs = s.FeatureLevel() >= fsm.LevelPacked
	k := &c.tick
	k.deadlineMS, k.hasDeadline = s.NextDeadlineMS()
	k.retentionMS, k.hasRetention = s.NextRetentionMS()
	if c.clock.ClockMS > k.clockMS(c.now) || k.seenAt.IsZero() {
		k.seenMS, k.seenAt = c.clock.ClockMS, c.now
	}
}

// clockMS is what the cluster clock is at the least.
func (k *tick) clockMS(now time.Time) uint64 {
	return k.seenMS + uint64(max(0, now.Sub(k.seenAt).Milliseconds()))
}

// planTick sets the timer for the next Tick.
func (c *Core) planTick() {
	k := &c.tick
	if k.pending {
		return // its result plans the next one
	}
	if k.last.IsZero() {
		k.last = c.now // the node's first entry of the term is a Tick
	}
	at := k.last.Add(c.cfg.TickIdle)
	if k.hasDeadline {
		at = earlier(at, c.clockReaches(k.deadlineMS, tickGapMin))
	}
	if k.hasRetention {
		at = earlier(at, c.clockReaches(k.retentionMS, c.cfg.RetentionTick))
	}
	if k.timer.armed() && k.timer.at.Equal(at) {
		return
	}
	c.timers.arm(&k.timer, at, c.proposeTick)
}

// clockReaches is when the cluster clock will have reached ms, and not before
// the gap after the last Tick is over.
func (c *Core) clockReaches(ms uint64, gap time.Duration) time.Time {
	k := &c.tick
	at := k.seenAt
	if ms > k.seenMS {
		at = at.Add(milliseconds(ms - k.seenMS))
	}
	if first := k.last.Add(gap); at.Before(first) {
		return first
	}
	return at
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func (c *Core) proposeTick() {
	k := &c.tick
	k.pending, k.last = true, c.now
	c.propose(&logpb.Command{Kind: &logpb.Command_Tick{Tick: &logpb.Tick{}}}, func(fsm.Result, error) {
		k.pending = false
		c.planTick()
	})
}
