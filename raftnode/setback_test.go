package raftnode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"

	"github.com/quorate/quorate/internal/testkit"
)

// A directory in which not one byte is damaged, and which is old: the leader
// that had its acknowledgements does not send it what it lacks, and it stops
// before it can give a vote that it must not give.
func TestSetBack_AnOlderCopyOfADataDirectory(t *testing.T) {
	for _, store := range []string{LogStoreBolt, LogStoreWAL} {
		t.Run(store, func(t *testing.T) {
			c := newCluster(t, 3, func(_ int, cfg *Config) { cfg.LogStore = store; steady(cfg) })
			leader := c.leader()
			follower := c.others(leader)[0]
			c.set("early", "1")
			c.converge("early", "1")
			c.stop(follower)
			old := filepath.Join(t.TempDir(), "old")
			must(t, os.CopyFS(old, os.DirFS(follower.cfg.DataDir)))
			c.start(follower)
			c.set("late", "1")
			c.converge("late", "1")
			if now := c.leader(); now != leader {
				t.Fatalf("the leader has changed, and a later one cannot know")
			}
			acknowledged := follower.raft().LastIndex()
			c.stop(follower)
			must(t, os.RemoveAll(follower.cfg.DataDir))
			must(t, os.CopyFS(follower.cfg.DataDir, os.DirFS(old)))

			c.start(follower)
			err := follower.stopped(t)
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("it stopped for %v", err)
			}
			for _, say := range []string{follower.cfg.DataDir, "older copy", fmt.Sprint("entry ", acknowledged), "quorate cluster remove"} {
				if !strings.Contains(err.Error(), say) {
					t.Errorf("it does not say %q: %v", say, err)
				}
			}
			testkit.Eventually(t, within, func() bool { return leader.Metrics().NodesSetBack > 0 }, "the leader's alarm")
			if follower.get("late") != "" {
				t.Error("it was sent what it lacks")
			}
			c.stop(follower)
			c.set("after", "1") // the others go on
		})
	}
}

// The mark alone proves nothing: a node that has what it is said to lack goes on.
func TestSetBack_IsHeededOnlyWhereItIsSo(t *testing.T) {
	c := newCluster(t, 1, nil)
	c.set("x", "1")
	m := c.members[0]
	last := m.raft().LastIndex()
	mark := &raft.AppendEntriesRequest{PrevLogEntry: last, Entries: []*raft.Log{{Index: last + 1, Extensions: []byte(setBackMark)}}}
	if m.heedSetBack(mark) {
		t.Error("it stopped although it has that entry")
	}
	if m.heedSetBack(&raft.AppendEntriesRequest{PrevLogEntry: last + 9, Entries: []*raft.Log{{Index: last + 10}}}) {
		t.Error("it stopped for an ordinary entry that is ahead")
	}
	if cause := m.fail.cause(); cause != nil {
		t.Error(cause)
	}
}

// Term and vote alone set back: the log beside them is of a later term.
func TestSetBack_TermAndVote(t *testing.T) {
	for store, files := range storeFiles {
		c, m := damaged(t, store)
		c.stop(m)
		writeTerm(t, m, 1)
		refuses(t, c, m, files[0][:3])
	}
}

// writeTerm writes the term of a stopped node.
func writeTerm(t *testing.T, m *member, term uint64) {
	t.Helper()
	at := stableAt[m.Node.cfg.LogStore]
	db, err := bbolt.Open(filepath.Join(m.cfg.DataDir, at.file), 0o600, nil)
	must(t, err)
	must(t, db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(at.bucket)).Put([]byte("CurrentTerm"), seal("CurrentTerm", binary.BigEndian.AppendUint64(nil, term)))
	}))
	must(t, db.Close())
}
