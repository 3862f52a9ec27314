package branchbank

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// now is a monotonic time in nanoseconds that all processes of the machine share.
func now() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(fmt.Sprintf("branchbank: the machine has no monotonic clock: %v", err)) // every Linux has
	}
	return t.Nano()
}
