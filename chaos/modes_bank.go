package chaos

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/quorate/quorate/chaos/links"
	"github.com/quorate/quorate/internal/bankstore"
	"github.com/quorate/quorate/internal/bankstore/drivers"
	"github.com/quorate/quorate/internal/branchbank"
	"github.com/quorate/quorate/internal/cluster"
	"github.com/quorate/quorate/internal/failpoint"
	"github.com/quorate/quorate/internal/proc"
)

const (
	branchAccounts = 64
	branchOpening  = 1_000_000 // nobody lacks funds: refusals are asked for
	branchReadyMax = 30 * time.Second
	branchStopMax  = 10 * time.Second
)

// branchProcess is a bank whose branches are called, and the process in its place.
type branchProcess struct {
	w      *modesWorkload
	config branchbank.ProcessConfig
	dir    string

	mu      sync.Mutex
	process *proc.Process
	starts  int
	asked   map[int]bool // starts that were made to end
}

var _ Process = (*branchProcess)(nil)

// startBanks starts two banks in files, and one in each database that --databases
// names besides.
func (w *modesWorkload) startBanks(ctx context.Context, dir string) error {
	specs := map[string]bankstore.Spec{}
	for _, name := range []string{"branch-a", "branch-b"} {
		specs[name] = bankstore.Spec{Kind: bankstore.SQLite, DSN: branchbank.SQLiteDSN(filepath.Join(dir, name+".sqlite"))}
	}
	opened, err := w.env.openDatabases(ctx)
	if err != nil {
		return err
	}
	for _, d := range opened.Databases {
		if d.Kind != bankstore.SQLite {
			specs["branch-"+strings.TrimPrefix(d.Name, "bank-")] = bankstore.Spec{Kind: d.Kind, DSN: d.DSN}
		}
	}
	for _, name := range sortedNames(specs) {
		address, err := cluster.FreeAddress("127.0.0.1")
		if err != nil {
			return err
		}
		b := &branchProcess{w: w, dir: dir, asked: map[int]bool{}, config: branchbank.ProcessConfig{
			Listen: address, Seeds: w.env.Cluster.Endpoints(), CallsPath: filepath.Join(dir, name+".calls"), Config: branchbank.Config{
				Resource: name, Spec: specs[name], Prefix: "m_", Accounts: branchAccounts, Opening: branchOpening, Opener: drivers.Open, DropAnswers: true,
				Unfenced: w.o.unfenced, ArrivalsPath: filepath.Join(dir, name+".arrivals.jsonl"),
			},
		}}
		w.banks = append(w.banks, b)
		if w.env.Links != nil {
			if err := w.env.Links.Listens(name, map[string]string{links.HTTP: address}); err != nil {
				return err
			}
		}
		if err := b.Restart(ctx); err != nil {
			return err
		}
		w.env.AddProcess("branch", b)
	}
	return nil
}

// Name is the bank's.
func (b *branchProcess) Name() string { return b.config.Resource }

func (b *branchProcess) url() string { return "http://" + b.config.Listen }

func (b *branchProcess) logPath() string { return filepath.Join(b.dir, b.Name()+".log") }

// Pid of the latest process.
func (b *branchProcess) Pid() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.process == nil {
		return 0
	}
	return b.process.Pid()
}

// Running says whether a process is there, a paused one too.
func (b *branchProcess) Running() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.process != nil && b.process.Running()
}

func (b *branchProcess) aim() string { return filepath.Join(b.dir, b.Name()+".aim") }

func (b *branchProcess) mark(start int) string {
	return filepath.Join(b.dir, fmt.Sprintf("%s.%03d.died", b.Name(), start))
}

// start starts a process where none runs.
func (b *branchProcess) start() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	args, env, err := b.config.Arguments()
	if err != nil {
		return err
	}
	b.starts++
	env = append(env, b.w.env.DialEnv(b.Name())...)
	env = append(env, fmt.Sprintf("%s=%s=kill,when=%s,once=%s", failpoint.Variable, failpoint.Ended, b.aim(), b.mark(b.starts)))
	b.process, err = proc.Start(proc.Spec{Name: b.Name(), Path: b.w.binary(), DropEnv: "QUORATE_", Args: args, Env: env, LogPath: b.logPath()})
	if err != nil {
		return err
	}
	go b.watch(b.process, b.starts)
	return nil
}

// watch notes an end that nobody asked for.
func (b *branchProcess) watch(p *proc.Process, start int) {
	<-p.Exited()
	b.mu.Lock()
	asked := b.asked[start]
	b.mu.Unlock()
	if !asked {
		b.w.env.Surprise("%s ended though nothing was aimed at it (%v); see %s", b.Name(), p.Err(), b.logPath())
	}
}

// Restart starts the process when none runs, and waits until it serves.
func (b *branchProcess) Restart(ctx context.Context) error {
	if !b.Running() {
		if err := b.start(); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, branchReadyMax)
	defer cancel()
	for {
		err := b.serves(ctx)
		if err == nil {
			return nil
		}
		if !b.Running() {
			return fmt.Errorf("%s ended while it started; see %s", b.Name(), b.logPath())
		}
		if waitFor(ctx, 30*time.Millisecond) != nil {
			return fmt.Errorf("%s does not serve; see %s: %w", b.Name(), b.logPath(), err)
		}
	}
}

func (b *branchProcess) serves(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.url()+branchbank.PathReady, nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// expect says that the process which runs may end from now on.
func (b *branchProcess) expect() *proc.Process {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked[b.starts] = true
	return b.process
}

// Kill ends the process with SIGKILL; none there is no error.
func (b *branchProcess) Kill() error {
	if p := b.expect(); p != nil && p.Running() {
		return p.Kill()
	}
	return nil
}

// KillAt has the process die with an operation done and its answer not sent, and
// returns what it left: who, when.
func (b *branchProcess) KillAt(ctx context.Context) (mark string, err error) {
	p := b.expect()
	if err := os.WriteFile(b.aim(), nil, 0o600); err != nil {
		return "", err
	}
	defer func() { _ = os.Remove(b.aim()) }()
	select {
	case <-p.Exited():
	case <-ctx.Done():
		return "", fmt.Errorf("%s did not end an operation: %w", b.Name(), context.Cause(ctx))
	}
	b.mu.Lock()
	start := b.starts
	b.mu.Unlock()
	text, err := os.ReadFile(b.mark(start))
	return strings.TrimSpace(string(text)), err
}

// Pause stops the process where it stands until Resume.
func (b *branchProcess) Pause() error { return b.signal(syscall.SIGSTOP) }

// Resume lets it go on.
func (b *branchProcess) Resume() error { return b.signal(syscall.SIGCONT) }

func (b *branchProcess) signal(sig syscall.Signal) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.process.Signal(sig)
}

// stop asks the process to end, a paused one too.
func (b *branchProcess) stop() error {
	p := b.expect()
	if p == nil || !p.Running() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), branchStopMax)
	defer cancel()
	return errors.Join(p.Signal(syscall.SIGCONT), p.Stop(ctx))
}

// binary is the program under test.
func (w *modesWorkload) binary() string {
	if w.o.Binary != "" {
		return w.o.Binary
	}
	own, _ := os.Executable()
	return own
}

// branchFaults hurt the banks whose branches are called.
var branchFaults = []Fault{
	{
		Name: "kill-branch", Kind: "branch", Weight: 2, Possible: needsModes,
		Doc:    "kill -9 a bank whose branches are called, and start it again",
		Inject: killBranch,
	},
	{
		Name: "kill-branch-ended", Kind: "branch", Weight: 2, Possible: needsModes,
		Doc:    "kill -9 a bank that has done what a branch was called for, and not answered",
		Inject: killBranchEnded,
	},
	{
		Name: "pause-branch", Kind: "branch", Weight: 2, Possible: needsModes, Hold: Range{time.Second, 7 * time.Second},
		Doc:    "SIGSTOP a bank whose branches are called, with calls under way, beyond calls' and transactions' timeouts, then SIGCONT",
		Inject: pauseBranch,
	},
}

func needsModes(env *Env) error {
	if !slices.Contains(env.Options.Workloads, workloadModes) {
		return fmt.Errorf("it hurts the workload %s, which is not among --workloads", workloadModes)
	}
	return nil
}

// pick claims a bank that runs, drawn at random; nil when none is free.
func (w *modesWorkload) pick() *branchProcess {
	for _, i := range w.env.NewRand().Perm(len(w.banks)) {
		if w.banks[i].Running() && w.env.claims.claim(w.banks[i].Name()) {
			return w.banks[i]
		}
	}
	return nil
}

// restarting is an injection that is healed by a start.
func (w *modesWorkload) restarting(b *branchProcess, evidence func() (string, error)) *Injection {
	return &Injection{Target: b.Name(), Evidence: evidence, Heal: func(ctx context.Context) error {
		defer w.env.claims.release(b.Name())
		return b.Restart(ctx)
	}}
}

func killBranch(_ context.Context, env *Env) (*Injection, error) {
	b := env.modes.pick()
	if b == nil {
		return nil, nil
	}
	pid := b.Pid()
	return env.modes.restarting(b, func() (string, error) {
		if b.Pid() == pid {
			return "", fmt.Errorf("%s still runs as pid %d", b.Name(), pid)
		}
		return fmt.Sprintf("pid %d gone by SIGKILL", pid), nil
	}), b.Kill()
}

func killBranchEnded(ctx context.Context, env *Env) (*Injection, error) {
	b := env.modes.pick()
	if b == nil {
		return nil, nil
	}
	aimed, cancel := context.WithTimeout(ctx, aimParticipantMax)
	defer cancel()
	mark, err := b.KillAt(aimed)
	if err != nil && b.Running() && ctx.Err() == nil {
		env.claims.release(b.Name())
		return nil, nil
	}
	injection := env.modes.restarting(b, Evident("%s", mark))
	injection.Phase = failpoint.Ended
	return injection, err
}

func pauseBranch(_ context.Context, env *Env) (*Injection, error) {
	b := env.modes.pick()
	if b == nil {
		return nil, nil
	}
	if err := b.Pause(); err != nil {
		env.claims.release(b.Name())
		return nil, err
	}
	began, state := time.Now(), ""
	var lasted time.Duration
	return &Injection{
		Target: b.Name(),
		Heal: func(ctx context.Context) error {
			defer env.claims.release(b.Name())
			state, lasted = processState(b.Pid()), time.Since(began)
			return errors.Join(b.Resume(), b.Restart(ctx))
		},
		Evidence: func() (string, error) {
			if state != "T" {
				return "", fmt.Errorf("%s was in state %q, not stopped", b.Name(), state)
			}
			return fmt.Sprintf("stopped for %v", lasted.Round(time.Millisecond)), nil
		},
	}, nil
}
