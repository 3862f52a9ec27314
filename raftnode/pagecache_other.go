//go:build !linux

package raftnode

import "syscall"

// forget does nothing where there is no posix_fadvise(2) that can be relied on.
func forget(syscall.Conn, int64, int64) {}
