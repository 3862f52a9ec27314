package raftnode

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// Both log stores forget their latest writes without a word when the bytes at
// their end are damaged, since that is what a write looks like that a crash cut
// short: raft-wal drops the end of its last file from the first batch whose
// checksum is wrong, bbolt goes back to the transaction before when one of its
// two meta pages is unreadable, and a log that is missing is taken for a new
// one. A node that has so forgotten what it acknowledged would vote, and be
// elected, without it.
//
// So a file beside the stores says how far the node has come: the last entry
// that was on the disk, the term, the vote. It is written after each write of
// theirs has been synced, and not synced itself: after a kill it is exact, after
// a power loss it may be older, and it is never ahead of the truth. What is
// behind it at the start was lost. Only before entries are deleted at the end of
// the log is it lowered, and synced.

const highwaterFile = "highwater"

// highwaterMagic opens the file; the values and a checksum follow. It fits in a
// sector, so that it is written whole or not.
const highwaterMagic = "QRTHIGH1"

const highwaterBytes = len(highwaterMagic) + 3*8 + 4 + 4

// mark is what a node has on its disk at the least.
type mark struct {
	last     uint64 // index of the log's last entry
	term     uint64
	voteTerm uint64
	vote     uint32 // checksum of the vote in voteTerm
}

// highwater is the file that holds the mark.
type highwater struct {
	path string
	f    *os.File

	mu  sync.Mutex
	now mark
}

// openHighwater opens the mark of a data directory, or makes one that says
// nothing in a directory that has none: of a new node, or of an older version.
func openHighwater(dir string) (*highwater, error) {
	h := &highwater{path: filepath.Join(dir, highwaterFile)}
	var err error
	if h.f, err = os.OpenFile(h.path, os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, err
	}
	if err := h.read(); err != nil {
		return nil, errors.Join(err, h.f.Close())
	}
	return h, nil
}

func (h *highwater) read() error {
	content, err := io.ReadAll(h.f)
	if err != nil {
		return fmt.Errorf("read %s: %w", h.path, err)
	}
	// A power loss soon after it was made leaves it empty.
	if len(bytes.Trim(content, "\x00")) == 0 {
		return errors.Join(h.write(mark{}, true), syncDir(filepath.Dir(h.path)))
	}
	if len(content) != highwaterBytes || !bytes.Equal(encodeMark(decodeMark(content)), content) {
		return withRemedy(fmt.Errorf("read %s: %w: its checksum does not match", h.path, ErrDamaged))
	}
	h.now = decodeMark(content)
	return nil
}

func encodeMark(m mark) []byte {
	b := []byte(highwaterMagic)
	b = binary.LittleEndian.AppendUint64(b, m.last)
	b = binary.LittleEndian.AppendUint64(b, m.term)
	b = binary.LittleEndian.AppendUint64(b, m.voteTerm)
	b = binary.LittleEndian.AppendUint32(b, m.vote)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeMark(b []byte) mark {
	b = b[len(highwaterMagic):]
	return mark{
		last: binary.LittleEndian.Uint64(b), term: binary.LittleEndian.Uint64(b[8:]),
		voteTerm: binary.LittleEndian.Uint64(b[16:]), vote: binary.LittleEndian.Uint32(b[24:]),
	}
}

// set changes the mark by f, and syncs it where it must not be ahead.
func (h *highwater) set(sync bool, f func(*mark)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	next := h.now
	if f(&next); next == h.now {
		return nil
	}
	return h.write(next, sync)
}

func (h *highwater) write(next mark, sync bool) error {
	if _, err := h.f.WriteAt(encodeMark(next), 0); err != nil {
		return fmt.Errorf("write %s: %w", h.path, err)
	}
	if sync {
		if err := h.f.Sync(); err != nil {
			return fmt.Errorf("sync %s: %w", h.path, err)
		}
	}
	h.now = next
	return nil
}

// verifyLast refuses a log, with its snapshot, that ends before the mark.
func (h *highwater) verifyLast(last uint64) error {
	if last >= h.now.last {
		return nil
	}
	return fmt.Errorf("%w: it ends at entry %d, and %s says that entry %d was on this disk: the end is lost, or an older copy was put in its place",
		ErrDamaged, last, h.path, h.now.last)
}

// verifyVote refuses a term or a vote from before the mark.
func (h *highwater) verifyVote(term, voteTerm uint64, vote uint32) error {
	m := h.now
	if term >= m.term && (voteTerm > m.voteTerm || voteTerm == m.voteTerm && (vote == m.vote || m.voteTerm == 0)) {
		return nil
	}
	return fmt.Errorf("%w: it holds term %d and a vote of term %d, and %s says that term %d and a vote of term %d were on this disk: they are lost, or an older copy was put in their place",
		ErrDamaged, term, voteTerm, h.path, m.term, m.voteTerm)
}
