//go:build !linux

package branchbank

import "time"

// now is the wall clock, where no other clock is shared by all processes.
func now() int64 { return time.Now().UnixNano() }
