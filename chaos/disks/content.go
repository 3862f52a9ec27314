package disks

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	wal "github.com/hashicorp/raft-wal"
	"go.etcd.io/bbolt"
)

// Content is everything that a node relies on in its data directory, without
// the form in which files hold it: two directories of equal content are the
// same node to its cluster. It shows that a damage was harmless.
type Content struct {
	// Log holds a hash for each entry.
	Log map[uint64]string
	// Stable holds term, vote and whatever else the library keeps.
	Stable map[string]string
	// Snapshot describes the latest one.
	Snapshot string
	// Identity is the node's.
	Identity string
}

// ReadContent reads the content of a stopped node's data directory and changes
// nothing. What cannot be read is an error.
func ReadContent(dir string) (_ *Content, err error) {
	// A truncated file's mapped pages fault on access, a damaged one makes bbolt panic.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("read the content of %s: the store panicked: %v", dir, p)
		}
	}()
	c := &Content{Log: map[uint64]string{}, Stable: map[string]string{}}
	if _, err := os.Stat(filepath.Join(dir, "wal")); err == nil {
		err = c.readWAL(dir)
		return c, errors.Join(err, c.readRest(dir))
	}
	return c, errors.Join(c.readBolt(dir), c.readRest(dir))
}

func (c *Content) readBolt(dir string) error {
	store, err := raftboltdb.New(raftboltdb.Options{
		Path: filepath.Join(dir, "log.db"), BoltOptions: &bbolt.Options{ReadOnly: true, NoFreelistSync: true},
	})
	if err != nil {
		return err
	}
	defer store.Close()
	return c.readStore(store)
}

// readWAL reads a copy: opening a log of raft-wal may write to it.
func (c *Content) readWAL(dir string) error {
	copied, err := os.MkdirTemp("", "quorate-content-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(copied)
	if err := CopyDir(copied, filepath.Join(dir, "wal")); err != nil {
		return err
	}
	store, err := wal.Open(copied)
	if err != nil {
		return err
	}
	defer store.Close()
	return c.readStore(store)
}

// readStore reads every entry, without the time of its append, which nobody
// relies on, and every value.
func (c *Content) readStore(store interface {
	raft.LogStore
	Get([]byte) ([]byte, error)
}) error {
	first, err := store.FirstIndex()
	if err != nil {
		return err
	}
	last, err := store.LastIndex()
	if err != nil {
		return err
	}
	for index := first; last > 0 && index <= last; index++ {
		var l raft.Log
		if err := store.GetLog(index, &l); err != nil {
			return fmt.Errorf("entry %d: %w", index, err)
		}
		c.Log[index] = hash(fmt.Appendf(l.Data, "|%d|%d|%d|%x", l.Index, l.Term, l.Type, l.Extensions))
	}
	for _, key := range stableKeys {
		value, err := store.Get([]byte(key))
		if err != nil && err.Error() != "not found" { // raft-wal returns nothing instead
			return err
		}
		if len(value) > 0 {
			c.Stable[key] = hex.EncodeToString(value)
		}
	}
	return nil
}

// readRest reads snapshot and identity, as the fields that the node reads.
func (c *Content) readRest(dir string) error {
	var identity struct {
		NodeID    string `json:"node_id"`
		ClusterID string `json:"cluster_id"`
		Founding  bool   `json:"founding"`
		Checksum  string `json:"checksum"`
	}
	if err := readJSON(filepath.Join(dir, "identity.json"), &identity); err != nil {
		return err
	}
	c.Identity = fmt.Sprintf("%+v", identity)
	latest, err := latestSnapshot(dir)
	if err != nil || latest == "" {
		return err
	}
	var meta struct {
		raft.SnapshotMeta
		CRC []byte
	}
	if err := readJSON(filepath.Join(dir, "snapshots", latest, "meta.json"), &meta); err != nil {
		return err
	}
	c.Snapshot = fmt.Sprintf("%+v", meta)
	for _, name := range []string{"state.bin", "content.bin"} {
		content, err := os.ReadFile(filepath.Join(dir, "snapshots", latest, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		c.Snapshot += " " + name + " " + hash(content)
	}
	return nil
}

func readJSON(path string, into any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

func hash(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:12])
}

// Difference says in what another content differs, "" when it is equal.
func (c *Content) Difference(other *Content) string {
	var words []string
	lost, changed, added := 0, 0, 0
	for index, sum := range c.Log {
		switch now, ok := other.Log[index]; {
		case !ok:
			lost++
		case now != sum:
			changed++
		}
	}
	for index := range other.Log {
		if _, ok := c.Log[index]; !ok {
			added++
		}
	}
	if lost+changed+added > 0 {
		words = append(words, fmt.Sprintf("entries: %d lost, %d changed, %d added", lost, changed, added))
	}
	for key, value := range c.Stable {
		if other.Stable[key] != value {
			words = append(words, fmt.Sprintf("%s was %s, is %s", key, value, other.Stable[key]))
		}
	}
	if len(c.Stable) != len(other.Stable) {
		words = append(words, fmt.Sprintf("%d stable values, not %d", len(other.Stable), len(c.Stable)))
	}
	if c.Snapshot != other.Snapshot {
		words = append(words, "another snapshot")
	}
	if c.Identity != other.Identity {
		words = append(words, "another identity")
	}
	slices.Sort(words)
	return strings.Join(words, "; ")
}
