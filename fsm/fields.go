package fsm

import (
	"bytes"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// fields walks the fields of a message. Each must be taken by the method of its
// type before the next; what does not go as it should makes it bad.
type fields struct {
	message []byte
	at      int // what comes next in it
	number  protowire.Number
	kind    protowire.Type
	bad     bool
	names   *names // nil: every text is a copy of its own
	whole   string // a copy of the message, for sharedText, or ""
}

// next steps to a field; false at the end, and where there is none to read.
func (f *fields) next() bool {
	if f.at >= len(f.message) || f.bad {
		return false
	}
	if tag := f.message[f.at]; tag < 0x80 && tag >= 1<<3 { // of one byte, as most are
		f.number, f.kind = protowire.Number(tag>>3), protowire.Type(tag&7)
		f.at++
		return true
	}
	number, kind, n := protowire.ConsumeTag(f.message[f.at:])
	if n < 0 {
		f.number, f.bad = 0, true
		return false
	}
	f.number, f.kind = number, kind
	f.at += n
	return true
}

func (f *fields) varint() uint64 {
	if f.kind == protowire.VarintType && f.at < len(f.message) && f.message[f.at] < 0x80 {
		f.at++
		return uint64(f.message[f.at-1])
	}
	v, n := protowire.ConsumeVarint(f.message[f.at:])
	if f.kind != protowire.VarintType || n < 0 {
		f.bad = true
		return 0
	}
	f.at += n
	return v
}

// bytes aliases the message.
func (f *fields) bytes() []byte {
	if f.kind == protowire.BytesType {
		if from, end := shortBytes(f.message, f.at); end != 0 {
			f.at = end
			return f.message[from:end:end]
		}
	}
	v, n := protowire.ConsumeBytes(f.message[f.at:])
	if f.kind != protowire.BytesType || n < 0 {
		f.bad = true
		return nil
	}
	f.at += n
	return v
}

// shortBytes is where the bytes begin and end whose length, of one byte or two as most are,
// stands at a place in a message; 0 where it is longer, or they are cut.
func shortBytes(message []byte, at int) (from, end int) {
	switch {
	case at < len(message) && message[at] < 0x80:
		from = at + 1
		end = from + int(message[at])
	case at+1 < len(message) && message[at+1] < 0x80:
		from = at + 2
		end = from + (int(message[at]&0x7F) | int(message[at+1])<<7)
	}
	if end > len(message) {
		return 0, 0
	}
	return from, end
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
	return f.whole[f.at-n : f.at]
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
	for at := 0; at < len(message); {
		var number protowire.Number
		if number, at = skipField(message, at); at < 0 {
			break
		}
		switch number {
		case first:
			firsts++
		case second:
			seconds++
		}
	}
	return firsts, seconds
}

// skipField is the number of the field at a place in a message, and where the next one
// begins, -1 where it cannot be read.
func skipField(message []byte, at int) (number protowire.Number, next int) {
	if tag := message[at]; tag < 0x80 && tag >= 1<<3 {
		number = protowire.Number(tag >> 3)
		switch protowire.Type(tag & 7) {
		case protowire.BytesType:
			if _, end := shortBytes(message, at+1); end != 0 {
				return number, end
			}
		case protowire.VarintType:
			if at+1 < len(message) && message[at+1] < 0x80 {
				return number, at + 2
			}
		}
	}
	number, _, n := protowire.ConsumeField(message[at:])
	if n < 0 {
		return 0, -1
	}
	return number, at + n
}
