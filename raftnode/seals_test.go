package raftnode

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// A value on the disk is of its key, every bit of it.
func TestStable_AValueIsOfItsKey(t *testing.T) {
	for _, key := range []string{keyTerm, keyVote} {
		sealed := seal(key, []byte("12345678node"))
		if value, err := unseal(key, sealed); err != nil || string(value) != "12345678node" {
			t.Fatalf("%q, %v", value, err)
		}
		for _, other := range []string{keyTerm, keyVote, ""} {
			if _, err := unseal(other, sealed); other != key && err == nil {
				t.Errorf("what stood under %s is taken for %q", key, other)
			}
		}
		for bit := range 8 * len(sealed) {
			sealed[bit/8] ^= 1 << (bit % 8)
			if _, err := unseal(key, sealed); err == nil {
				t.Errorf("bit %d of %s may flip", bit, key)
			}
			sealed[bit/8] ^= 1 << (bit % 8)
		}
		if _, err := unseal(key, sealed[:len(sealed)-1]); err == nil {
			t.Error("a byte may be missing")
		}
	}
}

// No bit of who the node is may flip unseen, and nothing that a node leaves behind is
// given to a new one.
func TestIdentity_IsKeptOrNoticed(t *testing.T) {
	id, err := openIdentity(t.TempDir(), "")
	must(t, err)
	must(t, id.found(testCluster))
	content, err := os.ReadFile(id.path)
	must(t, err)
	for i := range content {
		for bit := range 8 {
			flipped := append([]byte(nil), content...)
			flipped[i] ^= 1 << bit
			var got identity
			if err := got.parse(flipped); err == nil && (got.now != id.now || got.founding != id.founding) {
				t.Errorf("%s is taken for %+v", flipped, got.now)
			}
		}
	}
	for _, left := range []string{"log.db", "wal", "snapshots", highwaterFile} {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, left), nil, 0o600))
		if id, err := openIdentity(dir, ""); err == nil {
			t.Errorf("beside %s a new node %s was made", left, id.now.NodeID)
		}
	}
}

// A vote that was given is remembered as it was given: another one of the same term in its
// place, or none, or a term from before, is noticed, by the mark, and the term without it.
func TestStable_AnotherVoteIsNoticed(t *testing.T) {
	for _, store := range []string{LogStoreBolt, LogStoreWAL} {
		c := newCluster(t, 1, func(_ int, cfg *Config) { cfg.LogStore = store })
		m := c.members[0]
		c.set("x", "1")
		term := m.raft().CurrentTerm()
		c.stop(m)
		path := filepath.Join(m.cfg.DataDir, stableAt[store].file)
		whole, err := os.ReadFile(path)
		must(t, err)
		for name, change := range map[string]func(b *bbolt.Bucket) error{
			"another candidate": func(b *bbolt.Bucket) error {
				return b.Put([]byte(keyVote), seal(keyVote, append(uint64Bytes(term), "another"...)))
			},
			"an earlier vote": func(b *bbolt.Bucket) error {
				return b.Put([]byte(keyVote), seal(keyVote, append(uint64Bytes(term-1), m.cfg.Address...)))
			},
			"no vote": func(b *bbolt.Bucket) error { return b.Delete([]byte(keyVote)) },
			"no term": func(b *bbolt.Bucket) error { return b.Delete([]byte(keyTerm)) },
		} {
			t.Run(name+" in "+store, func(t *testing.T) {
				db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
				must(t, err)
				must(t, db.Update(func(tx *bbolt.Tx) error { return change(tx.Bucket([]byte(stableAt[store].bucket))) }))
				must(t, db.Close())
				refuses(t, c, m, stableAt[store].file[:3])
				must(t, os.WriteFile(path, whole, 0o600))
			})
		}
		if t.Failed() {
			return // the node has started, and has its files
		}
		high := filepath.Join(m.cfg.DataDir, highwaterFile)
		marked, err := os.ReadFile(high)
		must(t, err)
		must(t, os.Remove(high)) // as in a directory of an older version
		writeTerm(t, m, term-1)
		refuses(t, c, m, stableAt[store].file[:3])
		must(t, os.WriteFile(path, whole, 0o600))
		must(t, os.WriteFile(high, marked, 0o600))
		c.start(m)
		c.set("x", "2")
	}
}

func uint64Bytes(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }
