// Package links puts a proxy on every link between the processes of one machine,
// without root: what one process sends to another passes there, and can be cut,
// delayed, lost, reset or halved, one way or both.
//
// A process is told its proxies by the file of QUORATE_DETOURS (package
// internal/detour); who chooses its addresses itself asks [Network.Address].
//
//	network.go     the processes, their links, and what can be done to them
//	weather.go     what a path does to what passes it
//	link.go        one listener a link; dead targets refuse
//	connection.go  one connection through a link
//	lane.go        one direction of it
//	shapes.go      partitions by name
//	grpcproxy.go   duplicates and late calls, where calls are known
//	grpcsession.go the same for the frames of participants' sessions
//	namespaces.go  the kernel's own partitions, where there is root
package links

import (
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/quorate/quorate/internal/cluster"
	"github.com/quorate/quorate/internal/detour"
	"github.com/quorate/quorate/internal/freeport"
)

// The ports of a process that links lead to.
const (
	Raft = "raft"
	GRPC = "grpc"
	HTTP = "http"
)

// Network is the links between processes. Its methods may be called from any
// goroutine.
type Network struct {
	dir     string
	seed    uint64
	log     *slog.Logger
	closing chan struct{}
	wait    sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	processes map[string]map[string]string // process, port: address
	targets   map[string]*target           // by address
	links     map[key]*link
	paths     map[[2]string]*path
	dialers   map[string]bool // processes that have a file of detours
	via       func(process, port, address string) (string, error)

	taken freeport.Set // the links' addresses
}

type key struct{ from, to, port string }

// New returns a network without processes. Its directory holds the files of
// detours; the seed is that of every draw.
func New(dir string, seed uint64, log *slog.Logger) (*Network, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Network{
		dir: dir, seed: seed, log: log, closing: make(chan struct{}),
		processes: map[string]map[string]string{}, targets: map[string]*target{},
		links: map[key]*link{}, paths: map[[2]string]*path{}, dialers: map[string]bool{},
	}, nil
}

// Close ends every connection and every proxy.
func (n *Network) Close() {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return
	}
	n.closed = true
	close(n.closing)
	all := slices.Collect(maps.Values(n.links))
	n.mu.Unlock()
	n.Clear()
	for _, l := range all {
		l.close()
	}
	n.wait.Wait()
	n.taken.Release()
}

// Intercept has links to a port dial what via returns instead of the process's
// own address; it must be called before Listens.
func (n *Network) Intercept(via func(process, port, address string) (string, error)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.via = via
}

// Nodes makes the nodes of a cluster known.
func (n *Network) Nodes(nodes []*cluster.Node) error {
	for _, node := range nodes {
		if err := n.Listens(node.Name, map[string]string{Raft: node.Raft, GRPC: node.GRPC, HTTP: node.HTTP}); err != nil {
			return err
		}
	}
	return nil
}

// Listens says where a process listens, or will: who has a file of detours
// finds it through a link from then on.
func (n *Network) Listens(process string, ports map[string]string) error {
	n.mu.Lock()
	known := n.processes[process]
	if known == nil {
		known = map[string]string{}
		n.processes[process] = known
	}
	maps.Copy(known, ports)
	dialers := slices.Collect(maps.Keys(n.dialers))
	n.mu.Unlock()
	for _, from := range dialers {
		if _, err := n.Dials(from); err != nil {
			return err
		}
	}
	return nil
}

// Dials makes a link from a process to each port of every other one, and returns
// the environment that has it dial them.
func (n *Network) Dials(from string) (env []string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dialers[from] = true
	detours := map[string]string{}
	for to, ports := range n.processes {
		if to == from {
			continue
		}
		for port, address := range ports {
			l, err := n.link(key{from, to, port})
			if err != nil {
				return nil, err
			}
			detours[address] = l.address
		}
	}
	path := filepath.Join(n.dir, from+".detours")
	if err := detour.Write(path, detours); err != nil {
		return nil, err
	}
	return []string{detour.Variable + "=" + path}, nil
}

// Address is where from dials a port of to.
func (n *Network) Address(from, to, port string) (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l, err := n.link(key{from, to, port})
	if err != nil {
		return "", err
	}
	return l.address, nil
}

// link returns a link, made at its first use. It must be called with the lock.
func (n *Network) link(k key) (*link, error) {
	if l := n.links[k]; l != nil {
		return l, nil
	}
	meant := n.processes[k.to][k.port]
	switch {
	case n.closed:
		return nil, net.ErrClosed
	case meant == "":
		return nil, fmt.Errorf("links: %s has no port %s", k.to, k.port)
	}
	// Taken: the link must get it back after its target was dead.
	address, err := n.taken.Address("127.0.0.1")
	if err != nil {
		return nil, err
	}
	t, err := n.target(k, meant)
	if err != nil {
		return nil, err
	}
	l := &link{
		from: k.from, to: k.to, port: k.port, address: address, target: t,
		there: n.path(k.from, k.to), back: n.path(k.to, k.from),
		log:   func(format string, args ...any) { n.log.Info(fmt.Sprintf(format, args...)) },
		conns: map[*connection]struct{}{}, parked: map[*net.TCPConn]struct{}{},
	}
	l.adjust()
	if l.listener == nil && !l.target.dead() {
		return nil, fmt.Errorf("links: cannot listen on %s", address)
	}
	n.links[k] = l
	return l, nil
}

func (n *Network) target(k key, address string) (_ *target, err error) {
	if t := n.targets[address]; t != nil {
		return t, nil
	}
	t := &target{address: address, via: address, closing: n.closing, wait: &n.wait}
	if n.via != nil {
		if t.via, err = n.via(k.to, k.port, address); err != nil {
			return nil, err
		}
	}
	t.changed = func() { n.targetChanged(t) }
	n.targets[address] = t
	return t, nil
}

// targetChanged has the links to a target refuse, or take connections again.
func (n *Network) targetChanged(t *target) {
	for _, l := range n.linksWhere(func(l *link) bool { return l.target == t }) {
		l.adjust()
		if t.via == t.address || !t.dead() {
			continue
		}
		for _, c := range l.open() {
			c.abort() // the interceptor lives, what it spoke for does not
		}
	}
}

// Suspect looks whether the process at an address is gone; an interceptor calls
// it when that stops answering.
func (n *Network) Suspect(address string) {
	n.mu.Lock()
	t := n.targets[address]
	n.mu.Unlock()
	if t != nil {
		t.suspect()
	}
}

func (n *Network) path(from, to string) *path {
	p := n.paths[[2]string{from, to}]
	if p == nil {
		p = newPath(from, to, n.seed+uint64(len(n.paths)))
		n.paths[[2]string{from, to}] = p
	}
	return p
}

func (n *Network) linksWhere(want func(*link) bool) []*link {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []*link
	for _, l := range n.links {
		if want(l) {
			all = append(all, l)
		}
	}
	return all
}

// between returns the links on which packets from one process to the other
// travel, requests or answers.
func (n *Network) between(from, to string) []*link {
	return n.linksWhere(func(l *link) bool { return l.from == from && l.to == to || l.from == to && l.to == from })
}

// Hinder puts weather over the way of packets from one process to another, on
// top of what is there, until undo.
func (n *Network) Hinder(from, to string, w Weather) (undo func()) {
	n.mu.Lock()
	p := n.path(from, to)
	n.mu.Unlock()
	cover := func(there bool) {
		p.cover(&w, there)
		if w.Cut { // a cut hides whether the target lives
			for _, l := range n.between(from, to) {
				l.adjust()
			}
		}
	}
	cover(true)
	return func() { cover(false) }
}

// Cut cuts the way from one process to another until undo.
func (n *Network) Cut(from, to string) (undo func()) {
	return n.Hinder(from, to, Weather{Cut: true})
}

// Refuse has connections from one process to another refused until undo; those
// that are open end by RST.
func (n *Network) Refuse(from, to string) (undo func()) {
	all := n.linksWhere(func(l *link) bool { return l.from == from && l.to == to })
	for _, l := range all {
		l.refuse(1)
		l.reset()
	}
	return func() {
		for _, l := range all {
			l.refuse(-1)
		}
	}
}

// Reset ends the open connections from one process to another by RST, and
// returns how many there were.
func (n *Network) Reset(from, to string) int {
	count := 0
	for _, l := range n.linksWhere(func(l *link) bool { return l.from == from && l.to == to }) {
		count += l.reset()
	}
	return count
}

// Halve breaks the open connections from one process to another for one side
// alone; the other one hears nothing of it until mend. It returns how many.
func (n *Network) Halve(from, to string, tellDialler bool) (count int, mend func()) {
	var mends []func()
	for _, l := range n.linksWhere(func(l *link) bool { return l.from == from && l.to == to }) {
		for _, c := range l.open() {
			if m := c.halve(tellDialler); m != nil {
				mends = append(mends, m)
			}
		}
	}
	return len(mends), func() {
		for _, m := range mends {
			m()
		}
	}
}

// Clear makes the weather of every path clear.
func (n *Network) Clear() {
	n.mu.Lock()
	paths, all := slices.Collect(maps.Values(n.paths)), slices.Collect(maps.Values(n.links))
	n.mu.Unlock()
	for _, p := range paths {
		p.clear()
	}
	for _, l := range all {
		l.adjust()
	}
}

// Counts is what happened to packets from one process to another so far.
func (n *Network) Counts(from, to string) Counts {
	n.mu.Lock()
	p := n.path(from, to)
	n.mu.Unlock()
	return p.counted()
}

// Total is what happened on all paths so far.
func (n *Network) Total() Counts {
	n.mu.Lock()
	paths := slices.Collect(maps.Values(n.paths))
	n.mu.Unlock()
	var sum Counts
	for _, p := range paths {
		sum = sum.Plus(p.counted())
	}
	return sum
}

// Dialers returns the processes that have links to others, sorted.
func (n *Network) Dialers() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	names := map[string]bool{}
	for k := range n.links {
		names[k.from] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// Processes returns the processes that listen, sorted.
func (n *Network) Processes() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Sorted(maps.Keys(n.processes))
}
