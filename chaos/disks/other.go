//go:build !linux

package disks

import "errors"

var errLinux = errors.New("volumes are made by loop devices and ext4, on Linux")

// Volume is an ext4 file system of its own, in a file: on Linux.
type Volume struct{ Dir string }

// Possible returns why volumes cannot be made here.
func Possible() error { return errLinux }

// Reap has nothing to take away here.
func Reap() (int, error) { return 0, nil }

// NewVolume fails here, and so does all else.
func NewVolume(string, int64) (*Volume, error) { return nil, errLinux }
func (v *Volume) Mount() error                 { return errLinux }
func (v *Volume) Shutdown() error              { return errLinux }
func (v *Volume) Cut() error                   { return errLinux }
func (v *Volume) Unmount() error               { return errLinux }
func (v *Volume) Close() error                 { return errLinux }
func (v *Volume) Sync() error                  { return errLinux }

// Tmpfs is a small file system in memory: on Linux.
type Tmpfs struct{ Dir string }

// NewTmpfs fails here, and so does all else.
func NewTmpfs(string, int64) (*Tmpfs, error) { return nil, errLinux }
func (t *Tmpfs) Resize(int64) error          { return errLinux }
func (t *Tmpfs) Close() error                { return errLinux }

// RefuseTmpfs cannot tell here.
func RefuseTmpfs(string) error { return nil }

// Fill fails here.
func Fill(string) (func() error, error) { return nil, errLinux }
