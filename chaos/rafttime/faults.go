package rafttime

import (
	"context"
	"time"
)

// fault does one thing to the cluster.
func (c *cluster) fault() {
	victim := c.members[c.random.IntN(len(c.members))]
	if leader := c.leader(); leader != nil && c.random.IntN(2) == 0 {
		victim = leader
	}
	switch c.random.IntN(12) {
	case 0, 1, 2:
		c.partition(victim)
	case 3:
		c.flap(victim)
	case 4:
		c.delay()
	case 5:
		c.crash(victim, victim.process, false)
		if c.random.IntN(2) == 0 {
			time.Sleep(time.Duration(c.random.IntN(800)) * time.Millisecond)
			c.up(victim)
		}
	case 6:
		c.event("%s is to crash at a write", victim.name)
		victim.disk.aim(c.random, false)
	case 9:
		c.crashAtVote(victim)
	case 10:
		c.cutTransfer()
	case 7:
		c.crashAll()
	case 8:
		c.count(func(r *Report) { r.Restarts++ })
		c.stop(victim)
		c.up(victim)
	default:
		c.transfer()
	}
}

// partition cuts the network in one of five shapes.
func (c *cluster) partition(victim *member) {
	cut := map[direction]bool{}
	both := func(a, b *member) {
		cut[direction{a.address, b.address}], cut[direction{b.address, a.address}] = true, true
	}
	shape := [...]string{"alone", "deaf", "mute", "bridge", "halves"}[c.random.IntN(5)]
	side := map[*member]bool{}
	for _, i := range c.random.Perm(len(c.members))[:len(c.members)/2] {
		side[c.members[i]] = true
	}
	for _, a := range c.members {
		for _, b := range c.members {
			switch {
			case a == b:
			case shape == "alone" && a == victim:
				both(a, b)
			case shape == "deaf" && b == victim:
				cut[direction{a.address, b.address}] = true
			case shape == "mute" && a == victim:
				cut[direction{a.address, b.address}] = true
			case shape == "bridge" && a != victim && b != victim && side[a] != side[b]:
				both(a, b) // the victim alone sees both sides
			case shape == "halves" && side[a] != side[b]:
				both(a, b)
			}
		}
	}
	c.event("partition %s around %s: %d directions are cut", shape, victim.name, len(cut))
	c.count(func(r *Report) { r.Partitions++ })
	c.net.partition(cut)
}

// flap cuts a node off and lets it back in, again and again.
func (c *cluster) flap(victim *member) {
	c.event("%s flaps", victim.name)
	c.count(func(r *Report) { r.Partitions++ })
	for range 2 + c.random.IntN(6) {
		cut := map[direction]bool{}
		for _, m := range c.members {
			cut[direction{victim.address, m.address}], cut[direction{m.address, victim.address}] = true, true
		}
		c.net.partition(cut)
		time.Sleep(time.Duration(200+c.random.IntN(2500)) * time.Millisecond)
		c.net.partition(map[direction]bool{})
		time.Sleep(time.Duration(c.random.IntN(1500)) * time.Millisecond)
	}
}

// delay makes half of the directions slow.
func (c *cluster) delay() {
	slow := map[direction]time.Duration{}
	most := time.Duration(20+c.random.IntN(1500)) * time.Millisecond
	for _, a := range c.members {
		for _, b := range c.members {
			if a != b && c.random.IntN(2) == 0 {
				slow[direction{a.address, b.address}] = most
			}
		}
	}
	c.event("%d directions are late by up to %v", len(slow), most)
	c.count(func(r *Report) { r.Delays++ })
	c.net.change(func() { c.net.slow = slow })
}

// crashAll crashes every node at one moment: what was acknowledged is on disks.
func (c *cluster) crashAll() {
	done := make(chan struct{})
	for _, m := range c.members {
		go func() {
			c.crash(m, m.process, false)
			done <- struct{}{}
		}()
	}
	for range c.members {
		<-done
	}
	for _, m := range c.members {
		c.up(m)
	}
}

// crashAtVote crashes the leader, and another node as it writes its term or its
// vote in the election that follows.
func (c *cluster) crashAtVote(victim *member) {
	leader := c.leader()
	if leader == nil || leader == victim {
		return
	}
	c.event("%s is to crash at its vote", victim.name)
	victim.disk.aim(c.random, true)
	c.crash(leader, leader.process, false)
	for range 30 {
		time.Sleep(100 * time.Millisecond)
		if node, _ := victim.running(); node == nil {
			c.up(victim) // at once: the election goes on
		}
	}
	c.up(leader)
}

// cutTransfer cuts the leader off in the moment in which it hands leadership
// over, together with whoever has no vote; or lets it hear the voters late. It
// goes on believing for as long as its lease, and another leads: what it answers
// now is stale.
func (c *cluster) cutTransfer() {
	leader := c.leader()
	if leader == nil {
		return
	}
	node, _ := leader.running()
	if node == nil {
		return
	}
	late := c.random.IntN(2) == 0
	cut, slow := map[direction]bool{}, map[direction]time.Duration{}
	for _, m := range c.members {
		if m == leader || m.watches {
			continue
		}
		slow[direction{m.address, leader.address}] = time.Duration(50+c.random.IntN(400)) * time.Millisecond
		for _, side := range c.members {
			if side == leader && !late || side.watches {
				cut[direction{side.address, m.address}], cut[direction{m.address, side.address}] = true, true
			}
		}
	}
	c.event("%s hands leadership over and is cut off (hears late: %v)", leader.name, late)
	if late {
		c.net.change(func() { c.net.slow, c.net.cut = slow, cut })
		time.Sleep(time.Second)
	}
	c.storm(time.Second)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		node.TransferLeadership(ctx, "") //nolint:errcheck // how it ends is not seen any more
	}()
	c.count(func(r *Report) { r.CutTransfers++ })
	if !late {
		time.Sleep(time.Duration(c.random.IntN(2500)) * time.Microsecond)
		c.net.partition(cut)
		c.count(func(r *Report) { r.Partitions++ })
	}
	<-done
}

// transfer hands leadership over, to whom the leader chooses or to anybody.
func (c *cluster) transfer() {
	leader := c.leader()
	if leader == nil {
		return
	}
	node, _ := leader.running()
	if node == nil {
		return
	}
	to := ""
	if m := c.members[c.random.IntN(len(c.members))]; m != leader && !m.watches && c.random.IntN(2) == 0 {
		to = m.id
	}
	c.event("%s hands leadership over", leader.name)
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	if err := node.TransferLeadership(ctx, to); err != nil {
		c.event("leadership was not handed over: %v", err)
		return
	}
	c.count(func(r *Report) { r.Transfers++ })
}

// change replaces a node, whose disk is lost, or makes snapshots now, or has a
// node miss so much that it is sent one.
func (c *cluster) change(s *clients) {
	switch c.random.IntN(3) {
	case 0:
		victim := c.members[c.random.IntN(len(c.members))]
		c.crash(victim, victim.process, false)
		if err := c.replace(victim); err != nil {
			c.breach("replace a node: %v", err)
		}
		s.look()
	case 1:
		for _, m := range c.members {
			if node, _ := m.running(); node != nil {
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				if err := node.Snapshot(ctx); err != nil {
					c.event("snapshot of %s: %v", m.name, err)
				}
				cancel()
			}
		}
	default:
		c.leaveBehind()
	}
}

// leaveBehind stops a node until the others' logs no longer hold what it lacks.
func (c *cluster) leaveBehind() {
	victim := c.members[c.random.IntN(len(c.members))]
	c.stop(victim)
	for range 40 {
		if err := c.acknowledges(recoversWithin); err != nil {
			c.breach("with one node stopped no command is acknowledged: %v", err)
			return
		}
	}
	for _, m := range c.members {
		if node, _ := m.running(); node != nil {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			node.Snapshot(ctx) //nolint:errcheck // one of them is enough
			cancel()
		}
	}
	c.up(victim)
	before := c.floor()
	node, machine := victim.running()
	err := waitUntil(convergeWithin, func() bool {
		index := uint64(0)
		if node != nil {
			node.View(func() { index = machine.Clock().AppliedIndex })
		}
		return index >= before
	})
	if err != nil {
		c.breach("%s was left behind and does not catch up with %d: %v", victim.name, before, err)
		return
	}
	c.count(func(r *Report) { r.Installs++ })
}

func waitUntil(most time.Duration, holds func() bool) error {
	deadline := time.Now().Add(most)
	for !holds() {
		if time.Now().After(deadline) {
			return context.DeadlineExceeded
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil
}
