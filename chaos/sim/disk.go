package sim

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/quorate/quorate/fsm"
)

// disk is what survives a node's crash: only what was synced before it.
// Writes are done in order, each taking its time; a crash keeps some of those
// under way, may tear the next, and loses the rest.
type disk struct {
	w   *World
	rng *rand.Rand

	// What is on the platter.
	hard  hardState
	first uint64 // index of log[0]
	log   []logEntry
	snap  *snapshot

	pending []*write
	syncMax time.Duration // how long a sync takes at most
	noSync  bool          // a planted bug: a write is acknowledged before it is on the platter

	lost, torn int
}

// hardState is what Raft must not forget: its term, and whom it elected.
type hardState struct {
	term  uint64
	voted int // index of a node plus one; 0 for nobody
}

// logEntry is one entry of the replicated log. Data is nil for a barrier.
type logEntry struct {
	index, term uint64
	data        []byte
	torn        bool // only the first part of it is there
}

// snapshot is a file that holds a state.
type snapshot struct {
	index, term uint64
	data        []byte
}

// write is one operation on the disk: what it changes, and who waits for it.
type write struct {
	apply func(d *disk)
	// tear applies a part of it; nil where a write is whole or not there.
	tear func(d *disk)
	done func()
}

const diskSyncMax = 3 * time.Millisecond

// snapshotHead is where a snapshot's header begins: behind its magic, its version
// and the head of the first frame.
const snapshotHead = 16 + 1 + 8

func newDisk(w *World, id uint64) *disk {
	return &disk{w: w, rng: w.source(2000 + id), first: 1, syncMax: diskSyncMax, noSync: w.bug == BugNoSync}
}

// submit queues a write of a node; done runs there when it is on the platter.
func (d *disk) submit(owner *actor, op *write) {
	life, done := owner.life, op.done
	op.done = func() { owner.do(life, done) }
	d.pending = append(d.pending, op)
	if d.noSync {
		d.w.after(d.syncTime(), op.done)
		op.done = func() {}
	}
	if len(d.pending) == 1 {
		d.run()
	}
}

func (d *disk) syncTime() time.Duration { return between(d.rng, 50*time.Microsecond, d.syncMax) }

// run lets the first pending write take its time.
func (d *disk) run() {
	op, took := d.pending[0], d.syncTime()
	if d.noSync {
		took += between(d.rng, 0, 2*time.Second) // whenever the system likes
	}
	d.w.after(took, func() {
		if len(d.pending) == 0 || d.pending[0] != op {
			return // the power failed first
		}
		op.apply(d)
		d.pending = d.pending[1:]
		if len(d.pending) > 0 {
			d.run()
		}
		op.done()
	})
}

// powerFails ends all writes under way.
func (d *disk) powerFails() {
	keep := 0
	if len(d.pending) > 0 && chance(d.rng, 0.5) {
		keep = d.rng.IntN(len(d.pending) + 1)
	}
	if d.noSync {
		keep = 0
	}
	for i, op := range d.pending {
		switch {
		case i < keep:
			op.apply(d)
		case i == keep && op.tear != nil && chance(d.rng, 0.5):
			op.tear(d)
			d.torn++
		default:
			d.lost++
		}
	}
	d.pending = nil
}

// logWrite replaces the log from the first of the entries on.
func logWrite(entries []logEntry, done func()) *write {
	return &write{
		apply: func(d *disk) { d.put(entries) },
		tear: func(d *disk) {
			n := d.rng.IntN(len(entries))
			part := slices.Clone(entries[:n+1])
			part[n].torn = true
			d.put(part)
		},
		done: done,
	}
}

func (d *disk) put(entries []logEntry) {
	at := entries[0].index
	if len(d.log) == 0 {
		d.first = at
	}
	if at < d.first {
		skip := d.first - at
		if skip >= uint64(len(entries)) {
			return
		}
		entries = entries[skip:]
		at = d.first
	}
	d.log = append(slices.Clone(d.log[:at-d.first]), entries...)
}

func hardWrite(h hardState, done func()) *write {
	return &write{apply: func(d *disk) { d.hard = h }, done: done}
}

// snapshotWrite stores a snapshot and then lets go of the entries before keep.
func snapshotWrite(s *snapshot, keep uint64, done func()) *write {
	return &write{
		apply: func(d *disk) {
			d.snap = s
			d.compact(keep)
		},
		done: done,
	}
}

// installWrite stores another node's snapshot in place of everything.
func installWrite(s *snapshot, done func()) *write {
	return &write{
		apply: func(d *disk) { d.snap, d.log, d.first = s, nil, s.index+1 },
		done:  done,
	}
}

// nothingWrite changes nothing: it is done when all before it is on the platter.
func nothingWrite(done func()) *write { return &write{apply: func(*disk) {}, done: done} }

// compact lets go of the entries before an index.
func (d *disk) compact(keep uint64) {
	if keep <= d.first {
		return
	}
	n := min(keep-d.first, uint64(len(d.log)))
	d.log = slices.Clone(d.log[n:])
	d.first = keep
}

// read is what a node finds at its start: the log up to the first entry that
// was torn, and whether something that was once whole is damaged.
func (d *disk) read() (log []logEntry, damagedAt uint64, damaged bool) {
	for i, e := range d.log {
		if e.torn {
			d.log = d.log[:i] // it was never acknowledged
			break
		}
		if e.data != nil && d.w.bug != BugCRCNotVerified {
			if _, err := fsm.DecodeEntry(e.data); err != nil {
				return slices.Clone(d.log[:i]), e.index, true
			}
		}
	}
	return slices.Clone(d.log), 0, false
}

// flip damages one bit of an entry or of the snapshot, if there is any.
func (d *disk) flip() (what string, ok bool) {
	if d.snap != nil && chance(d.rng, 0.3) {
		data := slices.Clone(d.snap.data)
		at := d.rng.IntN(len(data))
		if chance(d.rng, 0.4) {
			at = snapshotHead + d.rng.IntN(8) // its index and term, which no digest covers
		}
		data[at] ^= 1 << d.rng.IntN(8)
		d.snap = &snapshot{d.snap.index, d.snap.term, data}
		return "snapshot", true
	}
	var some []int
	for i, e := range d.log {
		if len(e.data) > 0 && !e.torn {
			some = append(some, i)
		}
	}
	if len(some) == 0 {
		return "", false
	}
	i := some[d.rng.IntN(len(some))]
	data := slices.Clone(d.log[i].data)
	data[d.rng.IntN(len(data))] ^= 1 << d.rng.IntN(8)
	d.log = slices.Clone(d.log)
	d.log[i].data = data
	return "log", true
}
