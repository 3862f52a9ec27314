package testkit

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"
)

// cachestat(2), of Linux 6.5: the number is the same on all machines that have it.
const sysCachestat = 451

type cachestatRange struct{ off, len uint64 }

type cachestat struct{ cached, dirty, writeback, evicted, recentlyEvicted uint64 }

// statCache asks what the kernel has of a file in memory.
func statCache(path string) (cachestat, error) {
	f, err := os.Open(path)
	if err != nil {
		return cachestat{}, err
	}
	defer f.Close()
	var whole cachestatRange // of length 0: to the end
	var stat cachestat
	_, _, errno := syscall.Syscall6(sysCachestat, f.Fd(), uintptr(unsafe.Pointer(&whole)), uintptr(unsafe.Pointer(&stat)), 0, 0, 0)
	if errno != 0 {
		return cachestat{}, fmt.Errorf("cachestat %s: %w", path, errno)
	}
	return stat, nil
}

// unsyncedPages counts the pages of a file that are in memory only, or on their
// way to the disk.
func unsyncedPages(path string) (uint64, error) {
	stat, err := statCache(path)
	return stat.dirty + stat.writeback, err
}

// CachedBytes is how much of a file the kernel has in memory. Where the machine cannot
// tell (no Linux 6.5) it says so in the log, and ok is false.
func CachedBytes(t testing.TB, path string) (n int64, ok bool) {
	t.Helper()
	stat, err := statCache(path)
	if err != nil {
		t.Logf("not possible here: what is in memory of a file: %v", err)
		return 0, false
	}
	return int64(stat.cached) * int64(os.Getpagesize()), true
}

// Synced fails the test where a file's content has not been forced to the disk:
// a power cut now would lose it. It asks the kernel which pages are dirty, and
// needs neither root nor a disk that can be cut off. Where the machine cannot
// tell (no Linux 6.5, a file system in memory) it says so in the log and returns
// false.
func Synced(t testing.TB, paths ...string) bool {
	t.Helper()
	// A canary first: what nobody has synced must show as such, or a green answer
	// would mean nothing.
	canary := filepath.Join(filepath.Dir(paths[0]), "canary-of-synced")
	defer func() { _ = os.Remove(canary) }()
	if err := os.WriteFile(canary, make([]byte, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := unsyncedPages(canary); err != nil || n == 0 {
		t.Logf("not possible here: whether a file is synced (%d dirty pages of a file that nobody synced, %v)", n, err)
		return false
	}
	for _, path := range paths {
		if n, err := unsyncedPages(path); err != nil {
			t.Error(err)
		} else if n > 0 {
			t.Errorf("%s: %d pages are in memory only: a power cut would lose what was acknowledged", path, n)
		}
	}
	return true
}
