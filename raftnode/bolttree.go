package raftnode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// bbolt follows its pages wherever they point: where damage makes a circle of them, it
// goes round for ever, and its memory grows. So whoever opens a file that may be damaged
// walks its tree here first, by the format of go.etcd.io/bbolt (internal/common/page.go
// and meta.go, version 2): each page lies in the file, is what it says, and is reached once.

const (
	boltMagic, boltVersion = 0xED0CDAED, 2

	boltHeadBytes    = 16 // of a page: id 8, flags 2, count 2, overflow 4
	boltElementBytes = 16 // branch: position 4, key size 4, page 8; leaf: flags, position, key size, value size, 4 each
	boltMetaBytes    = 64 // magic, version, page size, flags: 4 each; root, sequence, free list, high water, transaction, sum: 8 each
	boltBucketBytes  = 16 // root 8, sequence 8; a root of 0 stands for a bucket within the value

	boltBranch, boltLeaf = 0x01, 0x02 // of a page's flags
	boltIsBucket         = 0x01       // of a leaf element's

	// boltPageShifts bounds where the second meta page is looked for when the first is damaged.
	boltPageShifts = 16
)

// boltMeta is one of the two pages that say where the tree begins.
type boltMeta struct{ pageBytes, root, highWater, transaction uint64 }

// checkBoltTree walks all pages of a file. A file without a meta page is left to bbolt,
// which says so.
func checkBoltTree(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	meta, ok := newestBoltMeta(file)
	if !ok {
		return nil
	}
	seen := make(map[uint64]bool)
	for next := []uint64{meta.root}; len(next) > 0; {
		id := next[len(next)-1]
		next = next[:len(next)-1]
		page, err := meta.page(file, id)
		if err != nil {
			return fmt.Errorf("page %d: %w", id, err)
		}
		for i := range uint64(len(page)) / meta.pageBytes {
			if seen[id+i] {
				return fmt.Errorf("page %d: it is reached twice", id+i)
			}
			seen[id+i] = true
		}
		below, err := boltBelow(page)
		if err != nil {
			return fmt.Errorf("page %d: %w", id, err)
		}
		next = append(next, below...)
	}
	return nil
}

// newestBoltMeta is the meta page that bbolt goes by: of those that are whole, the later.
func newestBoltMeta(file io.ReaderAt) (newest boltMeta, ok bool) {
	take := func(at int64) (boltMeta, bool) {
		b := make([]byte, boltHeadBytes+boltMetaBytes)
		if _, err := file.ReadAt(b, at); err != nil {
			return boltMeta{}, false
		}
		b = b[boltHeadBytes:]
		sum := fnv.New64a()
		sum.Write(b[:boltMetaBytes-8])
		order := binary.NativeEndian
		m := boltMeta{uint64(order.Uint32(b[8:])), order.Uint64(b[16:]), order.Uint64(b[40:]), order.Uint64(b[48:])}
		whole := order.Uint32(b) == boltMagic && order.Uint32(b[4:]) == boltVersion && order.Uint64(b[56:]) == sum.Sum64()
		if whole && (!ok || m.transaction > newest.transaction) {
			newest, ok = m, true
		}
		return m, whole
	}
	if first, whole := take(0); whole {
		take(int64(first.pageBytes))
		return newest, ok
	}
	for shift := range boltPageShifts {
		if at := int64(1024) << shift; !ok {
			take(at)
		}
	}
	return newest, ok
}

// page reads a page, with those that it flows over into.
func (m boltMeta) page(file io.ReaderAt, id uint64) ([]byte, error) {
	if id < 2 || id >= m.highWater {
		return nil, fmt.Errorf("it is none of the pages 2 to %d", m.highWater-1)
	}
	head := make([]byte, boltHeadBytes)
	if _, err := file.ReadAt(head, int64(id*m.pageBytes)); err != nil {
		return nil, cutShort(err)
	}
	if said := binary.NativeEndian.Uint64(head); said != id {
		return nil, fmt.Errorf("it says that it is page %d", said)
	}
	pages := 1 + uint64(binary.NativeEndian.Uint32(head[12:]))
	if id+pages > m.highWater {
		return nil, fmt.Errorf("it is said to be of %d pages, and %d is the last", pages, m.highWater-1)
	}
	// Read as far as the file goes: what it is said to be long is not believed.
	page, err := io.ReadAll(io.NewSectionReader(file, int64(id*m.pageBytes), int64(pages*m.pageBytes)))
	if err == nil && uint64(len(page)) < pages*m.pageBytes {
		err = io.EOF
	}
	return page, cutShort(err)
}

func cutShort(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("the file ends before it does")
	}
	return err
}

// boltBelow are the pages that one points to: its children, and the roots of its buckets.
func boltBelow(page []byte) (below []uint64, err error) {
	order := binary.NativeEndian
	flags, count := order.Uint16(page[8:]), int(order.Uint16(page[10:]))
	if flags != boltBranch && flags != boltLeaf {
		return nil, fmt.Errorf("it is neither a branch nor a leaf (flags %#x)", flags)
	}
	if flags == boltBranch && count == 0 {
		return nil, errors.New("it is a branch without children")
	}
	if boltHeadBytes+count*boltElementBytes > len(page) {
		return nil, fmt.Errorf("%d elements have no room in it", count)
	}
	for i := range count {
		at := boltHeadBytes + i*boltElementBytes
		element := page[at : at+boltElementBytes]
		if flags == boltBranch {
			below = append(below, order.Uint64(element[8:]))
			continue
		}
		if order.Uint32(element)&boltIsBucket == 0 {
			continue
		}
		value := at + int(order.Uint32(element[4:])) + int(order.Uint32(element[8:]))
		if value+boltBucketBytes > len(page) {
			return nil, fmt.Errorf("bucket %d of it lies outside", i)
		}
		if root := order.Uint64(page[value:]); root != 0 {
			below = append(below, root)
		}
	}
	return below, nil
}
