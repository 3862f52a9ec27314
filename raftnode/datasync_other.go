//go:build !linux

package raftnode

import (
	"errors"
	"syscall"
)

// datasync is fdatasync(2), where there is one that can be relied on.
func datasync(syscall.Conn) error { return errors.ErrUnsupported }
