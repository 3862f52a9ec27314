package raftnode

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/internal/testkit"
)

// A follower whose leader has just been heard leaves elections to the library,
// which refuses; one whose leader is silent does not refuse because of it, but
// for every other reason.
func TestElection_ASilentLeaderIsNoReasonToRefuse(t *testing.T) {
	c := newCluster(t, 3, func(_ int, cfg *Config) { steady(cfg) })
	index := c.set("x", "1")
	c.converge("x", "1")
	leader := c.leader()
	followers := c.others(leader)
	m, candidate := followers[0], followers[1]
	term := m.raft().CurrentTerm()
	must(t, m.WaitApplied(c.ctx(), index))
	last := m.raft().LastIndex()
	preVote := func(change func(*raft.RequestPreVoteRequest)) (answered bool, granted bool) {
		request := &raft.RequestPreVoteRequest{RPCHeader: raft.RPCHeader{ID: []byte(candidate.self)}, Term: term + 1, LastLogIndex: last, LastLogTerm: term}
		change(request)
		answers := make(chan raft.RPCResponse, 1)
		if !m.consider(raft.RPC{Command: request, RespChan: answers}) {
			return false, false
		}
		response := (<-answers).Response.(*raft.RequestPreVoteResponse)
		return true, response.Granted && response.Term == request.Term
	}
	vote := func() (eased bool) {
		request := &raft.RequestVoteRequest{RPCHeader: raft.RPCHeader{ID: []byte(candidate.self)}, Term: term + 1}
		if m.consider(raft.RPC{Command: request}) {
			t.Error("a vote was answered beside the library")
		}
		return request.LeadershipTransfer
	}
	same := func(*raft.RequestPreVoteRequest) {}

	if answered, _ := preVote(same); answered || vote() {
		t.Error("a follower that hears its leader interferes")
	}
	m.Node.cfg.Profile.HeartbeatTimeout = 0 // from now on the leader counts as silent
	if answered, granted := preVote(same); !answered || !granted || !vote() {
		t.Error("a silent leader is still a reason to refuse")
	}
	for name, change := range map[string]func(*raft.RequestPreVoteRequest){
		"a shorter log":    func(r *raft.RequestPreVoteRequest) { r.LastLogIndex = last - 1 },
		"an older log":     func(r *raft.RequestPreVoteRequest) { r.LastLogTerm, r.LastLogIndex = term-1, last+100 },
		"an older term":    func(r *raft.RequestPreVoteRequest) { r.Term = term - 1 },
		"a stranger":       func(r *raft.RequestPreVoteRequest) { r.ID = []byte(newUUID()) },
		"without a sender": func(r *raft.RequestPreVoteRequest) { r.ID = nil },
	} {
		if answered, _ := preVote(change); answered {
			t.Errorf("%s: granted", name)
		}
	}
	if leader.consider(raft.RPC{Command: &raft.RequestPreVoteRequest{RPCHeader: raft.RPCHeader{ID: []byte(candidate.self)}, Term: term + 1, LastLogIndex: last, LastLogTerm: term}}) {
		t.Error("the leader itself gave a pre-vote away")
	}
}

// A node whose log does not hold yet that a candidate has a vote must give it
// its own all the same when the candidate's log is ahead: after the death of the
// leader that gave out the vote nobody else could be elected.
func TestElection_AVoterThatIsNotKnownYetIsElectedByItsLog(t *testing.T) {
	c := newCluster(t, 3, func(_ int, cfg *Config) { steady(cfg) })
	c.set("x", "1")
	c.converge("x", "1")
	leader := c.leader()
	m := c.others(leader)[0]
	term, last := m.raft().CurrentTerm(), m.raft().LastIndex()
	stranger := raft.RPCHeader{ID: []byte(newUUID()), Addr: []byte("127.0.0.1:1")}
	preVote := func(lastTerm, lastIndex uint64) bool {
		answers := make(chan raft.RPCResponse, 1)
		return m.consider(raft.RPC{RespChan: answers, Command: &raft.RequestPreVoteRequest{
			RPCHeader: stranger, Term: term + 1, LastLogTerm: lastTerm, LastLogIndex: lastIndex}})
	}
	vote := func(lastTerm, lastIndex uint64) bool {
		request := &raft.RequestVoteRequest{RPCHeader: stranger, Term: term + 1, LastLogTerm: lastTerm, LastLogIndex: lastIndex}
		m.consider(raft.RPC{Command: request})
		return request.ID == nil
	}
	if preVote(term, last+1) || vote(term, last+1) {
		t.Error("a follower that hears its leader interferes")
	}
	m.Node.cfg.Profile.HeartbeatTimeout = 0 // from now on the leader counts as silent
	if !preVote(term, last+1) || !vote(term, last+1) {
		t.Error("a candidate whose log is ahead is refused because of a configuration that is behind")
	}
	if preVote(term, last) || vote(term, last) || preVote(term-1, last+9) || vote(term-1, last+9) {
		t.Error("a stranger whose log is not ahead is let through")
	}
}

// A message that comes before the library has started is left for later: the
// process is not ended by it.
func TestElection_BeforeTheLibraryHasStarted(t *testing.T) {
	n := &Node{}
	for _, request := range []any{
		&raft.RequestPreVoteRequest{RPCHeader: raft.RPCHeader{ID: []byte("a")}, Term: 9, LastLogIndex: 9, LastLogTerm: 9},
		&raft.RequestVoteRequest{RPCHeader: raft.RPCHeader{ID: []byte("a")}, Term: 9, LastLogIndex: 9, LastLogTerm: 9},
		&raft.AppendEntriesRequest{Term: 9},
		&raft.InstallSnapshotRequest{Term: 9},
	} {
		if n.consider(raft.RPC{Command: request}) {
			t.Errorf("%T was answered", request)
		}
	}
}

// A leader is silent once a whole heartbeat timeout has passed, and no sooner: a follower
// that gives its vote away before costs a living leader its term.
func TestElection_SilenceIsAWholeTimeout(t *testing.T) {
	net := newNetwork()
	c := newCluster(t, 3, func(_ int, cfg *Config) { cfg.Profile, cfg.WrapTransport = unhurried, net.wire() })
	t.Cleanup(net.heal)
	c.set("x", "1")
	c.converge("x", "1")
	leader := c.leader()
	m := c.others(leader)[0]
	net.isolate(leader.self)
	contact := m.raft().LastContact()
	testkit.Eventually(t, within, func() bool { return time.Since(contact) > 300*time.Millisecond && m.raft().LastContact() == contact })
	m.Node.cfg.Profile.HeartbeatTimeout = 3 * time.Since(contact)
	if m.leaderIsSilent() {
		t.Errorf("%v after the last word of its leader it counts as silent, of %v", time.Since(contact), m.Node.cfg.Profile.HeartbeatTimeout)
	}
	m.Node.cfg.Profile.HeartbeatTimeout = time.Since(contact)
	if !m.leaderIsSilent() {
		t.Error("it waits longer than the timeout")
	}
	leader.Node.cfg.Profile.HeartbeatTimeout = 1
	if leader.leaderIsSilent() {
		t.Error("a leader takes itself for silent")
	}
}

// A node of which all that is known is that it has no vote is not elected by the length
// of its log alone where nobody knows more; where its log goes on, its vote may stand there.
func TestElection_OfANodeWithoutAVote(t *testing.T) {
	c := newCluster(t, 3, func(_ int, cfg *Config) { steady(cfg) })
	leader, outsider := c.leader(), c.add()
	must(t, leader.AddNonvoter(c.ctx(), string(outsider.self), outsider.cfg.Address, outsider.Identity().ClusterID))
	c.set("x", "1")
	c.converge("x", "1")
	m := c.others(leader)[0]
	term, last := m.raft().CurrentTerm(), m.raft().LastIndex()
	m.Node.cfg.Profile.HeartbeatTimeout = 0 // from now on the leader counts as silent
	header := raft.RPCHeader{ID: []byte(outsider.self)}
	if m.wouldVote(&raft.RequestPreVoteRequest{RPCHeader: header, Term: term + 1, LastLogIndex: last, LastLogTerm: term}) {
		t.Error("a node without a vote is taken for a candidate")
	}
	if m.knowsMore(header.ID, term, last) || !m.knowsMore(header.ID, term, last+1) || !m.knowsMore(header.ID, term+1, 1) {
		t.Error("what its log may hold is not weighed")
	}
	if m.knowsMore([]byte(leader.self), term, last+1) {
		t.Error("of a voter there is nothing to be found out")
	}
}
