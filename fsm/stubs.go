package fsm

import (
	"encoding/binary"
	"math"
)

// Finished records that wait for nothing but retention are filed: kept as their
// encoded bytes in buckets, in the order of filing, which is the order in which
// retention drops them. A bucket only grows at its end and is never changed
// before it, so a pinned snapshot shares it; the collector sees one object a
// bucket instead of dozens a transaction.

// bucketBytes is the size at which a bucket is closed and the next one opened.
const bucketBytes = 256 << 10

// bucketSlackBytes is what the last record of a bucket mostly finds room in.
const bucketSlackBytes = 2 << 10

// A filed record in a bucket: length of its bytes, GID, bytes.
const (
	filedLengthBytes = 4
	filedHeadBytes   = filedLengthBytes + len(GID{})
)

type bucket struct {
	data []byte
	// dead are the places of records that were filed anew or taken back. It
	// only grows at its end, so that a pin may share it.
	dead []uint32
}

// filedRef is where a filed record stands. It holds no pointer, so that the
// collector need not look into the index.
type filedRef struct {
	bucket uint32 // counted from the first bucket ever made
	offset uint32
}

// stubs are the filed records.
type stubs struct {
	index   gidIndex
	buckets []*bucket
	// first is the number of buckets[0]; head is the next place in it to drop.
	first uint32
	head  uint32
	// headMS is the filing clock of the record at head.
	headMS uint64
}

func newStubs() stubs { return stubs{index: newGIDIndex(), headMS: math.MaxUint64} }

func (f *stubs) len() int { return f.index.len() }

// file writes a record's bytes where they stay, and returns them.
func (f *stubs) file(gid GID, filedMS uint64, write func([]byte) []byte) []byte {
	if f.len() == 0 {
		// Nothing that stands is alive: whatever is left in the buckets is dead.
		f.first += uint32(len(f.buckets))
		f.buckets, f.head, f.headMS = nil, 0, filedMS
	}
	last := len(f.buckets) - 1
	if last < 0 || len(f.buckets[last].data) >= bucketBytes {
		f.buckets = append(f.buckets, new(bucket))
		if last++; last > 0 {
			// There are many: what it will need, once, and not doubled again and again.
			f.buckets[last].data = make([]byte, 0, bucketBytes+bucketSlackBytes)
		}
	}
	b := f.buckets[last]
	f.index.put(gid, filedRef{f.first + uint32(last), uint32(len(b.data))})
	head := len(b.data)
	b.data = append(append(b.data, make([]byte, filedLengthBytes)...), gid[:]...)
	b.data = write(b.data)
	record := b.data[head+filedHeadBytes:]
	binary.LittleEndian.PutUint32(b.data[head:], uint32(len(record)))
	return record
}

// get returns a filed record's bytes, which must not be changed.
func (f *stubs) get(gid GID) ([]byte, bool) {
	ref, ok := f.index.get(gid)
	if !ok {
		return nil, false
	}
	_, record := f.buckets[ref.bucket-f.first].at(ref.offset)
	return record, true
}

// at reads the record at a place.
func (b *bucket) at(offset uint32) (GID, []byte) {
	n := binary.LittleEndian.Uint32(b.data[offset:])
	body := offset + uint32(filedHeadBytes)
	return GID(b.data[offset+filedLengthBytes : body]), b.data[body : body+n : body+n]
}

// remove takes a record out.
func (f *stubs) remove(gid GID) {
	ref, ok := f.index.get(gid)
	if !ok {
		return
	}
	f.index.remove(gid)
	b := f.buckets[ref.bucket-f.first]
	b.dead = append(b.dead, ref.offset)
	f.advance()
}

// advance moves the head over what is dead, and lets go of buckets that are
// behind it.
func (f *stubs) advance() {
	for len(f.buckets) > 0 {
		b := f.buckets[0]
		if int(f.head) == len(b.data) {
			f.buckets[0] = nil
			f.buckets = f.buckets[1:]
			f.first++
			f.head = 0
			continue
		}
		gid, record := b.at(f.head)
		if ref, ok := f.index.get(gid); ok && ref == (filedRef{f.first, f.head}) {
			f.headMS = filedMSOf(record)
			return
		}
		f.head += uint32(filedHeadBytes + len(record))
	}
	f.headMS = math.MaxUint64
}

// oldest is the record that retention drops next.
func (f *stubs) oldest() (GID, bool) {
	if f.len() == 0 {
		return GID{}, false
	}
	gid, _ := f.buckets[0].at(f.head)
	return gid, true
}
