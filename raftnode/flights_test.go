package raftnode

import (
	"fmt"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/internal/testkit"
)

// The next entry is packed once the one before was committed, not when it has been
// applied: its way to the disks takes none of the machine's time.
func TestFlights_AnEntryIsPackedWhileAnotherIsApplied(t *testing.T) {
	c := newCluster(t, 3, func(_ int, cfg *Config) { cfg.EntriesInFlightMax, cfg.EntryCommandsMax = 1, 1 })
	leader := c.leader()
	c.set("before", "1")
	entries := leader.Metrics().Entries
	const calls = 3
	answers := make(chan error, calls)
	leader.View(func() { // nothing is applied meanwhile
		for i := range calls {
			go func() {
				_, err := leader.Propose(c.ctx(), set(fmt.Sprint("x", i), "1"))
				answers <- err
			}()
		}
		// The first is with the machine, the second was committed and waits for it
		// or is about to be.
		testkit.Eventually(t, within, func() bool { return leader.Metrics().Entries >= entries+2 }, "a second entry")
		if len(answers) > 0 {
			t.Error("a call was answered before its entry was applied")
		}
	})
	for range calls {
		c.must(<-answers)
	}
	for i := range calls {
		if leader.get(fmt.Sprint("x", i)) != "1" {
			t.Errorf("x%d was acknowledged and is not there", i)
		}
	}
}

// Every entry lands, whatever became of it, and gives back its slot once.
func TestFlights_AllLand(t *testing.T) {
	c, net, leader := stubbornLeader(t)
	c.set("x", "1")
	net.isolate(leader.self)
	answers := make(chan error, 1)
	go func() { _, err := leader.Propose(c.ctx(), set("y", "1")); answers <- err }()
	testkit.Eventually(t, within, func() bool { return leader.flights.count.Load() == 1 }, "an entry under way")
	net.heal()
	<-answers // committed after all, or unknown
	c.set("z", "1")
	for _, m := range c.members {
		testkit.Eventually(t, within, func() bool {
			m.flights.mu.Lock()
			defer m.flights.mu.Unlock()
			return len(m.flights.entries) == 0 && m.flights.count.Load() == 0 && len(m.slots) == 0
		}, "every entry has landed")
	}
}

// Only the very bytes that were proposed are an entry of this node: another leader's
// entry may say the same.
func TestFlights_AnEntryIsKnownByItsBytes(t *testing.T) {
	f := &flights{}
	e := &entry{data: []byte("entry")}
	if f.of(&raft.Log{Data: e.data}) != nil {
		t.Error("there is none")
	}
	f.add(e)
	for _, l := range []*raft.Log{{Data: []byte("entry")}, {}, {Type: raft.LogNoop, Data: e.data}} {
		if f.of(l) != nil {
			t.Errorf("%+v is taken for it", l)
		}
	}
	if f.of(&raft.Log{Index: 7, Data: e.data}) != e {
		t.Error("it is not known again")
	}
	f.land(e)
	f.land(e)
	if f.of(&raft.Log{Data: e.data}) != nil || f.count.Load() != 0 {
		t.Error("it has landed")
	}
}
