package raftnode

import (
	"errors"
	"io"
	"testing"

	"github.com/hashicorp/raft"
)

// canned is a wire with one answer for all.
type canned struct {
	Transport
	term    uint64
	success bool
	last    uint64
	err     error
}

func (c *canned) AppendEntries(_ raft.ServerID, _ raft.ServerAddress, _ *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	resp.Term, resp.Success, resp.LastLog = c.term, c.success, c.last
	return c.err
}

func (c *canned) InstallSnapshot(_ raft.ServerID, _ raft.ServerAddress, _ *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, _ io.Reader) error {
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
