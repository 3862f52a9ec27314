package failpoint

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// childEnv makes this test binary a process that passes a failpoint.
const childEnv = "FAILPOINT_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) == "" {
		os.Exit(m.Run())
	}
	if err := Arm(os.Getenv(Variable)); err != nil {
		os.Exit(3)
	}
	_ = Hit(AtDecision, "k")
	os.Exit(4) // nothing stopped it
}

// pass runs a process that passes at-decision for the key k.
func pass(t *testing.T, spec string) *exec.ExitError {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childEnv+"=1", Variable+"="+spec)
	var exit *exec.ExitError
	if err := child.Run(); !errors.As(err, &exit) {
		t.Errorf("the child ended with %v", err)
	}
	return exit
}

func TestRealProcessesEndAsArmed(t *testing.T) {
	if status := pass(t, "at-decision@k=kill").Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGKILL {
		t.Errorf("kill: %v", status)
	}
	if code := pass(t, "at-decision=exit").ExitCode(); code != ExitCode {
		t.Errorf("exit: status %d, want %d", code, ExitCode)
	}
	if code := pass(t, "at-decision@other=kill;begun=kill").ExitCode(); code != 4 {
		t.Errorf("not armed for this: status %d", code)
	}
}

// Several nodes armed alike fire once between them.
func TestOnceAmongRealProcesses(t *testing.T) {
	spec := "at-decision=kill,once=" + filepath.Join(t.TempDir(), "fired")
	killed := make(chan bool, 5)
	var wg sync.WaitGroup
	for range cap(killed) {
		wg.Go(func() {
			killed <- pass(t, spec).Sys().(syscall.WaitStatus).Signaled()
		})
	}
	wg.Wait()
	close(killed)
	fired := 0
	for k := range killed {
		if k {
			fired++
		}
	}
	if fired != 1 {
		t.Errorf("%d of 5 processes were killed, want one", fired)
	}
}
