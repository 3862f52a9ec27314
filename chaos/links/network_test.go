package links

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/cluster"
	"github.com/quorate/quorate/internal/detour"
	"github.com/quorate/quorate/internal/testkit"
)

// echo answers each line with the same line.
type echo struct {
	address  string
	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]bool
}

func newEcho(t *testing.T) *echo {
	t.Helper()
	address, err := cluster.FreeAddress("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{address: address, conns: map[net.Conn]bool{}}
	e.start(t)
	t.Cleanup(e.die)
	return e
}

func (e *echo) start(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", e.address)
	if err != nil {
		t.Fatal(err)
	}
	e.mu.Lock()
	e.listener = listener
	e.mu.Unlock()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			e.mu.Lock()
			e.conns[conn] = true
			e.mu.Unlock()
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, struct{ io.Reader }{conn})
				e.mu.Lock()
				defer e.mu.Unlock()
				delete(e.conns, conn)
			}()
		}
	}()
}

// die closes everything, as the end of a process does.
func (e *echo) die() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.listener.Close()
	for conn := range e.conns {
		conn.Close()
	}
}

func (e *echo) open() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.conns)
}

// world is a network of a and b, both echoes, and of c who only dials.
func world(t *testing.T) (n *Network, a, b *echo) {
	t.Helper()
	n, err := New(t.TempDir(), 1, testkit.Logger(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	a, b = newEcho(t), newEcho(t)
	for name, e := range map[string]*echo{"a": a, "b": b} {
		if err := n.Listens(name, map[string]string{Raft: e.address}); err != nil {
			t.Fatal(err)
		}
	}
	return n, a, b
}

// caller speaks to an echo.
type caller struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, n *Network, from, to string) *caller {
	t.Helper()
	address, err := n.Address(from, to, Raft)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &caller{t, conn, bufio.NewReader(conn)}
}

func (c *caller) say(line string) {
	c.t.Helper()
	if _, err := fmt.Fprintln(c, line); err != nil {
		c.t.Error(err) // it may be called by a goroutine of the test
	}
}

// hear returns the next line, or why there is none within the time.
func (c *caller) hear(within time.Duration) (string, error) {
	_ = c.SetReadDeadline(time.Now().Add(within))
	line, err := c.r.ReadString('\n')
	return strings.TrimSuffix(line, "\n"), err
}

func (c *caller) wantEcho(line string) {
	c.t.Helper()
	c.say(line)
	if got, err := c.hear(5 * time.Second); err != nil || got != line {
		c.t.Fatalf("said %q and heard %q, %v", line, got, err)
	}
}

// wantSilence waits a while for a word that must not come.
func (c *caller) wantSilence() {
	c.t.Helper()
	if got, err := c.hear(100 * time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatalf("heard %q, %v in what must be silence", got, err)
	}
}

func refused(address string) bool {
	conn, err := net.Dial("tcp", address)
	if err == nil {
		conn.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

func TestClearLinkCarries(t *testing.T) {
	n, _, b := world(t)
	c := dial(t, n, "a", "b")
	c.wantEcho("hello")
	big := strings.Repeat("x", 1<<20)
	go c.say(big)
	if got, err := c.hear(10 * time.Second); err != nil || got != big {
		t.Fatalf("a megabyte: %d bytes came back, %v", len(got), err)
	}
	c.Close()
	testkit.Eventually(t, 5*time.Second, func() bool { return b.open() == 0 }, "the target to hear of the end")
	if got := n.Counts("a", "b"); got.Bytes < 1<<20 || got.Held != 0 {
		t.Errorf("counts %+v", got)
	}
}

// What is sent into a cut is held and arrives after it: on connections that are
// open, and on those dialed meanwhile.
func TestCutHoldsAndDeliversLate(t *testing.T) {
	n, _, _ := world(t)
	c := dial(t, n, "a", "b")
	c.wantEcho("before")
	n.Cut("a", "b")
	n.Cut("b", "a")
	c.say("meanwhile")
	late := dial(t, n, "a", "b")
	late.say("late")
	c.wantSilence()
	late.wantSilence()
	if got := n.Counts("a", "b"); got.Held == 0 || got.HeldBytes != int64(len("meanwhile\n")) || got.Waited != 1 {
		t.Errorf("evidence of the cut: %+v", got)
	}
	n.Clear()
	for conn, want := range map[*caller]string{c: "meanwhile", late: "late"} {
		if got, err := conn.hear(5 * time.Second); err != nil || got != want {
			t.Errorf("after the cut: heard %q, %v, not %q", got, err, want)
		}
	}
	c.wantEcho("after")
}

// One-way: packets from a to b are lost, those from b to a are not, whoever
// dialed.
func TestCutOneWay(t *testing.T) {
	n, _, _ := world(t)
	ab, ba := dial(t, n, "a", "b"), dial(t, n, "b", "a")
	ab.wantEcho("x")
	ba.wantEcho("y")
	n.Cut("a", "b")
	ab.say("request")
	ba.say("question") // arrives, and the answer does not
	ab.wantSilence()
	ba.wantSilence()
	if got := n.Counts("a", "b"); got.Held != 2 {
		t.Errorf("from a to b %d reads were held, not the request and the answer", got.Held)
	}
	if got := n.Counts("b", "a"); got.Held != 0 || got.Bytes != int64(len("x\ny\nquestion\n")) {
		t.Errorf("from b to a: %+v", got)
	}
	n.Clear()
	for conn, want := range map[*caller]string{ab: "request", ba: "question"} {
		if got, err := conn.hear(5 * time.Second); err != nil || got != want {
			t.Errorf("after the cut: heard %q, %v, not %q", got, err, want)
		}
	}
}

// A dead process refuses; a cut hides that it is dead.
func TestDeadTargetRefuses(t *testing.T) {
	n, _, b := world(t)
	c := dial(t, n, "a", "b")
	c.wantEcho("x")
	address, _ := n.Address("a", "b", Raft)
	b.die()
	if _, err := c.hear(5 * time.Second); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the end of the process was not told: %v", err)
	}
	testkit.Eventually(t, 5*time.Second, func() bool { return refused(address) }, "the link to refuse")
	n.Cut("b", "a")
	if refused(address) {
		t.Error("a refusal came through a cut")
	}
	n.Clear()
	testkit.Eventually(t, 5*time.Second, func() bool { return refused(address) }, "the link to refuse again")
	b.start(t)
	testkit.Eventually(t, 5*time.Second, func() bool { return !refused(address) }, "the link to let in")
	dial(t, n, "a", "b").wantEcho("back")
}

// A process that dies behind a cut is not heard to die before the cut ends.
func TestCutHidesADeath(t *testing.T) {
	n, _, b := world(t)
	c := dial(t, n, "a", "b")
	c.wantEcho("x")
	n.Cut("b", "a")
	b.die()
	c.wantSilence()
	n.Clear()
	if _, err := c.hear(5 * time.Second); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the end of the process was never told: %v", err)
	}
}

// Two faults over one path: it is free when both have ended.
func TestCutsAddUp(t *testing.T) {
	n, _, _ := world(t)
	c := dial(t, n, "a", "b")
	first, second := n.Cut("a", "b"), n.Cut("a", "b")
	c.say("x")
	first()
	c.wantSilence()
	second()
	if got, err := c.hear(5 * time.Second); err != nil || got != "x" {
		t.Errorf("heard %q, %v", got, err)
	}
}

func TestDelay(t *testing.T) {
	n, _, _ := world(t)
	c := dial(t, n, "a", "b")
	const delay = 60 * time.Millisecond
	n.Hinder("a", "b", Weather{Delay: delay, Jitter: delay})
	begun := time.Now()
	c.wantEcho("slow")
	if took := time.Since(begun); took < delay {
		t.Errorf("an echo took %v with a delay of %v", took, delay)
	}
	if got := n.Counts("a", "b"); got.Delayed == 0 {
		t.Errorf("counts %+v", got)
	}
	// Lines that follow each other wait side by side, not one after the other.
	const lines = 100
	begun = time.Now()
	for range lines {
		c.say("line")
	}
	for range lines {
		if _, err := c.hear(5 * time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(begun); took > lines*delay/2 {
		t.Errorf("%d lines took %v with a delay of %v each at once", lines, took, delay)
	}
	n.Clear()
	c.wantEcho("fast")
}

func TestLossStalls(t *testing.T) {
	n, _, _ := world(t)
	c := dial(t, n, "a", "b")
	n.Hinder("a", "b", Weather{Loss: 1})
	begun := time.Now()
	c.say("lost")
	if got, err := c.hear(10 * time.Second); err != nil || got != "lost" {
		t.Fatalf("a lost line is sent again: heard %q, %v", got, err)
	}
	if took := time.Since(begun); took < RetransmitMin {
		t.Errorf("a lost line arrived after %v", took)
	}
	if got := n.Counts("a", "b"); got.Lost != 1 {
		t.Errorf("counts %+v", got)
	}
}

func TestBandwidth(t *testing.T) {
	n, _, _ := world(t)
	c := dial(t, n, "a", "b")
	n.Hinder("a", "b", Weather{BytesPerSecond: 100_000})
	line := strings.Repeat("x", 20_000)
	begun := time.Now()
	go c.say(line)
	if got, err := c.hear(10 * time.Second); err != nil || got != line {
		t.Fatalf("%d bytes came back, %v", len(got), err)
	}
	if took := time.Since(begun); took < 150*time.Millisecond {
		t.Errorf("20 kB at 100 kB a second took %v", took)
	}
}

func TestResetAndRefuse(t *testing.T) {
	n, _, b := world(t)
	c := dial(t, n, "a", "b")
	c.wantEcho("x")
	if got := n.Reset("a", "b"); got != 1 {
		t.Errorf("%d connections were reset", got)
	}
	if _, err := c.hear(5 * time.Second); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the dialler heard %v", err)
	}
	testkit.Eventually(t, 5*time.Second, func() bool { return b.open() == 0 }, "the target to hear of it")
	address, _ := n.Address("a", "b", Raft)
	admit := n.Refuse("a", "b")
	if !refused(address) {
		t.Error("the link lets in though it shall refuse")
	}
	admit()
	dial(t, n, "a", "b").wantEcho("again")
}

// One side alone is told of the end; the other one goes on speaking to nobody,
// until it is told.
func TestHalfOpen(t *testing.T) {
	for _, tellDialler := range []bool{true, false} {
		t.Run(fmt.Sprint("told the dialler: ", tellDialler), func(t *testing.T) {
			n, _, b := world(t)
			c := dial(t, n, "a", "b")
			c.wantEcho("x")
			count, mend := n.Halve("a", "b", tellDialler)
			if count != 1 {
				t.Fatalf("%d connections were halved", count)
			}
			if tellDialler {
				if _, err := c.hear(5 * time.Second); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("the dialler heard %v", err)
				}
				if b.open() != 1 {
					t.Error("the target was told")
				}
				mend()
				testkit.Eventually(t, 5*time.Second, func() bool { return b.open() == 0 }, "the target to hear of it")
				return
			}
			testkit.Eventually(t, 5*time.Second, func() bool { return b.open() == 0 }, "the target to hear of it")
			c.say("anybody?")
			c.wantSilence()
			mend()
			if _, err := c.hear(5 * time.Second); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the dialler heard %v", err)
			}
			testkit.Eventually(t, 5*time.Second, func() bool { return n.Counts("a", "b").Unheard == int64(len("anybody?\n")) }, "what nobody heard to be counted")
		})
	}
}

// A process that is told its links before another one is known learns of it.
func TestDetoursFollowTheProcesses(t *testing.T) {
	n, _, _ := world(t)
	env, err := n.Dials("c")
	if err != nil {
		t.Fatal(err)
	}
	path := strings.TrimPrefix(env[0], detour.Variable+"=")
	late := newEcho(t)
	if err := n.Listens("late", map[string]string{GRPC: late.address}); err != nil {
		t.Fatal(err)
	}
	detours, err := detour.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := n.Address("c", "late", GRPC)
	if len(detours) != 3 || detours[late.address] != want {
		t.Errorf("detours %v: want three, that of %s to %s", detours, late.address, want)
	}
}

func TestCloseEndsEverything(t *testing.T) {
	n, _, b := world(t)
	c := dial(t, n, "a", "b")
	c.wantEcho("x")
	n.Cut("a", "b")
	parked := dial(t, n, "a", "b")
	parked.say("x")
	n.Halve("a", "b", false)
	done := make(chan struct{})
	go func() { n.Close(); close(done) }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("the network did not end")
	}
	testkit.Eventually(t, 5*time.Second, func() bool { return b.open() == 0 }, "no connection to be left")
	if _, err := n.Address("a", "b", HTTP); err == nil {
		t.Error("a closed network made a link")
	}
}

// How much the links cost: echoes of one line through a link, and without it;
// and bytes a second in bulk.
func BenchmarkLink(b *testing.B) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer server.Close()
	go func() {
		for {
			conn, err := server.Accept()
			if err != nil {
				return
			}
			go func() { defer conn.Close(); _, _ = io.Copy(conn, struct{ io.Reader }{conn}) }()
		}
	}()
	n, err := New(b.TempDir(), 1, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer n.Close()
	if err := n.Listens("b", map[string]string{Raft: server.Addr().String()}); err != nil {
		b.Fatal(err)
	}
	linked, err := n.Address("a", "b", Raft)
	if err != nil {
		b.Fatal(err)
	}
	for _, way := range []struct{ name, address string }{{"direct", server.Addr().String()}, {"linked", linked}} {
		for _, size := range []int{100, 64 << 10} {
			b.Run(fmt.Sprintf("%s/%dB", way.name, size), func(b *testing.B) {
				conn, err := net.Dial("tcp", way.address)
				if err != nil {
					b.Fatal(err)
				}
				defer conn.Close()
				out, in := make([]byte, size), make([]byte, size)
				b.SetBytes(int64(size))
				for b.Loop() {
					if _, err := conn.Write(out); err != nil {
						b.Fatal(err)
					}
					if _, err := io.ReadFull(conn, in); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
