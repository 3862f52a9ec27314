package links

import (
	"fmt"
	"slices"
	"strings"
)

// Way is the way of packets from one process to another.
type Way struct{ From, To string }

// Both returns the ways between processes of two groups, in both directions.
func Both(a, b []string) []Way { return append(OneWay(a, b), OneWay(b, a)...) }

// OneWay returns the ways from processes of one group to those of another.
func OneWay(from, to []string) []Way {
	var ways []Way
	for _, f := range from {
		for _, t := range to {
			if f != t {
				ways = append(ways, Way{f, t})
			}
		}
	}
	return ways
}

// Bridge returns the ways between two halves which only the bridge reaches both
// of: every process but the bridge misses some.
func Bridge(all []string, bridge string) []Way {
	rest := slices.DeleteFunc(slices.Clone(all), func(p string) bool { return p == bridge })
	half := len(rest) / 2
	return Both(rest[:half], rest[half:])
}

// Without returns all but the given.
func Without(all []string, but ...string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(p string) bool { return slices.Contains(but, p) })
}

// Partition is ways that are cut together.
type Partition struct {
	n      *Network
	ways   []Way
	undo   []func()
	before Counts
	after  *Counts // once it is healed
}

// Partition cuts ways until it is healed.
func (n *Network) Partition(ways []Way) *Partition {
	p := &Partition{n: n, ways: ways}
	p.before = p.sum()
	p.cut()
	return p
}

func (p *Partition) cut() {
	for _, w := range p.ways {
		p.undo = append(p.undo, p.n.Cut(w.From, w.To))
	}
}

// mend lets everything pass again: what was held arrives, late.
func (p *Partition) mend() {
	for _, undo := range p.undo {
		undo()
	}
	p.undo = nil
}

// Flap mends the partition if it is cut, and cuts it if it is not.
func (p *Partition) Flap() {
	if len(p.undo) > 0 {
		p.mend()
		return
	}
	p.cut()
}

// Heal mends the partition. Forget has every connection on its ways end by RST
// first, so that nothing of what was held arrives: as when the partition
// outlasted TCP's patience. Only the first call counts.
func (p *Partition) Heal(forget bool) {
	if p.after != nil {
		return
	}
	counts := p.sum()
	p.after = &counts
	if forget {
		for _, w := range p.ways {
			for _, l := range p.n.between(w.From, w.To) {
				l.reset()
			}
		}
	}
	p.mend()
}

func (p *Partition) sum() (c Counts) {
	for _, w := range p.ways {
		c = c.Plus(p.n.Counts(w.From, w.To))
	}
	return c
}

// Counts is what happened on the ways of the partition while it lasted.
func (p *Partition) Counts() Counts {
	if p.after != nil {
		return p.after.Minus(p.before)
	}
	return p.sum().Minus(p.before)
}

// Evidence says what was held; an error when nothing was.
func (p *Partition) Evidence() (string, error) {
	c := p.Counts()
	if c.Held == 0 && c.Waited == 0 {
		return "", fmt.Errorf("nothing was sent on %s while it lasted", p)
	}
	return fmt.Sprintf("%d reads (%d bytes) held, %d dials unanswered", c.Held, c.HeldBytes, c.Waited), nil
}

// String lists the ways: `n1>n2 n2>n1`.
func (p *Partition) String() string {
	words := make([]string, len(p.ways))
	for i, w := range p.ways {
		words[i] = w.From + ">" + w.To
	}
	return strings.Join(words, " ")
}
