package fsm

import (
	"bufio"
	"encoding/binary"
	"hash/crc32"
	"io"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/quorate/quorate/fsm/logpb"
)

// A snapshot is: a magic string, a version byte, and frames. A frame is the
// length of its payload, the payload's CRC-32C (both 32 bits, little endian),
// and the payload. The first is a logpb.SnapshotHeader; then come its
// active_count live records in their stable order, then its finished_count
// filed ones in the order of filing, each a logpb.Transaction.
const (
	snapshotMagic   = "quorate-snapshot"
	snapshotVersion = 1

	frameHeadBytes = 8
	// frameBytesMax is more than any record can have.
	frameBytesMax = 256 << 20
)

// Pinned is the content of a snapshot: the state as it was at Pin. It may be
// written from another goroutine while commands apply, and more than once.
type Pinned struct {
	header  *logpb.SnapshotHeader
	unfiled []*chunk // shared: what changes one afterwards copies it first
	filed   []pinnedBucket
}

// pinnedBucket shares a bucket's bytes; both slices end where the bucket ended
// at Pin, and nothing before that ever changes.
type pinnedBucket struct {
	data []byte
	dead []uint32
	from uint32
}

// Pin takes hold of the current state, while commands wait: it copies a word for
// some hundred live records and a few for each bucket of filed ones, and no more.
func (s *State) Pin() *Pinned {
	digest := s.Digest()
	p := &Pinned{
		header: &logpb.SnapshotHeader{
			Index: s.appliedIndex, Term: s.appliedTerm,
			ClusterId:   s.clusterID.Bytes(),
			Incarnation: s.incarnation, HoldBeforeMs: s.holdBeforeMS, HoldHorizonMs: s.holdHorizonMS,
			ClockMs: s.clockMS, HorizonMs: s.horizonMS,
			Limits: s.limits, Nodes: s.nodes,
			ActiveCount: uint64(len(s.live)), FinishedCount: uint64(s.stubs.len()),
			Digest: digest[:], FeatureLevel: s.featureLevel, Tombstones: uint64(s.counts.Tombstones),
			Topics: s.topics,
		},
		unfiled: s.unfiled.pin(),
		filed:   make([]pinnedBucket, len(s.stubs.buckets)),
	}
	for i, b := range s.stubs.buckets {
		p.filed[i] = pinnedBucket{data: b.data, dead: b.dead}
	}
	if len(p.filed) > 0 {
		p.filed[0].from = s.stubs.head
	}
	return p
}

// Index is the Raft index of the last entry in the snapshot.
func (p *Pinned) Index() uint64 { return p.header.GetIndex() }

// WriteTo writes the snapshot. Its error is that of w.
func (p *Pinned) WriteTo(w io.Writer) (int64, error) {
	out := &frameWriter{w: bufio.NewWriterSize(w, 1<<16)}
	out.write([]byte(snapshotMagic))
	out.write([]byte{snapshotVersion})
	header, err := proto.MarshalOptions{Deterministic: true}.Marshal(p.header)
	if err != nil {
		return 0, err
	}
	out.frame(header)

	var record []byte
	for _, c := range p.unfiled {
		for i, at := range c.places {
			if !at.gone {
				record = appendTransaction(record[:0], c.records[i])
				out.frame(record)
			}
		}
	}
	for i := range p.filed {
		p.filed[i].each(out.frame)
	}
	if out.err == nil {
		out.err = out.w.Flush()
	}
	return out.n, out.err
}

// each gives every record that was filed at Pin, in order.
func (p *pinnedBucket) each(record func([]byte)) {
	dead := slices.Sorted(slices.Values(p.dead))
	b := bucket{data: p.data}
	for at := p.from; int(at) < len(p.data); {
		_, bytes := b.at(at)
		if _, gone := slices.BinarySearch(dead, at); !gone {
			record(bytes)
		}
		at += uint32(filedHeadBytes + len(bytes))
	}
}

// frameWriter remembers its first error, so that the writing reads in a line.
type frameWriter struct {
	w    *bufio.Writer
	head [frameHeadBytes]byte
	n    int64
	err  error
}

func (f *frameWriter) write(b []byte) {
	if f.err == nil {
		var n int
		n, f.err = f.w.Write(b)
		f.n += int64(n)
	}
}

func (f *frameWriter) frame(payload []byte) {
	binary.LittleEndian.PutUint32(f.head[:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(f.head[4:], crc32.Checksum(payload, castagnoli))
	f.write(f.head[:])
	f.write(payload)
}
