package raftnode

import (
	"time"

	"github.com/hashicorp/raft"
)

// A follower of the library refuses its vote as long as it knows a leader, and
// forgets a dead one only when its own timer next goes off, up to three
// heartbeat timeouts after the last heartbeat. So the first of two followers to
// notice asks in vain, and the cluster waits for the second as well. In Raft a
// follower need only be deaf to candidates within the *minimum* election timeout
// of hearing from its leader (Ongaro's thesis, section 4.2.3). The relay puts
// that back: elections are looked at on their way to the library, and a leader
// that has been silent for a heartbeat timeout is no reason to refuse.

// relay hands incoming messages to the library.
func (t *transport) relay() {
	defer close(t.relayed)
	for {
		select {
		case rpc := <-t.Transport.Consumer():
			if t.election != nil && t.election(rpc) {
				continue
			}
			select {
			case t.incoming <- rpc:
			case <-t.closing:
				return
			}
		case <-t.closing:
			return
		}
	}
}

// Consumer is where the library takes messages from.
func (t *transport) Consumer() <-chan raft.RPC { return t.incoming }

// Close ends the relay and the transport below.
func (t *transport) Close() error {
	t.closeOnce.Do(func() { close(t.closing) })
	err := t.Transport.Close()
	<-t.relayed
	return err
}

// consider looks at an incoming message and says whether it has answered it:
// those of candidates, the word of a leader that this node was set back, and a
// snapshot that it has.
// Everything else is left to the library, but for two things in a leader's message
// that the library gets wrong.
func (n *Node) consider(rpc raft.RPC) (answered bool) {
	switch request := rpc.Command.(type) {
	case *raft.AppendEntriesRequest:
		if n.heedSetBack(request) {
			rpc.Respond(nil, ErrFailed)
			return true
		}
		boundCommit(request) // while it still says what it goes on from
		n.knowsPrevious(request)
	case *raft.InstallSnapshotRequest:
		return n.answerLateSnapshot(rpc, request)
	case *raft.RequestVoteRequest:
		if n.leaderIsSilent() {
			// The one way to tell the library that a known leader does not matter.
			// All its other rules hold, those that make elections safe among them.
			request.LeadershipTransfer = true
		}
		if n.knowsMore(request.ID, request.LastLogTerm, request.LastLogIndex) {
			// The library asks its own configuration about those who say who they are
			// only. The greeting of the connection has told us.
			request.ID = nil
		}
		n.noteBehind(request)
	case *raft.RequestPreVoteRequest:
		if n.leaderIsSilent() && n.wouldVote(request) ||
			n.knowsMore(request.ID, request.LastLogTerm, request.LastLogIndex) && request.Term >= n.raft().CurrentTerm() {
			rpc.Respond(&raft.RequestPreVoteResponse{
				RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(n.self), Addr: []byte(n.cfg.Address)},
				Term:      request.Term, Granted: true,
			}, nil)
			return true
		}
	}
	return false
}

// leaderIsSilent says whether this node follows, and has heard from no leader
// for a heartbeat timeout.
func (n *Node) leaderIsSilent() bool {
	library := n.raft()
	return library != nil && library.State() == raft.Follower && time.Since(library.LastContact()) >= n.cfg.Profile.HeartbeatTimeout
}

// wouldVote says whether a candidate, known as a voter, is as far as this node.
// It decides a pre-vote only, which promises nothing: the vote that follows is
// weighed by the library.
func (n *Node) wouldVote(request *raft.RequestPreVoteRequest) bool {
	candidate, ok := n.server(string(request.ID))
	if !ok || candidate.Suffrage != raft.Voter || request.Term < n.raft().CurrentTerm() {
		return false
	}
	end, err := n.stores.end()
	return err == nil && (request.LastLogTerm > end.term || (request.LastLogTerm == end.term && request.LastLogIndex >= end.index))
}

// knowsMore says whether a candidate of which this node does not know that it has
// a vote has a log that goes on beyond this node's, while nobody leads.
//
// The entry that gave it a vote may lie there. The library refuses such a
// candidate for ever; and where the leader that wrote the entry dies before the
// others have it, nobody else can win: the candidate's log is the only complete
// one among a quorum. In Raft votes are given without a look at one's own
// configuration, for this reason (Ongaro's thesis, section 4.1).
func (n *Node) knowsMore(id []byte, lastTerm, lastIndex uint64) bool {
	library := n.raft()
	if library == nil || len(id) == 0 {
		return false
	}
	switch library.State() {
	case raft.Candidate:
	case raft.Follower:
		if _, leader := library.LeaderWithID(); leader != "" && !n.leaderIsSilent() {
			return false
		}
	default:
		return false
	}
	if s, ok := n.server(string(id)); ok && s.Suffrage == raft.Voter {
		return false
	}
	end, err := n.stores.end()
	return err == nil && (lastTerm > end.term || lastTerm == end.term && lastIndex > end.index)
}
