package sim

import (
	"slices"
	"time"
)

// The replicated log: Raft as its paper has it, without pipelining or changes of
// membership. What the real log's users must bear is all there: entries that
// only their leader has, tails that are cut off, leaders that go on believing,
// votes that respect who has the longer log, snapshots instead of entries.

type role uint8

const (
	follower role = iota
	candidate
	leader
)

const (
	heartbeatEvery = 300 * time.Millisecond
	electionMin    = time.Second
	electionMax    = 2 * time.Second
	appendMax      = 16 // entries a message
	nobody         = -1
)

// replica is a node's part in Raft.
type replica struct {
	hard  hardState
	first uint64 // index of log[0]
	log   []logEntry
	snap  *snapshot // the newest, nil for none

	role      role
	leader    int
	commit    uint64
	applied   uint64
	votes     []bool
	next      []uint64
	match     []uint64
	answered  []time.Duration // by the own clock, when a follower last answered
	heardAt   time.Duration   // by the own clock, when a leader was last heard
	patience  time.Duration
	rounds    []uint64 // the latest round that each node has answered
	round     uint64
	confirms  []*confirm
	applying  bool
	snapping  bool
	repairing bool   // its log was damaged: it votes for nobody until it is whole
	lostLast  uint64 // the last index that it may have acknowledged before
}

func (n *node) last() uint64 { return n.first + uint64(len(n.log)) - 1 }

func (n *node) snapIndex() uint64 {
	if n.snap == nil {
		return 0
	}
	return n.snap.index
}

// termAt is the term of the entry at an index; false where it is no longer, or
// not yet, there.
func (n *node) termAt(index uint64) (uint64, bool) {
	switch {
	case index == 0:
		return 0, true
	case index >= n.first && index <= n.last():
		return n.log[index-n.first].term, true
	case n.snap != nil && index == n.snap.index:
		return n.snap.term, true
	}
	return 0, false
}

func (n *node) lastTerm() uint64 {
	t, _ := n.termAt(n.last())
	return t
}

func (n *node) quorum() int { return len(n.w.nodes)/2 + 1 }

// setTerm enters a later term, or votes in this one; done runs once that is on
// the platter.
func (n *node) setTerm(h hardState, done func()) {
	if h.term > n.hard.term && n.role != follower {
		n.stepDown("a later term")
	}
	n.hard = h
	n.disk.submit(n.actor, hardWrite(h, done))
}

func nothing() {}

// watchLeader campaigns when no leader was heard for too long.
func (n *node) watchLeader() {
	n.patience = between(n.rng, electionMin, electionMax)
	n.after(n.patience, func() {
		if n.role != leader && n.clock()-n.heardAt >= n.patience {
			n.campaign()
		}
		n.watchLeader()
	})
}

func (n *node) campaign() {
	if n.repairing || n.role == leader {
		return
	}
	n.role, n.leader = candidate, nobody
	n.heardAt = n.clock()
	term := n.hard.term + 1
	n.say("campaigns in term %d, last %d/%d", term, n.last(), n.lastTerm())
	n.votes = make([]bool, len(n.w.nodes))
	n.hard = hardState{term, n.id + 1}
	n.disk.submit(n.actor, hardWrite(n.hard, func() {
		if n.role != candidate || n.hard.term != term {
			return
		}
		n.countVote(n.id)
		last, lastTerm := n.last(), n.lastTerm()
		for _, p := range n.w.nodes {
			if p != n {
				n.w.net.send(n.actor, p.actor, func() { p.onRequestVote(n, term, last, lastTerm) })
			}
		}
	}))
}

func (n *node) onRequestVote(c *node, term, last, lastTerm uint64) {
	if term < n.hard.term || n.repairing {
		return
	}
	h := n.hard
	if term > h.term {
		h = hardState{term: term}
	}
	newer := lastTerm > n.lastTerm() || lastTerm == n.lastTerm() && last >= n.last()
	if newer && (h.voted == 0 || h.voted == c.id+1) {
		h.voted = c.id + 1
		n.heardAt = n.clock()
	}
	granted := h.voted == c.id+1
	answer := func() {
		if granted {
			n.w.net.send(n.actor, c.actor, func() { c.onVote(n.id, term) })
		}
	}
	if h == n.hard {
		answer()
		return
	}
	n.setTerm(h, answer)
}

func (n *node) onVote(from int, term uint64) {
	if n.role == candidate && term == n.hard.term {
		n.countVote(from)
	}
}

func (n *node) countVote(from int) {
	n.votes[from] = true
	if count(n.votes) < n.quorum() {
		return
	}
	n.role, n.leader = leader, n.id
	n.say("is elected in term %d", n.hard.term)
	size := len(n.w.nodes)
	n.next, n.match = make([]uint64, size), make([]uint64, size)
	n.answered, n.rounds = make([]time.Duration, size), make([]uint64, size)
	for i := range n.next {
		n.next[i], n.answered[i] = n.last()+1, n.clock()
	}
	n.append([]logEntry{{index: n.last() + 1, term: n.hard.term}})
	n.beat(n.hard.term)
	n.w.faults.phase(phaseElected, n.actor)
}

func count(bits []bool) (n int) {
	for _, b := range bits {
		if b {
			n++
		}
	}
	return n
}

// append writes entries of its own to the leader's disk, then sends them.
func (n *node) append(entries []logEntry) {
	n.log = append(slices.Clip(n.log), entries...)
	term, last := n.hard.term, n.last()
	n.disk.submit(n.actor, logWrite(entries, func() {
		if n.role != leader || n.hard.term != term {
			return
		}
		n.w.faults.phase(phaseAppended, n.actor) // it may stop, or die, here
		n.do(n.life, func() {
			if n.role != leader || n.hard.term != term {
				return
			}
			n.match[n.id] = max(n.match[n.id], last)
			n.advance()
			for _, p := range n.w.nodes {
				if p != n {
					n.replicate(p)
				}
			}
		})
	}))
}

// beat sends heartbeats, again what was not acknowledged, and looks whether a
// quorum is still there.
func (n *node) beat(term uint64) {
	if n.role != leader || n.hard.term != term {
		return
	}
	near := 1
	for i, p := range n.w.nodes {
		if p == n {
			continue
		}
		if n.clock()-n.answered[i] <= n.w.plan.Lease {
			near++
		}
		if n.match[i] > 0 {
			n.next[i] = n.match[i] + 1 // again what was not acknowledged
		}
		n.replicate(p)
	}
	if near < n.quorum() {
		n.stepDown("its lease is over")
		return
	}
	n.after(heartbeatEvery, func() { n.beat(term) })
}

// appendMessage is what a leader tells a follower.
type appendMessage struct {
	term           uint64
	from           int
	prev, prevTerm uint64
	entries        []logEntry
	commit, round  uint64
	install        *snapshot // in place of entries
}

func (n *node) replicate(p *node) {
	m := appendMessage{term: n.hard.term, from: n.id, commit: n.commit, round: n.round}
	next := n.next[p.id]
	prevTerm, ok := n.termAt(next - 1)
	if !ok || next < n.first {
		m.install = n.snap
		n.w.cover.meet("install")
		n.w.net.send(n.actor, p.actor, func() { p.onAppend(n, m) })
		return
	}
	m.prev, m.prevTerm = next-1, prevTerm
	if next <= n.last() {
		from := next - n.first
		to := min(from+appendMax, uint64(len(n.log)))
		m.entries = slices.Clone(n.log[from:to])
		n.next[p.id] = next + uint64(len(m.entries))
		n.w.net.send(n.actor, p.actor, func() { p.onAppend(n, m) })
		return
	}
	n.w.net.sendQuietly(n.actor, p.actor, func() { p.onAppend(n, m) })
}

func (n *node) onAppend(l *node, m appendMessage) {
	if m.term < n.hard.term {
		term := n.hard.term
		n.w.net.sendQuietly(n.actor, l.actor, func() { l.onRefused(n.id, term, 0) })
		return
	}
	if m.term > n.hard.term {
		n.setTerm(hardState{term: m.term}, nothing)
	}
	if n.role != follower {
		n.stepDown("another leads this term")
	}
	n.leader, n.heardAt = m.from, n.clock()
	if m.install != nil {
		n.install(l, m)
		return
	}
	// What a snapshot covers is agreed.
	if s := n.snapIndex(); m.prev < s {
		skip := min(s-m.prev, uint64(len(m.entries)))
		m.entries = m.entries[skip:]
		m.prev += skip
		if m.prev < s {
			n.accept(l, m, m.prev)
			return
		}
		m.prevTerm = n.snap.term
	}
	if t, ok := n.termAt(m.prev); !ok || t != m.prevTerm {
		hint, term := n.conflict(m.prev), n.hard.term
		n.w.net.sendQuietly(n.actor, l.actor, func() { l.onRefused(n.id, term, hint) })
		return
	}
	match := m.prev + uint64(len(m.entries))
	entries := m.entries
	for len(entries) > 0 {
		if t, ok := n.termAt(entries[0].index); !ok || t != entries[0].term {
			break
		}
		entries = entries[1:]
	}
	if len(entries) == 0 {
		n.accept(l, m, match)
		return
	}
	if at := entries[0].index; at <= n.last() {
		if at <= n.commit {
			n.w.oracle.violate("S6", "", "%s cuts off entry %d, which it knew to be committed up to %d", n.name, at, n.commit)
		}
		n.w.cover.meet("tail cut off")
		n.say("cuts off its tail from %d on", at)
	}
	n.log = append(slices.Clone(n.log[:entries[0].index-n.first]), entries...)
	n.disk.submit(n.actor, logWrite(entries, func() { n.stored(l, m, match) }))
}

// conflict is where a leader should go on, when the entry before does not fit:
// behind this node's last, or at the first of the term that differs.
func (n *node) conflict(prev uint64) uint64 {
	if prev > n.last() {
		return n.last() + 1
	}
	t, ok := n.termAt(prev)
	for ok && prev > max(n.first, n.commit+1) {
		if before, _ := n.termAt(prev - 1); before != t {
			break
		}
		prev--
	}
	return max(prev, 1)
}

// accept acknowledges up to match, once all that was written before is there.
func (n *node) accept(l *node, m appendMessage, match uint64) {
	if len(n.disk.pending) == 0 {
		n.stored(l, m, match)
		return
	}
	n.disk.submit(n.actor, nothingWrite(func() { n.stored(l, m, match) }))
}

func (n *node) stored(l *node, m appendMessage, match uint64) {
	if n.hard.term != m.term {
		return
	}
	if n.repairing && match >= n.lostLast {
		n.repairing = false
		n.say("is whole again up to %d", match)
		n.w.faults.repaired(n)
	}
	n.commitTo(min(m.commit, match))
	quietly := len(m.entries) == 0 && m.install == nil
	answer := func() { l.onStored(n.id, m.term, match, m.round) }
	if quietly {
		n.w.net.sendQuietly(n.actor, l.actor, answer)
	} else {
		n.w.net.send(n.actor, l.actor, answer)
	}
}

func (n *node) onStored(from int, term, match, round uint64) {
	if n.role != leader || term != n.hard.term {
		return
	}
	n.answered[from] = n.clock()
	n.rounds[from] = max(n.rounds[from], round)
	n.match[from] = max(n.match[from], match)
	n.next[from] = max(n.next[from], n.match[from]+1)
	n.advance()
	n.confirmReads()
	if n.next[from] <= n.last() {
		n.replicate(n.w.nodes[from])
	}
}

func (n *node) onRefused(from int, term, hint uint64) {
	switch {
	case term > n.hard.term:
		n.setTerm(hardState{term: term}, nothing)
	case n.role == leader && term == n.hard.term && hint > 0:
		n.answered[from] = n.clock()
		if n.match[from] == 0 && hint < n.next[from] || n.match[from] > 0 && hint <= n.match[from] {
			if hint <= n.match[from] {
				n.match[from] = 0 // it lost what it had: its disk was damaged
			}
			n.next[from] = hint
		} else {
			n.next[from] = max(n.match[from]+1, min(n.next[from], hint))
		}
		n.replicate(n.w.nodes[from])
	}
}

// advance commits what a quorum has, of this term's entries.
func (n *node) advance() {
	at := slices.Clone(n.match)
	slices.Sort(at)
	c := at[len(at)-n.quorum()]
	if t, ok := n.termAt(c); ok && t == n.hard.term && c > n.commit {
		n.commitTo(c)
		for _, p := range n.w.nodes {
			if p != n && n.next[p.id] > n.last() {
				n.replicate(p) // so that followers apply soon
			}
		}
	}
}

func (n *node) commitTo(index uint64) {
	if index <= n.commit {
		return
	}
	n.commit = index
	n.applySoon()
}

// stepDown ends a leadership, or a candidacy.
func (n *node) stepDown(why string) {
	was := n.role
	n.role, n.leader = follower, nobody
	n.heardAt = n.clock()
	if was == leader {
		n.say("leads no more: %s", why)
		n.endReign()
	}
}

// install takes another node's snapshot.
func (n *node) install(l *node, m appendMessage) {
	s := m.install
	if s.index <= n.commit {
		n.accept(l, m, s.index)
		return
	}
	if t, ok := n.termAt(s.index); ok && t == s.term { // it has all that by now, and perhaps more
		n.commitTo(s.index)
		n.accept(l, m, s.index)
		return
	}
	if err := n.restore(s); err != nil {
		n.w.oracle.violate("S18", "", "%s cannot restore a snapshot that a leader sent: %v", n.name, err)
		return
	}
	n.snap, n.log, n.first = s, nil, s.index+1
	n.commit = s.index
	n.say("installs a snapshot at %d", s.index)
	n.disk.submit(n.actor, installWrite(s, func() { n.stored(l, m, s.index) }))
}

// confirm is a read that waits until a quorum has shown that this node leads.
type confirm struct {
	round, index uint64
	done         func(error)
}

func (n *node) confirmReads() {
	var left []*confirm
	var ready []*confirm
	for _, c := range n.confirms {
		yes := 1
		for i, r := range n.rounds {
			if i != n.id && r >= c.round {
				yes++
			}
		}
		if yes >= n.quorum() {
			ready = append(ready, c)
		} else {
			left = append(left, c)
		}
	}
	n.confirms = left
	for _, c := range ready {
		n.waitApplied(c.index, c.done)
	}
}
