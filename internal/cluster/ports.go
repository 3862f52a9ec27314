package cluster

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// The default ports of a node's three listeners; node k (from 1) of a
// development cluster adds PortStep*(k-1).
const (
	PortHTTP = 36789
	PortGRPC = 36790
	PortRaft = 36792
	PortStep = 10
)

// Free ports are sought below the range from which kernels give ports to
// outgoing connections (Linux: 32768 and up): a port found free there cannot be
// taken by a passing connection between the look and the listen.
const (
	freePortMin = 15000
	freePortMax = 32000
)

// Ports are the three listeners of a node.
type Ports struct {
	HTTP int `json:"http"`
	GRPC int `json:"grpc"`
	Raft int `json:"raft"`
}

// all returns the ports in the order of the fields.
func (p Ports) all() []int { return []int{p.HTTP, p.GRPC, p.Raft} }

// DefaultPorts returns the ports of node k, from 1, counted from base, the
// HTTP port of the first node.
func DefaultPorts(base, k int) Ports {
	shift := base - PortHTTP + PortStep*(k-1)
	return Ports{HTTP: PortHTTP + shift, GRPC: PortGRPC + shift, Raft: PortRaft + shift}
}

// choosePorts returns ports for n nodes: those counted from base when all are
// free (base 0 asks for none of them), otherwise free ones.
func choosePorts(host string, base, n int) ([]Ports, error) {
	if base != 0 {
		ports := make([]Ports, n)
		for k := range ports {
			ports[k] = DefaultPorts(base, k+1)
		}
		if takenPort(host, ports) == 0 {
			return ports, nil
		}
	}
	return freePorts(host, n)
}

// freePorts picks free ports at random, so that clusters started at the same
// time seldom meet.
func freePorts(host string, n int) ([]Ports, error) {
	const attempts = 2000
	used := make(map[int]bool)
	pick := func() int {
		for range attempts {
			port := freePortMin + rand.IntN(freePortMax-freePortMin)
			if !used[port] && isFree(host, port) {
				used[port] = true
				return port
			}
		}
		return 0
	}
	ports := make([]Ports, n)
	for k := range ports {
		ports[k] = Ports{HTTP: pick(), GRPC: pick(), Raft: pick()}
		for _, port := range ports[k].all() {
			if port == 0 {
				return nil, fmt.Errorf("find a free port on %s between %d and %d: all seem taken", host, freePortMin, freePortMax)
			}
		}
	}
	return ports, nil
}

// takenPort returns the first port that somebody listens on, 0 for none.
func takenPort(host string, nodes []Ports) int {
	for _, ports := range nodes {
		for _, port := range ports.all() {
			if !isFree(host, port) {
				return port
			}
		}
	}
	return 0
}

func isFree(host string, port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// FreeAddress returns an address of host that nobody listens on, below the
// range of outgoing connections: for a companion of the cluster that must come
// back at the same address when it is started again.
func FreeAddress(host string) (string, error) {
	ports, err := freePorts(host, 1)
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(host, strconv.Itoa(ports[0].HTTP)), nil
}
