package quoratev1

import (
	"math/bits"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
)

// The messages that every transaction is made of have, beside protobuf's own way, methods
// that write and read the same bytes without reflection. protoc-gen-quorate-wire generates
// them (*.wire.pb.go); what they need stands here. internal/wire uses them for gRPC.
//
// They do what is ordinary, and say so when it is not: with a text that is not UTF-8, a
// field that is unknown, or a message that is damaged, protobuf itself must be asked, whose
// word on it stands.

// WireMessage is a message that has them.
type WireMessage interface {
	proto.Message
	// WireSize is how many bytes the message takes.
	WireSize() int
	// WireWrite fills b, whose length must be the message's size. False: ask protobuf.
	WireWrite(b []byte) bool
	// WireRead makes the message what b says; it keeps nothing of b. False: ask protobuf,
	// the message is in no state of use.
	WireRead(b []byte) bool
}

const (
	// wireTextMax is the longest message whose texts share one string. A text that is kept
	// keeps the others with it: no more than this.
	wireTextMax = 4 << 10
	// wireDepthMax is how deep messages may lie in each other.
	wireDepthMax = 16
	// wireSlabMax bounds the messages of a list that are allocated together.
	wireSlabMax = 16
)

// wireLen is the size of a number.
func wireLen(v uint64) int { return (9*bits.Len64(v) + 64) / 64 }

// wireBytesLen is the size of so many bytes with their length.
func wireBytesLen(n int) int { return wireLen(uint64(n)) + n }

// Writing goes backwards, from the end: so the length of what was written is known where it
// is to be written. An i below 0 says that protobuf must be asked.

// wirePutVarint writes a number before i, and returns where it begins.
func wirePutVarint(b []byte, i int, v uint64) int {
	if v < 0x80 {
		i--
		b[i] = byte(v)
		return i
	}
	i -= wireLen(v)
	at := i
	for ; v >= 0x80; at++ {
		b[at] = byte(v) | 0x80
		v >>= 7
	}
	b[at] = byte(v)
	return i
}

// wirePutText writes a text and its length.
func wirePutText(b []byte, i int, text string) int {
	if !utf8.ValidString(text) {
		return -1
	}
	i -= len(text)
	copy(b[i:], text)
	return wirePutVarint(b, i, uint64(len(text)))
}

// wirePutBytes writes bytes and their length.
func wirePutBytes(b []byte, i int, bytes []byte) int {
	i -= len(bytes)
	copy(b[i:], bytes)
	return wirePutVarint(b, i, uint64(len(bytes)))
}

// wirePutPair writes an entry of a map of texts.
func wirePutPair(b []byte, i int, key, value string) int {
	end := i
	if i = wirePutText(b, i, value); i < 0 {
		return i
	}
	i--
	b[i] = 0x12
	if i = wirePutText(b, i, key); i < 0 {
		return i
	}
	i--
	b[i] = 0x0a
	return wirePutVarint(b, i, uint64(end-i))
}

// wirePairLen is the size of an entry of a map of texts, without its length.
func wirePairLen(key, value string) int {
	return 2 + wireBytesLen(len(key)) + wireBytesLen(len(value))
}

// wirePutOther writes a message of another package, and its length.
func wirePutOther(b []byte, i int, m proto.Message) int {
	size := proto.Size(m)
	if i < size {
		return -1
	}
	written, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(b[i-size:i-size], m)
	if err != nil || len(written) != size {
		return -1
	}
	return wirePutVarint(b, i-size, uint64(size))
}

// Reading: each takes where it begins and returns where what follows begins, below 0 when
// protobuf must be asked. text holds the same as b, or nothing.

// wireVarint reads a number.
func wireVarint(b []byte, i int) (uint64, int) {
	if i < len(b) && b[i] < 0x80 {
		return uint64(b[i]), i + 1
	}
	var v uint64
	for shift := 0; i < len(b) && shift < 64; shift += 7 {
		c := b[i]
		i++
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			if shift == 63 && c > 1 {
				return 0, -1
			}
			return v, i
		}
	}
	return 0, -1
}

// wireSpan reads the length of what lies between from and to.
func wireSpan(b []byte, i int) (from, to int) {
	n, i := wireVarint(b, i)
	if i < 0 || n > uint64(len(b)-i) {
		return 0, -1
	}
	return i, i + int(n)
}

// wireShared is the string of which the texts of a message are parts: that of the message
// around it, or one of its own, or none for a message that is large.
func wireShared(b []byte, text string) string {
	if text == "" && len(b) <= wireTextMax {
		return string(b)
	}
	return text
}

// wirePart is a part of what is shared.
func wirePart(text string, from, to int) string {
	if text == "" {
		return ""
	}
	return text[from:to]
}

// wireText reads a text.
func wireText(b []byte, i int, text string) (string, int) {
	from, to := wireSpan(b, i)
	if to < 0 || !utf8.Valid(b[from:to]) {
		return "", -1
	}
	if text == "" {
		return string(b[from:to]), to
	}
	return text[from:to], to
}

// wireBytes reads bytes, and copies them.
func wireBytes(b []byte, i int) ([]byte, int) {
	from, to := wireSpan(b, i)
	if to < 0 {
		return nil, -1
	}
	return append([]byte{}, b[from:to]...), to
}

// wirePair reads an entry of a map of texts.
func wirePair(b []byte, i int, text string) (key, value string, end int) {
	from, to := wireSpan(b, i)
	if to < 0 {
		return "", "", -1
	}
	b, text = b[from:to], wirePart(text, from, to)
	for i = 0; i < len(b); {
		tag := b[i]
		i++
		switch tag {
		case 0x0a:
			key, i = wireText(b, i, text)
		case 0x12:
			value, i = wireText(b, i, text)
		default:
			return "", "", -1
		}
		if i < 0 {
			return "", "", -1
		}
	}
	return key, value, to
}

// wireRun counts the fields of one tag, from the one whose tag ends at i on, that follow
// each other: the elements of a list. The tag is of one byte.
func wireRun(b []byte, i int, tag byte) (n int) {
	for {
		_, to := wireSpan(b, i)
		if to < 0 {
			return max(n, 1)
		}
		n++
		if to >= len(b) || b[to] != tag {
			return n
		}
		i = to + 1
	}
}

// wireOther reads a message of another package.
func wireOther(b []byte, i int, m proto.Message) int {
	from, to := wireSpan(b, i)
	if to < 0 || proto.Unmarshal(b[from:to], m) != nil {
		return -1
	}
	return to
}
