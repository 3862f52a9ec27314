package chaos

import (
	"path/filepath"

	"github.com/quorate/quorate/chaos/links"
	"github.com/quorate/quorate/internal/cluster"
)

// useLinks puts a proxy on every link of the run: it is the Prepare of every
// fault of the network. The first call makes them and returns how they end.
func (e *Env) useLinks() (done func() error, err error) {
	if e.Links != nil {
		return nil, nil
	}
	if e.Links, err = links.New(filepath.Join(e.Dir, "links"), e.Options.Seed, e.Log); err != nil {
		return nil, err
	}
	e.AddNodeEnv(func(node string, _ int) []string { return e.DialEnv(node) })
	e.SetAddresses(e.linked)
	return func() error { e.Links.Close(); return nil }, nil
}

func prepareLinks(e *Env) (done func() error, err error) { return e.useLinks() }

// nodesKnown is told of the nodes before the first of them starts.
func (e *Env) nodesKnown(nodes []*cluster.Node) error {
	if e.Links == nil {
		return nil
	}
	return e.Links.Nodes(nodes)
}

// DialEnv is the environment that has a process dial its proxies; it must come
// to every process that faults of links and partitions are meant to reach. Nil
// where no link is proxied.
func (e *Env) DialEnv(process string) []string {
	if e.Links == nil {
		return nil
	}
	env, err := e.Links.Dials(process)
	if err != nil {
		e.Surprise("no links for %s: %v", process, err)
	}
	return env
}

func (e *Env) linked(from string, n *cluster.Node) string {
	address, err := e.Links.Address(from, n.Name, links.GRPC)
	if err != nil {
		e.Surprise("no link from %s to %s: %v", from, n.Name, err)
		return n.GRPC
	}
	return address
}

// nodeNames returns the names of all nodes.
func (e *Env) nodeNames() []string {
	var names []string
	for _, n := range e.Cluster.Nodes() {
		names = append(names, n.Name)
	}
	return names
}

// outsiders returns the processes that have links to nodes and are none: those
// that clients and participants run in.
// Those that only wait have nothing to say: a cut of their links would hold nothing.
func (e *Env) outsiders() []string {
	all := links.Without(e.Links.Dialers(), e.nodeNames()...)
	if e.bank == nil || e.bank.bank == nil {
		return all
	}
	return links.Without(all, e.bank.bank.Idle()...)
}

// pick draws one of several; empty when there is none.
func (e *Env) pick(all []string) string {
	if len(all) == 0 {
		return ""
	}
	return all[e.IntN(len(all))]
}

// shuffled returns all in an order drawn anew.
func (e *Env) shuffled(all []string) []string {
	mixed := append([]string(nil), all...)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rand.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
	return mixed
}

// describe names processes, the leader among them as such.
func describe(leader string, names ...string) string {
	text := ""
	for i, name := range names {
		if i > 0 {
			text += ", "
		}
		if text += name; name == leader {
			text += " (leader)"
		}
	}
	return text
}

// leaderName is the leading node's name; empty when there is none.
func leaderName(n *cluster.Node) string {
	if n == nil {
		return ""
	}
	return n.Name
}
