package raftnode

import (
	"context"
	"sync"

	"github.com/hashicorp/raft"
)

// rounds says which nodes have lately shown that this one leads.
//
// The library's VerifyLeader counts answers to messages that were sent before
// the read began. A leader that was stopped and continued, or whose network
// held answers back, finds such answers waiting, though another leads by now:
// its read is stale. Here a round is stamped on each AppendEntries *before* it
// is sent, and only answers to messages of the read's own round or later count.
type rounds struct {
	mu      sync.Mutex
	current uint64
	latest  map[raft.ServerID]confirmation
	changed chan struct{} // closed at the next answer
}

// confirmation is the latest round that a node has answered in a term.
type confirmation struct{ term, round uint64 }

func newRounds() *rounds {
	return &rounds{latest: make(map[raft.ServerID]confirmation), changed: make(chan struct{})}
}

// begin opens a new round: messages stamped from now on belong to it.
func (r *rounds) begin() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current++
	return r.current
}

// stamp returns the round of a message that is about to be sent.
func (r *rounds) stamp() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current
}

// answered notes that a node, being in term itself, answered a message of term
// that was stamped with round.
func (r *rounds) answered(id raft.ServerID, term, round uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.latest[id]; term < c.term || (term == c.term && round <= c.round) {
		return
	}
	r.latest[id] = confirmation{term, round}
	close(r.changed)
	r.changed = make(chan struct{})
}

// confirmed says whether, with self, a quorum of the voters has answered round
// in term; if not, changed is closed when that may have become true.
func (r *rounds) confirmed(servers []raft.Server, self raft.ServerID, term, round uint64) (ok bool, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	voters, yes := 0, 0
	for _, s := range servers {
		if s.Suffrage != raft.Voter {
			continue
		}
		voters++
		if c := r.latest[s.ID]; s.ID == self || (c.term == term && c.round >= round) {
			yes++
		}
	}
	return yes > voters/2, r.changed
}

// read is a call of ReadIndex that waits.
type read struct{ done chan readAnswer }

type readAnswer struct {
	index uint64
	err   error
}

// ReadIndex returns an index such that a View that begins afterwards sees
// every command whose Propose had returned before ReadIndex was called, on any
// node. Only the leader can answer; others return ErrNotLeader.
//
// All calls that wait at a time share one confirmation.
func (n *Node) ReadIndex(ctx context.Context) (uint64, error) {
	r := read{done: make(chan readAnswer, 1)}
	select {
	case n.reads <- r:
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-n.closing:
		return 0, ErrClosed
	case <-n.fail.failed:
		return 0, ErrFailed
	}
	select {
	case a := <-r.done:
		if a.err != nil {
			return 0, a.err
		}
		return a.index, n.WaitApplied(ctx, a.index)
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-n.closing:
		return 0, ErrClosed
	case <-n.fail.failed:
		return 0, ErrFailed
	}
}

// serveReads answers the waiting reads, all that there are at a time.
func (n *Node) serveReads() {
	defer n.wait.Done()
	for {
		var waiting []read
		select {
		case r := <-n.reads:
			waiting = append(waiting, r)
		case <-n.closing:
			return
		}
		for more := true; more; {
			select {
			case r := <-n.reads:
				waiting = append(waiting, r)
			default:
				more = false
			}
		}
		index, err := n.confirmLeadership()
		for _, r := range waiting {
			r.done <- readAnswer{index, err}
		}
	}
}

// confirmLeadership returns the commit index once a quorum has shown that no
// later leader was elected before the call.
//
// Each of the quorum handled a message that was sent after the call began while
// it was still in our term. Whoever is elected in a later term needs the vote of
// one of them, given after that; so every command acknowledged before the call
// was committed by us or by an earlier leader, and stands at or below our commit
// index, since we have applied an entry of our own term.
func (n *Node) confirmLeadership() (uint64, error) {
	reign := n.reign.Load()
	if reign == nil {
		return 0, ErrNotLeader
	}
	round := n.rounds.begin()
	index := n.raft().CommitIndex()
	triggered := false
	for {
		servers := n.raft().GetConfiguration().Configuration().Servers
		ok, changed := n.rounds.confirmed(servers, n.self, reign.term, round)
		if ok {
			if n.raft().State() != raft.Leader || n.raft().CurrentTerm() != reign.term {
				return 0, ErrNotLeader
			}
			return index, nil
		}
		if !triggered {
			// Only the trigger of a heartbeat, so that an idle cluster need not wait
			// for the next one; what the library concludes from it is not used.
			n.raft().VerifyLeader()
			triggered = true
		}
		select {
		case <-changed:
		case <-reign.over:
			return 0, ErrNotLeader
		case <-n.closing:
			return 0, ErrClosed
		case <-n.fail.failed:
			return 0, ErrFailed
		}
	}
}

// WaitApplied returns when this node has applied the entry at index.
func (n *Node) WaitApplied(ctx context.Context, index uint64) error {
	return n.progress.wait(ctx, n.closing, index)
}
