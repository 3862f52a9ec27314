// Package floor is what the benchmark divides by: a node that serves the same
// gRPC services as Quorate's, and puts the same bytes through the same Raft node,
// with no protocol: nothing is checked, nothing is kept, nobody is refused. What
// the product costs beside it is what the product does.
//
// A floor node never serves real transactions: it decides commit for whoever asks.
package floor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"sync/atomic"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/raftnode"
)

// mark is the first byte of a floor's command. No logpb.Command begins with it:
// as a protobuf tag it would be of wire type 7, which there is not.
const mark = 0xFF

// Command is the form in which bytes are proposed: Machine passes them by.
func Command(size int) []byte { return append(make([]byte, 0, size+1), mark) }

// Machine applies to the machine below it what is not the floor's: the cluster's
// own commands, such as who its nodes are. The floor's own do nothing.
type Machine struct {
	raftnode.Machine
	changed atomic.Bool
}

// Over makes a floor of a machine.
func Over(m raftnode.Machine) *Machine { return &Machine{Machine: m} }

// Changed says whether the machine below was changed since the last call.
func (m *Machine) Changed() bool { return m.changed.Swap(false) }

var _ raftnode.Follower = (*Machine)(nil)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errDamaged stops the node, as it stops one of the product.
var errDamaged = errors.New("floor: log entry is damaged")

// ApplyEntry reads the entry's frame by hand: to build messages would be a part
// of the protocol's price.
func (m *Machine) ApplyEntry(index, term uint64, entry []byte) ([]fsm.Result, error) {
	e, err := readEntry(entry)
	if err != nil {
		return nil, err
	}
	results := make([]fsm.Result, e.commands)
	if len(e.plain) == 0 && e.commands > 0 {
		return results, nil
	}
	below, err := m.Machine.ApplyEntry(index, term, m.handedOn(e))
	if err != nil {
		return nil, err
	}
	for i, at := range e.places {
		results[at] = below[i]
	}
	return results, nil
}

// Follow is ApplyEntry where nobody waits for the results, as the product's machine has
// it: none are made.
func (m *Machine) Follow(index, term uint64, entry []byte) error {
	e, err := readEntry(entry)
	if err != nil || len(e.plain) == 0 && e.commands > 0 {
		return err
	}
	if f, ok := m.Machine.(raftnode.Follower); ok {
		return f.Follow(index, term, m.handedOn(e))
	}
	_, err = m.Machine.ApplyEntry(index, term, m.handedOn(e))
	return err
}

// read is an entry's frame.
type read struct {
	commands int
	stamps   [4]uint64 // clock, wall and feature level, by field number
	plain    [][]byte  // the commands that are not the floor's
	places   []int     // of these, among all
}

func readEntry(entry []byte) (e read, err error) {
	if len(entry) < fsm.EntryOverheadBytes {
		return e, fmt.Errorf("%w: %d bytes", errDamaged, len(entry))
	}
	body := entry[fsm.EntryOverheadBytes:]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(entry[1:]) {
		return e, fmt.Errorf("%w: its checksum does not match", errDamaged)
	}
	for len(body) > 0 {
		number, kind, n := protowire.ConsumeTag(body)
		if n < 0 {
			return e, fmt.Errorf("%w: %w", errDamaged, protowire.ParseError(n))
		}
		body = body[n:]
		switch {
		case kind == protowire.VarintType && number < 4:
			e.stamps[number], n = protowire.ConsumeVarint(body)
		case kind == protowire.BytesType && number == 4:
			var command []byte
			command, n = protowire.ConsumeBytes(body)
			if n >= 0 && (len(command) == 0 || command[0] != mark) {
				e.plain, e.places = append(e.plain, command), append(e.places, e.commands)
			}
			e.commands++
		default:
			n = protowire.ConsumeFieldValue(number, kind, body)
		}
		if n < 0 {
			return e, fmt.Errorf("%w: %w", errDamaged, protowire.ParseError(n))
		}
		body = body[n:]
	}
	return e, nil
}

// handedOn is the entry with what is not the floor's.
func (m *Machine) handedOn(e read) []byte {
	m.changed.Store(true)
	return fsm.EncodeEntryRaw(nil, e.stamps[1], e.stamps[2], uint32(e.stamps[3]), e.plain)
}
