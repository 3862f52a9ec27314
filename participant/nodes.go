package participant

import (
	"strings"
	"sync"

	"google.golang.org/grpc"
)

// nodes knows the cluster's addresses: which node leads, as far as was heard,
// and which to ask when nothing was. It owns the connections.
type nodes struct {
	dial func(address string) (*grpc.ClientConn, error)

	mu     sync.Mutex
	conns  map[string]*grpc.ClientConn
	leader string   // empty: not known
	known  []string // seeds first, then leaders that were named to us
	turn   int      // of known, whose turn it is when no leader is known
	hints  int      // followed since a node last answered as leader, or had its turn
	closed bool
}

// knownMax bounds the addresses that are learnt, beside the seeds.
const knownMax = 32

func newNodes(seeds []string, dial func(string) (*grpc.ClientConn, error)) *nodes {
	return &nodes{dial: dial, conns: make(map[string]*grpc.ClientConn), known: append([]string(nil), seeds...)}
}

// pick returns a connection to the leader, or else to the node whose turn it is.
func (n *nodes) pick() (address string, conn *grpc.ClientConn, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return "", nil, ErrClosed
	}
	address = n.leader
	if address == "" {
		address = n.known[n.turn%len(n.known)]
	}
	if conn = n.conns[address]; conn != nil {
		return address, conn, nil
	}
	conn, err = n.dial(address)
	if err != nil {
		return address, nil, err
	}
	n.conns[address] = conn
	return address, conn, nil
}

// lead notes that the node at address answered as leader.
func (n *nodes) lead(address string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hints = 0
	n.setLeader(address)
}

// failed notes that the node at address did not serve as leader, and whom it
// named instead: a comma-separated list of addresses of one node, or nothing. It
// reports whether that is somebody new to ask at once.
//
// The turn goes round whatever is named: a node that goes on naming one that is
// gone, or two that name each other, must not keep us from the others.
func (n *nodes) failed(address, hint string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.known[n.turn%len(n.known)] == address {
		n.turn++
	}
	hint, _, _ = strings.Cut(hint, ",")
	if hint != "" && hint != address {
		if n.leader == hint {
			return true
		}
		if n.hints < hopsMax {
			n.hints++
			n.setLeader(hint)
			return true
		}
	}
	if n.leader == address {
		n.leader = ""
		if n.hints == 0 { // it did lead: it is asked last
			n.skipTo(address)
		}
		n.hints = 0
	}
	return false
}

// setLeader keeps the leader, and its address among those to ask later.
func (n *nodes) setLeader(address string) {
	n.leader = address
	for _, k := range n.known {
		if k == address {
			return
		}
	}
	if len(n.known) < knownMax {
		n.known = append(n.known, address)
	}
}

// skipTo gives the turn to the node after address, so that the one that has just
// failed is asked last.
func (n *nodes) skipTo(address string) {
	for i, k := range n.known {
		if k == address {
			n.turn = i + 1
			return
		}
	}
}

func (n *nodes) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	for _, conn := range n.conns {
		_ = conn.Close()
	}
	n.conns = nil
}
