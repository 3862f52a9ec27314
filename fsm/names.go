package fsm

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// names are the short texts that were read last: ids of branches, resources, endpoints,
// labels, instance ids. Most transactions bring the same ones, and need no copy of their own
// then. What a name pushes out is copied again when it comes again; nothing else
// depends on what is here, so nodes may differ in it.
type names struct {
	texts [1 << nameBits]string
	blobs [1 << nameBits][]byte
}

const (
	nameBits = 9
	// nameBytesMax is the longest text that is kept: most endpoints are shorter.
	nameBytesMax = 128
	// nameBlobBytesMax is the same of what is no text: payloads come once, and an instance
	// id is of 16.
	nameBlobBytesMax = 16
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
	return h * 0x9E3779B97F4A7C15 >> (64 - nameBits) // 2^64 divided by the golden ratio
}
