package raftnode

import (
	"errors"
	"io/fs"
	"syscall"

	walfs "github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/types"
)

// raft-wal asks the file system for all of a segment's blocks when it makes one. On
// ext4 and XFS these are blocks that were never written, and read as zeros because
// a note says so. The first write to each changes the note, so that its fsync has
// the file system's journal to write beside the data: it takes twice as long, and a
// half more of CPU. So zeros are written a good way ahead of the log, and nearly all
// of its writes go to blocks that hold something already.
//
// The bytes of the file are the same with it and without.
//
// What was written and synced is not read again but by a follower that was away and by
// the next start. Left alone the log would fill the machine's memory, and each of its
// pages takes one that something else may have had: on a virtual machine whose host takes
// unused memory back, ten times as long as one that was let go of a moment ago. So what
// lies behind is let go of every so often.
//
// With that, little is left to say about such a file but when it was written. An
// fsync says it, through the journal, as often as the clock has ticked; fdatasync does
// not, and waits for the journal where it must. Of a thousand writes of 700 bytes, each
// synced, 748 waited for the journal, with zeros ahead 135, and by fdatasync one; of
// 20 kB a thousand, 250 and 20.

// zeroAheadBytes is how far ahead. Whichever fsync comes next writes them out.
const zeroAheadBytes = 1 << 20

// forgetBytes is how much of a file is synced before it is let go of.
const forgetBytes = 1 << 20

// zeroes is what is written ahead.
var zeroes [zeroAheadBytes]byte

// zeroAheadFS is the file system for raft-wal's segments.
type zeroAheadFS struct{ types.VFS }

func newZeroAheadFS() types.VFS { return zeroAheadFS{walfs.New()} }

// Create makes a file of size bytes.
func (v zeroAheadFS) Create(dir, name string, size uint64) (types.WritableFile, error) {
	f, err := v.VFS.Create(dir, name, size)
	return zeroAheadOf(f, err)
}

// OpenWriter opens the segment that was written last, at the start.
func (v zeroAheadFS) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := v.VFS.OpenWriter(dir, name)
	return zeroAheadOf(f, err)
}

func zeroAheadOf(f types.WritableFile, err error) (types.WritableFile, error) {
	if err != nil {
		return nil, err
	}
	file, ok := f.(osFile)
	if !ok {
		return f, nil
	}
	info, err := file.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &zeroAheadFile{osFile: file, size: info.Size()}, nil
}

// osFile is what raft-wal's own files are.
type osFile interface {
	types.WritableFile
	syscall.Conn
	Stat() (fs.FileInfo, error)
}

// zeroAheadFile is a segment that is appended to, by one goroutine. What lies behind
// the latest write is of no use to anybody: nothing, or what is left of a write that
// a crash cut short, before this one took its place.
type zeroAheadFile struct {
	osFile
	size   int64 // of the file, which does not grow by what is written ahead
	end    int64 // of the latest write
	upTo   int64 // where written blocks end
	gone   int64 // up to where it was let go of
	synced bool  // whole, with its place in the directory
}

// WriteAt writes b, and zeros behind it where blocks begin that were never written.
func (f *zeroAheadFile) WriteAt(b []byte, at int64) (int, error) {
	n, err := f.osFile.WriteAt(b, at)
	end := at + int64(n)
	f.end = end
	if end > f.size {
		f.synced = false // the file has grown, if that was possible
	}
	if err != nil || end <= f.upTo {
		return n, err
	}
	f.upTo = min(end+zeroAheadBytes, f.size)
	if end < f.upTo {
		_, err = f.osFile.WriteAt(zeroes[:f.upTo-end], end)
	}
	return n, err
}

// Sync returns once everything written is on the disk.
func (f *zeroAheadFile) Sync() error {
	if f.synced {
		if err := datasync(f.osFile); !errors.Is(err, errors.ErrUnsupported) {
			f.forget(err)
			return err
		}
	}
	err := f.osFile.Sync()
	f.synced = err == nil
	f.forget(err)
	return err
}

// forget lets go of what lies behind the latest write, once it was synced.
func (f *zeroAheadFile) forget(failed error) {
	if failed != nil || f.end-f.gone < forgetBytes {
		return
	}
	forget(f.osFile, f.gone, f.end)
	f.gone = f.end
}
