package raftnode

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// The library stops the goroutines that send a leader's log only after it has
// ceased to lead, and they look for that between messages alone. Until then, and
// for seconds where one waits out its backoff, they read the log as it now is and
// send it under the term of old. But a deposed leader's log is its successor's:
//
//   - A follower that has not heard of the successor takes entries, or a snapshot,
//     of a term that it is not in. It would be refused by its own disk at the next
//     start (verifyTerm), and could be told that it was set back.
//   - Worse, an entry may be read before its successor's took its place and the
//     next one after. The follower then has an entry of the successor behind ones
//     that were never committed, a later leader takes all before it for equal, and
//     they are applied: TestDeposed shows it.
//
// So what is to be sent is looked at once more after it was read. The library
// takes a later term before it lets anybody else change its log: what was read
// while the term has not passed is this leadership's own. What arrives late after
// that is what any message may be.

// errDeposed keeps the library from sending a message. It finds out by itself why.
var errDeposed = errors.New("not sent: this node does not lead in that term any more")

// leadsIn refuses what was read for a term that has passed.
func (t *transport) leadsIn(term uint64) error {
	if t.term == nil {
		return nil
	}
	if now := t.term(); now != term {
		t.deposed.Add(1)
		return fmt.Errorf("%w: it was term %d, and now is %d", errDeposed, term, now)
	}
	return nil
}

// currentTerm is the library's. While an instance starts it is unknown, or that of
// the one before, and what is refused for it is sent again a moment later.
func (n *Node) currentTerm() uint64 {
	library := n.raft()
	if library == nil {
		return 0
	}
	return library.CurrentTerm()
}

// boundCommit keeps a follower from committing what its leader has not compared.
// The library commits up to the leader's index or the end of its own log. The
// message says that the logs are equal up to its last entry, and no further: what
// the follower has behind that may be an older leader's (Raft, section 5.3: "the
// index of last new entry"). A new leader's first message is read in steps, and by
// the last one what it began with may be long committed elsewhere.
func boundCommit(request *raft.AppendEntriesRequest) {
	compared := request.PrevLogEntry + uint64(len(request.Entries))
	request.LeaderCommitIndex = min(request.LeaderCommitIndex, compared)
}
