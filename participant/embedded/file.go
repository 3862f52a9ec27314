package embedded

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/quorate/quorate/participant"
	"go.etcd.io/bbolt"
)

// The file's buckets. Rows of branches are keyed `GID/branch`, and so are in the
// order of the GIDs' birth.
var (
	bucketMeta     = []byte("meta")
	bucketData     = []byte("data")
	bucketPrepared = []byte("prepared")
	bucketEvidence = []byte("evidence")

	metaVersion  = []byte("version")
	metaResource = []byte("resource")
	metaFloor    = "floor_ms/" // and the cluster's id
)

// fileVersion is that of the buckets' layout.
const fileVersion = "1"

// initialise creates what is missing and refuses a file of something else.
func initialise(tx *bbolt.Tx, resource string) error {
	for _, name := range [][]byte{bucketMeta, bucketData, bucketPrepared, bucketEvidence} {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	meta := tx.Bucket(bucketMeta)
	if v := meta.Get(metaVersion); v != nil && string(v) != fileVersion {
		return fmt.Errorf("the file has version %q, this program reads %q", v, fileVersion)
	}
	if r := meta.Get(metaResource); r != nil && string(r) != resource {
		return fmt.Errorf("the file belongs to resource %q, not to %q; open it under its own name", r, resource)
	}
	if err := meta.Put(metaVersion, []byte(fileVersion)); err != nil {
		return err
	}
	return meta.Put(metaResource, []byte(resource))
}

func rowKey(ref participant.BranchRef) []byte { return []byte(ref.String()) }

// rowRef is the inverse of rowKey.
func rowRef(key []byte) participant.BranchRef {
	gid, id, _ := bytes.Cut(key, []byte("/"))
	return participant.BranchRef{GID: participant.GID(gid), ID: string(id)}
}

func getPrepared(tx *bbolt.Tx, ref participant.BranchRef) (*record, error) {
	b := tx.Bucket(bucketPrepared).Get(rowKey(ref))
	if b == nil {
		return nil, nil
	}
	r, err := decodeRecord(b)
	if err != nil {
		return nil, fmt.Errorf("branch %s: %w", ref, err)
	}
	return r, nil
}

func eachPrepared(tx *bbolt.Tx, fn func(*record) error) error {
	return tx.Bucket(bucketPrepared).ForEach(func(k, v []byte) error {
		r, err := decodeRecord(v)
		if err != nil {
			return fmt.Errorf("branch %s: %w", rowRef(k), err)
		}
		return fn(r)
	})
}

// An evidence row is one byte of state and the cluster's id: clusters do not share
// a clock, so one must not sweep by its floor what belongs to another.
func getEvidence(tx *bbolt.Tx, ref participant.BranchRef) EvidenceState {
	if b := tx.Bucket(bucketEvidence).Get(rowKey(ref)); len(b) > 0 {
		return EvidenceState(b[0])
	}
	return 0
}

func putEvidence(tx *bbolt.Tx, ref participant.BranchRef, cluster string, e EvidenceState) error {
	return tx.Bucket(bucketEvidence).Put(rowKey(ref), append([]byte{byte(e)}, cluster...))
}

// sweptFloor is the floor up to which a cluster's evidence has been dropped.
func sweptFloor(tx *bbolt.Tx, cluster string) uint64 {
	if b := tx.Bucket(bucketMeta).Get([]byte(metaFloor + cluster)); len(b) == 8 {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func putSweptFloor(tx *bbolt.Tx, cluster string, floorMS uint64) error {
	return tx.Bucket(bucketMeta).Put([]byte(metaFloor+cluster), binary.BigEndian.AppendUint64(nil, floorMS))
}

// apply makes the writes part of the data.
func apply(tx *bbolt.Tx, writes []write) error {
	data := tx.Bucket(bucketData)
	for _, w := range writes {
		var err error
		if w.del {
			err = data.Delete([]byte(w.key))
		} else {
			err = data.Put([]byte(w.key), w.value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func eachWithPrefix(b *bbolt.Bucket, prefix string, fn func(k, v []byte) error) error {
	p := []byte(prefix)
	c := b.Cursor()
	for k, v := c.Seek(p); k != nil && bytes.HasPrefix(k, p); k, v = c.Next() {
		if err := fn(k, v); err != nil {
			return err
		}
	}
	return nil
}
