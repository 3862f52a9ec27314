package embedded

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/quorate/quorate/participant"
)

// record is a prepared branch: what it wants to write, and the keys it locks,
// which are more where it also read. It is stored as
//
//	version (1 byte) | CRC-32C of the body (4 bytes, big endian) | body
//
// because bbolt's pages carry no checksum: a flipped bit must not become money.
type record struct {
	participant.Prepared
	keys   []string // every locked key
	writes []write
}

// write is one key's new value; a nil value deletes.
type write struct {
	key   string
	value []byte
	del   bool
}

const recordVersion = 1

var (
	castagnoli       = crc32.MakeTable(crc32.Castagnoli)
	errRecordVersion = errors.New("the prepare record was written by another version")
	errRecordDamaged = errors.New("the prepare record is damaged")
)

func (r *record) encode() []byte {
	body := appendString(nil, string(r.GID))
	body = appendString(body, r.ID)
	body = appendString(body, r.Cluster)
	body = binary.AppendUvarint(body, uint64(r.Timeout/time.Second))
	body = binary.AppendUvarint(body, uint64(len(r.keys)))
	for _, k := range r.keys {
		body = appendString(body, k)
	}
	body = binary.AppendUvarint(body, uint64(len(r.writes)))
	for _, w := range r.writes {
		body = appendString(body, w.key)
		if w.del {
			body = append(body, 1)
			continue
		}
		body = append(body, 0)
		body = appendString(body, string(w.value))
	}
	return seal(body)
}

// seal puts version and checksum before the body.
func seal(body []byte) []byte {
	out := append(make([]byte, 0, len(body)+5), recordVersion)
	out = binary.BigEndian.AppendUint32(out, crc32.Checksum(body, castagnoli))
	return append(out, body...)
}

func decodeRecord(b []byte) (*record, error) {
	if len(b) < 5 {
		return nil, errRecordDamaged
	}
	if b[0] != recordVersion {
		return nil, fmt.Errorf("%w: %d, want %d", errRecordVersion, b[0], recordVersion)
	}
	body := b[5:]
	if binary.BigEndian.Uint32(b[1:5]) != crc32.Checksum(body, castagnoli) {
		return nil, fmt.Errorf("%w: its checksum differs", errRecordDamaged)
	}
	d := &decoder{b: body}
	r := &record{}
	r.GID = participant.GID(d.string())
	r.ID = d.string()
	r.Cluster = d.string()
	r.Timeout = time.Duration(d.uvarint()) * time.Second
	for range d.count() {
		r.keys = append(r.keys, d.string())
	}
	for range d.count() {
		w := write{key: d.string(), del: d.byte() == 1}
		if !w.del {
			w.value = []byte(d.string())
		}
		r.writes = append(r.writes, w)
	}
	if d.bad || len(d.b) != 0 {
		return nil, errRecordDamaged
	}
	return r, nil
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// decoder reads a body; bad is set, and zero values are read, once it is short.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uvarint() uint64 {
	n, size := binary.Uvarint(d.b)
	if size <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[size:]
	return n
}

// count is a number of items, each of at least one byte: more cannot follow.
func (d *decoder) count() int {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) string() string {
	n := d.count()
	if d.bad {
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail()
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

func (d *decoder) fail() { d.bad, d.b = true, nil }

// clone copies what bbolt lends; nil stays nil, and empty stays empty.
func clone(b []byte) []byte { return bytes.Clone(b) }
