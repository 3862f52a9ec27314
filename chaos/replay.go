package chaos

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	wal "github.com/hashicorp/raft-wal"
	"go.etcd.io/bbolt"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/cluster"
)

// Replay is what the logs of the stopped nodes say.
type Replay struct {
	// Logs are the nodes' logs, n1's first.
	Logs []NodeLog
	// Entries are the merged log in order, each once.
	Entries []Entry
	// Compared is the last index up to which all logs had to be equal.
	Compared uint64
	// Whole says that the merged log begins at entry 1, has no gap, and that no
	// node's log holds a client's command after it: what is not in it never was.
	Whole bool
	// FromStart says that it begins at entry 1 and has no gap: a state can be
	// built from it.
	FromStart bool
	// Findings are differences between logs and damage in them.
	Findings []Finding
}

// NodeLog says which entries a node's log holds.
type NodeLog struct {
	Node        string
	First, Last uint64
	// CaughtUp says that the node, while it ran, said to hold all that was
	// committed: then its log has it, or the node lost it.
	CaughtUp bool
}

// Entry is one entry of the merged log.
type Entry struct {
	Index, Term uint64
	// Batch is nil for the entries of Raft's own: a new leader's, configurations.
	Batch *logpb.Batch
	// Raw is the entry as the state machine gets it; empty where Batch is nil.
	Raw []byte
}

// ReplaySummary is what the report says of it.
type ReplaySummary struct {
	Entries  int    `json:"entries"`
	Commands int    `json:"commands"`
	Compared uint64 `json:"compared_to_index"`
	Digest   string `json:"digest,omitempty"`
	Whole    bool   `json:"whole"`
}

// replayLogs reads the logs of stopped nodes and compares them naively: up to
// the index that was committed when the run settled, the entry at an index is
// the same on every node that holds it. Beyond, a node may hold what never was
// committed.
// A node that has no digest did not catch up to it, which is a finding of its
// own: its log may end before.
func replayLogs(nodes []*cluster.Node, committed uint64, digests map[string]string) (*Replay, error) {
	r := &Replay{Compared: committed}
	var logs []raft.LogStore
	for _, n := range nodes {
		store, closeStore, err := openLog(n.DataDir)
		if err != nil {
			return nil, fmt.Errorf("read the log of %s: %w", n.Name, err)
		}
		defer func() { _ = closeStore() }()
		first, err := store.FirstIndex()
		if err != nil {
			return nil, fmt.Errorf("read the log of %s: %w", n.Name, err)
		}
		last, err := store.LastIndex()
		if err != nil {
			return nil, fmt.Errorf("read the log of %s: %w", n.Name, err)
		}
		logs = append(logs, store)
		_, caughtUp := digests[n.Name]
		r.Logs = append(r.Logs, NodeLog{Node: n.Name, First: first, Last: last, CaughtUp: caughtUp})
	}
	return r, r.merge(logs)
}

// merge walks all logs side by side.
func (r *Replay) merge(logs []raft.LogStore) error {
	first, last := uint64(0), uint64(0)
	for _, l := range r.Logs {
		if l.Last > 0 && (first == 0 || l.First < first) {
			first = l.First
		}
		last = max(last, l.Last)
		if l.CaughtUp && l.Last < r.Compared {
			r.found("S6", "the log of %s ends at %d, though it said to hold all that was committed, %d", l.Node, l.Last, r.Compared)
		}
	}
	r.FromStart, r.Whole = first == 1, true
	for index := first; index <= last; index++ {
		all, err := r.readAll(logs, index)
		if err != nil {
			return err
		}
		switch {
		case index > r.Compared:
			r.afterTheEnd(all)
		case len(all) == 0:
			r.FromStart = false
		default:
			r.compare(index, all)
		}
	}
	r.Whole = r.Whole && r.FromStart
	return nil
}

// copied is an entry as one node's log holds it.
type copied struct {
	node string
	raft.Log
}

// readAll reads the entry at an index from every log that reaches it.
func (r *Replay) readAll(logs []raft.LogStore, index uint64) ([]copied, error) {
	var all []copied
	for i, store := range logs {
		if index < r.Logs[i].First || index > r.Logs[i].Last {
			continue
		}
		c := copied{node: r.Logs[i].Node}
		if err := store.GetLog(index, &c.Log); err != nil {
			return nil, fmt.Errorf("read entry %d of %s: %w", index, c.node, err)
		}
		all = append(all, c)
	}
	return all, nil
}

// compare keeps one of the copies, which must be the same.
func (r *Replay) compare(index uint64, all []copied) {
	kept := all[0]
	for _, c := range all[1:] {
		if c.Term != kept.Term || c.Type != kept.Type || !bytes.Equal(c.Data, kept.Data) {
			r.found("S1", "entry %d differs: %s has term %d, %d bytes; %s has term %d, %d bytes",
				index, kept.node, kept.Term, len(kept.Data), c.node, c.Term, len(c.Data))
		}
	}
	e := Entry{Index: index, Term: kept.Term}
	if kept.Type == raft.LogCommand {
		batch, err := fsm.DecodeEntry(kept.Data)
		if err != nil {
			r.found("S18", "entry %d of %s: %v", index, kept.node, err)
			return
		}
		e.Batch, e.Raw = batch, kept.Data
	}
	r.Entries = append(r.Entries, e)
}

// afterTheEnd looks at entries behind what was committed at the end: they may
// differ, as nobody knows which will stand. Nothing but a leader's housekeeping
// is expected there.
func (r *Replay) afterTheEnd(all []copied) {
	for _, c := range all {
		if c.Type != raft.LogCommand {
			continue
		}
		batch, err := fsm.DecodeEntry(c.Data)
		if err != nil {
			r.Whole = false
			continue
		}
		for _, packed := range batch.GetCommands() {
			for command := range fsm.Unpack(packed, fsm.Result{}) {
				if known := commandOf(command); known.GID != "" {
					r.Whole = false
				}
			}
		}
	}
}

func (r *Replay) found(promise, format string, args ...any) {
	const most = 20 // a log that differs from somewhere on differs everywhere
	if len(r.Findings) < most {
		r.Findings = append(r.Findings, Finding{Promise: promise, Text: fmt.Sprintf(format, args...)})
	}
}

// summary counts it, and compares the state that the log leads to with what the
// nodes said about theirs.
func (r *Replay) summary(digests map[string]string, at uint64) *ReplaySummary {
	s := &ReplaySummary{Entries: len(r.Entries), Compared: r.Compared, Whole: r.FromStart}
	for _, e := range r.Entries {
		s.Commands += len(e.Batch.GetCommands())
	}
	if !r.FromStart {
		return s
	}
	state := fsm.New()
	for _, e := range r.Entries {
		if e.Batch == nil || e.Index > at {
			continue
		}
		if _, err := state.ApplyEntry(e.Index, e.Term, e.Raw); err != nil {
			r.found("S17", "entry %d cannot be applied again: %v", e.Index, err)
			return s
		}
	}
	s.Digest = state.Digest().String()
	for node, digest := range digests {
		if digest != s.Digest {
			r.found("S17", "%s told digest %s at index %d; its log, applied anew, gives %s", node, digest, at, s.Digest)
		}
	}
	return s
}

// openLog opens a stopped node's log to read it.
func openLog(dataDir string) (raft.LogStore, func() error, error) {
	path, err := findLog(dataDir)
	if err != nil {
		return nil, nil, err
	}
	if filepath.Base(path) == "wal" {
		store, err := wal.Open(path)
		if err != nil {
			return nil, nil, err
		}
		return store, store.Close, nil
	}
	store, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: &bbolt.Options{ReadOnly: true, NoFreelistSync: true}})
	if err != nil {
		return nil, nil, err
	}
	return store, store.Close, nil
}

// findLog finds the log store below a data directory.
func findLog(dataDir string) (string, error) {
	for _, path := range []string{"log.db", "wal", "raft/log.db", "raft/wal"} {
		path = filepath.Join(dataDir, path)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", errors.New(dataDir + " holds no log")
}
