package fsm

import (
	"bytes"
	"encoding/binary"
	"math/bits"

	"github.com/quorate/quorate/fsm/logpb"
)

// names are the short texts that were read last: ids of branches, resources, endpoints,
// labels, instance ids; and whole branches. Most transactions bring the same ones, and need
// no copy of their own then. What a name pushes out is copied again when it comes again;
// nothing else depends on what is here, so nodes may differ in it.
type names struct {
	texts [1 << nameBits]string
	blobs [1 << nameBits][]byte
	specs [1 << nameBits]knownSpec
}

// knownSpec is a branch, and the bytes that it is read from: records share it, for nobody
// edits one. It is kept once the same bytes came twice: of some none ever come again.
type knownSpec struct {
	raw    string // "": none yet
	spec   *logpb.BranchSpec
	missed uint64 // the hash of other bytes that came here last
}

const (
	nameBits = 9
	// nameBytesMax is the longest text that is kept: most endpoints are shorter.
	nameBytesMax = 128
	// nameBlobBytesMax is the same of what is no text: payloads come once, and an instance
	// id is of 16.
	nameBlobBytesMax = 16
	// nameSpecBytesMax is the same of a branch.
	nameSpecBytesMax = 256
)

// text is the place of a text, which may hold another.
func (n *names) text(v []byte) *string { return &n.texts[nameHash(v)] }

// blob is a copy of v that others may have, too.
func (n *names) blob(v []byte) []byte {
	known := &n.blobs[nameHash(v)]
	if !bytes.Equal(*known, v) {
		*known = bytes.Clone(v)
	}
	return *known
}

// spec is the branch that was read from v before, or nil. again says that the same bytes
// have come before, so that keepSpec is worth it.
func (n *names) spec(v []byte) (spec *logpb.BranchSpec, again bool) {
	h := specHash(v)
	known := &n.specs[h>>(64-nameBits)]
	if known.raw != "" && known.raw == string(v) {
		return known.spec, true
	}
	again, known.missed = known.missed == h, h
	return nil, again
}

// keepSpec keeps a branch that was read from v.
func (n *names) keepSpec(v []byte, spec *logpb.BranchSpec) {
	known := &n.specs[specHash(v)>>(64-nameBits)]
	known.raw, known.spec = string(v), spec
}

// specHash spreads branches by all of their bytes: those of one transaction may differ in
// few.
func specHash(v []byte) uint64 {
	h := uint64(len(v))
	for ; len(v) >= 8; v = v[8:] {
		h = (h ^ binary.LittleEndian.Uint64(v)) * golden
		h ^= h >> 32
	}
	for _, c := range v {
		h = (h ^ uint64(c)) * golden
	}
	return h * golden
}

// golden is 2^64 divided by the golden ratio.
const golden = 0x9E3779B97F4A7C15

// nameHash spreads names by their length, both ends and the middle.
func nameHash(v []byte) uint64 {
	h := uint64(len(v))
	if n := len(v); n >= 8 {
		h ^= binary.LittleEndian.Uint64(v) ^ bits.RotateLeft64(binary.LittleEndian.Uint64(v[n-8:]), 29) ^
			bits.RotateLeft64(binary.LittleEndian.Uint64(v[n/2-4:]), 13)
	} else {
		for _, c := range v {
			h = h<<8 | uint64(c)
		}
	}
	return h * golden >> (64 - nameBits)
}
