package sim

import (
	"math/rand/v2"
	"time"
)

// network carries messages between actors. Each direction of a link is its own.
type network struct {
	w     *World
	rng   *rand.Rand
	links [][]link

	lost, repeated, blocked, late int
}

// link is one direction between two actors, as the faults have left it.
type link struct {
	cut  int // partitions that cut it
	loss float64
	dup  float64
	slow time.Duration // most that is added to a message's way
}

// Ways of a message that nothing disturbs.
const (
	wayMin = 100 * time.Microsecond
	wayMax = 2 * time.Millisecond
)

func (n *network) open(w *World) {
	n.w, n.rng = w, w.source(1)
	n.links = make([][]link, len(w.actors))
	for i := range n.links {
		n.links[i] = make([]link, len(w.actors))
	}
}

// way draws how long a message takes; false when it is lost.
func (n *network) way(from, to *actor) (time.Duration, bool) {
	l := &n.links[from.id][to.id]
	if l.cut > 0 {
		n.blocked++
		return 0, false
	}
	if chance(n.rng, l.loss) {
		n.lost++
		return 0, false
	}
	d := between(n.rng, wayMin, wayMax)
	if l.slow > 0 && chance(n.rng, 0.7) {
		n.late++
		d += between(n.rng, 0, l.slow)
	}
	return d, true
}

// send brings a message to an actor, if it arrives: f runs there, in whatever
// life it then is. A message may arrive twice, and after later ones; repeated says
// that a second one is on its way.
func (n *network) send(from, to *actor, f func()) (repeated bool) {
	n.sendQuietly(from, to, func() {
		n.w.delivered++
		f()
	})
	// The repetition is drawn apart, so that it may be lost alone.
	if chance(n.rng, n.links[from.id][to.id].dup) {
		if d, ok := n.way(from, to); ok {
			n.repeated++
			if chance(n.rng, 0.3) {
				d += between(n.rng, 0, 20*time.Second) // a late one
			}
			n.arrive(to, d, func() {
				n.w.delivered++
				f()
			})
			return true
		}
	}
	return false
}

// sendQuietly is send for what says nothing new: it does not count as delivered.
func (n *network) sendQuietly(from, to *actor, f func()) {
	if d, ok := n.way(from, to); ok {
		n.arrive(to, d, f)
	}
}

func (n *network) arrive(to *actor, d time.Duration, f func()) {
	n.w.after(d, func() { to.do(to.life, f) })
}

// cut adds or takes back a partition of one direction.
func (n *network) cut(from, to *actor, by int) { n.links[from.id][to.id].cut += by }
