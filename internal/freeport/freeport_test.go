package freeport

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
)

const host = "127.0.0.1"

// probeVariable has the test binary look at an address, as another process.
const probeVariable = "QUORATE_TEST_PROBE_ADDRESS"

func TestMain(m *testing.M) {
	if address := os.Getenv(probeVariable); address != "" {
		probe(address)
		return
	}
	os.Exit(m.Run())
}

// probe says what another process may do at an address.
func probe(address string) {
	if release, err := bind(address); err == nil {
		release()
		fmt.Println("may be chosen")
	}
	if l, err := net.Listen("tcp", address); err == nil {
		_ = l.Close()
		fmt.Println("may be listened on")
	}
}

func probed(t *testing.T, address string) string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), probeVariable+"="+address)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func take(t *testing.T) string {
	t.Helper()
	s := new(Set)
	address, err := s.Address(host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Release)
	return address
}

// TestNoPortIsGivenTwice, though nobody listens on any of them: 1000 draws of 17,000
// meet each other some 29 times.
func TestNoPortIsGivenTwice(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		address := take(t)
		if seen[address] {
			t.Fatalf("%s was given twice", address)
		}
		seen[address] = true
	}
}

// TestAListenerComesAndGoes at the address, in this process and after connections of
// its own, and nobody answers there in between.
func TestAListenerComesAndGoes(t *testing.T) {
	address := take(t)
	for range 3 {
		if c, err := net.Dial("tcp", address); err == nil {
			_ = c.Close()
			t.Fatal("somebody answers where nobody listens")
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		dialled, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		accepted, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		for _, end := range []interface{ Close() error }{l, accepted, dialled} { // the listener's end waits (TIME_WAIT)
			if err := end.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestOtherProcessesKeepAway from a port that is taken, unless they were told it.
func TestOtherProcessesKeepAway(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has a socket that keeps a port and lets others listen there")
	}
	s := new(Set)
	address, err := s.Address(host)
	if err != nil {
		t.Fatal(err)
	}
	if got := probed(t, address); got != "may be listened on" {
		t.Errorf("taken: another process says %q", got)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	if got := probed(t, address); got != "" {
		t.Errorf("listened on: another process says %q", got)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s.Release()
	s.Release() // the second time it is empty
	if got := probed(t, address); got != "may be chosen\nmay be listened on" {
		t.Errorf("released: another process says %q", got)
	}
}

func TestAHostThatIsNotHere(t *testing.T) {
	if port, err := new(Set).Take("192.0.2.1"); err == nil { // RFC 5737: nobody's
		t.Errorf("port %d of a host that is not this one", port)
	}
}
