package fsm

import (
	"bytes"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// fields walks the fields of a message. Each must be taken by the method of its
// type before the next; what does not go as it should makes it bad.
type fields struct {
	rest   []byte
	number protowire.Number
	kind   protowire.Type
	bad    bool
	names  *names // nil: every text is a copy of its own
	whole  string // a copy of the message, for sharedText, or ""; rest is its end
}

// next steps to a field; false at the end, and where there is none to read.
func (f *fields) next() bool {
	if len(f.rest) == 0 || f.bad {
		return false
	}
	if tag := f.rest[0]; tag < 0x80 && tag >= 1<<3 { // of one byte, as most are
		f.number, f.kind, f.rest = protowire.Number(tag>>3), protowire.Type(tag&7), f.rest[1:]
		return true
	}
	number, kind, n := protowire.ConsumeTag(f.rest)
	if n < 0 {
		f.number, f.bad = 0, true
		return false
	}
	f.number, f.kind, f.rest = number, kind, f.rest[n:]
	return true
}

func (f *fields) varint() uint64 {
	if f.kind == protowire.VarintType && len(f.rest) > 0 && f.rest[0] < 0x80 {
		v := f.rest[0]
		f.rest = f.rest[1:]
		return uint64(v)
	}
	v, n := protowire.ConsumeVarint(f.rest)
	if f.kind != protowire.VarintType || n < 0 {
		f.bad = true
		return 0
	}
	f.rest = f.rest[n:]
	return v
}

// bytes aliases the message.
func (f *fields) bytes() []byte {
	if f.kind == protowire.BytesType && len(f.rest) > 0 && int(f.rest[0]) < min(len(f.rest), 0x80) {
		n := int(f.rest[0]) + 1
		v := f.rest[1:n:n]
		f.rest = f.rest[n:]
		return v
	}
	v, n := protowire.ConsumeBytes(f.rest)
	if f.kind != protowire.BytesType || n < 0 {
		f.bad = true
		return nil
	}
	f.rest = f.rest[n:]
	return v
}

// blob is a copy, or one that was made before; nil where it is empty. It must not
// be changed.
func (f *fields) blob() []byte {
	v := f.bytes()
	switch {
	case len(v) == 0:
		return nil
	case f.names != nil && len(v) <= nameBlobBytesMax:
		return f.names.blob(v)
	default:
		return bytes.Clone(v)
	}
}

// text is a copy, or one that was made before: of what many transactions say.
func (f *fields) text() string {
	v := f.bytes()
	if f.names == nil || len(v) > nameBytesMax {
		return f.copied(v)
	}
	if known := f.names.text(v); *known != string(v) {
		*known = f.copied(v)
		return *known
	} else {
		return *known
	}
}

// ownText is text of which no other transaction has the same.
func (f *fields) ownText() string { return f.copied(f.bytes()) }

// sharedText is a part of whole, if there is one, which lives as long as any such text:
// of what nobody keeps beyond its message.
func (f *fields) sharedText() string {
	if f.whole == "" {
		return f.text()
	}
	v := f.bytes()
	if !utf8.Valid(v) {
		f.bad = true
		return ""
	}
	return f.part(len(v))
}

// part is that of whole which the last n bytes were read from.
func (f *fields) part(n int) string {
	if f.whole == "" {
		return ""
	}
	end := len(f.whole) - len(f.rest)
	return f.whole[end-n : end]
}

func (f *fields) copied(v []byte) string {
	if !utf8.Valid(v) {
		f.bad = true
		return ""
	}
	return string(v)
}

// countField counts a field's occurrences, as far as the message can be read.
func countField(message []byte, number protowire.Number) int {
	count, _ := countFields(message, number, 0)
	return count
}

// countFields is countField for two of them.
func countFields(message []byte, first, second protowire.Number) (firsts, seconds int) {
	for len(message) > 0 {
		number, n := measureField(message)
		if n < 0 {
			break
		}
		switch number {
		case first:
			firsts++
		case second:
			seconds++
		}
		message = message[n:]
	}
	return firsts, seconds
}

// measureField is the number of the field that the message begins with, and how many bytes
// it takes, fewer than 0 where it cannot be read.
func measureField(message []byte) (number protowire.Number, n int) {
	if len(message) > 1 && message[0] < 0x80 && message[0] >= 1<<3 && message[1] < 0x80 {
		// Tag, and value or length, of one byte each, as most are.
		switch n = 2 + int(message[1]); protowire.Type(message[0] & 7) {
		case protowire.VarintType:
			return protowire.Number(message[0] >> 3), 2
		case protowire.BytesType:
			if n <= len(message) {
				return protowire.Number(message[0] >> 3), n
			}
		}
	}
	number, _, n = protowire.ConsumeField(message)
	return number, n
}
