package raftnode

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// A data directory that was set back to an older copy of itself, a machine's
// snapshot for one, holds no damaged byte and is worse than an empty one: the
// node has forgotten what it acknowledged and still has its vote, so that a
// quorum of which it is one may not have what an earlier quorum had. Raft does
// not allow for that, and nothing on the node's own disk can show it whole. Two
// things can:
//
//   - A leader knows how far each node has come in its term. A node that now
//     ends before that has been set back: it is told so instead of being sent
//     what it lacks, and stops. A leader of a later term does not know any more.
//   - A node takes a term before it takes an entry or a snapshot of it, so a
//     term on disk that is behind those was set back alone (verifyTerm).

// setBackMark opens the message by which a leader tells a node that it was set
// back. It stands in an entry that no node could take, as a node that does not
// know the mark sees: it goes on from entries that the node does not have.
const setBackMark = "QRTBACK1"

// tellSetBack tells a node that its log ends before what it has acknowledged.
// The error keeps the library from sending it what it lacks.
func (t *transport) tellSetBack(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, acknowledged, last uint64) error {
	err := fmt.Errorf("node %s had acknowledged entry %d of this term, and its log ends at %d now: its data directory was set back to an older copy", id, acknowledged, last)
	t.peers.setBack(id, err)
	message := &raft.AppendEntriesRequest{
		RPCHeader: args.RPCHeader, Term: args.Term, PrevLogEntry: acknowledged, PrevLogTerm: args.Term,
		Leader:  args.Leader, //nolint:staticcheck // the library still sends it
		Entries: []*raft.Log{{Index: acknowledged + 1, Term: args.Term, Type: raft.LogNoop, Extensions: []byte(setBackMark)}},
	}
	return errors.Join(err, t.Transport.AppendEntries(id, target, message, new(raft.AppendEntriesResponse)))
}

// heedSetBack stops this node when a leader says that it was set back. The
// message is answered by the end of the process.
func (n *Node) heedSetBack(request *raft.AppendEntriesRequest) bool {
	if len(request.Entries) != 1 || string(request.Entries[0].Extensions) != setBackMark {
		return false
	}
	end, err := n.stores.end()
	if err != nil || end.index >= request.PrevLogEntry {
		return false // it is not so: the library refuses the entry, or has it
	}
	n.fail.fail(withRemedy(fmt.Errorf("%w: the data directory %s was set back to an older copy: this node had acknowledged entry %d in term %d, and its log ends at %d",
		ErrDamaged, n.cfg.DataDir, request.PrevLogEntry, request.Term, end.index)))
	return true
}

// verifyTerm compares the term on disk with the log's and the snapshot's last
// entries, whose terms cannot be later.
func (s *stores) verifyTerm() error {
	term, err := s.stable.GetUint64([]byte(keyTerm))
	if err != nil && !errors.Is(err, errNotFound) {
		return err
	}
	end, err := s.end()
	if err != nil {
		return err
	}
	if latest := max(end.term, s.snapshots.latest.Load().term); term < latest {
		return withRemedy(fmt.Errorf("%w: the term in %s is %d, and it holds entries or a snapshot of term %d: term and vote were set back to an older copy",
			ErrDamaged, s.path, term, latest))
	}
	return nil
}
