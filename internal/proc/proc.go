// Package proc runs child processes that never outlive their parent.
//
// `quorate dev`, `quorate demo` and the tests run real clusters of processes
// and kill them at the worst moment. What they have in common is here: a child
// has its own process group (a Ctrl-C in the terminal reaches the parent only,
// which then stops its children in order), is killed by the kernel when the
// parent dies however it dies (Linux), and its end is seen exactly once.
package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
)

// Spec says what to run.
type Spec struct {
	// Name is for people and errors, such as `n1`.
	Name string
	// Path of the program.
	Path string
	// Args after the program's name.
	Args []string
	// Env is added to the parent's environment; a later entry wins.
	Env []string
	// DropEnv is a prefix: the parent's variables that begin with it are not
	// inherited. Empty: all are.
	DropEnv string
	// LogPath is the file to which standard output and standard error are
	// appended. Empty: they are dropped.
	LogPath string
}

// Process is a child that was started. Its methods may be called from any
// goroutine.
type Process struct {
	spec   Spec
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // read only after exited is closed
}

// Start starts a child. The log file is opened by the child's own descriptor:
// what it wrote before a SIGKILL is in the file.
func Start(spec Spec) (*Process, error) {
	cmd := exec.Command(spec.Path, spec.Args...)
	cmd.Env = append(inherited(spec.DropEnv), spec.Env...)
	cmd.SysProcAttr = childAttributes()
	if spec.LogPath != "" {
		log, err := os.OpenFile(spec.LogPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, fmt.Errorf("start %s: open its log: %w", spec.Name, err)
		}
		defer log.Close()
		cmd.Stdout, cmd.Stderr = log, log
	}
	if err := spawn(cmd); err != nil {
		return nil, fmt.Errorf("start %s (%s): %w", spec.Name, spec.Path, err)
	}
	p := &Process{spec: spec, cmd: cmd, exited: make(chan struct{})}
	go p.wait()
	return p, nil
}

// inherited is the parent's environment without what is dropped.
func inherited(drop string) []string {
	environ := os.Environ()
	if drop == "" {
		return environ
	}
	return slices.DeleteFunc(environ, func(entry string) bool { return strings.HasPrefix(entry, drop) })
}

// wait is the one goroutine of a child; it ends with it.
func (p *Process) wait() {
	p.err = p.cmd.Wait()
	close(p.exited)
}

// Name returns the name given in the Spec.
func (p *Process) Name() string { return p.spec.Name }

// Pid returns the process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Exited is closed when the child has ended and was reaped.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Running says whether the child has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// Err says how the child ended: nil for exit code 0, an *exec.ExitError for
// another code or a signal. It must be called only after Exited is closed.
func (p *Process) Err() error {
	<-p.exited
	return p.err
}

// ExitCode returns the exit code, or -1 when a signal ended the child. It
// waits for the end.
func (p *Process) ExitCode() int {
	<-p.exited
	return p.cmd.ProcessState.ExitCode()
}

// Signal sends a signal; a child that has ended already is no error.
func (p *Process) Signal(sig os.Signal) error {
	err := p.cmd.Process.Signal(sig)
	if err == nil || errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return fmt.Errorf("signal %v to %s (pid %d): %w", sig, p.spec.Name, p.Pid(), err)
}

// Kill ends the child with SIGKILL and waits until it is gone.
func (p *Process) Kill() error {
	if err := p.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.exited
	return nil
}

// Stop asks the child to end (SIGTERM) and waits; when ctx ends first, the
// child is killed and the error says so.
func (p *Process) Stop(ctx context.Context) error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.exited:
		return nil
	case <-ctx.Done():
		if err := p.Kill(); err != nil {
			return err
		}
		return fmt.Errorf("stop %s: it did not end when asked and was killed: %w", p.spec.Name, context.Cause(ctx))
	}
}
