package proc

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// childAttributes makes the child a process group of its own and asks the
// kernel to kill it when its parent ends.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// spawner starts every child from one OS thread that lives as long as the
// process: "parent" in PR_SET_PDEATHSIG means the thread that forked (prctl(2)),
// and the Go runtime ends threads as it likes (golang/go #27505).
var spawner = sync.OnceValue(func() chan<- request {
	requests := make(chan request)
	go func() {
		runtime.LockOSThread() // never unlocked, so the thread never goes
		for r := range requests {
			r.done <- r.cmd.Start()
		}
	}()
	return requests
})

type request struct {
	cmd  *exec.Cmd
	done chan<- error
}

func spawn(cmd *exec.Cmd) error {
	done := make(chan error, 1)
	spawner() <- request{cmd, done}
	return <-done
}
