package sim

import (
	"math/rand/v2"
	"time"
)

// actor is a process that can crash, stop and go on, with a clock of its own.
type actor struct {
	w    *World
	id   int // index in World.actors
	name string
	rng  *rand.Rand

	up   bool
	life int // counts starts: what an earlier life was waiting for never comes

	paused  int      // how many faults stop it
	stalled []func() // what would have happened meanwhile, in order

	// Its clock runs at rate, and stood at read when the world stood at since.
	rate  float64
	read  time.Duration
	since time.Duration
	// highest is the most that it said before it was set back.
	highest time.Duration
	// setBack is how far it was set back, all together: what was to happen at a time of
	// its own comes as much later, though the clock be set forward again before.
	setBack time.Duration
}

func (w *World) newActor(name string) *actor {
	a := &actor{w: w, id: len(w.actors), name: name, rng: w.source(uint64(len(w.actors)) + 1000), rate: 1}
	w.actors = append(w.actors, a)
	return a
}

// clock is what the actor's monotonic clock says. It goes on while it is paused.
func (a *actor) clock() time.Duration {
	return a.read + time.Duration(float64(a.w.now-a.since)*a.rate)
}

// passed is the clock as the driver takes it, which never goes back: after a jump
// into the past it stands until the clock has caught up.
func (a *actor) passed() time.Duration { return max(a.highest, a.clock()) }

// setRate lets the clock drift from now on.
func (a *actor) setRate(rate float64) {
	a.read, a.since, a.rate = a.clock(), a.w.now, rate
}

// jump moves the clock.
func (a *actor) jump(d time.Duration) {
	a.highest = a.passed()
	a.setBack -= min(d, 0)
	a.read, a.since = a.clock()+d, a.w.now
}

// after lets f happen when d has passed by the actor's own clock, unless it has
// crashed by then.
func (a *actor) after(d time.Duration, f func()) {
	life := a.life
	took := time.Duration(float64(d) / a.rate)
	if d > 0 {
		took++ // never too early by a rounding, or a timer would fire for ever at one instant
	}
	a.w.after(took, func() { a.do(life, f) })
}

// do runs f if the life of which it was asked still lasts: at once, or when the
// actor goes on.
func (a *actor) do(life int, f func()) {
	switch {
	case !a.up || a.life != life:
	case a.paused > 0:
		a.stalled = append(a.stalled, func() { a.do(life, f) })
	default:
		f()
	}
}

// start begins a life.
func (a *actor) start() {
	a.up = true
	a.life++
	a.w.say(a.name, "starts, life %d", a.life)
}

// crash ends a life, at once.
func (a *actor) crash(why string) {
	if a.up {
		a.w.say(a.name, "CRASHES: %s", why)
	}
	a.up = false
	a.stalled, a.paused = nil, 0
}

// pause stops the actor where it stands; resume lets it go on, and all that
// waited happens at once.
func (a *actor) pause() {
	a.paused++
	a.w.say(a.name, "is stopped")
}

func (a *actor) resume() {
	if a.paused--; a.paused > 0 {
		return
	}
	a.w.say(a.name, "goes on")
	waiting := a.stalled
	a.stalled = nil
	for _, f := range waiting {
		a.w.after(time.Duration(a.rng.Int64N(int64(time.Millisecond))), f)
	}
}
