package raftnode

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/quorate/quorate/fsm"
)

// Identity says which node of which cluster a data directory belongs to.
type Identity struct {
	// NodeID is a UUID made with the directory. A wiped disk is a new node.
	NodeID string
	// ClusterID is zero until the node has founded or joined a cluster.
	ClusterID fsm.GID
}

// identityFile is an Identity on disk.
type identityFile struct {
	NodeID    string `json:"node_id"`
	ClusterID string `json:"cluster_id,omitempty"`
	// Founding is set from bootstrap until Found has been applied.
	Founding bool `json:"founding,omitempty"`
	// Checksum covers the rest. A flipped digit would make another node of this
	// one. Files of older versions have none.
	Checksum string `json:"checksum,omitempty"`
}

func (f identityFile) checksum() string {
	return fmt.Sprintf("%08x", crc32.Checksum(fmt.Appendf(nil, "%s %s %t", f.NodeID, f.ClusterID, f.Founding), castagnoli))
}

// identity is the Identity of an open data directory; changes are durable when
// their call returns.
type identity struct {
	path string

	mu       sync.Mutex
	now      Identity
	founding bool
}

// openIdentity reads the identity of a data directory, or makes one in an empty
// directory.
func openIdentity(dir, wantNode string) (*identity, error) {
	id := &identity{path: filepath.Join(dir, "identity.json")}
	content, err := os.ReadFile(id.path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		err = id.create(dir, wantNode)
	case err == nil:
		err = id.parse(content)
	}
	if err != nil {
		return nil, err
	}
	if wantNode != "" && wantNode != id.now.NodeID {
		return nil, fmt.Errorf("open %s: %w: it holds node %s, this is to be node %s; name another directory", dir, ErrOtherNode, id.now.NodeID, wantNode)
	}
	return id, nil
}

// create makes a new node. A directory that holds a log but no identity is not
// touched: a new id beside an old log would vote twice.
func (id *identity) create(dir, wantNode string) error {
	for _, trace := range []string{"log.db", "wal", "snapshots", highwaterFile} {
		if _, err := os.Stat(filepath.Join(dir, trace)); err == nil {
			return fmt.Errorf("open %s: %w: it holds %s but no identity.json; restore that file, or remove the directory and join again", dir, ErrDamaged, trace)
		}
	}
	id.now.NodeID = wantNode
	if wantNode == "" {
		id.now.NodeID = newUUID()
	}
	if _, err := parseUUID(id.now.NodeID); err != nil {
		return err
	}
	return id.write(id.now, false)
}

func (id *identity) parse(content []byte) error {
	var file identityFile
	if err := json.Unmarshal(content, &file); err != nil {
		return fmt.Errorf("read %s: %w: %w; restore the file, or remove the data directory and join again", id.path, ErrDamaged, err)
	}
	if file.Checksum != "" && file.Checksum != file.checksum() {
		return fmt.Errorf("read %s: %w: its checksum does not match; restore the file, or remove the data directory and join again", id.path, ErrDamaged)
	}
	if _, err := parseUUID(file.NodeID); err != nil {
		return fmt.Errorf("read %s: %w: %w; restore the file, or remove the data directory and join again", id.path, ErrDamaged, err)
	}
	id.now.NodeID, id.founding = file.NodeID, file.Founding
	if file.ClusterID == "" {
		return nil
	}
	cluster, err := fsm.ParseGID(file.ClusterID)
	if err != nil {
		return fmt.Errorf("read %s: %w: cluster id: %w; restore the file, or remove the data directory and join again", id.path, ErrDamaged, err)
	}
	id.now.ClusterID = cluster
	return nil
}

// write makes an identity durable, then current.
func (id *identity) write(now Identity, founding bool) error {
	file := identityFile{NodeID: now.NodeID, Founding: founding}
	if !now.ClusterID.IsZero() {
		file.ClusterID = now.ClusterID.String()
	}
	file.Checksum = file.checksum()
	content, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return err
	}
	if err := writeFile(id.path, append(content, '\n')); err != nil {
		return err
	}
	id.now, id.founding = now, founding
	return nil
}

// get returns the identity and whether the cluster is still being founded.
func (id *identity) get() (Identity, bool) {
	id.mu.Lock()
	defer id.mu.Unlock()
	return id.now, id.founding
}

// found gives a node without a cluster a new one, and marks that Found must be
// proposed. Done before and not finished, it keeps the cluster's id.
func (id *identity) found(cluster fsm.GID) error {
	id.mu.Lock()
	defer id.mu.Unlock()
	if id.founding {
		return nil
	}
	if !id.now.ClusterID.IsZero() {
		return fmt.Errorf("bootstrap in %s: %w, %s; to join it, start with --join", filepath.Dir(id.path), ErrBootstrapped, id.now.ClusterID)
	}
	return id.write(Identity{NodeID: id.now.NodeID, ClusterID: cluster}, true)
}

// founded records that Found is in the log.
func (id *identity) founded() error {
	id.mu.Lock()
	defer id.mu.Unlock()
	if !id.founding {
		return nil
	}
	return id.write(id.now, false)
}

// adopt gives the node the cluster that it joins. A node stays in its cluster.
func (id *identity) adopt(cluster fsm.GID) error {
	id.mu.Lock()
	defer id.mu.Unlock()
	switch {
	case id.now.ClusterID == cluster:
		return nil
	case !id.now.ClusterID.IsZero():
		return fmt.Errorf("join cluster %s with %s: %w, %s; use an empty data directory", cluster, filepath.Dir(id.path), ErrOtherCluster, id.now.ClusterID)
	}
	return id.write(Identity{NodeID: id.now.NodeID, ClusterID: cluster}, false)
}

// newUUID makes a random UUID (RFC 9562, version 4).
func newUUID() string {
	var b [16]byte
	rand.Read(b[:]) // it never fails since Go 1.24
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return formatUUID(b)
}

func formatUUID(b [16]byte) string {
	h := hex.EncodeToString(b[:])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

// parseUUID reads a UUID in its canonical, lower-case form.
func parseUUID(text string) (b [16]byte, err error) {
	digits, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err == nil && len(digits) == len(b) {
		copy(b[:], digits)
		if formatUUID(b) == text {
			return b, nil
		}
	}
	return b, fmt.Errorf("node id %q is no UUID", text)
}

// newClusterID makes the id of a new cluster.
func newClusterID(nowMS uint64) fsm.GID {
	var random [10]byte
	rand.Read(random[:]) // it never fails since Go 1.24
	return fsm.NewGID(nowMS, random)
}
