package raftnode

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"unsafe"
)

// The library's sink passes what it is given through a CRC-64 in software and through the
// page cache: these were most of what a snapshot cost. So the content goes into a
// file of ours beside the library's, past the page cache, and the library is given a note
// of its length and its CRC-32C, which the library's own checksum guards.

const (
	contentFile = "content.bin"
	// noteMagic opens a note. A snapshot that the library was given whole, as by an earlier
	// version, begins with snapshotMagic.
	noteMagic = "QRTNOTE1"
	noteBytes = len(noteMagic) + 8 + 4
)

// note is what a content file holds.
type note struct {
	bytes int64
	sum   uint32
}

func (n note) encode() []byte {
	b := binary.BigEndian.AppendUint64([]byte(noteMagic), uint64(n.bytes))
	return binary.BigEndian.AppendUint32(b, n.sum)
}

// readNote reads what the library was given; ok is false where that is no note.
func readNote(b *bufio.Reader) (n note, ok bool, err error) {
	head, err := b.Peek(len(noteMagic))
	if err != nil && !errors.Is(err, io.EOF) {
		return note{}, false, err
	}
	if string(head) != noteMagic {
		return note{}, false, nil
	}
	text := make([]byte, noteBytes)
	if _, err := io.ReadFull(b, text); err != nil {
		return note{}, false, fmt.Errorf("read the note of its content: %w", err)
	}
	text = text[len(noteMagic):]
	return note{bytes: int64(binary.BigEndian.Uint64(text)), sum: binary.BigEndian.Uint32(text[8:])}, true, nil
}

// contentBufferBytes is written at once.
const contentBufferBytes = 1 << 20

// contentAlign is what place, length and memory of a write past the page cache are
// multiples of (open(2), O_DIRECT): the blocks of no disk are larger.
const contentAlign = 4096

// writtenFile is an *os.File that is written.
type writtenFile interface {
	io.WriteCloser
	syscall.Conn
	Truncate(size int64) error
	Sync() error
}

// contentWriter writes a content file.
type contentWriter struct {
	f      writtenFile
	direct bool // past the page cache
	buffer []byte
	filled int
	note   note
	onDisk int64 // bytes of it, where it is not direct
}

// refusesDirect: the file system cannot write past the page cache.
func refusesDirect(err error) bool {
	return errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported)
}

func createContent(dir string) (*contentWriter, error) {
	path := filepath.Join(dir, contentFile)
	const flags = os.O_WRONLY | os.O_CREATE | os.O_EXCL
	f, err := os.OpenFile(path, flags|openDirect, 0o600)
	direct := openDirect != 0
	if refusesDirect(err) {
		direct = false
		if f, err = os.OpenFile(path, flags&^os.O_EXCL, 0o600); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, err
	}
	buffer := make([]byte, contentBufferBytes+contentAlign)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(buffer))) % contentAlign
	return &contentWriter{f: f, direct: direct, buffer: buffer[skip:][:contentBufferBytes:contentBufferBytes]}, nil
}

func (w *contentWriter) Write(p []byte) (n int, err error) {
	w.note.bytes += int64(len(p))
	w.note.sum = crc32.Update(w.note.sum, castagnoli, p)
	for len(p) > 0 {
		k := copy(w.buffer[w.filled:], p)
		w.filled, n, p = w.filled+k, n+k, p[k:]
		if w.filled == len(w.buffer) {
			if err := w.flush(w.buffer); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// flush writes b. What has to go through the page cache goes to the disk at once: what
// piles up until the end would go in one go then, and the log, which every decision waits
// for, behind it.
func (w *contentWriter) flush(b []byte) error {
	w.filled = 0
	n, err := w.f.Write(b)
	if w.direct && refusesDirect(err) {
		w.direct = false
		if err = throughCache(w.f); err == nil {
			_, err = w.f.Write(b[n:])
		}
	}
	if err != nil || w.direct {
		return err
	}
	if err := datasync(w.f); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	forget(w.f, w.onDisk, w.onDisk+int64(len(b))) // nobody reads it again soon
	w.onDisk += int64(len(b))
	return nil
}

// finish makes the content durable, but for its name, and says what it is.
func (w *contentWriter) finish() (note, error) {
	rest := w.buffer[:w.filled]
	if w.direct {
		whole := (w.filled + contentAlign - 1) / contentAlign * contentAlign
		clear(w.buffer[w.filled:whole])
		rest = w.buffer[:whole]
	}
	var err error
	if len(rest) > 0 {
		err = w.flush(rest)
	}
	if err == nil {
		err = w.f.Truncate(w.note.bytes)
	}
	if err == nil {
		err = w.f.Sync()
	}
	return w.note, errors.Join(err, w.f.Close())
}

// content is what stands in a content file, to be read.
type content struct {
	*bufio.Reader
	io.Closer
}

// openContent opens the content file in a directory, which has been read and holds what
// its note says.
func openContent(dir string, want note) (io.ReadCloser, error) {
	f, err := os.Open(filepath.Join(dir, contentFile))
	if err != nil {
		return nil, err
	}
	sum := crc32.New(castagnoli)
	n, err := io.CopyBuffer(sum, f, make([]byte, contentBufferBytes))
	if err == nil {
		if got := (note{bytes: n, sum: sum.Sum32()}); got != want {
			err = fmt.Errorf("%s holds %d bytes of checksum %08x, not %d of %08x", contentFile, got.bytes, got.sum, want.bytes, want.sum)
		}
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return content{bufio.NewReaderSize(f, contentBufferBytes), f}, nil
}
