package raftnode

import (
	"io/fs"

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

// zeroAheadBytes is how far ahead. Whichever fsync comes next writes them out.
const zeroAheadBytes = 1 << 20

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
	sized, ok := f.(interface{ Stat() (fs.FileInfo, error) })
	if !ok {
		return f, nil
	}
	info, err := sized.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &zeroAheadFile{WritableFile: f, size: info.Size()}, nil
}

// zeroAheadFile is a segment that is appended to, by one goroutine. What lies behind
// the latest write is of no use to anybody: nothing, or what is left of a write that
// a crash cut short, before this one took its place.
type zeroAheadFile struct {
	types.WritableFile
	size int64 // of the file, which does not grow by what is written ahead
	upTo int64 // where written blocks end
}

// WriteAt writes b, and zeros behind it where blocks begin that were never written.
func (f *zeroAheadFile) WriteAt(b []byte, at int64) (int, error) {
	n, err := f.WritableFile.WriteAt(b, at)
	end := at + int64(n)
	if err != nil || end <= f.upTo {
		return n, err
	}
	f.upTo = min(end+zeroAheadBytes, f.size)
	if end < f.upTo {
		_, err = f.WritableFile.WriteAt(zeroes[:f.upTo-end], end)
	}
	return n, err
}
