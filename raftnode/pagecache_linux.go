package raftnode

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// forget lets the kernel drop from memory the bytes of a file from one place up to
// another, which are on the disk already and will hardly be read again. It is advice: what
// cannot be dropped stays.
func forget(f syscall.Conn, from, to int64) {
	from -= from % int64(os.Getpagesize()) // what is left of a page was not dropped before
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { _ = unix.Fadvise(int(fd), from, to-from, unix.FADV_DONTNEED) })
}

// openDirect opens a file whose writes go past the page cache.
const openDirect = syscall.O_DIRECT

// throughCache takes it back: a file system may refuse it with the first write.
func throughCache(f syscall.Conn) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		var flags int
		if flags, failed = unix.FcntlInt(fd, unix.F_GETFL, 0); failed == nil {
			_, failed = unix.FcntlInt(fd, unix.F_SETFL, flags&^unix.O_DIRECT)
		}
	})
	return errors.Join(err, failed)
}
