//go:build unix && !linux

package proc

import (
	"os/exec"
	"syscall"
)

// childAttributes makes the child a process group of its own. Only Linux can
// be asked to end a child with its parent.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

func spawn(cmd *exec.Cmd) error { return cmd.Start() }
