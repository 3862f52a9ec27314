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
}

// next steps to a field; false at the end, and where there is none to read.
func (f *fields) next() bool {
	if len(f.rest) == 0 || f.bad {
		return false
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
	v, n := protowire.ConsumeBytes(f.rest)
	if f.kind != protowire.BytesType || n < 0 {
		f.bad = true
		return nil
	}
	f.rest = f.rest[n:]
	return v
}

// blob is a copy; nil where it is empty.
func (f *fields) blob() []byte {
	if v := f.bytes(); len(v) > 0 {
		return bytes.Clone(v)
	}
	return nil
}

// text is a copy. What nearly every transaction says needs none.
func (f *fields) text() string {
	v := f.bytes()
	if string(v) == usualNamespace {
		return usualNamespace
	}
	if !utf8.Valid(v) {
		f.bad = true
		return ""
	}
	return string(v)
}

// usualNamespace is that of every transaction while there is no identity.
const usualNamespace = "default"

// countField counts a field's occurrences, as far as the message can be read.
func countField(message []byte, number protowire.Number) (count int) {
	for len(message) > 0 {
		field, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return count
		}
		message = message[n:]
		if n = protowire.ConsumeFieldValue(field, kind, message); n < 0 {
			return count
		}
		message = message[n:]
		if field == number {
			count++
		}
	}
	return count
}

// slab gives out pieces of arrays: the collector sees one object where there would
// be many. Whoever keeps a piece keeps its neighbours.
type slab[T any] struct{ free []T }

// slabMax bounds what is made at once for commands that may be of another kind.
const slabMax = 16

// one gives a piece; more is how many may be asked for yet.
func (s *slab[T]) one(more int) *T {
	if len(s.free) == 0 {
		s.free = make([]T, min(more+1, slabMax))
	}
	p := &s.free[0]
	s.free = s.free[1:]
	return p
}

// some gives n pieces in a row; more is how often so many may be asked for yet.
func (s *slab[T]) some(n, more int) []T {
	if n == 0 {
		return nil
	}
	if len(s.free) < n {
		s.free = make([]T, max(n, min(n*(more+1), 2*slabMax)))
	}
	p := s.free[:n:n]
	s.free = s.free[n:]
	return p
}
