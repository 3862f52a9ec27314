package proc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/testkit"
)

// The test binary plays the children's parts.
const (
	partVariable = "QUORATE_TEST_PART"
	partParent   = "parent" // starts a sleeper, prints its pid, and waits
	partSleeper  = "sleeper"
	partStubborn = "stubborn" // ignores SIGTERM
	partFails    = "fails"
	partEnviron  = "environ" // prints what it inherited
)

func TestMain(m *testing.M) {
	switch os.Getenv(partVariable) {
	case partParent:
		p, err := Start(part(partSleeper, ""))
		if err != nil {
			panic(err)
		}
		fmt.Println(p.Pid())
		select {}
	case partSleeper:
		fmt.Println("sleeper is up")
		select {}
	case partStubborn:
		ignoreTerm()
		fmt.Println("stubborn is up")
		select {}
	case partEnviron:
		fmt.Printf("kept %q, dropped %q\n", os.Getenv("QUORATE_TEST_KEPT"), os.Getenv("QUORATE_TEST_DROP_ME"))
		os.Exit(0)
	case partFails:
		fmt.Println("going to fail")
		os.Exit(7)
	}
	os.Exit(m.Run())
}

func part(name, log string) Spec {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return Spec{Name: name, Path: self, Env: []string{partVariable + "=" + name}, LogPath: log}
}

// started starts a part and waits until it has spoken.
func started(t *testing.T, name string) (*Process, string) {
	t.Helper()
	log := filepath.Join(t.TempDir(), name+".log")
	p, err := Start(part(name, log))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Kill() })
	testkit.Eventually(t, 10*time.Second, func() bool {
		text, err := os.ReadFile(log)
		return err == nil && len(text) > 0
	}, "%s to speak", name)
	return p, log
}

func TestKillEndsTheProcessAndIsSeen(t *testing.T) {
	p, _ := started(t, partSleeper)
	if !p.Running() {
		t.Fatal("not running after its start")
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if p.Running() || p.ExitCode() != -1 {
		t.Errorf("running %v, exit code %d after SIGKILL", p.Running(), p.ExitCode())
	}
	var exit *exec.ExitError
	if err := p.Err(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("Err = %v, want killed", err)
	}
	if err := errors.Join(p.Kill(), p.Signal(syscall.SIGTERM), p.Stop(t.Context())); err != nil {
		t.Errorf("ending what has ended: %v", err)
	}
}

func TestStopAsksFirst(t *testing.T) {
	p, _ := started(t, partSleeper)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := p.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := p.Err(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("Err = %v, want terminated by SIGTERM", err)
	}
}

func TestStopKillsWhatDoesNotEndAndSaysSo(t *testing.T) {
	p, _ := started(t, partStubborn)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := p.Stop(ctx); err == nil || !strings.Contains(err.Error(), "was killed") {
		t.Errorf("Stop = %v, want that it was killed", err)
	}
	if p.Running() {
		t.Error("still running")
	}
}

func TestExitCodeAndLastWordsAreKept(t *testing.T) {
	p, log := started(t, partFails)
	if code := p.ExitCode(); code != 7 {
		t.Errorf("exit code %d, want 7", code)
	}
	text, err := os.ReadFile(log)
	if err != nil || !strings.Contains(string(text), "going to fail") {
		t.Errorf("log %q, %v", text, err)
	}
}

func TestEnvironmentIsInheritedLessWhatIsDropped(t *testing.T) {
	t.Setenv("QUORATE_TEST_KEPT", "yes")
	t.Setenv("QUORATE_TEST_DROP_ME", "no")
	spec := part(partEnviron, filepath.Join(t.TempDir(), "log"))
	spec.DropEnv = "QUORATE_TEST_DROP"
	p, err := Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	if code := p.ExitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	text, err := os.ReadFile(spec.LogPath)
	if err != nil || string(text) != "kept \"yes\", dropped \"\"\n" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestAMissingProgramIsAnError(t *testing.T) {
	if _, err := Start(Spec{Name: "none", Path: filepath.Join(t.TempDir(), "none")}); err == nil {
		t.Error("no error")
	}
	if _, err := Start(Spec{Name: "none", Path: "true", LogPath: filepath.Join(t.TempDir(), "no", "such.log")}); err == nil {
		t.Error("no error for a log that cannot be opened")
	}
}

// A parent that dies by SIGKILL cannot clean up: the kernel does.
func TestChildrenEndWithTheirParentHoweverItDies(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Log("only Linux ends children with their parent")
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.Command(self)
	parent.Env = append(os.Environ(), partVariable+"="+partParent)
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(child, 0); err != nil {
		t.Fatalf("the child does not run: %v", err)
	}
	if group, err := syscall.Getpgid(child); err != nil || group != child {
		t.Errorf("the child's process group is %d, %v: a Ctrl-C would reach it", group, err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	testkit.Eventually(t, 10*time.Second, func() bool { return ended(child) }, "the child to end with its parent")
}

// ended says whether a process is gone, or a zombie that nobody has reaped yet.
func ended(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}
