package main

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/internal/failpoint"
	"github.com/quorate/quorate/internal/testkit"
	"github.com/quorate/quorate/raftnode"
)

// listening counts what is sent to another node.
type listening struct {
	raftnode.Transport
	mu      sync.Mutex
	appends map[uint64]int // by term
	votes   int
}

func (l *listening) AppendEntries(_ raft.ServerID, _ raft.ServerAddress, args *raft.AppendEntriesRequest, _ *raft.AppendEntriesResponse) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.appends[args.Term] += len(args.Entries)
	return nil
}

func (l *listening) RequestVote(raft.ServerID, raft.ServerAddress, *raft.RequestVoteRequest, *raft.RequestVoteResponse) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.votes++
	return nil
}

func (l *listening) counts() (appends, votes int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.appends[7], l.votes
}

// A tenth of the messages, and every vote, comes twice while the failpoint's
// file is there; late ones with what they said then.
func TestEchoes(t *testing.T) {
	dir := t.TempDir()
	on, hits := filepath.Join(dir, "on"), filepath.Join(dir, "hits")
	if err := failpoint.Arm("raft-sent=error,when=" + on + ",hits=" + hits); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = failpoint.Arm("") })
	inner := &listening{appends: map[uint64]int{}}
	var cfg raftnode.Config
	injectEchoes(&cfg)
	wire := cfg.WrapTransport(inner)
	send := func(n int) {
		request := &raft.AppendEntriesRequest{}
		for range n {
			request.Term, request.Entries = 7, append(request.Entries[:0], &raft.Log{})
			if err := wire.AppendEntries("", "", request, nil); err != nil {
				t.Fatal(err)
			}
			request.Term = 8 // the library may use it again
		}
	}
	send(100)
	if appends, _ := inner.counts(); appends != 100 {
		t.Errorf("%d messages were sent while nothing was asked for, not 100", appends)
	}
	if err := os.WriteFile(on, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	send(200)
	if err := wire.RequestVote("", "", &raft.RequestVoteRequest{}, nil); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 10*time.Second, func() bool {
		appends, votes := inner.counts()
		return appends == 320 && votes == 2
	}, "20 of 200 messages, and the vote, to come again")
	text, err := os.ReadFile(hits)
	if err != nil || strings.Count(string(text), "\n") != 21 {
		t.Errorf("hits %q, %v", text, err)
	}
}
