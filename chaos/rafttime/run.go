package rafttime

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate/raftnode"
)

// Bounds of what a healthy cluster may take, in virtual time.
const (
	recoversWithin = 20 * time.Second // from the last heal to an acknowledgement
	convergeWithin = 60 * time.Second // until all nodes stand at one index
)

// Run is one run; it must be called inside a bubble. trace is for people, when
// something is broken.
func Run(cfg Config) (r Report, broken, trace []string) {
	c := newCluster(cfg)
	begun := time.Now()
	if err := c.found(); err != nil {
		c.breach("found the cluster: %v", err)
	} else {
		s := c.clients()
		for time.Since(begun) < cfg.For && c.sound() {
			c.window(s)
		}
		s.end()
		c.settle(s)
	}
	for _, m := range c.members {
		c.stop(m)
		m.await()
	}
	c.wait.Wait()
	r = c.report
	r.Suite, r.Seed, r.Nodes = "rafttime", cfg.Seed, cfg.Nodes
	r.VirtualHours = time.Since(begun).Hours()
	r.HeldBytes = c.net.held
	for _, m := range c.members {
		r.LostWrites += m.disk.lost
	}
	if len(c.broken) > 0 {
		r.First = c.broken[0]
	}
	return r, c.broken, c.trace
}

// sound says that nothing is broken yet: after the first breach the rest of a run
// shows nothing more.
func (c *cluster) sound() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.broken) == 0
}

// window is one time of faults, of healing, and of rest.
func (c *cluster) window(s *clients) {
	faults := 1 + c.random.IntN(3)
	for range faults {
		c.fault()
		if c.random.IntN(4) == 0 {
			c.storm(time.Second)
		}
		time.Sleep(time.Duration(c.random.IntN(4000)) * time.Millisecond)
	}
	time.Sleep(time.Duration(c.random.IntN(15_000)) * time.Millisecond)
	c.heal(s)
	if c.sound() && c.random.IntN(6) == 0 {
		c.change(s)
	}
	time.Sleep(time.Duration(c.random.IntN(20_000)) * time.Millisecond)
}

// heal ends all faults, starts what is down, and times how long it takes until
// the cluster works again.
func (c *cluster) heal(s *clients) {
	c.event("healed")
	c.net.heal()
	for _, m := range c.members {
		m.disk.disarm()
		c.up(m)
	}
	begun := time.Now()
	if err := c.acknowledges(recoversWithin); err != nil {
		c.breach("no command was acknowledged within %v of the last heal: %v", recoversWithin, err)
		return
	}
	c.count(func(r *Report) {
		r.Recovery.Count++
		r.Recovery.Max = max(r.Recovery.Max, time.Since(begun).Milliseconds())
	})
	s.look()
	c.catchUp(c.floor())
}

// catchUp: whoever waits for an index on any node is answered, and reads are.
func (c *cluster) catchUp(index uint64) {
	ctx, cancel := context.WithTimeout(context.Background(), convergeWithin)
	defer cancel()
	for _, m := range c.members {
		if node, _ := m.running(); node != nil {
			if err := node.WaitApplied(ctx, index); err != nil && !errors.Is(err, raftnode.ErrClosed) {
				c.breach("%v after the last heal %s has not told that it applied %d: %v", convergeWithin, m.name, index, err)
				return
			}
		}
	}
	err := c.withLeader(recoversWithin, func(ctx context.Context, leader *raftnode.Node) error {
		_, err := leader.ReadIndex(ctx)
		return err
	})
	if err != nil {
		c.breach("no read was answered within %v: %v", recoversWithin, err)
	}
}

// up starts a member's process unless one runs.
func (c *cluster) up(m *member) {
	if node, _ := m.running(); node != nil {
		return
	}
	m.await()
	if err := c.start(m); err != nil {
		c.breach("%v", err)
	}
}

// acknowledges has a command acknowledged within a time.
func (c *cluster) acknowledges(most time.Duration) error {
	return c.withLeader(most, func(ctx context.Context, leader *raftnode.Node) error {
		c.made++ // a number that is used once
		value := fmt.Sprintf("run.%d", c.made)
		p, err := leader.Propose(ctx, write(0, value))
		if err == nil {
			c.acknowledged(value, p.Index)
		}
		return err
	})
}

// settle ends a run: everything heals, and all nodes come to one index.
func (c *cluster) settle(s *clients) {
	if !c.sound() {
		return
	}
	c.heal(s)
	deadline := time.Now().Add(convergeWithin)
	for {
		at, level := uint64(0), true
		for _, m := range c.members {
			index := uint64(0)
			if node, machine := m.running(); node != nil {
				node.View(func() { index = machine.Clock().AppliedIndex })
			}
			level = level && (at == 0 || index == at)
			at = index
		}
		switch {
		case level && at >= c.floor():
			return
		case time.Now().After(deadline):
			c.breach("%v after everything has healed the nodes are not at one index at or above %d", convergeWithin, c.floor())
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
}
