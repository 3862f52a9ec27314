// Package freeport chooses TCP ports for listeners that come later, in another
// process, and come back at the same port after that process was killed.
//
// A port that was merely free a moment ago is not enough for those: while nobody
// listens on it, the next one who looks finds it free as well, and a campaign with
// links between all processes takes hundreds. So a port that was chosen stays
// taken until it is released, or this process ends: on Linux by a socket that is
// bound to it and never listens, which keeps out whoever chooses a port, here or
// in another process, and lets whoever was told the port listen there; elsewhere by
// a list, which keeps out this process alone.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// Ports are sought below the range from which kernels give ports to outgoing
// connections (Linux: 32768 and up): no passing connection can have it when a
// listener comes back.
const (
	portMin = 15000
	portMax = 32000
	// lookMax is how many ports are looked at before all seem taken.
	lookMax = 2000
)

// taken are the addresses of this process.
var taken = struct {
	sync.Mutex
	addresses map[string]bool
}{addresses: map[string]bool{}}

// Set is ports that were taken and are released together. The zero Set is empty
// and ready. Its methods may be called from any goroutine.
type Set struct {
	release map[string]func() // by address; guarded by taken
}

// Take chooses a port of host, at random, and keeps it until Release.
func (s *Set) Take(host string) (port int, err error) {
	taken.Lock()
	defer taken.Unlock()
	var last error
	for range lookMax {
		port = portMin + rand.IntN(portMax-portMin)
		address := join(host, port)
		if taken.addresses[address] {
			continue
		}
		release, err := bind(address)
		if err != nil {
			last = err
			continue
		}
		if s.release == nil {
			s.release = map[string]func(){}
		}
		taken.addresses[address], s.release[address] = true, release
		return port, nil
	}
	return 0, fmt.Errorf("find a free port on %s between %d and %d: all seem taken: %w", host, portMin, portMax, last)
}

// Address is Take that returns the address whole.
func (s *Set) Address(host string) (string, error) {
	port, err := s.Take(host)
	return join(host, port), err
}

// Release lets others choose the set's ports; who listens there is not disturbed.
// The set is empty then.
func (s *Set) Release() {
	taken.Lock()
	defer taken.Unlock()
	for address, release := range s.release {
		release()
		delete(taken.addresses, address)
	}
	s.release = nil
}

func join(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }
