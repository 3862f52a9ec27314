package raftnode

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// Bugs that other replicated stores shipped, each as a test of this one.
// docs/history.md lists them all.

// etcd #13766: the index of what was applied and the data it was applied to were
// stored apart, and a crash between the two applied entries twice or never. Here a
// snapshot holds both, and nothing else is kept: whenever the node ends, what
// follows the snapshot in the log is applied once.
func TestHistory_Etcd13766_AppliedIndexAndDataStoredTogether(t *testing.T) {
	c := newCluster(t, 1, nil)
	m := c.members[0]
	written := 0
	for round := range 5 {
		for range 1 + round {
			c.set(fmt.Sprintf("r%d", written), "x")
			written++
		}
		if round%2 == 0 {
			c.must(m.Snapshot(c.ctx()))
		}
		c.set(fmt.Sprintf("r%d", written), "x") // behind the snapshot
		written++
		c.stop(m)
		c.start(m)
		c.leader()
		c.converge(fmt.Sprintf("r%d", written-1), "x")
		var applied []string
		m.View(func() { applied = append(applied, m.machine.state.Applied...) })
		if len(applied) != written {
			t.Fatalf("round %d: %d registers were set, %d are applied: %v", round, written, len(applied), applied)
		}
		for i, register := range applied {
			if register != fmt.Sprintf("r%d", i) {
				t.Fatalf("round %d: entry %d sets %s", round, i, register)
			}
		}
	}
}

// slowLog lets the test see an append that has begun, and end it.
type slowLog struct {
	raft.LogStore
	begun, end chan struct{}
}

func (s *slowLog) StoreLogs(logs []*raft.Log) error {
	if s.begun != nil {
		select {
		case s.begun <- struct{}{}:
			<-s.end
		case <-s.end:
		}
	}
	return s.LogStore.StoreLogs(logs)
}

// etcd #14370: a cluster of one node answered a write before it was synced, so
// that a crash could lose what was acknowledged. Here nobody hears anything, and
// nothing is applied, while the append is on its way to the disk.
func TestHistory_Etcd14370_AnsweredBeforeFsync(t *testing.T) {
	disk := &slowLog{}
	c := newCluster(t, 1, func(_ int, cfg *Config) {
		cfg.WrapLogStore = func(inner raft.LogStore) raft.LogStore {
			disk.LogStore = inner
			return disk
		}
	})
	m := c.leader()
	c.stop(m)
	disk.begun, disk.end = make(chan struct{}), make(chan struct{})
	opened := make(chan struct{})
	go func() { // the first entries of the new term
		for {
			select {
			case <-disk.begun:
				disk.end <- struct{}{}
			case <-opened:
				return
			}
		}
	}()
	c.start(m)
	c.leader()
	opened <- struct{}{}

	answered := make(chan error, 1)
	go func() {
		_, err := m.Propose(c.ctx(), set("x", "1"))
		answered <- err
	}()
	<-disk.begun
	select {
	case err := <-answered:
		t.Errorf("answered before the entry is on the disk: %v", err)
	case <-time.After(200 * time.Millisecond): // as long as an answer might take
	}
	if got := m.get("x"); got != "" {
		t.Errorf("applied before it is on the disk: %q", got)
	}
	if _, err := m.Propose(c.ctx(), make([]byte, m.cfg.CommandBytesMax+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("the node serves nothing while it writes: %v", err)
	}
	close(disk.end)
	if err := <-answered; err != nil {
		t.Error(err)
	}
	if got := m.get("x"); got != "1" {
		t.Errorf("acknowledged, and not applied: %q", got)
	}
}

// hashicorp/raft sends entries and heartbeats one after the other to a node (its
// fast path is not ours, see transport): an entry of more than 512 KiB holds the
// heartbeats up for as long as it takes. Here none is made: a command, or a call,
// that would make one is refused before anything is appended, and calls that come
// together are packed into entries below the limit.
func TestHistory_EntriesOver512KiBAreRefused(t *testing.T) {
	const most = 512 << 10
	c := newCluster(t, 1, nil)
	m := c.leader()
	if cfg := DefaultConfig(); cfg.EntryBytesMax > most || cfg.CommandBytesMax > most {
		t.Errorf("an entry may have %d bytes, a command %d: %d is the limit", cfg.EntryBytesMax, cfg.CommandBytesMax, most)
	}
	last := m.raft().LastIndex()
	value := string(make([]byte, 200<<10))
	for name, commands := range map[string][][]byte{
		"a command": {set("x", value+value+value)},
		"a call":    {set("a", value), set("b", value), set("c", value)},
	} {
		if _, err := m.Propose(c.ctx(), commands...); !errors.Is(err, ErrTooLarge) || errors.Is(err, ErrUnknown) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if now := m.raft().LastIndex(); now != last {
		t.Fatalf("a refusal was appended: the log went from %d to %d", last, now)
	}
	answers := make(chan error, 16)
	for i := range cap(answers) {
		go func() {
			_, err := m.Propose(c.ctx(), set(fmt.Sprintf("r%d", i), value))
			answers <- err
		}()
	}
	for range cap(answers) {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
	for index := last + 1; index <= m.raft().LastIndex(); index++ {
		var l raft.Log
		c.must(m.stores.log.GetLog(index, &l))
		if len(l.Data) > most {
			t.Errorf("entry %d has %d bytes", index, len(l.Data))
		}
	}
}
