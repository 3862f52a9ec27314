package testdb

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a running server.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when the process was reaped
}

// startProcess starts argv so that it dies with the caller: a test binary
// that is killed must not leave servers behind.
func startProcess(argv []string, cred *syscall.Credential, logFile string) (*process, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = attributes(cred)
	p := &process{cmd: cmd, exited: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel's parent-death signal follows the thread that forked
		// (golang/go#27505), so that thread waits for the child's end.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.exited)
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		// How a server ended is in its log; that it ended is all we need.
		_ = cmd.Wait()
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// kill sends SIGKILL to the server and to the children it has, and waits.
func (p *process) kill() {
	children := p.children()
	_ = p.cmd.Process.Kill()
	<-p.exited
	for _, pid := range children {
		// Orphans of a killed Postgres: each leaves by itself soon, or now.
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// signal reaches the server, and with SIGSTOP and SIGCONT the children it has.
func (p *process) signal(sig syscall.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil || sig != syscall.SIGSTOP && sig != syscall.SIGCONT {
		return err
	}
	for _, pid := range p.children() {
		_ = syscall.Kill(pid, sig) // one that has ended meanwhile needs no signal
	}
	return nil
}

// stop asks for a graceful end, and kills after the given time.
func (p *process) stop(sig syscall.Signal, limit time.Duration) {
	_ = p.cmd.Process.Signal(sig)
	select {
	case <-p.exited:
	case <-time.After(limit):
		p.kill()
	}
}

// children reads the process' children from /proc; none where there is none.
func (p *process) children() []int {
	pid := strconv.Itoa(p.cmd.Process.Pid)
	b, err := os.ReadFile("/proc/" + pid + "/task/" + pid + "/children")
	if err != nil {
		return nil
	}
	var pids []int
	for f := range strings.FieldsSeq(string(b)) {
		if n, err := strconv.Atoi(f); err == nil {
			pids = append(pids, n)
		}
	}
	return pids
}
