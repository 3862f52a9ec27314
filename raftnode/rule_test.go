package raftnode

import (
	"bytes"
	"io"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// rule decides about every message between the nodes of a test.
type rule struct {
	now atomic.Pointer[func(from, to raft.ServerID, message any, send func() error) error]
}

func (r *rule) set(f func(from, to raft.ServerID, message any, send func() error) error) {
	if f == nil {
		r.now.Store(nil)
		return
	}
	r.now.Store(&f)
}

func (r *rule) wrap(inner Transport) Transport { return &ruled{inner, r} }

// ruled is one node's end.
type ruled struct {
	Transport
	rule *rule
}

func (r *ruled) decide(from []byte, to raft.ServerID, message any, send func() error) error {
	if f := r.rule.now.Load(); f != nil {
		return (*f)(raft.ServerID(from), to, message, send)
	}
	return send()
}

func (r *ruled) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	return r.decide(args.ID, id, args, func() error { return r.Transport.AppendEntries(id, target, args, resp) })
}

func (r *ruled) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return r.decide(args.ID, id, args, func() error { return r.Transport.RequestVote(id, target, args, resp) })
}

func (r *ruled) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return r.decide(args.ID, id, args, func() error { return r.Transport.RequestPreVote(id, target, args, resp) })
}

func (r *ruled) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	content, err := io.ReadAll(data)
	if err != nil {
		return err
	}
	return r.decide(args.ID, id, installation{args, content}, func() error {
		return r.Transport.InstallSnapshot(id, target, args, resp, bytes.NewReader(content))
	})
}

// installation is the message that carries a snapshot.
type installation struct {
	*raft.InstallSnapshotRequest
	content []byte
}
