package sim

import (
	"bytes"
	"fmt"
	"time"

	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// node is one process of the cluster: a disk, a replica of the log, the real
// state machine, and the real driver.
type node struct {
	*actor
	disk *disk
	replica

	state *fsm.State
	core  *coordinator.Core
	reign *reign

	queue    []*call
	flushing bool
	inFlight []*flight

	wakeAt   time.Duration // by the own clock, of the event that is under way; 0 for none
	looking  bool          // an event is under way that shows the core what was applied
	sessions map[coordinator.SessionID]*conn
	waiters  map[uint64]func(coordinator.AnswerWaiter)
	lastID   uint64
	leftAt   map[string]time.Duration // by the own clock, when a holder's last session ended
	// cameBackAt is when a holder last attached after it had counted as lost.
	cameBackAt map[string]time.Duration

	leadsSince time.Duration // by the own clock
	overload   float64       // the share of proposals that are refused
	flipped    bool          // a bit on its disk has flipped since it last started
	waiting    []*waitIndex
}

// reign is one time of leading, from its first Tick on.
type reign struct {
	term   uint64
	baseMS uint64
	start  time.Duration
}

// call is one proposal that waits for its entry.
type call struct {
	commands []*logpb.Command
	done     func([]fsm.Result, error)
}

// flight is an entry that is proposed and not applied.
type flight struct {
	index, term uint64
	calls       []*call
}

// waitIndex waits until an index is applied.
type waitIndex struct {
	index uint64
	done  func(error)
}

func (w *World) newNode(i int) *node {
	n := &node{actor: w.newActor(fmt.Sprintf("n%d", i+1))}
	n.disk = newDisk(w, uint64(i))
	return n
}

func (n *node) say(format string, args ...any) { n.w.say(n.name, format, args...) }

// boot starts the node from what its disk holds.
func (n *node) boot() {
	n.actor.start()
	found := n.w.oracle.damageFound
	log, at, damaged := n.disk.read()
	lostLast := n.replica.lostLast
	if damaged {
		lostLast = n.disk.first + uint64(len(n.disk.log)) - 1
		n.disk.log = n.disk.log[:len(log)]
		n.found("entry %d", at)
	}
	repairing := n.replica.repairing || damaged
	n.replica = replica{hard: n.disk.hard, first: n.disk.first, log: log, snap: n.disk.snap, leader: nobody, repairing: repairing, lostLast: lostLast}
	n.heardAt = n.clock()
	n.state = fsm.New()
	n.core = coordinator.NewCore(n.w.plan.Settings, func(f func(*fsm.State)) { f(n.state) }, n.rng.Uint64()|1, nil, true)
	n.reign, n.queue, n.flushing, n.inFlight = nil, nil, false, nil
	n.wakeAt, n.looking, n.waiting = 0, false, nil
	n.sessions = make(map[coordinator.SessionID]*conn)
	n.waiters = make(map[uint64]func(coordinator.AnswerWaiter))
	n.leftAt, n.cameBackAt = make(map[string]time.Duration), make(map[string]time.Duration)
	if n.snap != nil {
		if err := n.restore(n.snap); err != nil {
			n.found("snapshot: %v", err)
			n.lostLast = max(n.last(), n.snap.index)
			n.repairing = true
			n.snap, n.log, n.first = nil, nil, 1
			n.disk.snap, n.disk.log, n.disk.first = nil, nil, 1
			n.state = fsm.New()
		}
	}
	if n.snap != nil && n.last() < n.snap.index {
		n.log, n.first = nil, n.snap.index+1 // what damage has left ends below the snapshot
		n.disk.log, n.disk.first = nil, n.first
	}
	if n.flipped && n.w.oracle.damageFound == found && n.w.bug != BugCRCNotVerified {
		n.w.oracle.violate("S18", "", "%s starts from a damaged disk and does not find out", n.name)
	}
	n.flipped = false
	n.watchLeader()
}

// found notes damage: the node is no voter until it was repaired from others.
func (n *node) found(format string, args ...any) {
	n.say("finds damage: "+format, args...)
	n.w.oracle.damageFound++
	n.w.cover.meet("damage found")
}

func (n *node) crash(why string) {
	if !n.up {
		return
	}
	n.actor.crash(why)
	n.disk.powerFails()
	for _, c := range n.sessionList() {
		c.nodeGone()
	}
}

// restore puts a snapshot's content in place of the state.
func (n *node) restore(s *snapshot) error {
	if err := n.state.Restore(bytes.NewReader(s.data)); err != nil {
		return err
	}
	n.applied = s.index
	n.commit = max(n.commit, s.index)
	n.w.oracle.restored(n)
	n.wakeWaiting()
	return nil
}

// applySoon applies what is committed, in an event of its own.
func (n *node) applySoon() {
	if n.applying {
		return
	}
	n.applying = true
	n.after(between(n.rng, 0, time.Millisecond), func() {
		n.applying = false
		n.applySome()
	})
}

func (n *node) applySome() {
	for k := 0; n.applied < n.commit; k++ {
		if k > 0 && chance(n.rng, 0.2) {
			n.applySoon() // the rest a little later: anything may happen in between
			return
		}
		if n.applied+1 < n.first {
			return // a snapshot is on its way
		}
		if !n.applyNext(n.log[n.applied+1-n.first]) {
			return
		}
	}
	n.snapshotMaybe()
}

// applyNext applies one entry and answers who waits for it.
func (n *node) applyNext(e logEntry) bool {
	var results []fsm.Result
	if e.data != nil {
		before := n.w.oracle.beforeApply(n, e)
		var err error
		results, err = n.state.ApplyEntry(e.index, e.term, e.data)
		if err != nil {
			n.w.oracle.stopped(n, err)
			n.crash(err.Error())
			return false
		}
		n.applied = e.index
		n.w.oracle.applied(n, e, before, results)
	}
	n.applied = e.index
	n.answerFlight(e, results)
	if n.reign != nil {
		n.look()
	}
	if e.data == nil && n.role == leader && e.term == n.hard.term && n.reign == nil {
		n.firstTick()
	}
	n.wakeWaiting()
	return n.up
}

func (n *node) wakeWaiting() {
	waiting := n.waiting
	n.waiting = nil
	for _, wi := range waiting {
		n.waitApplied(wi.index, wi.done)
	}
}

func (n *node) waitApplied(index uint64, done func(error)) {
	if n.applied >= index {
		done(nil)
		return
	}
	n.waiting = append(n.waiting, &waitIndex{index, done})
}

// answerFlight answers the calls of an entry of this leader's.
func (n *node) answerFlight(e logEntry, results []fsm.Result) {
	for len(n.inFlight) > 0 && n.inFlight[0].index <= e.index {
		f := n.inFlight[0]
		n.inFlight = n.inFlight[1:]
		for _, c := range f.calls {
			if f.index != e.index || f.term != e.term {
				c.done(nil, errUnknown)
				continue
			}
			k := len(c.commands)
			part := results[:k]
			results = results[k:]
			n.after(between(n.rng, 0, time.Millisecond), func() { c.done(part, nil) })
		}
	}
}

// firstTick begins the reign: its clock is read behind a barrier of its own term.
func (n *node) firstTick() {
	term := n.hard.term
	r := &reign{term: term, baseMS: max(n.state.ClockMS(), 1), start: n.clock()}
	commands := []*logpb.Command{{Kind: &logpb.Command_Tick{Tick: &logpb.Tick{}}}}
	if !n.state.Founded() {
		commands = append([]*logpb.Command{{Kind: &logpb.Command_Found{Found: &logpb.Found{
			ClusterId: clusterID.Bytes(), Limits: n.w.plan.Limits}}}}, commands...)
	}
	c := &call{commands: commands, done: func(results []fsm.Result, err error) {
		if err != nil || n.role != leader || n.hard.term != term {
			return
		}
		n.reign = r
		n.say("serves in term %d", term)
		n.leadsSince = n.clock()
		n.core.Lead(n.time(), term)
		n.perform()
		n.w.faults.phase(phaseServes, n.actor)
	}}
	n.propose(r, []*call{c})
}

var clusterID = fsm.NewGID(1, [10]byte{9})

// endReign is the end of leading: whoever waits does not know.
func (n *node) endReign() {
	flights, queue := n.inFlight, n.queue
	n.inFlight, n.queue = nil, nil
	for _, f := range flights {
		for _, c := range f.calls {
			c.done(nil, errUnknown)
		}
	}
	for _, c := range queue {
		c.done(nil, coordinator.ErrNotLeader)
	}
	confirms := n.confirms
	n.confirms = nil
	for _, c := range confirms {
		c.done(coordinator.ErrNotLeader)
	}
	if n.reign == nil {
		return
	}
	n.reign = nil
	n.core.Follow(n.time())
	n.perform()
}

// submit proposes commands of one caller; done hears their results, an error
// that says that nothing was appended, or errUnknown.
func (n *node) submit(commands []*logpb.Command, done func([]fsm.Result, error)) {
	if n.reign == nil {
		done(nil, coordinator.ErrNotLeader)
		return
	}
	if chance(n.rng, n.overload) {
		done(nil, coordinator.ErrOverload)
		return
	}
	n.queue = append(n.queue, &call{commands, done})
	if n.flushing {
		return
	}
	n.flushing = true
	n.after(between(n.rng, 0, 500*time.Microsecond), n.flush)
}

// flush packs the calls that wait into one entry, in any order.
func (n *node) flush() {
	n.flushing = false
	calls := n.queue
	n.queue = nil
	if len(calls) == 0 || n.reign == nil {
		return
	}
	if chance(n.rng, 0.5) {
		n.rng.Shuffle(len(calls), func(i, j int) { calls[i], calls[j] = calls[j], calls[i] })
	}
	n.propose(n.reign, calls)
}

func (n *node) propose(r *reign, calls []*call) {
	batch := &logpb.Batch{
		ClockMs:      r.baseMS + uint64(max(n.clock()-r.start, 0)/time.Millisecond),
		WallMs:       uint64(1_700_000_000_000 + n.clock()/time.Millisecond),
		FeatureLevel: fsm.FeatureLevel,
	}
	for _, c := range calls {
		batch.Commands = append(batch.Commands, c.commands...)
	}
	e := logEntry{index: n.last() + 1, term: n.hard.term, data: fsm.EncodeEntry(nil, batch)}
	n.inFlight = append(n.inFlight, &flight{e.index, e.term, calls})
	n.append([]logEntry{e})
	if n.w.bug == BugAnswerBeforeApplied {
		n.answerEarly(e)
	}
}

// readIndex runs done when a read that begins now may be answered from what is
// applied here.
func (n *node) readIndex(done func(error)) {
	if n.reign == nil {
		done(coordinator.ErrNotLeader)
		return
	}
	if n.w.bug == BugLocalRead {
		done(nil)
		return
	}
	n.round++
	n.confirms = append(n.confirms, &confirm{round: n.round, index: n.commit, done: done})
	for _, p := range n.w.nodes {
		if p != n {
			n.replicate(p)
		}
	}
	n.confirmReads()
}

// snapshotMaybe pins the state from time to time; it is written later, while
// further entries are applied.
func (n *node) snapshotMaybe() {
	every := n.w.plan.SnapshotEvery
	if every == 0 || n.snapping || !n.up || n.applied < n.snapIndex()+every {
		return
	}
	n.snapping = true
	index := n.state.Clock().AppliedIndex
	term, _ := n.termAt(n.applied)
	pinned, applied := n.state.Pin(), n.applied
	if pinned.Index() != index {
		n.w.oracle.violate("S17", "", "%s pins at %d what is applied up to %d", n.name, pinned.Index(), index)
	}
	n.after(between(n.rng, time.Millisecond, 60*time.Millisecond), func() {
		var out bytes.Buffer
		if _, err := pinned.WriteTo(&out); err != nil {
			panic(err)
		}
		s := &snapshot{index: applied, term: term, data: out.Bytes()}
		if s.index <= n.snapIndex() {
			n.snapping = false
			return
		}
		keep := s.index + 1 - min(n.w.plan.Trailing, s.index)
		n.say("writes a snapshot at %d, keeps entries from %d", s.index, keep)
		n.disk.submit(n.actor, snapshotWrite(s, keep, func() {
			n.snapping = false
			if s.index <= n.snapIndex() {
				return
			}
			n.snap = s
			if keep > n.first {
				n.log = n.log[min(keep-n.first, uint64(len(n.log))):]
				n.first = keep
			}
			n.w.cover.meet("snapshot")
			n.w.faults.phase(phaseSnapshot, n.actor)
		}))
	})
}
