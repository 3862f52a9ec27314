package raftnode

import (
	"os"
	"path/filepath"
	"testing"
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
