package raftnode

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// canned is a wire with one answer for all.
type canned struct {
	Transport
	term    uint64
	success bool
	last    uint64
	err     error
	sent    int // entries, or snapshots
}

func (c *canned) AppendEntries(_ raft.ServerID, _ raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	c.sent += len(args.Entries)
	resp.Term, resp.Success, resp.LastLog = c.term, c.success, c.last
	return c.err
}

func (c *canned) InstallSnapshot(_ raft.ServerID, _ raft.ServerAddress, _ *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, _ io.Reader) error {
	c.sent++
	resp.Term, resp.Success = c.term, c.success
	return c.err
}

// What each kind of answer says of a node: that it is in our term, how far it has come,
// and that our own disk must have as much before it counts.
func TestTransport_WhatAnAnswerSays(t *testing.T) {
	const term = 5
	for _, test := range []struct {
		name      string
		entries   int
		answer    canned
		confirmed bool
		match     uint64
		onDisk    uint64 // what the own disk is asked for
	}{
		{"entries taken", 3, canned{term: term, success: true, last: 13}, true, 13, 13},
		{"a heartbeat", 0, canned{term: term, success: true, last: 10}, true, 10, 0},
		{"entries refused", 3, canned{term: term, last: 4}, true, 0, 0},
		{"a later term", 3, canned{term: term + 1, last: 13}, false, 0, 0},
		{"an error", 3, canned{term: term, success: true, err: errCut}, false, 0, 0},
	} {
		var asked uint64
		tr := &transport{Transport: &test.answer, rounds: newRounds(), peers: newPeers(nil, nil), term: func() uint64 { return term }}
		tr.onDisk = func(index uint64) error { asked = index; return nil }
		round := tr.rounds.begin()
		args := &raft.AppendEntriesRequest{Term: term, PrevLogEntry: 10, PrevLogTerm: 4}
		for i := range test.entries {
			args.Entries = append(args.Entries, &raft.Log{Index: uint64(11 + i)})
		}
		if err := tr.AppendEntries("a", "a:1", args, new(raft.AppendEntriesResponse)); !errors.Is(err, test.answer.err) {
			t.Errorf("%s: %v", test.name, err)
		}
		voters := []raft.Server{{ID: "a"}, {ID: "me"}}
		if ok, _ := tr.rounds.confirmed(voters, "me", term, round); ok != test.confirmed {
			t.Errorf("%s: it confirms that we lead: %v", test.name, ok)
		}
		peer, heard := tr.peers.get("a", term)
		if heard != test.confirmed || peer.match != test.match || asked != test.onDisk {
			t.Errorf("%s: heard %v, up to %d, and the own disk was asked for %d", test.name, heard, peer.match, asked)
		}
	}
	for _, test := range []struct {
		name   string
		answer canned
		match  uint64
	}{
		{"a snapshot taken", canned{term: term, success: true}, 30},
		{"a snapshot refused", canned{term: term}, 0},
		{"a snapshot, in a later term", canned{term: term + 1, success: true}, 0},
		{"a snapshot, and an error", canned{term: term, success: true, err: errCut}, 0},
	} {
		tr := &transport{Transport: &test.answer, rounds: newRounds(), peers: newPeers(nil, nil), term: func() uint64 { return term }}
		err := tr.InstallSnapshot("a", "a:1", &raft.InstallSnapshotRequest{Term: term, LastLogIndex: 30}, new(raft.InstallSnapshotResponse), nil)
		peer, heard := tr.peers.get("a", term)
		if !errors.Is(err, test.answer.err) || heard != (test.match > 0) || peer.match != test.match || peer.installs != int(test.match/30) {
			t.Errorf("%s: %v, heard %v, %+v", test.name, err, heard, peer)
		}
	}
}

// A message is bounded by its bytes: what did not go with it does not count, and comes with
// the next one. Nothing goes out in the name of a term that has passed.
func TestTransport_WhatGoesOut(t *testing.T) {
	now, asked := uint64(5), uint64(0)
	to := &canned{term: 5, success: true}
	tr := &transport{Transport: to, rounds: newRounds(), peers: newPeers(nil, nil), term: func() uint64 { return now }}
	tr.onDisk = func(index uint64) error { asked = index; return nil }
	args := func() *raft.AppendEntriesRequest {
		a := &raft.AppendEntriesRequest{Term: 5}
		for i := range 5 {
			a.Entries = append(a.Entries, &raft.Log{Index: uint64(1 + i), Data: make([]byte, messageBytesMax/2)})
		}
		return a
	}
	must(t, tr.AppendEntries("a", "a:1", args(), new(raft.AppendEntriesResponse)))
	if p, _ := tr.peers.get("a", 5); to.sent != 2 || p.match != 2 || asked != 2 {
		t.Errorf("%d entries were sent, the node is said to have %d, and the own disk was asked for %d", to.sent, p.match, asked)
	}
	now, to.sent = 6, 0
	if err := tr.AppendEntries("a", "a:1", args(), new(raft.AppendEntriesResponse)); !errors.Is(err, errDeposed) || to.sent != 0 {
		t.Errorf("entries of a term that has passed: %v, %d sent", err, to.sent)
	}
	if err := tr.InstallSnapshot("a", "a:1", &raft.InstallSnapshotRequest{Term: 5}, new(raft.InstallSnapshotResponse), nil); !errors.Is(err, errDeposed) || to.sent != 0 {
		t.Errorf("a snapshot of a term that has passed: %v, %d sent", err, to.sent)
	}
	if deposed := tr.deposed.Load(); deposed != 2 {
		t.Errorf("%d messages were held back", deposed)
	}
}

// A node that takes what it is sent and says nothing is waited for no longer than an
// exchange may take.
func TestTransport_NobodyAnswers(t *testing.T) {
	receiver, _ := bareTransport(t) // nobody takes what it has received
	cfg := testConfig(t)
	must(t, makeDir(cfg.DataDir))
	id, err := openIdentity(cfg.DataDir, "")
	must(t, err)
	must(t, id.adopt(testCluster))
	cfg.Profile.RPCTimeout, cfg.HandshakeMax = 100*time.Millisecond, time.Hour
	layer, err := newStream(&cfg, id, func(string) {})
	must(t, err)
	sender := newTransport(&cfg, layer, newRounds(), newPeers(nil, nil), nil, nil)
	defer sender.Close()
	to, _ := receiver.layer.id.get()
	ended := make(chan error, 1)
	go func() {
		ended <- sender.AppendEntries(raft.ServerID(to.NodeID), receiver.LocalAddr(), &raft.AppendEntriesRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}, Term: 1}, new(raft.AppendEntriesResponse))
	}()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("it was answered")
		}
	case <-time.After(within):
		t.Fatal("it is waited for")
	}
}

// A node that was set back is told so, and the library is told nothing: it would go on to
// send what the node lacks.
func TestTransport_ASetBackIsAnError(t *testing.T) {
	to, lost := &canned{term: 5, success: true, last: 12}, 0
	tr := &transport{Transport: to, rounds: newRounds(), peers: newPeers(nil, func(error) { lost++ }), term: func() uint64 { return 5 }}
	args := &raft.AppendEntriesRequest{Term: 5, PrevLogEntry: 11, Entries: []*raft.Log{{Index: 12}}}
	must(t, tr.AppendEntries("a", "a:1", args, new(raft.AppendEntriesResponse)))
	must(t, tr.AppendEntries("a", "a:1", args, new(raft.AppendEntriesResponse))) // what it has it may hear again
	to.last = 11
	if err := tr.AppendEntries("a", "a:1", args, new(raft.AppendEntriesResponse)); err == nil || lost != 1 || to.sent != 4 {
		t.Errorf("%v, %d alarms, %d entries were sent", err, lost, to.sent)
	}
}
