//go:build !linux

package raftnode

import "syscall"

// forget does nothing where there is no posix_fadvise(2) that can be relied on.
func forget(syscall.Conn, int64, int64) {}

// openDirect is for Linux: elsewhere everything goes through the page cache.
const openDirect = 0

func throughCache(syscall.Conn) error { return nil }
