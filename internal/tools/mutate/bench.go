package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// bench runs tests against mutants of one package, or against the package as it
// stands.
type bench struct {
	config
	source *source
	tmp    string
	cache  string         // directory of what is kept between runs
	skip   *regexp.Regexp // tests that are not run
	flags  []string       // of the package's own tests
	// usual is how long each suite takes without a mutant.
	usual map[string]time.Duration
	clean map[string]string // test binaries without a mutant, by directory
	// running is the process group of the tests that run, 0 for none.
	running atomic.Int64
}

// verdict is what a run of tests said.
type verdict struct {
	red  bool
	sign string // the test that failed, or how it ended otherwise
	took time.Duration
}

// hung is the sign of tests that did not end in time.
const hung = "hung"

// hold waits while a file says that the machine is wanted for a measurement.
func (b *bench) hold() {
	for b.holdFile != "" {
		if _, err := os.Stat(b.holdFile); err != nil {
			return
		}
		time.Sleep(time.Second)
	}
}

// limit is how long a run may take that usually takes so long. It is far above,
// for other work may go on beside; a run that passes it hangs.
func (b *bench) limit(usual time.Duration) time.Duration { return 3*usual + b.patience }

func (b *bench) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = b.source.dir
	return cmd
}

// execute runs one test binary in dir, and ends it and all that it started after
// limit.
func (b *bench) execute(binary, dir string, limit time.Duration, args ...string) verdict {
	tmp, err := os.MkdirTemp(b.tmp, "run-")
	if err != nil {
		return verdict{red: true, sign: err.Error()}
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	_ = os.Chmod(tmp, 0o755) // databases run as users of their own
	ctx, cancel := context.WithTimeout(context.Background(), limit+10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, append([]string{"-test.failfast", "-test.timeout=" + limit.String()}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	begun := time.Now()
	if err = cmd.Start(); err == nil {
		b.running.Store(int64(cmd.Process.Pid))
		err = cmd.Wait()
		b.running.Store(0)
	}
	v := verdict{red: err != nil, took: time.Since(begun)}
	switch {
	case ctx.Err() != nil:
		v.sign = hung
	case err != nil:
		v.sign = sign(out.Bytes())
	}
	// What tests start and leave behind in their group ends with them.
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	return v
}

// interruptible ends what runs, and removes what was made, when the process is
// told to end: tests run in a group of their own, which a terminal does not reach.
func (b *bench) interruptible() {
	told := make(chan os.Signal, 1)
	signal.Notify(told, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-told
		if group := b.running.Load(); group != 0 {
			_ = syscall.Kill(-int(group), syscall.SIGKILL)
		}
		_ = os.RemoveAll(b.tmp)
		os.Exit(1)
	}()
}

// signs are the lines by which a test binary tells what it found, the most
// telling first. The last group is what is quoted.
var signs = []*regexp.Regexp{
	regexp.MustCompile(`(?m)^panic: test timed out after .*\n\s*running tests:\n\s+(Test\w+)`),
	regexp.MustCompile(`(?m)^--- FAIL: (Test\w+)`),
	regexp.MustCompile(`(?m)^(panic: .{1,80})`),
	regexp.MustCompile(`(?m)^(fatal error: .{1,80})`),
	regexp.MustCompile(`(goleak: .{1,60})`),
}

func sign(out []byte) string {
	for i, re := range signs {
		if m := re.FindSubmatch(out); m != nil {
			if i == 0 {
				return hung + " in " + string(m[1])
			}
			return strings.TrimSpace(string(m[1]))
		}
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return short(lines[len(lines)-1])
}

// errUnbuildable says that a mutant or a suite does not compile.
var errUnbuildable = errors.New("does not build")

// build builds the test binary of the package in dir, with the mutant if there
// is one.
func (b *bench) build(dir, name string, m *mutant) (string, error) {
	binary := filepath.Join(b.tmp, name)
	args := []string{"test", "-c", "-vet=off", "-o", binary}
	if m != nil {
		overlay, err := b.overlay(*m)
		if err != nil {
			return "", err
		}
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.Command("go", append(args, ".")...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s %w: %w\n%s", dir, errUnbuildable, err, out)
	}
	return binary, nil
}

// buildClean builds the test binary of the package in dir as it stands, once.
func (b *bench) buildClean(dir string) (string, error) {
	if b.clean[dir] == "" {
		binary, err := b.build(dir, fmt.Sprintf("clean-%d", len(b.clean)), nil)
		if err != nil {
			return "", err
		}
		b.clean[dir] = binary
	}
	return b.clean[dir], nil
}

// overlay writes the mutated file with the list that the go command reads, and
// returns the list's path. The source is never touched.
func (b *bench) overlay(m mutant) (string, error) {
	path, err := filepath.Abs(filepath.Join(b.source.dir, m.file))
	if err != nil {
		return "", err
	}
	mutated := filepath.Join(b.tmp, "mutated.go")
	if err := os.WriteFile(mutated, m.apply(b.source.text[m.file]), 0o600); err != nil {
		return "", err
	}
	content, err := json.Marshal(map[string]any{"Replace": map[string]string{path: mutated}})
	if err != nil {
		return "", err
	}
	list := filepath.Join(b.tmp, "overlay.json")
	return list, os.WriteFile(list, content, 0o600)
}
