package testkit

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
)

// fakeTB records what the helpers do to a test.
type fakeTB struct {
	testing.TB
	logged  []string
	failure string
	cleanup []func()
}

func (f *fakeTB) Helper()             {}
func (f *fakeTB) Log(args ...any)     { f.logged = append(f.logged, fmt.Sprint(args...)) }
func (f *fakeTB) Cleanup(done func()) { f.cleanup = append(f.cleanup, done) }
func (f *fakeTB) Fatalf(format string, args ...any) {
	f.failure = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// run calls body on a goroutine of its own, as Fatalf ends it.
func (f *fakeTB) run(body func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		body()
	}()
	<-done
}

func TestEventuallyReturnsOnceTheConditionHolds(t *testing.T) {
	looks := 0
	Eventually(t, time.Minute, func() bool { looks++; return looks == 3 }, "three looks")
	if looks != 3 {
		t.Fatalf("looked %d times, want 3", looks)
	}
}

func TestEventuallyFailsTheTestWithWhatWasWaitedFor(t *testing.T) {
	f := &fakeTB{}
	f.run(func() { Eventually(f, time.Millisecond, func() bool { return false }, "leader of %s", "n1") })
	if !strings.Contains(f.failure, "leader of n1") {
		t.Fatalf("failure %q does not say what was waited for", f.failure)
	}
	f = &fakeTB{}
	f.run(func() { EventuallyNoError(f, time.Millisecond, func() error { return errors.New("disk is slow") }) })
	if !strings.Contains(f.failure, "disk is slow") {
		t.Fatalf("failure %q does not hold the last error", f.failure)
	}
}

func TestFreePortsAreDifferentAndFree(t *testing.T) {
	seen := map[int]bool{}
	for _, port := range FreePorts(t, 50) {
		if seen[port] {
			t.Fatalf("port %d was given twice", port)
		}
		seen[port] = true
	}
	for port := range seen {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatalf("port %d is not free: %v", port, err)
		}
		_ = l.Close()
	}
}

func TestListenIsClosedWithTheTest(t *testing.T) {
	var addr string
	t.Run("inner", func(t *testing.T) { addr = Listen(t).Addr().String() })
	if c, err := net.Dial("tcp", addr); err == nil {
		_ = c.Close()
		t.Fatalf("%s still listens after its test", addr)
	}
}

func TestLoggerFallsSilentAfterTheTest(t *testing.T) {
	f := &fakeTB{}
	log := Logger(f)
	log.Info("while it runs", "n", 1)
	for _, done := range f.cleanup {
		done()
	}
	log.Info("afterwards")
	if len(f.logged) != 1 || !strings.Contains(f.logged[0], "while it runs") {
		t.Fatalf("logged %q, want the first line only", f.logged)
	}
}
