package cluster

import (
	"net"
	"strconv"

	"github.com/quorate/quorate/internal/freeport"
)

// The default ports of a node's three listeners; node k (from 1) of a
// development cluster adds PortStep*(k-1).
const (
	PortHTTP = 36789
	PortGRPC = 36790
	PortRaft = 36792
	PortStep = 10
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
// free (base 0 asks for none of them), otherwise free ones, of the set.
func choosePorts(set *freeport.Set, host string, base, n int) ([]Ports, error) {
	ports := make([]Ports, n)
	if base != 0 {
		for k := range ports {
			ports[k] = DefaultPorts(base, k+1)
		}
		if takenPort(host, ports) == 0 {
			return ports, nil
		}
	}
	for k := range ports {
		for _, port := range []*int{&ports[k].HTTP, &ports[k].GRPC, &ports[k].Raft} {
			var err error
			if *port, err = set.Take(host); err != nil {
				return nil, err
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

// companions are the addresses of FreeAddress.
var companions freeport.Set

// FreeAddress takes an address of host that nobody listens on, and that nobody else
// chooses as long as this process lives: for a companion of the cluster that must
// come back at the same address when it is started again.
func FreeAddress(host string) (string, error) { return companions.Address(host) }
