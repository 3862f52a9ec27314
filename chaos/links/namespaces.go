package links

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
)

// Namespaces are network namespaces joined by a bridge, one a process: between
// them the kernel itself loses the packets, so that a dial hangs, and TCP sends
// again and gives up, as on real machines. They want root and `ip`.
//
// A way is cut by a false neighbour: the sender's kernel is told another address
// of the Ethernet for the receiver, that of a sink which only counts. It needs no
// packet filter, and cuts one direction alone.
type Namespaces struct {
	id     string // of all names, so that several can be there at once
	subnet string // first three bytes
	names  []string

	mu     sync.Mutex
	cuts   map[Way]int
	closed bool
}

// NamespacesPossible says why there can be none here, nil when there can.
func NamespacesPossible() error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("network namespaces are Linux's, this is %s", runtime.GOOS)
	}
	if os.Geteuid() != 0 {
		return errors.New("network namespaces want root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return errors.New("network namespaces want `ip` (iproute2)")
	}
	probe := "qprobe" + strconv.Itoa(os.Getpid())
	if err := ip("netns", "add", probe); err != nil {
		return fmt.Errorf("network namespaces: %w", err)
	}
	return ip("netns", "del", probe)
}

// NewNamespaces makes one namespace for each name.
func NewNamespaces(names []string) (_ *Namespaces, err error) {
	id := fmt.Sprintf("q%x", os.Getpid()&0xfffff)
	ns := &Namespaces{id: id, subnet: fmt.Sprintf("10.%d.%d", 100+os.Getpid()>>8%100, os.Getpid()&0xff), names: names, cuts: map[Way]int{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, ns.Close())
		}
	}()
	if err := ns.bridge(); err != nil {
		return nil, err
	}
	for i := range names {
		if err := ns.add(i); err != nil {
			return nil, err
		}
	}
	// Nobody asks who has an address: a cut must not be mended by an answer.
	for i, name := range names {
		for j := range names {
			if i != j {
				if err := ns.neighbour(name, j, ns.ether(j)); err != nil {
					return nil, err
				}
			}
		}
	}
	return ns, nil
}

// bridge makes the bridge, with an address of this side, and the sink.
func (ns *Namespaces) bridge() error {
	return each(
		[]string{"link", "add", ns.id + "br", "type", "bridge"},
		[]string{"addr", "add", ns.subnet + ".254/24", "dev", ns.id + "br"},
		[]string{"link", "set", ns.id + "br", "up"},
		[]string{"link", "add", ns.id + "sink", "type", "veth", "peer", "name", ns.id + "drain"},
		[]string{"link", "set", ns.id + "drain", "master", ns.id + "br", "up"},
		[]string{"link", "set", ns.id + "sink", "address", ns.sink(), "up"},
	)
}

// add makes the i-th namespace.
func (ns *Namespaces) add(i int) error {
	space, outside, inside := ns.space(ns.names[i]), fmt.Sprintf("%so%d", ns.id, i), fmt.Sprintf("%si%d", ns.id, i)
	return each(
		[]string{"netns", "add", space},
		[]string{"link", "add", outside, "type", "veth", "peer", "name", inside},
		[]string{"link", "set", outside, "master", ns.id + "br", "up"},
		[]string{"link", "set", inside, "address", ns.ether(i), "netns", space},
		[]string{"-n", space, "link", "set", inside, "name", "eth0"},
		[]string{"-n", space, "addr", "add", ns.Address(ns.names[i]) + "/24", "dev", "eth0"},
		[]string{"-n", space, "link", "set", "lo", "up"},
		[]string{"-n", space, "link", "set", "eth0", "up"},
	)
}

func (ns *Namespaces) space(name string) string { return ns.id + name }

func (ns *Namespaces) ether(i int) string { return fmt.Sprintf("02:00:00:00:00:%02x", i+1) }

func (ns *Namespaces) sink() string { return "02:00:00:00:ff:ff" }

func (ns *Namespaces) index(name string) int {
	for i, n := range ns.names {
		if n == name {
			return i
		}
	}
	return -1
}

// Address is the IP address of a namespace, which this side reaches too.
func (ns *Namespaces) Address(name string) string {
	return fmt.Sprintf("%s.%d", ns.subnet, ns.index(name)+1)
}

// Command is what runs a program in a namespace, put before its own words.
func (ns *Namespaces) Command(name string) []string {
	return []string{"ip", "netns", "exec", ns.space(name)}
}

// neighbour tells a namespace the Ethernet address of the j-th one.
func (ns *Namespaces) neighbour(name string, j int, ether string) error {
	return ip("-n", ns.space(name), "neigh", "replace", ns.Address(ns.names[j]), "lladdr", ether, "dev", "eth0", "nud", "permanent")
}

// Cut loses every packet on ways until undo.
func (ns *Namespaces) Cut(ways []Way) (undo func() error, err error) {
	set := func(by int) error {
		ns.mu.Lock()
		defer ns.mu.Unlock()
		var errs []error
		for _, w := range ways {
			to := ns.index(w.To)
			ether := ns.ether(to)
			if ns.cuts[w] += by; ns.cuts[w] > 0 {
				ether = ns.sink()
			}
			errs = append(errs, ns.neighbour(w.From, to, ether))
		}
		return errors.Join(errs...)
	}
	return func() error { return set(-1) }, set(1)
}

// Lost counts the packets that the sink has swallowed.
func (ns *Namespaces) Lost() (int, error) {
	text, err := os.ReadFile(filepath.Join("/sys/class/net", ns.id+"sink", "statistics", "rx_packets"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// Close removes everything; the processes in the namespaces must have ended.
func (ns *Namespaces) Close() error {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if ns.closed {
		return nil
	}
	ns.closed = true
	var errs []error
	for _, name := range ns.names {
		if _, err := os.Stat(filepath.Join("/run/netns", ns.space(name))); err == nil {
			errs = append(errs, ip("netns", "del", ns.space(name)))
		}
	}
	for _, link := range []string{"sink", "br"} {
		if _, err := os.Stat(filepath.Join("/sys/class/net", ns.id+link)); err == nil {
			errs = append(errs, ip("link", "del", ns.id+link))
		}
	}
	return errors.Join(errs...)
}

func each(commands ...[]string) error {
	for _, words := range commands {
		if err := ip(words...); err != nil {
			return err
		}
	}
	return nil
}

func ip(words ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), dialMax*10)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "ip", words...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(words, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
