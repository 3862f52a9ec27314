package testkit

import (
	"net"
	"testing"

	"github.com/quorate/quorate/internal/freeport"
)

// FreePort returns a TCP port of the loopback interface that is the test's until it
// ends: nobody else chooses it, also while nobody listens there.
func FreePort(t testing.TB) int {
	t.Helper()
	set := new(freeport.Set)
	port, err := set.Take("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(set.Release)
	return port
}

// FreePorts returns n different ports, as FreePort does.
func FreePorts(t testing.TB, n int) []int {
	t.Helper()
	ports := make([]int, n)
	for i := range ports {
		ports[i] = FreePort(t)
	}
	return ports
}

// Listen opens a listener on a free port of 127.0.0.1, closed when the test ends.
func Listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen on 127.0.0.1: %v", err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}
