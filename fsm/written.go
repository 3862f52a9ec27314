package fsm

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/quorate/quorate/fsm/logpb"
)

// Most of a record's bytes are its begin's, and mostly they stand in the log just as
// record.go writes them. Then a record keeps them, copied once, instead of copies of
// its texts, and they are written again as they are.

// writtenBytesMin is what is worth it: less is made anew as fast, and has no texts of
// its own.
const writtenBytesMin = 128

// asWritten says that appendBegin writes m in so many bytes. Bytes of that number from
// which m was read, with all fields in order, are those: whatever is written longer than
// need be, twice, or though it is empty, makes them more. An enum below zero might be of
// fewer, for it may have been read from 32 bits, and is written with 64.
func asWritten(m *logpb.Begin, bytes int) bool {
	if m.GetPlan() != nil || len(m.GetBranches()) > 0 || m.GetMode() < 0 || m.GetEntry() < 0 {
		return false
	}
	n := sizeBytes(len(m.GetGid())) + sizeBytes(len(m.GetNamespace())) + sizeBytes(len(m.GetKey())) +
		sizeUint(uint64(m.GetMode())) + sizeUint(uint64(m.GetEntry())) + sizeUint(m.GetTimeoutMs()) +
		sizeBytes(len(m.GetTraceparent())) + sizeBytes(len(m.GetInitiator())) + sizeBytes(len(m.GetHolder()))
	for _, l := range m.GetLabels() {
		n += 1 + protowire.SizeBytes(sizeBytes(len(l.GetName()))+sizeBytes(len(l.GetValue())))
	}
	return n == bytes
}

// sizeBytes is what appendBytes and appendText write for a field of one of the first
// fifteen numbers.
func sizeBytes(n int) int {
	if n == 0 {
		return 0
	}
	return 1 + protowire.SizeBytes(n)
}

// sizeUint is the same of appendUint.
func sizeUint(v uint64) int {
	if v == 0 {
		return 0
	}
	return 1 + protowire.SizeVarint(v)
}

// writtenAs is how a begin of the batch is written, "" where it is written anew. Begins
// must be asked for in the order of their commands, each once.
func (d *decoder) writtenAs(b *logpb.Begin) string {
	for d != nil && d.asked < len(d.begins) {
		kept := d.begins[d.asked]
		d.asked++
		if &kept.begin == b {
			return kept.written
		}
	}
	return ""
}
