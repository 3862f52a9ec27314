package raftnode

import (
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// votesOver is a transport whose pooled connections are those of a node's life
// before.
type votesOver struct {
	Transport
	errs  []error // of the next calls
	calls int
}

func (v *votesOver) next() error {
	v.calls++
	if len(v.errs) == 0 {
		return nil
	}
	err := v.errs[0]
	v.errs = v.errs[1:]
	return err
}

func (v *votesOver) RequestVote(_ raft.ServerID, _ raft.ServerAddress, _ *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	err := v.next()
	resp.Granted = err == nil
	return err
}

func (v *votesOver) RequestPreVote(_ raft.ServerID, _ raft.ServerAddress, _ *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	err := v.next()
	resp.Granted = err == nil
	return err
}

// A voter that was started anew is reached all the same: its vote is not lost to the
// connections of its life before, of which three are kept at most. One that refuses
// connections is down, and is not asked again.
func TestAVoteIsNotLostToAnOldConnection(t *testing.T) {
	old := []error{io.EOF, fmt.Errorf("write: %w", &net.OpError{Op: "write", Err: syscall.EPIPE}), &net.OpError{Op: "read", Err: syscall.ECONNRESET}}
	for name, ask := range map[string]func(tr *transport) (bool, error){
		"vote": func(tr *transport) (bool, error) {
			var resp raft.RequestVoteResponse
			err := tr.RequestVote("n", "a", &raft.RequestVoteRequest{}, &resp)
			return resp.Granted, err
		},
		"pre-vote": func(tr *transport) (bool, error) {
			var resp raft.RequestPreVoteResponse
			err := tr.RequestPreVote("n", "a", &raft.RequestPreVoteRequest{}, &resp)
			return resp.Granted, err
		},
	} {
		over := &votesOver{errs: old}
		if granted, err := ask(&transport{Transport: over}); err != nil || !granted || over.calls != 4 {
			t.Errorf("%s: granted %v after %d calls: %v", name, granted, over.calls, err)
		}
		down := &votesOver{errs: []error{syscall.ECONNREFUSED}}
		if _, err := ask(&transport{Transport: down}); err == nil || down.calls != 1 {
			t.Errorf("%s of a node that is down: %d calls, %v", name, down.calls, err)
		}
	}
}

// sparing is a transport that sends one node no entries.
type sparing struct {
	Transport
	spared *atomic.Pointer[raft.ServerID]
}

func (s *sparing) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if spared := s.spared.Load(); spared != nil && *spared == id && len(args.Entries) > 0 {
		return fmt.Errorf("%s is sent no entries", id)
	}
	return s.Transport.AppendEntries(id, target, args, resp)
}

// The follower whose turn it is at a leader's death may lack what the leader sent
// last. The other one need not wait out its turns: it has seen a candidate that
// cannot win. Its turns here take twelve seconds each.
func TestAShorterLogsCandidacyIsNotWaitedFor(t *testing.T) {
	var spared atomic.Pointer[raft.ServerID]
	c := newCluster(t, 3, func(i int, cfg *Config) {
		hurried(i, cfg)
		if i > 0 {
			cfg.Profile.HeartbeatTimeout, cfg.Profile.ElectionTimeout = time.Minute, time.Minute
		}
		cfg.WrapTransport = func(inner Transport) Transport { return &sparing{inner, &spared} }
	})
	leader := c.leader()
	c.set("r", "everywhere")
	c.converge("r", "everywhere")
	var first, second *member
	for _, m := range c.others(leader) {
		if m.turn(raft.ServerID(leader.Identity().NodeID)) == 0 {
			first = m
		} else {
			second = m
		}
	}
	spared.Store(&first.self)
	c.set("r", "not at the first")
	spared.Store(nil)
	c.stop(leader)
	begun := time.Now()
	if next := c.leader(); next != second {
		t.Fatal("the follower without the last entry leads")
	}
	if took := time.Since(begun); took > 8*time.Second {
		t.Errorf("the other follower was elected after %v: it waited for its turn", took)
	}
	c.converge("r", "not at the first")
}
