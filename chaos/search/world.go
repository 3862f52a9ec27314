package search

import (
	"encoding/binary"
	"fmt"
	"slices"
)

const (
	nodesMax = 3
	tailMax  = 3
)

// world is one state of everything. It is a plain value: a step copies it and
// changes the copy.
type world struct {
	machine       uint32 // the machine after everything that is committed
	committedTerm uint8  // of the last committed entry
	nodes         [nodesMax]node

	parts     [branchesMax]part
	initiator uint8 // of the transaction; see initiator.go
	asked     bool  // the second client has asked its rollback
	net       net
	now       uint8 // the phase of time

	crashes, duplicates uint8 // left

	// What was ever true, so that a promise about all time can be held against one
	// state.
	ghosts uint8
	acked  uint8  // branches whose Enlist was acknowledged
	sealed uint8  // branches of the set as it was sealed
	set    uint8  // branches of the commit that was decided
	breach breach // a step that nobody may take was taken
}

// ghosts.
const (
	ghostCommit   = 1 << iota // commit was decided in the log, or told to somebody
	ghostRollback             // and rollback
	ghostRefused              // a branch has refused
	ghostSealed               // the set was sealed
)

// net are the messages under way, as bits. Sending one that is under way already
// adds nothing; one that is never delivered is lost.
type net uint64

// Messages: the commands to the coordinator under their own numbers, then those
// of the other way.
const (
	msgWork     = int(commandCount)         // + branch: the initiator's call
	msgReply    = msgWork + branchesMax     // + branch: it has prepared (fast mode)
	msgEnlisted = msgReply + branchesMax    // + branch
	msgCommit   = msgEnlisted + branchesMax // + branch: the verdict
	msgRollback = msgCommit + branchesMax   // + branch
	msgBegun    = msgRollback + branchesMax
	msgCount    = msgBegun + 1
)

func (n net) has(msg int) bool { return n&(1<<msg) != 0 }
func (n *net) send(msg int)    { *n |= 1 << msg }
func (n *net) take(msg int)    { *n &^= 1 << msg }

// model is a world's rules.
type model struct {
	Config
	machines *machines
}

func newModel(c Config) (*model, error) {
	switch {
	case c.Nodes < 2 || c.Nodes > nodesMax:
		return nil, fmt.Errorf("search: %d nodes: 2 or 3 can be searched", c.Nodes)
	case c.Branches < 1 || c.Branches > branchesMax:
		return nil, fmt.Errorf("search: %d branches: 1 to %d can be searched", c.Branches, branchesMax)
	case c.Uncommitted < 1 || c.Uncommitted >= tailMax:
		return nil, fmt.Errorf("search: %d uncommitted entries: 1 to %d can be searched", c.Uncommitted, tailMax-1)
	case c.Clocks < 1 || c.Clocks > clocksMax:
		return nil, fmt.Errorf("search: %d clocks: 1 to %d can be searched", c.Clocks, clocksMax)
	case c.Terms < 1 || c.Terms > 200 || c.Crashes < 0 || c.Crashes > 200 || c.Duplicates < 0 || c.Duplicates > 200:
		return nil, fmt.Errorf("search: terms, crashes and duplicates must lie below 200: %s", c.Name())
	case c.Mode != Explicit && c.Mode != Named && c.Mode != Fast:
		return nil, fmt.Errorf("search: mode %q: it is explicit, named or fast", c.Mode)
	}
	m, err := newMachines(c)
	if err != nil {
		return nil, err
	}
	return &model{Config: c, machines: m}, nil
}

// begin is the first state: the first node leads and serves in term 1.
func (m *model) begin() world {
	w := world{committedTerm: 1, crashes: uint8(m.Crashes), duplicates: uint8(m.Duplicates)}
	for k := range m.Nodes {
		w.nodes[k].term = 1
	}
	w.nodes[0].role = serving
	m.canonical(&w)
	return w
}

// view is what the committed log says.
func (m *model) view(w *world) *view { return &m.machines.all[w.machine].view }

// sends puts under way what each process says by itself, again and again until it
// is answered. Since a message that is under way may as well never arrive, a
// world in which it was sent can do all that the same world without it can: so
// nothing is lost by sending at once, and a state a subset of messages is saved.
func (m *model) sends(w *world) {
	m.initiatorSends(w)
	leads := m.leads(w) >= 0
	for b := range m.Branches {
		m.partSends(w, b, leads)
	}
}

// canonical sends what is to be sent, puts the branches and the nodes, which are
// alike, in order, and returns for each place what stood there.
func (m *model) canonical(w *world) (nodes, branches order) {
	m.sends(w)
	branches = m.arrange(w)
	nodes = inOrder
	for k := range m.Nodes { // an insertion sort: there are two or three
		for j := k; j > 0 && w.nodes[j].less(&w.nodes[j-1]); j-- {
			w.nodes[j], w.nodes[j-1] = w.nodes[j-1], w.nodes[j]
			nodes[j], nodes[j-1] = nodes[j-1], nodes[j]
		}
	}
	return nodes, branches
}

// less is any total order of what nodes are.
func (n *node) less(o *node) bool {
	a, b := n.pack(), o.pack()
	return slices.Compare(a[:], b[:]) < 0
}

// pack is a node in sixteen bytes.
func (n *node) pack() (p [2]uint64) {
	p[0] = uint64(n.role) | uint64(n.term)<<8 | uint64(n.length)<<16
	if n.behind {
		p[0] |= 1 << 24
	}
	for i, e := range n.tail[:n.length] {
		v := uint64(e.term) | uint64(e.command)<<8 | uint64(e.clock)<<16
		if i == 0 {
			p[0] |= v << 32
		} else {
			p[1] |= v << (24 * (i - 1))
		}
	}
	return p
}

// key hashes everything that the future depends on, and the ghosts.
func (m *model) key(w *world) stateKey {
	var b [8 * (5 + 2*nodesMax)]byte
	put := func(i int, v uint64) { binary.LittleEndian.PutUint64(b[8*i:], v) }
	put(0, uint64(w.machine)|uint64(w.committedTerm)<<32|uint64(w.initiator)<<40|uint64(w.now)<<48)
	put(1, uint64(w.net))
	put(2, uint64(w.parts[0])|uint64(w.parts[1])<<8|uint64(w.parts[2])<<16|uint64(w.crashes)<<24|uint64(w.duplicates)<<32)
	put(3, uint64(w.ghosts)|uint64(w.acked)<<8|uint64(w.set)<<16|uint64(w.breach)<<24|uint64(w.sealed)<<32)
	if w.asked {
		b[8*4] = 1
	}
	for k := range m.Nodes {
		p := w.nodes[k].pack()
		put(5+2*k, p[0])
		put(6+2*k, p[1])
	}
	return hash(b[:])
}
