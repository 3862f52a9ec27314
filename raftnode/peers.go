package raftnode

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// peers is what this node, as leader, knows of the others. The library keeps
// the same for itself and does not show it.
type peers struct {
	mu    sync.Mutex
	known map[raft.ServerID]peer
	alarm func(id raft.ServerID, index uint64, times int)
	lost  func(error) // told once a term of a node that was set back
}

// peer is one other node as seen in one term.
type peer struct {
	term        uint64
	match       uint64    // its log equals ours up to here
	lastContact time.Time // its latest answer
	installed   uint64    // index of the last snapshot it was sent
	installs    int       // how often in a row
	setBack     bool      // it has forgotten what it acknowledged
}

// repeatedInstalls is how many snapshots in a row of one index are an alarm, and
// each doubling of it: the node takes them and does not get on (hashicorp/raft #697).
const repeatedInstalls = 4

func newPeers(alarm func(raft.ServerID, uint64, int), lost func(error)) *peers {
	return &peers{known: make(map[raft.ServerID]peer), alarm: alarm, lost: lost}
}

// heard notes an answer of a node in term. Within a term match never goes back.
func (p *peers) heard(id raft.ServerID, term, match uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.known[id]
	if now.term != term {
		now = peer{term: term}
	}
	now.match = max(now.match, match)
	now.lastContact = time.Now()
	p.known[id] = now
}

// installed notes that a node took a snapshot.
func (p *peers) installed(id raft.ServerID, index uint64) {
	p.mu.Lock()
	now := p.known[id]
	if now.installed != index {
		now.installed, now.installs = index, 0
	}
	now.installs++
	p.known[id] = now
	p.mu.Unlock()
	if now.installs >= repeatedInstalls && now.installs&(now.installs-1) == 0 {
		p.alarm(id, index, now.installs)
	}
}

// setBack notes that a node has forgotten what it acknowledged.
func (p *peers) setBack(id raft.ServerID, why error) {
	p.mu.Lock()
	now := p.known[id]
	first := !now.setBack
	now.setBack = true
	p.known[id] = now
	p.mu.Unlock()
	if first {
		p.lost(why)
	}
}

// get returns what is known of a node in term.
func (p *peers) get(id raft.ServerID, term uint64) (peer, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, ok := p.known[id]
	return now, ok && now.term == term
}
