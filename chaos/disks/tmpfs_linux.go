package disks

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// tmpfsSuffix ends the name of each tmpfs, by which Reap knows them.
const tmpfsSuffix = ".quorate-tmpfs"

// Tmpfs is a small file system in memory, for disks that are full. It proves
// nothing about durability: see [RefuseTmpfs].
type Tmpfs struct {
	// Dir is where it is mounted.
	Dir string
}

// NewTmpfs mounts a tmpfs of so many bytes at dir, which is made.
func NewTmpfs(dir string, bytes int64) (*Tmpfs, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("mounting a tmpfs needs root")
	}
	if _, err := Reap(); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	source := filepath.Base(ownedName("disk")) + tmpfsSuffix
	if err := syscall.Mount(source, dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", bytes)); err != nil {
		return nil, fmt.Errorf("mount a tmpfs at %s: %w", dir, err)
	}
	return &Tmpfs{Dir: dir}, nil
}

// Resize changes how much fits in.
func (t *Tmpfs) Resize(bytes int64) error {
	return syscall.Mount("", t.Dir, "tmpfs", syscall.MS_REMOUNT, fmt.Sprintf("size=%d", bytes))
}

// Close unmounts it; its content is gone.
func (t *Tmpfs) Close() error { return unmount(t.Dir, time.Now().Add(unmountMax)) }

// RefuseTmpfs fails when dir lies in memory: what "survives" there has never
// been on a disk.
func RefuseTmpfs(dir string) error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("look at the file system of %s: %w", dir, err)
	}
	const tmpfsMagic, ramfsMagic = 0x01021994, 0x858458f6
	if fs.Type == tmpfsMagic || fs.Type == ramfsMagic {
		return fmt.Errorf("%s lies in memory (tmpfs): nothing can be said about durability there; use a directory on a disk", dir)
	}
	return nil
}

// Fill writes a file of zeros into dir until it is full, and returns a function
// that makes the room again.
func Fill(dir string) (free func() error, err error) {
	path := filepath.Join(dir, ".filler")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	free = func() error { return os.Remove(path) }
	for size := 1 << 20; size >= 512; {
		_, err := f.Write(make([]byte, size))
		switch {
		case errors.Is(err, syscall.ENOSPC):
			size /= 2 // the last crumbs too
		case err != nil:
			return nil, errors.Join(err, f.Close(), free())
		}
	}
	// On ext4 blocks are given at the flush; close does not wait for it.
	return free, errors.Join(f.Sync(), f.Close())
}
