package raftnode

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/internal/testkit"
)

// Heartbeats reach the library by the same channel as everything else, in order.
func TestIssue695_HeartbeatsTakeTheMainPath(t *testing.T) {
	heartbeat := func(id string) *raft.AppendEntriesRequest {
		return &raft.AppendEntriesRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(id), Addr: []byte("x")}, Term: 1}
	}
	// exchange sends a heartbeat and says by which way it came.
	exchange := func(t *testing.T, receiver *transport, handler raft.Transport) string {
		way := make(chan string, 1)
		handler.SetHeartbeatHandler(func(rpc raft.RPC) {
			way <- "short cut"
			rpc.Respond(&raft.AppendEntriesResponse{Term: 1, Success: true}, nil)
		})
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			select {
			case rpc := <-receiver.Consumer():
				way <- "main path"
				rpc.Respond(&raft.AppendEntriesResponse{Term: 1, Success: true}, nil)
			case <-stop:
			}
		}()
		sender, _ := bareTransport(t)
		to, _ := receiver.layer.id.get()
		if err := sender.AppendEntries(raft.ServerID(to.NodeID), receiver.LocalAddr(), heartbeat("a"), new(raft.AppendEntriesResponse)); err != nil {
			t.Fatal(err)
		}
		return <-way
	}
	receiver, network := bareTransport(t)
	if way := exchange(t, receiver, receiver); way != "main path" {
		t.Errorf("a heartbeat took the %s", way)
	}
	if way := exchange(t, receiver, network); way != "short cut" {
		t.Errorf("the bare library takes the %s: the wrapper is no longer needed", way)
	}
}

// No message is sent to a node before the last one was answered.
func TestIssue612And611_NoPipelining(t *testing.T) {
	receiver, _ := bareTransport(t)
	sender, _ := bareTransport(t)
	to, _ := receiver.layer.id.get()
	_, err := sender.AppendEntriesPipeline(raft.ServerID(to.NodeID), receiver.LocalAddr())
	if !errors.Is(err, raft.ErrPipelineReplicationNotSupported) {
		t.Fatalf("a pipeline was opened: %v", err)
	}
}

// The vote goes to disk as one value: a crash between the library's two writes
// leaves the last whole vote.
func TestIssue661_TheVoteIsOneValue(t *testing.T) {
	for _, store := range []string{LogStoreBolt, LogStoreWAL} {
		t.Run(store, func(t *testing.T) {
			cfg := testConfig(t)
			cfg.LogStore = store
			open := func() *stores {
				s, err := openStores(&cfg, newFailStop(func(err error) { t.Error(err) }), new(histogram))
				if err != nil {
					t.Fatal(err)
				}
				return s
			}
			if err := makeDir(cfg.DataDir); err != nil {
				t.Fatal(err)
			}
			s := open()
			vote := func(want uint64, candidate string) {
				t.Helper()
				term, err := s.stable.GetUint64([]byte(keyVoteTerm))
				if err != nil && candidate != "" {
					t.Fatal(err)
				}
				who, err := s.stable.Get([]byte(keyVoteCandidate))
				if (err != nil && candidate != "") || term != want || string(who) != candidate {
					t.Fatalf("the vote is for %q in term %d (%v), want %q in %d", who, term, err, candidate, want)
				}
			}
			vote(0, "")
			must(t, s.stable.SetUint64([]byte(keyVoteTerm), 5))
			must(t, s.stable.Set([]byte(keyVoteCandidate), []byte("a")))
			vote(5, "a")
			must(t, s.stable.SetUint64([]byte(keyVoteTerm), 6)) // and the process ends here
			must(t, s.close())
			s = open()
			defer s.close()
			vote(5, "a")
		})
	}
}

// A transfer whose last message hangs does not leave a leader that leads and
// refuses everything.
func TestIssue696_AWedgedTransferEndsTheNode(t *testing.T) {
	net := newNetwork()
	c := newCluster(t, 3, func(_ int, cfg *Config) {
		cfg.WrapTransport = net.wire()
		cfg.TransferRefusalMax = time.Second
	})
	t.Cleanup(net.heal)
	net.change(func() { net.stuck = true })
	leader := c.leader()
	if err := leader.TransferLeadership(c.ctx(), ""); err == nil {
		t.Fatal("the transfer was reported as done")
	}
	if _, err := leader.Propose(c.ctx(), set("x", "1")); !errors.Is(err, ErrNotLeader) {
		t.Fatalf("a proposal to the wedged leader: %v", err)
	}
	select {
	case err := <-leader.fatal:
		if !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), "refused proposals") {
			t.Fatalf("it stopped for another reason: %v", err)
		}
	case <-time.After(within):
		t.Fatal("the wedged leader goes on")
	}
	net.change(func() { net.stuck = false })
	c.stop(leader)
	c.set("x", "2")
}

// After a transfer that failed in time the leader simply goes on.
func TestIssue696_AFailedTransferIsForgotten(t *testing.T) {
	net := newNetwork()
	c := newCluster(t, 3, func(_ int, cfg *Config) { cfg.WrapTransport = net.wire() })
	t.Cleanup(net.heal)
	net.change(func() { net.stuck = true })
	leader := c.leader()
	if err := leader.TransferLeadership(c.ctx(), ""); err == nil {
		t.Fatal("the transfer was reported as done")
	}
	net.isolate(leader.self) // so that the message is refused, not delivered late
	net.change(func() { net.stuck = false })
	net.rejoin(leader.self)
	c.set("x", "1")
	select {
	case err := <-leader.fatal:
		t.Fatal(err)
	default:
	}
}

// A follower whose log diverged and then was overtaken by a snapshot gets on:
// the snapshot replaces its log, it does not stand beside it.
func TestIssue697_DivergedFollowerTakesASnapshot(t *testing.T) {
	for _, test := range []struct {
		name            string
		diverged, agree int
	}{
		{"its log ends beyond the snapshot", 60, 4},
		{"its log ends before the snapshot", 4, 60},
	} {
		for _, store := range []string{LogStoreBolt, LogStoreWAL} {
			t.Run(test.name+" in "+store, func(t *testing.T) {
				net := newNetwork()
				var rule rule
				c := newCluster(t, 3, func(_ int, cfg *Config) {
					cfg.LogStore = store
					cfg.WrapTransport = func(inner Transport) Transport { return rule.wrap(net.wire()(inner)) }
					cfg.EntryCommandsMax = 1
					cfg.EntriesInFlightMax = 256
					cfg.TrailingEntries = 1
				})
				t.Cleanup(net.heal)
				c.set("before", "1")
				old := c.leader()
				before := old.raft().LastIndex()
				net.isolate(old.self)
				diverge(c, old, test.diverged)
				if got := old.raft().LastIndex() - before; got < uint64(test.diverged)/2 {
					t.Fatalf("only %d entries diverged", got)
				}
				testkit.Eventually(t, within, func() bool { return old.reign.Load() == nil }, "the old leader gave up")

				var leader *member
				testkit.Eventually(t, within, func() bool { leader = c.tryLeader(); return leader != nil && leader != old })
				for i := range test.agree {
					c.set(fmt.Sprintf("agreed%d", i), "1")
				}
				c.must(leader.Snapshot(c.ctx()))
				for _, other := range c.others(leader) {
					if other != old {
						c.must(other.Snapshot(c.ctx()))
					}
				}
				// The snapshot finds a follower that is in its leader's term: what refuses or
				// answers it before the library has its say must judge by the log.
				follower := old.raft()
				rule.set(func(_, to raft.ServerID, message any, send func() error) error {
					if i, ok := message.(installation); ok && to == old.self && follower.CurrentTerm() < i.Term {
						return errCut
					}
					return send()
				})
				net.rejoin(old.self)
				c.set("after", "1")
				c.converge("after", "1")
				rule.set(nil)
				if got := old.get("lost0"); got != "" {
					t.Fatalf("an entry that was never committed was applied: %q", got)
				}
				if n := old.Metrics().LogsReplaced; (n > 0) != (test.diverged > test.agree) {
					t.Errorf("its log was replaced %d times", n)
				}
				if n := leader.Status().Metrics.InstallAlarms; n != 0 {
					t.Fatalf("%d snapshots were installed in vain", n)
				}
				c.stop(old)
				c.start(old) // what it has on disk is whole
				c.set("again", "1")
				c.converge("again", "1")
			})
		}
	}
}

// diverge lets an isolated leader append entries that will never be committed.
func diverge(c *cluster, leader *member, n int) {
	ctx, cancel := context.WithCancel(c.ctx())
	defer cancel()
	var wait sync.WaitGroup
	for i := range n {
		wait.Add(1)
		go func() {
			defer wait.Done()
			if _, err := leader.Propose(ctx, set(fmt.Sprintf("lost%d", i), "1")); err == nil {
				c.t.Error("an isolated leader acknowledged a command")
			}
		}()
	}
	wait.Wait()
}

// bareTransport is a transport without a node, and the library's below it.
func bareTransport(t *testing.T) (*transport, *raft.NetworkTransport) {
	cfg := testConfig(t)
	must(t, makeDir(cfg.DataDir))
	id, err := openIdentity(cfg.DataDir, "")
	must(t, err)
	must(t, id.adopt(testCluster))
	layer, err := newStream(&cfg, id, func(string) {})
	must(t, err)
	trans := newTransport(&cfg, layer, newRounds(), newPeers(nil, nil), nil, nil)
	t.Cleanup(func() { trans.Close() })
	return trans, trans.Transport.(*addressed).NetworkTransport
}

// testCluster is the cluster of nodes that never were bootstrapped.
var testCluster = newClusterID(1)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A transfer to a node that nothing reaches fails by itself, after three messages
// that may each take the RPC timeout. That is no hanging one, for which the node
// would stop itself.
func TestATransferMayFailByItself(t *testing.T) {
	cfg := DefaultConfig()
	for _, profile := range []Profile{Default(), Fast()} {
		if least := 3 * profile.RPCTimeout; cfg.TransferRefusalMax <= least {
			t.Errorf("%s: a leader stops itself %v after a transfer, which may take %v to fail", profile.Name, cfg.TransferRefusalMax, least)
		}
	}
}
