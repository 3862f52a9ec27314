package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/bankstore"
	"github.com/quorate/quorate/internal/bankstore/drivers"
	"github.com/quorate/quorate/internal/failpoint"
	"github.com/quorate/quorate/internal/testdb"
)

// demoTimeout bounds one run of the demo on a busy machine.
const demoTimeout = 3 * time.Minute

// The program's exit codes that matter here.
const (
	exitOK    = 0
	exitRed   = 1
	exitUsage = 2
)

// process is a `quorate demo` that runs.
type process struct {
	cmd            *exec.Cmd
	stdout, stderr *bytes.Buffer
}

// runDemo runs the program and waits. Each line of its progress is shown to
// onLine, where there is one.
func runDemo(t *testing.T, env []string, onLine func(string), args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), demoTimeout)
	defer cancel()
	p := process{cmd: exec.CommandContext(ctx, binary, append([]string{"demo"}, args...)...), stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, io.MultiWriter(p.stderr, &lines{each: onLine})
	err := p.cmd.Run()
	if p.cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode(), p.stdout.String(), p.stderr.String()
}

// lines calls each for every whole line written to it.
type lines struct {
	each    func(string)
	pending []byte
}

func (l *lines) Write(p []byte) (int, error) {
	l.pending = append(l.pending, p...)
	for {
		line, rest, whole := bytes.Cut(l.pending, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		if l.each != nil {
			l.each(string(line))
		}
		l.pending = rest
	}
}

// fieldsOfResult are what `-o json` prints, no more and no less.
var fieldsOfResult = []string{
	"commit_ratio", "committed", "failover_ms", "in_doubt", "kill_phases", "leader_kills", "mismatches", "participant_kills",
	"rolled_back", "total_after", "total_before", "transfers", "unknown",
}

func resultOf(t *testing.T, stdout string) (r Result) {
	t.Helper()
	var fields map[string]any
	if err := json.Unmarshal([]byte(stdout), &fields); err != nil {
		t.Fatalf("stdout is no JSON: %v\n%s", err, stdout)
	}
	var names []string
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	if !slices.Equal(names, fieldsOfResult) {
		t.Errorf("fields %v, want %v", names, fieldsOfResult)
	}
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestDemoKillsTheLeaderInEachPhase is the main job as a user runs it.
func TestDemoKillsTheLeaderInEachPhase(t *testing.T) {
	for _, phase := range []Phase{BeforeDecision, AtDecision, AfterDecision} {
		t.Run(string(phase), func(t *testing.T) {
			code, stdout, stderr := runDemo(t, nil, nil, "--transfers", "50", "--kills", "1", "--kill-leader", string(phase), "-o", "json")
			if code != exitOK {
				t.Fatalf("exit code %d\n%s", code, stderr)
			}
			r := resultOf(t, stdout)
			if r.Transfers != 50 || r.Committed+r.RolledBack != 50 || r.Committed < 41 || r.RolledBack < 5 {
				t.Errorf("%+v", r)
			}
			if r.LeaderKills != 1 || r.KillPhases[phase] != 1 || len(r.FailoverMS) != 1 || r.FailoverMS[0] <= 0 {
				t.Errorf("kills: %+v", r)
			}
			if r.TotalBefore != r.TotalAfter || r.TotalBefore == 0 || r.Mismatches != 0 || r.InDoubt != 0 {
				t.Errorf("money: %+v", r)
			}
		})
	}
}

// TestDemoKillsAParticipantWithItsVoteUnsent, and the banks are databases.
func TestDemoKillsAParticipantWithItsVoteUnsent(t *testing.T) {
	code, stdout, stderr := runDemo(t, nil, nil, "--transfers", "60", "--kills", "1", "--kill-participant",
		"--postgres", testdb.Postgres(t), "--mysql", testdb.MySQL(t), "-o", "json")
	if code != exitOK {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	if r := resultOf(t, stdout); r.ParticipantKills != 1 || r.LeaderKills != 1 {
		t.Errorf("%+v", r)
	}
	if !strings.Contains(stderr, "bank-a on postgres, bank-b on mysql") {
		t.Errorf("the banks were not in the databases:\n%s", stderr)
	}
}

// TestDemoIsRedWhenMoneyAppears verifies the verifier: while a run of processes
// goes on, somebody puts a coin into an account of its database.
func TestDemoIsRedWhenMoneyAppears(t *testing.T) {
	dsn := testdb.Postgres(t)
	dir := filepath.Join(t.TempDir(), "planted")
	books, err := bankstore.OpenTables(BankConfig{Dir: dir, Side: BankA, Store: StoreSpec{Kind: Postgres, DSN: dsn}}.store(), drivers.Open)
	if err != nil {
		t.Fatal(err)
	}
	defer books.Drop()
	planted := false
	plant := func(line string) {
		if strings.Contains(line, " at once; ") { // the opening total was read
			_, err := books.DB.Exec("UPDATE " + books.Accounts() + " SET balance = balance + 1 WHERE id = 42")
			planted = err == nil
		}
	}
	code, stdout, stderr := runDemo(t, nil, plant, "--transfers", "20", "--kills", "0", "--postgres", dsn, "--data-dir", dir, "-o", "json")
	if !planted {
		t.Fatalf("the coin could not be planted:\n%s", stderr)
	}
	if code != exitRed || !strings.Contains(stderr, "account 42 of bank-a holds") || !strings.Contains(stderr, "are kept in "+dir) {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	if r := resultOf(t, stdout); r.TotalAfter != r.TotalBefore+1 || r.Mismatches != 1 {
		t.Errorf("%+v", r)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) < 4 {
		t.Errorf("%d files were kept, %v", len(entries), err)
	}
}

// TestRunIsRedWhenABranchIsMissing: the sum is right and half a transfer is gone.
func TestRunIsRedWhenABranchIsMissing(t *testing.T) {
	o := NewOptions()
	o.Binary, o.Transfers, o.Kills, o.Dir = binary, 20, 0, filepath.Join(t.TempDir(), "planted")
	o.Stores = [2]StoreSpec{{Kind: Embedded}, {Kind: Embedded}}
	o.Tamper = func(b *[2]Books) {
		for gid, e := range b[BankB].Ledger {
			b[BankB].Balances[e.Account] -= e.Delta
			b[BankA].Balances[e.Account] += e.Delta
			delete(b[BankB].Ledger, gid)
			return
		}
	}
	result, err := Run(t.Context(), o)
	var red *RedError
	if !errors.As(err, &red) || red.Dir != o.Dir || result == nil || result.Mismatches == 0 || result.TotalBefore != result.TotalAfter {
		t.Fatalf("%+v, %v", result, err)
	}
}

// TestDemoIsRedWhenAProcessEndsUnasked: bank a is killed by a failpoint that the
// run knows nothing of.
func TestDemoIsRedWhenAProcessEndsUnasked(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "surprise")
	env := []string{failpoint.Variable + "=prepared@transfer-0015=kill,once=" + filepath.Join(t.TempDir(), "mark")}
	code, _, stderr := runDemo(t, env, nil, "--transfers", "50", "--kills", "0", "--data-dir", dir)
	if code != exitRed || !strings.Contains(stderr, "bank-a ended though nothing was aimed at it") {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
}

// TestInterruptedDemoLeavesNothingBehind: Ctrl-C ends every process and removes
// the temporary directory.
func TestInterruptedDemoLeavesNothingBehind(t *testing.T) {
	temporary := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), demoTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "demo", "--transfers", "100000", "--kills", "0")
	cmd.Env = append(os.Environ(), "TMPDIR="+temporary)
	cmd.Stderr = &lines{each: func(line string) {
		if strings.Contains(line, " at once; ") {
			_ = cmd.Process.Signal(os.Interrupt)
		}
	}}
	if err := cmd.Run(); err == nil {
		t.Fatal("an interrupted run ended with exit code 0")
	}
	if left, err := os.ReadDir(temporary); err != nil || len(left) != 0 {
		t.Fatalf("left behind: %v, %v", left, err)
	}
}

func TestDemoRefusesBadFlags(t *testing.T) {
	for _, args := range [][]string{
		{"--transfers", "0"}, {"--kills", "99"}, {"--kill-leader", "sometimes"}, {"--nodes", "2"}, {"-o", "xml"}, {"more"},
		{"--postgres", "a", "--mysql", "b", "--postgres", "c"}, {"--profile", "slow"}, {"--concurrency", "0"}, {"--kill"},
	} {
		code, _, stderr := runDemo(t, nil, nil, args...)
		if code != exitUsage || !strings.Contains(stderr, "--help") {
			t.Errorf("%v: exit code %d\n%s", args, code, stderr)
		}
	}
}

// TestDemoInEachMode: by the rules of the two-phase demo, and S15.
func TestDemoInEachMode(t *testing.T) {
	for _, mode := range Modes[1:] {
		t.Run(string(mode), func(t *testing.T) {
			code, stdout, stderr := runDemo(t, nil, nil, "--mode", string(mode), "--transfers", "60", "--kills", "2", "--kill-leader", "random", "-o", "json")
			if code != exitOK {
				t.Fatalf("exit code %d\n%s", code, stderr)
			}
			r := resultOf(t, stdout)
			if r.Transfers != 60 || r.Committed+r.RolledBack != 60 || r.RolledBack < 6 || r.LeaderKills != 2 || r.TotalBefore != r.TotalAfter || r.TotalBefore == 0 {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestDemoKillsABankInTheMiddleOfASaga: its work is done, and nobody was told.
func TestDemoKillsABankInTheMiddleOfASaga(t *testing.T) {
	code, stdout, stderr := runDemo(t, nil, nil, "--mode", "saga", "--transfers", "40", "--kills", "1", "--kill-leader", "random", "--kill-participant", "-o", "json")
	if code != exitOK {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	if r := resultOf(t, stdout); r.ParticipantKills != 1 || r.LeaderKills != 1 {
		t.Errorf("%+v", r)
	}
}

// TestDemoKnowsThePlacesOfAMode: a saga has no delivery of its decision.
func TestDemoKnowsThePlacesOfAMode(t *testing.T) {
	if code, _, stderr := runDemo(t, nil, nil, "--mode", "saga", "--kill-leader", "after-decision"); code != exitUsage || !strings.Contains(stderr, "saga-before-answer") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if code, _, stderr := runDemo(t, nil, nil, "--mode", "sagas"); code != exitUsage || !strings.Contains(stderr, "two-phase saga tcc message workflow") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}
