package bank

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/quorate/quorate/internal/failpoint"
	"github.com/quorate/quorate/internal/proc"
)

// The hidden subcommands that run a bank's processes: the plan's file, the seat
// and the number of the start follow.
const (
	ParticipantCommand = "chaos-bank-participant"
	InitiatorCommand   = "chaos-bank-initiator"
)

const (
	// readyMax bounds the time until a started process serves.
	readyMax = 45 * time.Second
	// readyPause is the pause between two looks at a starting process.
	readyPause = 30 * time.Millisecond
)

// Process is a seat with the process that sits there. Its methods may be called
// from any goroutine.
type Process struct {
	bank     *Bank
	seat     Seat
	command  string
	resource string // of a participant

	mu      sync.Mutex
	process *proc.Process
	starts  int
	asked   map[int]bool // starts whose process was made to end, or may end
}

// Death is the end of one process that a fault killed.
type Death struct {
	Seat  string
	Start int
	Pid   int
	At    int64
	How   string
}

// Name is the seat's.
func (p *Process) Name() string { return p.seat.Name }

// Resource is what a participant guards; empty for an initiator.
func (p *Process) Resource() string { return p.resource }

// Pid of the latest process, 0 when there was none.
func (p *Process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.process == nil {
		return 0
	}
	return p.process.Pid()
}

// Running says whether a process sits there, paused ones too.
func (p *Process) Running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.process != nil && p.process.Running()
}

// Start starts a process where none runs, and returns at once.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.process != nil && p.process.Running() {
		return fmt.Errorf("bank: %s runs already, as pid %d", p.seat.Name, p.process.Pid())
	}
	p.starts++
	var env []string
	if p.bank.o.Network != nil {
		var err error
		if env, err = p.bank.o.Network.Dials(p.seat.Name); err != nil {
			return err
		}
	}
	if p.resource != "" {
		env = append(env, failpoint.Variable+"="+p.failpoints())
	}
	process, err := proc.Start(proc.Spec{
		Name: p.seat.Name, Path: p.bank.o.Binary, DropEnv: "QUORATE_", Env: env, LogPath: p.LogPath(),
		Args: []string{p.command, p.bank.plan.path(), p.seat.Name, fmt.Sprint(p.starts)},
	})
	if err != nil {
		return err
	}
	p.process = process
	go p.watch(process, p.starts)
	return nil
}

// watch notes how the process ended; one that nobody asked to end is a surprise.
func (p *Process) watch(process *proc.Process, start int) {
	<-process.Exited()
	p.mu.Lock()
	asked := p.asked[start]
	p.mu.Unlock()
	p.bank.died(Death{Seat: p.seat.Name, Start: start, Pid: process.Pid(), At: now(), How: fmt.Sprint(process.Err())}, !asked)
}

// LogPath is the file with what the seat's processes say.
func (p *Process) LogPath() string { return filepath.Join(p.bank.plan.Dir, p.seat.Name+".log") }

// failpoints arms each place of a participant, for when its file is there.
func (p *Process) failpoints() string {
	var points []string
	for _, name := range AimNames() {
		points = append(points, fmt.Sprintf("%s=kill,when=%s,once=%s", name, p.aim(name), p.mark(name, p.starts)))
	}
	return strings.Join(points, ";")
}

// AimNames are the failpoints at which a participant can be killed.
func AimNames() []string { return []string{failpoint.Prepared, failpoint.Heard, failpoint.Ended} }

func (p *Process) aim(name string) string {
	return filepath.Join(p.bank.plan.Dir, p.seat.Name+".aim-"+name)
}

func (p *Process) mark(name string, start int) string {
	return filepath.Join(p.bank.plan.Dir, fmt.Sprintf("%s.%03d.died-%s", p.seat.Name, start, name))
}

// KillAt waits until the process has died at a failpoint, and returns what it
// left there: who, when. An error when it did not come by in time.
func (p *Process) KillAt(ctx context.Context, name string) (mark string, err error) {
	p.mu.Lock()
	process, start := p.process, p.starts
	p.expect()
	p.mu.Unlock()
	if process == nil {
		return "", fmt.Errorf("bank: %s does not run", p.seat.Name)
	}
	if err := os.WriteFile(p.aim(name), nil, 0o600); err != nil {
		return "", err
	}
	defer func() { _ = os.Remove(p.aim(name)) }()
	select {
	case <-process.Exited():
	case <-ctx.Done():
		p.mu.Lock()
		delete(p.asked, start)
		p.mu.Unlock()
		return "", fmt.Errorf("bank: %s did not pass %s: %w", p.seat.Name, name, context.Cause(ctx))
	}
	text, err := os.ReadFile(p.mark(name, start))
	return strings.TrimSpace(string(text)), err
}

// expect notes that the current process may end. The caller must hold mu.
func (p *Process) expect() {
	if p.asked == nil {
		p.asked = map[int]bool{}
	}
	p.asked[p.starts] = true
}

// Kill ends the process with SIGKILL; none there is no error.
func (p *Process) Kill() error {
	p.mu.Lock()
	process := p.process
	p.expect()
	p.mu.Unlock()
	if process == nil || !process.Running() {
		return nil
	}
	return process.Kill()
}

// Pause stops the process where it stands (SIGSTOP) until Resume.
func (p *Process) Pause() error { return p.signal(syscall.SIGSTOP) }

// Resume lets it go on (SIGCONT).
func (p *Process) Resume() error { return p.signal(syscall.SIGCONT) }

func (p *Process) signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.process == nil {
		return fmt.Errorf("bank: %s does not run", p.seat.Name)
	}
	return p.process.Signal(sig)
}

// Restart starts the seat's process when none runs, and waits until it serves.
func (p *Process) Restart(ctx context.Context) error {
	if !p.Running() {
		if err := p.Start(); err != nil {
			return err
		}
	}
	return p.waitReady(ctx)
}

// waitReady waits until a participant answers at its address, and a process of
// its resource has the store open. An initiator is ready when it runs.
func (p *Process) waitReady(ctx context.Context) error {
	if p.resource == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readyMax)
	defer cancel()
	var last error
	for {
		if last = p.bank.serves(ctx, p.seat.Address); last == nil || errors.Is(last, errClosed) && p.bank.anyServes(ctx, p.resource) {
			return nil
		}
		if !p.Running() {
			return fmt.Errorf("bank: %s ended while it started; the end of %s:\n%s", p.seat.Name, p.LogPath(), proc.LastLines(p.LogPath(), 5))
		}
		if sleep(ctx, readyPause) != nil {
			return fmt.Errorf("bank: %s does not serve; see %s: %w", p.seat.Name, p.LogPath(), last)
		}
	}
}

// stop asks the process to end, a paused one too.
func (p *Process) stop() error {
	p.mu.Lock()
	process := p.process
	p.expect()
	p.mu.Unlock()
	if process == nil || !process.Running() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), p.bank.plan.stopMax())
	defer cancel()
	return errors.Join(process.Signal(syscall.SIGCONT), process.Stop(ctx))
}

// serves asks one participant whether its store is open.
func (b *Bank) serves(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/ready", nil)
	if err != nil {
		return err
	}
	resp, err := b.http.Do(req)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errClosed
	}
	return nil
}

// Idle are the seats without a process, and those whose process waits for another
// one to let go of its store.
func (b *Bank) Idle() []string {
	var idle []string
	for _, p := range b.processes {
		if !p.Running() || p.resource != "" && errors.Is(b.serves(context.Background(), p.seat.Address), errClosed) {
			idle = append(idle, p.seat.Name)
		}
	}
	return idle
}

// anyServes says whether any process of an exclusive resource has the store open.
func (b *Bank) anyServes(ctx context.Context, resource string) bool {
	r, err := b.plan.resource(resource)
	if err != nil || !r.Exclusive() {
		return false
	}
	for _, s := range r.Seats {
		if b.serves(ctx, s.Address) == nil {
			return true
		}
	}
	return false
}
