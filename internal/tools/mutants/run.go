package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// bench builds and runs suites against one state of the sources: the sources as
// they stand, or with one bug planted.
type bench struct {
	root    string
	dir     string // for what is built
	overlay string // "" for the sources as they stand
	seed    uint64
	built   map[string]string // binaries, by what was built
}

// verdict is what a suite said.
type verdict struct {
	Red bool
	// Sign is what gave the bug away: a failed test's name, a red line, "hung".
	Sign string
	Took time.Duration
	out  []byte
}

// run runs a suite once. An error says that it could not be run at all.
func (b *bench) run(s suite) (verdict, error) {
	binary, err := b.binary(s)
	if err != nil {
		return verdict{}, err
	}
	dir, err := temporary(b.dir, "run-")
	if err != nil {
		return verdict{}, err
	}
	defer os.RemoveAll(dir)
	args, cwd := s.arguments(b.seed, dir), dir
	if s.dir != "" {
		args = append([]string{"-test.failfast", "-test.timeout=" + (s.limit + 10*time.Second).String()}, args...)
		cwd = filepath.Join(b.root, s.dir)
	}
	v, err := execute(binary, args, cwd, dir, s.limit)
	if err == nil && s.judge != nil && v.Sign != hung {
		v.Red, v.Sign = s.judge(v.out)
	}
	return v, err
}

// hung is the sign of a suite that did not end in time.
const hung = "hung"

// temporary makes a directory that other users may look into: the databases
// that tests start run as one.
func temporary(in, name string) (string, error) {
	dir, err := os.MkdirTemp(in, name)
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
}

// execute runs one program, and all that it starts, for at most limit.
func execute(binary string, args []string, cwd, tmp string, limit time.Duration) (verdict, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Dir = cwd
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	// A group of its own, so that what it started ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	begun := time.Now()
	err := cmd.Run()
	v := verdict{Took: time.Since(begun), out: out.Bytes()}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		v.Red, v.Sign = true, hung
	case err == nil:
	case errors.As(err, &exit):
		v.Red, v.Sign = true, sign(v.out)
	default:
		return v, fmt.Errorf("run %s: %w", binary, err)
	}
	return v, nil
}

// binary builds what the suite runs, once.
func (b *bench) binary(s suite) (string, error) {
	what := s.dir
	if path, ok := b.built[what]; ok {
		return path, nil
	}
	path := filepath.Join(b.dir, "bin-"+strings.ReplaceAll(what, "/", "_"))
	args := []string{"test", "-c", "-vet=off", "-o", path}
	if what == "" {
		args = []string{"build", "-o", path}
	}
	if b.overlay != "" {
		args = append(args, "-overlay", b.overlay)
	}
	if what == "" {
		what = "cmd/quorate"
	}
	cmd := exec.Command("go", append(args, "./"+what)...)
	cmd.Dir = b.root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build ./%s: %w\n%s", what, err, out)
	}
	b.built[s.dir] = path
	return path, nil
}

// signs are the lines by which a suite tells what it found, the most telling
// first. The last group is what is quoted.
var signs = []*regexp.Regexp{
	regexp.MustCompile(`(?m)(seed \d+: .{1,80})`),
	regexp.MustCompile(`(?m)^\s*--- FAIL: (Test\w+)`),
	regexp.MustCompile(`(?m)^panic: test timed out after .*\n.*running tests:\n\s+(Test\w+)`),
	regexp.MustCompile(`(?m)^panic: (.{1,80})`),
	regexp.MustCompile(`(?m)^fatal error: (.{1,80})`),
	regexp.MustCompile(`(?m)"(?:violations|failures|problems|anomalies)": \[\s*"(.{1,100})`),
	regexp.MustCompile(`(?m)^(?:red|RED|not clean|error|quorate)[: ]+(.{1,100})`),
}

// sign finds what gave the bug away in a suite's output.
func sign(out []byte) string {
	for _, re := range signs {
		if m := re.FindSubmatch(out); m != nil {
			return strings.TrimSpace(string(m[1]))
		}
	}
	return lastLine(out)
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	last := lines[len(lines)-1]
	return last[:min(len(last), 100)]
}
