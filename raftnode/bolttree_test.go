package raftnode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// boltFile makes a file with two buckets at its root, one of them of many pages and
// with a bucket below it, by so many transactions.
func boltFile(t *testing.T, keys, transactions int) (path string, whole []byte) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "a.db")
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	for n := range transactions {
		err := db.Update(func(tx *bbolt.Tx) error {
			for _, name := range []string{"stable", "wal-meta"} {
				b, err := tx.CreateBucketIfNotExists([]byte(name))
				if err != nil {
					return err
				}
				if err := b.Put([]byte("CurrentTerm"), []byte(fmt.Sprint(n))); err != nil {
					return err
				}
				for i := range keys {
					if err := b.Put(fmt.Appendf(nil, "key-%05d", i), []byte(strings.Repeat("v", 100))); err != nil {
						return err
					}
				}
				if keys > 0 {
					below, err := b.CreateBucketIfNotExists([]byte("below"))
					if err != nil {
						return err
					}
					if err := below.Put([]byte("long"), make([]byte, 20_000)); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if whole, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	return path, whole
}

// checkedInTime is the word of checkBolt, which must come.
func checkedInTime(t *testing.T, path string, content []byte) error {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	told := make(chan error, 1)
	go func() { told <- checkBolt(path) }()
	select {
	case err := <-told:
		if err != nil && !errors.Is(err, ErrDamaged) {
			t.Fatalf("an error of no kind: %v", err)
		}
		return err
	case <-time.After(20 * time.Second):
		t.Fatalf("checkBolt says nothing of a file of %d bytes", len(content))
		return nil
	}
}

// TestBoltTree_OfWholeFiles: what bbolt has written is never called damaged.
func TestBoltTree_OfWholeFiles(t *testing.T) {
	for _, c := range [][2]int{{0, 0}, {0, 1}, {0, 2}, {3, 7}, {5000, 3}} {
		path, whole := boltFile(t, c[0], c[1])
		if err := checkedInTime(t, path, whole); err != nil {
			t.Errorf("%d keys, %d transactions: %v", c[0], c[1], err)
		}
	}
}

// TestBoltTree_CutAnywhere: a file that ends early is refused, or read, and never followed
// in circles. At 8,240 bytes a node once neither started nor ended.
func TestBoltTree_CutAnywhere(t *testing.T) {
	for transactions := 2; transactions < 5; transactions++ { // the newest pages are here or there
		path, whole := boltFile(t, 0, transactions)
		refused := 0
		for size := 0; size < 6*4096; size += 16 {
			if err := checkedInTime(t, path, whole[:size]); err != nil {
				refused++
			}
		}
		if refused < 256 {
			t.Errorf("%d of %d sizes are refused", refused, 6*256)
		}
	}
}

// TestBoltTree_PagesThatPointElsewhere: each kind of damage to the tree is told.
func TestBoltTree_PagesThatPointElsewhere(t *testing.T) {
	path, whole := boltFile(t, 5000, 3)
	const pageBytes = 4096
	if os.Getpagesize() != pageBytes {
		t.Skip("pages are of another size here")
	}
	meta, ok := newestBoltMeta(strings.NewReader(string(whole)))
	if !ok {
		t.Fatal("no meta page")
	}
	// A branch page of the tree: the root of a bucket of thousands of keys.
	branch := uint64(0)
	for next := []uint64{meta.root}; len(next) > 0 && branch == 0; next = next[1:] {
		page := whole[next[0]*pageBytes:]
		if binary.NativeEndian.Uint16(page[8:]) == boltBranch {
			branch = next[0]
		}
		below, err := boltBelow(page[:pageBytes])
		if err != nil {
			t.Fatal(err)
		}
		next = append(next, below...)
	}
	if branch == 0 {
		t.Fatal("no branch page")
	}
	at := int(branch * pageBytes)
	order := binary.NativeEndian
	for what, damage := range map[string]func(b []byte){
		"reached twice":           func(b []byte) { order.PutUint64(b[at+16+8:], order.Uint64(b[at+32+8:])) },
		"it is none of":           func(b []byte) { order.PutUint64(b[at+16+8:], 1<<40) },
		"none of the pages":       func(b []byte) { order.PutUint64(b[at+16+8:], 0) },
		"says that it is page":    func(b []byte) { order.PutUint64(b[at:], branch+1) },
		"neither a branch nor":    func(b []byte) { order.PutUint16(b[at+8:], 0x10) },
		"without children":        func(b []byte) { order.PutUint16(b[at+10:], 0) },
		"have no room":            func(b []byte) { order.PutUint16(b[at+10:], 0xFFFF) },
		"is said to be of":        func(b []byte) { order.PutUint32(b[at+12:], 1<<30) },
		"lies outside":            func(b []byte) { order.PutUint32(b[meta.root*pageBytes+16+8:], 1<<20) },
		"ends before it does":     nil,
		"reached twice, a circle": func(b []byte) { order.PutUint64(b[at+16+8:], branch) },
	} {
		content := append([]byte(nil), whole...)
		if damage == nil {
			content = content[:at+100]
		} else {
			damage(content)
		}
		want, _, _ := strings.Cut(what, ",")
		if err := checkedInTime(t, path, content); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestBoltTree_BeginsWhereBboltDoes: at the later of two whole meta pages, wherever it is.
func TestBoltTree_BeginsWhereBboltDoes(t *testing.T) {
	for transactions := 2; transactions < 4; transactions++ {
		path, whole := boltFile(t, 0, transactions)
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		var newest uint64
		if err := errors.Join(db.View(func(tx *bbolt.Tx) error {
			newest = uint64(tx.ID())
			return nil
		}), db.Close()); err != nil {
			t.Fatal(err)
		}
		if meta, ok := newestBoltMeta(strings.NewReader(string(whole))); !ok || meta.transaction != newest {
			t.Errorf("%d transactions: %+v, bbolt reads number %d", transactions, meta, newest)
		}
		clear(whole[:boltHeadBytes+boltMetaBytes])
		if meta, ok := newestBoltMeta(strings.NewReader(string(whole))); !ok || meta.transaction == 0 || meta.transaction > newest {
			t.Errorf("%d transactions, the first meta page is gone: %+v, bbolt read number %d", transactions, meta, newest)
		}
	}
}
