package raftnode

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
)

// A process that dies takes its connections and its listener with it, and the
// kernel of its machine says so at once: the connections end, and a new one is
// refused. A follower need not wait for its heartbeat timeout to know.
//
// So when a connection from the leader ends, a follower calls the leader's
// address; if that is refused, it starts an election. It does so the way a
// transfer of leadership does, with a TimeoutNow to itself, because voters that
// have not noticed yet refuse every other candidate. The followers take turns,
// in the order of their ids, so that they do not split the vote.
//
// This makes elections sooner, never different: who may win one is decided by
// terms and logs as ever. A leader that is paused, cut off, or whose machine is
// gone refuses nothing; the timeouts are for those.
// See docs/decisions/022-elections-at-a-leaders-death.md.
const (
	// deadLeaderCallsMax bounds how long the leader is called until it refuses: a
	// process that ends closes its connections and its listener one by one.
	deadLeaderCallsMax = 150 * time.Millisecond
	// deadLeaderCallsEvery is the time between two calls.
	deadLeaderCallsEvery = 10 * time.Millisecond
	// deadLeaderTurns is how many turns make up a heartbeat timeout: a turn is how long
	// each follower gives the one before it to be elected.
	deadLeaderTurns = 5
)

// connectionEnded is called when an incoming connection of another node ended.
func (n *Node) connectionEnded(from string) {
	library := n.raft()
	if library == nil || n.isClosing() {
		return
	}
	if _, id := library.LeaderWithID(); string(id) != from {
		return
	}
	if _, begun := n.dying.LoadOrStore(from, struct{}{}); begun {
		return // a leader has several connections
	}
	n.spawn(func() {
		defer n.dying.Delete(from)
		n.succeed(raft.ServerID(from))
	})
}

func (n *Node) isClosing() bool {
	select {
	case <-n.closing:
		return true
	default:
		return false
	}
}

// succeed starts an election if the leader's process is gone, when it is this
// node's turn.
func (n *Node) succeed(leader raft.ServerID) {
	library := n.raft()
	address, id := library.LeaderWithID()
	if id != leader || !n.refuses(string(address)) {
		return
	}
	turn := n.turn(leader)
	if turn < 0 || !n.awaitTurn(library, leader, turn) {
		return
	}
	n.counters.leadersFoundDead.Add(1)
	n.cfg.Logger.Info("the leader's process is gone: starting an election", "leader", string(leader), "address", string(address))
	n.stand()
}

// stand starts an election now, by the message that ends a transfer of
// leadership, from this node to itself.
func (n *Node) stand() {
	request := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(n.self), Addr: []byte(n.cfg.Address)}}
	if err := n.trans.TimeoutNow(n.self, raft.ServerAddress(n.cfg.Address), request, &raft.TimeoutNowResponse{}); err != nil {
		n.cfg.Logger.Info("could not start an election: waiting for the heartbeat timeout", "error", err)
	}
}

// awaitTurn waits until it is this node's turn; false if another was elected
// before it came, or stands.
func (n *Node) awaitTurn(library *library, leader raft.ServerID, turn int) bool {
	term := library.CurrentTerm()
	wait := time.Duration(turn) * n.cfg.Profile.HeartbeatTimeout / deadLeaderTurns
	for waits := 0; waits < 2; {
		select {
		case <-time.After(wait):
			waits++
		case stood := <-n.behind:
			if stood < term || !n.everyVoteCounts() {
				continue // of an earlier election, or it may win without this node
			}
			if turn--; turn > 0 {
				wait = time.Duration(turn) * n.cfg.Profile.HeartbeatTimeout / deadLeaderTurns
				continue
			}
			_, id := library.LeaderWithID()
			return (id == leader || id == "") && library.State() == raft.Follower
		case <-n.closing:
			return false
		}
		if _, id := library.LeaderWithID(); id != leader && id != "" || library.State() != raft.Follower {
			return false
		}
		if library.CurrentTerm() == term {
			return true
		}
		// The one before stood, and has not won yet. It gets another turn: it may
		// only be slow. If it lost, its log was not the most complete.
		term, wait = library.CurrentTerm(), n.cfg.Profile.HeartbeatTimeout/deadLeaderTurns
	}
	return false
}

// noteBehind tells awaitTurn of a candidate whose log is behind this node's, and
// that it cannot win with this node's vote: under load the leader's last entries
// have reached one follower and not the other in every second case. Whose turn is
// next need not wait to see it fail. What is sent to this node from now on, its
// own TimeoutNow too, reaches the library behind the candidate's request, so the
// library stands in a later term.
func (n *Node) noteBehind(request *raft.RequestVoteRequest) {
	if n.raft() == nil {
		return
	}
	end, err := n.stores.end()
	if err != nil || request.LastLogTerm > end.term || request.LastLogTerm == end.term && request.LastLogIndex >= end.index {
		return
	}
	select {
	case <-n.behind: // of an earlier one
	default:
	}
	select {
	case n.behind <- request.Term:
	default:
	}
}

// everyVoteCounts says that nobody can win without this node's vote while one voter
// is gone, as in a cluster of three.
func (n *Node) everyVoteCounts() bool {
	voters := 0
	for _, s := range n.servers() {
		if s.Suffrage == raft.Voter {
			voters++
		}
	}
	return voters-1 <= voters/2+1
}

// refuses reports whether a machine that answers has nobody listening there,
// or soon has not.
func (n *Node) refuses(address string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), deadLeaderCallsMax)
	defer cancel()
	for {
		conn, err := n.cfg.Dial(ctx, "tcp", address)
		if errors.Is(err, syscall.ECONNREFUSED) {
			return true
		}
		if err == nil {
			conn.Close()
		}
		select {
		case <-time.After(deadLeaderCallsEvery):
		case <-ctx.Done():
			return false
		case <-n.closing:
			return false
		}
	}
}

// turn is this node's place, by id, among the voters that are left; -1 if it
// has no vote.
func (n *Node) turn(leader raft.ServerID) int {
	turn, voter := 0, false
	for _, s := range n.servers() {
		switch {
		case s.Suffrage != raft.Voter || s.ID == leader:
		case s.ID == n.self:
			voter = true
		case s.ID < n.self:
			turn++
		}
	}
	if !voter {
		return -1
	}
	return turn
}
