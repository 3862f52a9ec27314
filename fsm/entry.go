package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/quorate/quorate/fsm/logpb"
)

// A log entry is: one version byte, the CRC-32C (Castagnoli, little endian) of
// what follows, and a logpb.Batch.
const (
	// EntryVersion is the version byte of the entries written now.
	EntryVersion = 1
	// EntryOverheadBytes is what an entry holds in front of its batch.
	EntryOverheadBytes = 5
)

// Errors of DecodeEntry. A node that meets one must stop: its log is damaged,
// or was written by a newer version.
var (
	ErrEntryVersion   = errors.New("log entry of an unknown version")
	ErrEntryChecksum  = errors.New("log entry's checksum does not match")
	ErrEntryMalformed = errors.New("log entry is malformed")
	ErrFeatureLevel   = errors.New("log entry needs a newer version of quorate")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// EncodeEntry appends the entry that holds b to dst.
func EncodeEntry(dst []byte, b *logpb.Batch) []byte {
	commands := make([][]byte, len(b.GetCommands()))
	for i, c := range b.GetCommands() {
		commands[i] = MarshalCommand(c)
	}
	return EncodeEntryRaw(dst, b.GetClockMs(), b.GetWallMs(), b.GetFeatureLevel(), commands)
}

// EncodeEntryRaw appends an entry of commands that are marshalled already, so
// that the goroutine that packs them copies bytes and no more.
func EncodeEntryRaw(dst []byte, clockMS, wallMS uint64, level uint32, commands [][]byte) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, EntryOverheadBytes)...)
	dst = appendUint(dst, 1, clockMS)
	dst = appendUint(dst, 2, wallMS)
	dst = appendUint(dst, 3, uint64(level))
	for _, c := range commands {
		dst = protowire.AppendTag(dst, 4, protowire.BytesType)
		dst = protowire.AppendBytes(dst, c)
	}
	sealEntry(dst[start:])
	return dst
}

// sealEntry writes the version and the checksum in front of an entry's batch.
func sealEntry(entry []byte) []byte {
	entry[0] = EntryVersion
	binary.LittleEndian.PutUint32(entry[1:], crc32.Checksum(entry[EntryOverheadBytes:], castagnoli))
	return entry
}

// DecodeEntry checks and reads an entry. Its errors wrap ErrEntryVersion,
// ErrEntryChecksum or ErrEntryMalformed. The batch does not alias entry.
func DecodeEntry(entry []byte) (*logpb.Batch, error) { return new(decoder).entry(entry) }

// entry is DecodeEntry. The batch is good until reset.
func (d *decoder) entry(entry []byte) (*logpb.Batch, error) {
	if len(entry) < EntryOverheadBytes {
		return nil, fmt.Errorf("%w: %d bytes", ErrEntryMalformed, len(entry))
	}
	if entry[0] != EntryVersion {
		return nil, fmt.Errorf("%w: %d, this version reads %d", ErrEntryVersion, entry[0], EntryVersion)
	}
	body := entry[EntryOverheadBytes:]
	want := binary.LittleEndian.Uint32(entry[1:])
	if got := crc32.Checksum(body, castagnoli); got != want {
		return nil, fmt.Errorf("%w: stored %08x, computed %08x", ErrEntryChecksum, want, got)
	}
	b, err := d.decode(body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEntryMalformed, err)
	}
	return b, nil
}

// MarshalCommand is a command's form inside an entry. A command that cannot be
// marshalled holds text that is not UTF-8: callers must validate what they
// take from outside, so this panics.
func MarshalCommand(c *logpb.Command) []byte {
	if b := make([]byte, c.WireSize()); c.WireWrite(b) {
		return b
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(c)
	if err != nil {
		panic(fmt.Sprintf("fsm: a command cannot be marshalled: %v", err))
	}
	return b
}
