package raftnode

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/internal/testkit"
)

// disk is what is wrong with a node's disk.
type disk struct {
	fault   atomic.Pointer[func(operation string) error]
	touched atomic.Int64 // operations that came through after a fault
}

func (d *disk) break_(fault func(operation string) error) { d.fault.Store(&fault) }

func (d *disk) check(operation string) error {
	if fault := d.fault.Load(); fault != nil {
		if err := (*fault)(operation); err != nil {
			d.touched.Add(1)
			return err
		}
	}
	return nil
}

// on puts the disk below a node.
func (d *disk) on(cfg *Config) {
	cfg.WrapLogStore = func(inner raft.LogStore) raft.LogStore { return &brokenLog{inner, d} }
	cfg.WrapStableStore = func(inner raft.StableStore) raft.StableStore { return &brokenStable{inner, d} }
}

type brokenLog struct {
	raft.LogStore
	disk *disk
}

func (b *brokenLog) StoreLogs(logs []*raft.Log) error {
	if err := b.disk.check("append"); err != nil {
		return err
	}
	return b.LogStore.StoreLogs(logs)
}

func (b *brokenLog) GetLog(index uint64, l *raft.Log) error {
	if err := b.disk.check("read"); err != nil {
		return err
	}
	return b.LogStore.GetLog(index, l)
}

func (b *brokenLog) DeleteRange(first, last uint64) error {
	if err := b.disk.check("delete"); err != nil {
		return err
	}
	return b.LogStore.DeleteRange(first, last)
}

func (b *brokenLog) FirstIndex() (uint64, error) {
	if err := b.disk.check("first"); err != nil {
		return 0, err
	}
	return b.LogStore.FirstIndex()
}

type brokenStable struct {
	raft.StableStore
	disk *disk
}

func (b *brokenStable) Set(key, value []byte) error {
	if err := b.disk.check("set"); err != nil {
		return err
	}
	return b.StableStore.Set(key, value)
}

func (b *brokenStable) Get(key []byte) ([]byte, error) {
	if err := b.disk.check("get"); err != nil {
		return nil, err
	}
	return b.StableStore.Get(key)
}

// only makes one kind of operation fail.
func only(operation string, err error) func(string) error {
	return func(o string) error {
		if o == operation {
			return err
		}
		return nil
	}
}

// brokenCluster is three nodes, each on a disk that can be broken.
func brokenCluster(t *testing.T, adjust func(*Config)) (*cluster, []*disk) {
	disks := []*disk{{}, {}, {}}
	c := newCluster(t, 3, func(i int, cfg *Config) {
		disks[i].on(cfg)
		if adjust != nil {
			adjust(cfg)
		}
	})
	return c, disks
}

// index is a member's place in its cluster.
func (c *cluster) index(of *member) int {
	for i, m := range c.members {
		if m == of {
			return i
		}
	}
	c.t.Fatal("no such member")
	return 0
}

// stopped waits until a node has stopped itself, and returns why.
func (m *member) stopped(t *testing.T) error {
	t.Helper()
	select {
	case err := <-m.fatal:
		return err
	case <-time.After(within):
		t.Fatal("the node goes on")
		return nil
	}
}

// "Any store error ends the process": the leader whose append fails answers
// unknown, stops, never touches its disk again, and the others go on.
func TestIssue503And666And614_AFailedWriteEndsTheLeader(t *testing.T) {
	c, disks := brokenCluster(t, nil)
	c.set("x", "1")
	leader := c.leader()
	d := disks[c.index(leader)]
	injected := fmt.Errorf("fsync: %w", syscall.EIO)
	d.break_(func(string) error { return injected })
	_, err := leader.Propose(c.ctx(), set("x", "2"))
	if !errors.Is(err, ErrUnknown) {
		t.Fatalf("the caller heard %v, want ErrUnknown", err)
	}
	if err := leader.stopped(t); !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), leader.cfg.DataDir) {
		t.Fatalf("it stopped for %v", err)
	}
	if _, err := leader.Propose(c.ctx(), set("x", "3")); !errors.Is(err, ErrFailed) {
		t.Fatalf("a stopped node answers %v", err)
	}
	c.stop(leader)
	if n := d.touched.Load(); n != 1 {
		t.Fatalf("the disk was used %d times after its failure", n-1)
	}
	c.set("x", "4")
	c.converge("x", "4")
	d.break_(func(string) error { return nil })
	c.start(leader)
	c.set("x", "5")
	c.converge("x", "5")
}

// The same for a follower, and for each kind of operation.
func TestAFailedOperationEndsAFollower(t *testing.T) {
	for _, operation := range []string{"append", "set", "get", "read", "delete"} {
		t.Run(operation, func(t *testing.T) {
			c, disks := brokenCluster(t, nil)
			c.set("x", "1")
			leader := c.leader()
			victim := c.others(leader)[0]
			c.converge("x", "1")
			disks[c.index(victim)].break_(only(operation, syscall.EIO))
			switch operation {
			case "append":
				c.set("x", "2")
			case "set": // of the term, which an election raises
				c.stop(leader)
			case "delete":
				apart(func() { _ = victim.stores.log.DeleteRange(1, 1) })
			case "read":
				apart(func() { _ = victim.stores.log.GetLog(1, new(raft.Log)) })
			case "get":
				apart(func() { _, _, _ = victim.stores.stable.vote() })
			}
			if err := victim.stopped(t); !errors.Is(err, syscall.EIO) {
				t.Fatalf("it stopped for %v", err)
			}
		})
	}
}

// apart runs f as the library's goroutines run: it may be ended in the middle.
func apart(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
}

// "or an operation longer than a limit": a disk that does not answer ends the
// leader, whose heartbeats alone would keep the others waiting for ever.
func TestIssue503And666And614_AStalledDiskEndsTheLeader(t *testing.T) {
	c, disks := brokenCluster(t, func(cfg *Config) { cfg.StoreOperationMax = 2 * time.Second })
	c.set("x", "1")
	leader := c.leader()
	release := make(chan struct{})
	defer close(release)
	var once sync.Once
	disks[c.index(leader)].break_(func(operation string) error {
		once.Do(func() { <-release })
		return nil
	})
	_, err := leader.Propose(c.ctx(), set("x", "2"))
	if !errors.Is(err, ErrUnknown) {
		t.Fatalf("the caller heard %v, want ErrUnknown", err)
	}
	if err := leader.stopped(t); !strings.Contains(err.Error(), "longer than 2s") {
		t.Fatalf("it stopped for %v", err)
	}
	leader.running = false // it is closed at the end, when the disk answers again
	t.Cleanup(func() { _ = leader.Close() })
	testkit.Eventually(t, within, func() bool { return len(leader.failed()) > 0 })
}

// failed returns why the node stopped itself.
func (n *Node) failed() string {
	if err := n.fail.cause(); err != nil {
		return err.Error()
	}
	return ""
}

// A slow disk within the limit is only slow, and shows in the figures.
func TestASlowDiskShowsInTheStatus(t *testing.T) {
	var d disk
	c := newCluster(t, 1, func(_ int, cfg *Config) { d.on(cfg) })
	d.break_(func(operation string) error {
		if operation == "append" {
			<-time.After(30 * time.Millisecond)
		}
		return nil
	})
	for range 5 {
		c.set("x", "1")
	}
	if m := c.leader().Status().Metrics.LogWrite; m.P50 < 20*time.Millisecond || m.Max < 30*time.Millisecond || m.Count < 5 || m.SumSeconds < 0.15 {
		// The wrapper of the test is below our clock, so all of it counts.
		t.Fatalf("the figures do not show it: %+v", m)
	}
}

// A machine that finds itself broken stops its node: nothing is applied after.
func TestABrokenMachineEndsTheNode(t *testing.T) {
	c := newCluster(t, 3, nil)
	c.set("x", "1")
	leader := c.leader()
	broken := errors.New("two decisions for one transaction")
	leader.machine.fail = broken
	_, err := leader.Propose(c.ctx(), set("x", "2"))
	if !errors.Is(err, ErrUnknown) {
		t.Fatalf("the caller heard %v", err)
	}
	if err := leader.stopped(t); !errors.Is(err, broken) {
		t.Fatalf("it stopped for %v", err)
	}
	if err := leader.Snapshot(c.ctx()); err == nil {
		t.Fatal("a broken machine was written to a snapshot")
	}
	c.stop(leader)
	c.set("x", "3")
}

// A node whose disk is full stops, says so, and loses nothing that it has
// acknowledged; with room again it goes on.
func TestAFullDisk(t *testing.T) {
	for store, size := range map[string]int{LogStoreBolt: 24 << 20, LogStoreWAL: 160 << 20} {
		t.Run(store, func(t *testing.T) {
			full := newSmallDisk(t, size)
			c := newCluster(t, 1, func(_ int, cfg *Config) {
				cfg.DataDir = filepath.Join(full.dir, "node")
				cfg.LogStore = store
				full.on(cfg)
			})
			node := c.members[0]
			full.fill(t)
			acknowledged := 0
			value := strings.Repeat("v", 200<<10)
			for ; ; acknowledged++ {
				_, err := node.Propose(c.ctx(), set(fmt.Sprintf("x%d", acknowledged), value))
				if errors.Is(err, ErrUnknown) {
					break
				}
				must(t, err)
				if acknowledged > 10_000 {
					t.Fatal("the disk is never full")
				}
			}
			if err := node.stopped(t); !errors.Is(err, syscall.ENOSPC) && !strings.Contains(err.Error(), "no space left") {
				t.Fatalf("it stopped for %v", err)
			} else if !strings.Contains(err.Error(), "make room on the file system") {
				t.Errorf("it does not say what to do: %v", err)
			}
			c.stop(node)
			full.relieve(t)
			c.start(node)
			c.set("after", "1")
			for i := range acknowledged {
				if node.get(fmt.Sprintf("x%d", i)) != value {
					t.Fatalf("x%d of %d acknowledged is lost", i, acknowledged)
				}
			}
		})
	}
}

// smallDisk is a file system of a few megabytes, or where nothing may be
// mounted a disk that says it is full.
type smallDisk struct {
	disk
	dir     string
	bytes   int
	mounted bool
}

func newSmallDisk(t *testing.T, bytes int) *smallDisk {
	d := &smallDisk{dir: t.TempDir(), bytes: bytes}
	if err := syscall.Mount("tmpfs", d.dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		t.Logf("no file system can be mounted here (%v): the full disk is injected", err)
		return d
	}
	d.mounted = true
	t.Cleanup(func() {
		if err := syscall.Unmount(d.dir, 0); err != nil {
			t.Errorf("unmount %s: %v", d.dir, err)
		}
	})
	return d
}

func (d *smallDisk) ballast() string { return filepath.Join(d.dir, "ballast") }

// fill leaves room for some entries.
func (d *smallDisk) fill(t *testing.T) {
	if d.mounted {
		must(t, os.WriteFile(d.ballast(), make([]byte, 12<<20), 0o600))
		return
	}
	var appends atomic.Int64
	d.break_(func(operation string) error {
		if operation == "append" && appends.Add(1) > 20 {
			return syscall.ENOSPC
		}
		return nil
	})
}

// relieve makes room again.
func (d *smallDisk) relieve(t *testing.T) {
	if d.mounted {
		must(t, os.Remove(d.ballast()))
		return
	}
	d.break_(func(string) error { return nil })
}
