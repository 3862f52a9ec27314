package rafttime

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// network is the wire between the nodes, in memory. It behaves as TCP does: what
// is written arrives in order, late, or not at all. A cut direction holds what is
// written until it heals, when it arrives as if retransmitted, or the connection
// breaks. A dead process's connections end, and nobody listens in its place.
type network struct {
	mu     sync.Mutex
	random *rand.Rand
	hosts  map[string]*listener // by address
	cut    map[direction]bool
	slow   map[direction]time.Duration // most that a direction is late by
	conns  map[*conn]struct{}
	healed chan struct{} // closed at the next change
	held   int           // bytes that met a cut
}

// direction is from one node's address to another's.
type direction struct{ from, to string }

func newNetwork(seed uint64) *network {
	return &network{
		random: rand.New(rand.NewPCG(seed, 0x6e6574)), hosts: map[string]*listener{}, cut: map[direction]bool{},
		slow: map[direction]time.Duration{}, conns: map[*conn]struct{}{}, healed: make(chan struct{}),
	}
}

// change changes the network and wakes whoever waits for it.
func (n *network) change(f func()) {
	n.mu.Lock()
	f()
	close(n.healed)
	n.healed = make(chan struct{})
	waiting := make([]*conn, 0, len(n.conns))
	for c := range n.conns {
		waiting = append(waiting, c)
	}
	n.mu.Unlock()
	for _, c := range waiting {
		c.in.wake()
	}
}

// partition cuts directions, in place of those that were cut.
func (n *network) partition(cut map[direction]bool) {
	n.change(func() { n.cut = cut })
}

// heal ends cuts and delays. Some of the connections that were cut break.
func (n *network) heal() {
	var broken []*conn
	n.change(func() {
		for c := range n.conns {
			if n.cut[direction{c.local, c.remote}] && n.random.IntN(3) == 0 {
				broken = append(broken, c)
			}
		}
		n.cut, n.slow = map[direction]bool{}, map[direction]time.Duration{}
	})
	for _, c := range broken {
		c.breaks()
	}
}

// lateness is how long what is written now is under way.
func (n *network) lateness(d direction) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	late := time.Duration(100+n.random.IntN(400)) * time.Microsecond
	if most := n.slow[d]; most > 0 {
		late += time.Duration(n.random.Int64N(int64(most)))
	}
	return late
}

func (n *network) isCut(d direction) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cut[d]
}

// listen opens an address.
func (n *network) listen(address string) *listener {
	l := &listener{net: n, address: address, waiting: make(chan net.Conn, 64), closed: make(chan struct{})}
	n.mu.Lock()
	n.hosts[address] = l
	n.mu.Unlock()
	return l
}

// kill ends a process's listener and connections, as a kernel does.
func (n *network) kill(address string) {
	n.mu.Lock()
	l := n.hosts[address]
	delete(n.hosts, address)
	var ends []*conn
	for c := range n.conns {
		if c.local == address {
			ends = append(ends, c)
		}
	}
	n.mu.Unlock()
	if l != nil {
		l.Close()
	}
	for _, c := range ends {
		c.Close()
	}
}

// dial is what a node's configuration has as Dial.
func (n *network) dial(from string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, to string) (net.Conn, error) {
		for {
			n.mu.Lock()
			healed := n.healed
			cut := n.cut[direction{from, to}] || n.cut[direction{to, from}]
			l := n.hosts[to]
			n.mu.Unlock()
			if cut {
				select {
				case <-healed:
					continue
				case <-ctx.Done():
					return nil, &net.OpError{Op: "dial", Net: "tcp", Err: ctx.Err()}
				}
			}
			time.Sleep(2 * n.lateness(direction{from, to}))
			refused := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
			if l == nil {
				return nil, refused
			}
			mine, its := n.pair(from, to)
			select {
			case l.waiting <- its:
				return mine, nil
			case <-l.closed:
				mine.Close()
				return nil, refused
			case <-ctx.Done():
				mine.Close()
				return nil, ctx.Err()
			}
		}
	}
}

func (n *network) pair(from, to string) (*conn, *conn) {
	there, back := newHalf(), newHalf()
	a := &conn{net: n, local: from, remote: to, in: back, out: there}
	b := &conn{net: n, local: to, remote: from, in: there, out: back}
	n.mu.Lock()
	n.conns[a], n.conns[b] = struct{}{}, struct{}{}
	n.mu.Unlock()
	return a, b
}

// listener accepts the connections of one address.
type listener struct {
	net     *network
	address string
	waiting chan net.Conn
	once    sync.Once
	closed  chan struct{}
}

var _ net.Listener = (*listener)(nil)

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.waiting:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.net.mu.Lock()
		defer l.net.mu.Unlock()
		if l.net.hosts[l.address] == l {
			delete(l.net.hosts, l.address)
		}
	})
	return nil
}

func (l *listener) Addr() net.Addr { return address(l.address) }

type address string

func (a address) Network() string { return "memory" }
func (a address) String() string  { return string(a) }

// errReset is what a broken connection says.
var errReset = fmt.Errorf("memory network: %w", syscall.ECONNRESET)
