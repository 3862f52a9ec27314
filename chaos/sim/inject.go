package sim

import (
	"time"
)

// What the faults of the table do.

func (w *World) leader() *node {
	for _, n := range w.nodes {
		if n.up && n.reign != nil {
			return n
		}
	}
	return nil
}

func (w *World) nodeOf(a *actor) *node {
	for _, n := range w.nodes {
		if n.actor == a {
			return n
		}
	}
	return nil
}

func (w *World) processOf(a *actor) *process {
	for _, p := range w.procs {
		if p.actor == a {
			return p
		}
	}
	return nil
}

type injection = func(w *World, at *actor, f faultPlan) (heal func(), ok bool)

func onLeader(do func(w *World, a *actor) func()) injection {
	return func(w *World, at *actor, _ faultPlan) (func(), bool) {
		if at == nil {
			n := w.leader()
			if n == nil {
				return nil, false
			}
			at = n.actor
		}
		return attempt(w, at, do)
	}
}

func onNode(do func(w *World, a *actor) func()) injection {
	return func(w *World, at *actor, f faultPlan) (func(), bool) {
		if at == nil {
			at = w.nodes[f.A%uint64(len(w.nodes))].actor
		}
		return attempt(w, at, do)
	}
}

func onProcess(do func(w *World, a *actor) func()) injection {
	return func(w *World, at *actor, f faultPlan) (func(), bool) {
		if at == nil {
			at = w.procs[f.A%uint64(len(w.procs))].actor
		}
		return attempt(w, at, do)
	}
}

func attempt(w *World, a *actor, do func(w *World, a *actor) func()) (func(), bool) {
	if !a.up {
		return nil, false
	}
	return do(w, a), true
}

func crashNode(w *World, a *actor) func() {
	n := w.nodeOf(a)
	n.crash("power failed")
	return func() {
		if !n.up {
			n.boot()
		}
	}
}

func diskError(w *World, a *actor) func() {
	n := w.nodeOf(a)
	n.crash("its disk failed: it stops")
	return func() {
		if !n.up {
			n.boot()
		}
	}
}

func crashAll(w *World, _ *actor, _ faultPlan) (func(), bool) {
	var heals []func()
	for _, n := range w.nodes {
		if n.up {
			heals = append(heals, crashNode(w, n.actor))
		}
	}
	return all(heals), true
}

func crashProcess(w *World, a *actor) func() {
	p := w.processOf(a)
	p.crash("killed")
	return func() {
		if !p.up {
			p.boot()
		}
	}
}

// lostProcess is away for longer than retention: what it has prepared must still
// stand when it comes back.
func lostProcess(w *World, at *actor, f faultPlan) (func(), bool) {
	p := w.procs[f.A%uint64(len(w.procs))]
	if !p.up || w.faults.lost > 0 {
		return nil, false
	}
	w.faults.lost++
	p.crash("lost")
	w.after(time.Duration(20+f.B%200)*time.Second, func() {
		if !p.up {
			p.boot()
		}
		w.faults.lost--
	})
	return nil, true
}

func overload(w *World, a *actor) func() {
	n := w.nodeOf(a)
	n.overload = 0.4
	return func() { n.overload = 0 }
}

func crashProcesses(w *World, _ *actor, _ faultPlan) (func(), bool) {
	var heals []func()
	for _, p := range w.procs {
		if p.up {
			heals = append(heals, crashProcess(w, p.actor))
		}
	}
	return all(heals), true
}

func all(fs []func()) func() {
	return func() {
		for _, f := range fs {
			f()
		}
	}
}

func pauseActor(_ *World, a *actor) func() {
	life := a.life
	a.pause()
	return func() {
		if a.up && a.life == life {
			a.resume()
		}
	}
}

func crashClient(w *World, _ *actor, f faultPlan) (func(), bool) {
	c := w.clients[f.A%uint64(len(w.clients))]
	if !c.up {
		return nil, false
	}
	c.crash("killed")
	return func() {
		if !c.up {
			c.boot()
		}
	}, true
}

func pauseClient(w *World, _ *actor, f faultPlan) (func(), bool) {
	return attempt(w, w.clients[f.A%uint64(len(w.clients))].actor, pauseActor)
}

func crashDatabase(w *World, _ *actor, f faultPlan) (func(), bool) {
	w.dbs[f.A%uint64(len(w.dbs))].crash()
	return nil, true
}

func endByHand(w *World, _ *actor, f faultPlan) (func(), bool) {
	for i := range w.dbs {
		if w.dbs[(uint64(i)+f.A)%uint64(len(w.dbs))].endByHand(f.B&1 == 1) {
			return nil, true
		}
	}
	return nil, false
}

// isolate cuts a node from the other nodes, and every second time from all.
func isolate(w *World, a *actor) func() {
	others := w.actors
	if a.rng.IntN(2) == 0 {
		others = nil
		for _, n := range w.nodes {
			others = append(others, n.actor)
		}
	}
	return w.cutPairs(func(from, to *actor) bool {
		return from != to && (from == a || to == a) && among(others, from) && among(others, to)
	})
}

func among(actors []*actor, a *actor) bool {
	for _, o := range actors {
		if o == a {
			return true
		}
	}
	return false
}

// cutPairs cuts every direction that cut names, and returns what joins them again.
func (w *World) cutPairs(cut func(from, to *actor) bool) func() {
	by := func(d int) func() {
		return func() {
			for _, from := range w.actors {
				for _, to := range w.actors {
					if cut(from, to) {
						w.net.cut(from, to, d)
					}
				}
			}
		}
	}
	by(+1)()
	return by(-1)
}

// halves splits all actors in two.
func halves(w *World, _ *actor, f faultPlan) (func(), bool) {
	side := func(a *actor) bool { return f.A>>(uint(a.id)%64)&1 == 1 }
	return w.cutPairs(func(from, to *actor) bool { return side(from) != side(to) }), true
}

// oneWay lets a node speak and not hear, or hear and not speak.
func oneWay(w *World, _ *actor, f faultPlan) (func(), bool) {
	a := w.nodes[f.A%uint64(len(w.nodes))].actor
	deaf := f.B&1 == 1
	return w.cutPairs(func(from, to *actor) bool {
		return from != to && w.nodeOf(from) != nil && w.nodeOf(to) != nil && (deaf && to == a || !deaf && from == a)
	}), true
}

// bridge leaves one node that everybody reaches, between two sides.
func bridge(w *World, _ *actor, f faultPlan) (func(), bool) {
	size := uint64(len(w.nodes))
	middle := int(f.A % size)
	side := func(n *node) bool { return uint64(n.id)%2 == f.B%2 }
	return w.cutPairs(func(from, to *actor) bool {
		a, b := w.nodeOf(from), w.nodeOf(to)
		return a != nil && b != nil && a.id != middle && b.id != middle && side(a) != side(b)
	}), true
}

// edge cuts a participant or an initiator from some of the nodes.
func edge(w *World, _ *actor, f faultPlan) (func(), bool) {
	outer := w.actors[len(w.nodes):]
	a := outer[f.A%uint64(len(outer))]
	return w.cutPairs(func(from, to *actor) bool {
		n := w.nodeOf(from)
		if n == nil {
			n = w.nodeOf(to)
		}
		return n != nil && (from == a || to == a) && (f.B>>uint(n.id)&1 == 1 || f.B>>32&1 == 1)
	}), true
}

// flapping cuts and joins a link, again and again.
func flapping(w *World, _ *actor, f faultPlan) (func(), bool) {
	size := uint64(len(w.nodes))
	a, b := w.nodes[f.A%size].actor, w.nodes[(f.A+1+f.B%(size-1))%size].actor
	over, join := false, func() {}
	var flap func(cut bool)
	flap = func(cut bool) {
		join()
		join = func() {}
		if over {
			return
		}
		if cut {
			join = w.cutPairs(func(from, to *actor) bool { return from == a && to == b || from == b && to == a })
		}
		w.after(between(w.faults.rng, 50*time.Millisecond, 1500*time.Millisecond), func() { flap(!cut) })
	}
	flap(true)
	return func() {
		over = true
		join()
		join = func() {}
	}, true
}

// linkFault spoils some links, or all.
func linkFault(change func(l *link, by float64)) injection {
	return func(w *World, _ *actor, f faultPlan) (func(), bool) {
		by := func(d float64) func() {
			return func() {
				for i := range w.net.links {
					for k := range w.net.links[i] {
						if f.B&3 == 0 || f.A>>(uint(i+7*k)%64)&1 == 1 {
							change(&w.net.links[i][k], d)
						}
					}
				}
			}
		}
		by(+1)()
		return by(-1), true
	}
}

// clockJump moves somebody's clock, by a second or by a day.
func clockJump(w *World, _ *actor, f faultPlan) (func(), bool) {
	jumps := []time.Duration{time.Second, -time.Second, 10 * time.Second, -10 * time.Second, time.Minute, 3 * time.Minute, 10 * time.Minute, 24 * time.Hour}
	a := w.actors[f.A%uint64(len(w.actors))]
	if n := w.leader(); n != nil && f.B&1 == 0 {
		a = n.actor
	}
	d := jumps[f.B>>8%uint64(len(jumps))]
	w.say(a.name, "its clock jumps by %v", d)
	a.jump(d)
	return nil, true
}

func clockDrift(w *World, _ *actor, f faultPlan) (func(), bool) {
	rates := []float64{0.3, 0.7, 0.95, 1.05, 1.5, 3}
	a := w.actors[f.A%uint64(len(w.actors))]
	if !a.up {
		return nil, false
	}
	a.setRate(rates[f.B%uint64(len(rates))])
	return func() { a.setRate(1) }, true
}

func slowDisk(w *World, _ *actor, f faultPlan) (func(), bool) {
	d := w.nodes[f.A%uint64(len(w.nodes))].disk
	d.syncMax = time.Duration(100+f.B%1500) * time.Millisecond
	return func() { d.syncMax = diskSyncMax }, true
}

// flippedBit damages what a node has on its disk, and starts it again: it must
// find out, and be made whole by the others.
func flippedBit(w *World, _ *actor, f faultPlan) (func(), bool) {
	n := w.nodes[f.A%uint64(len(w.nodes))]
	if w.faults.damaged != nil || !n.up {
		return nil, false
	}
	n.crash("power failed")
	what, ok := n.disk.flip()
	if ok {
		w.faults.damaged, n.flipped = n, true
		w.say(n.name, "a bit of its %s flips", what)
	}
	return func() {
		if !n.up {
			n.boot()
		}
	}, true
}

// transfer hands the leadership over.
func transfer(w *World, _ *actor, f faultPlan) (func(), bool) {
	n := w.leader()
	if n == nil {
		return nil, false
	}
	to := w.nodes[(n.id+1+int(f.A%uint64(len(w.nodes)-1)))%len(w.nodes)]
	w.net.send(n.actor, to.actor, func() { to.campaign() })
	return nil, true
}

// repaired: a damaged node is whole again, and another may be damaged.
func (j *injector) repaired(n *node) {
	if j.damaged == n {
		j.damaged = nil
	}
}
