package coordinator

// duePair is the deliveries of two branches that became due at once, in one piece of
// memory. It serves the next transaction once neither is due any more: most have two
// branches, and what was used a moment ago is at hand, which new memory is not.
type duePair struct {
	of   [2]delivery
	left int // due, or not made yet
	// held: an answer's way into the log may still look at one of them.
	held bool
}

// duePairsMax bounds those that are kept.
const duePairsMax = 1024

// freshDue is memory for so many deliveries.
func (c *Core) freshDue(n int) []delivery {
	if n != len(duePair{}.of) {
		return make([]delivery, n)
	}
	p := c.sparePair()
	p.left = n
	for i := range p.of {
		p.of[i].pair = p
	}
	return p.of[:]
}

func (c *Core) sparePair() *duePair {
	last := len(c.duePairs) - 1
	if last < 0 {
		return new(duePair)
	}
	p := c.duePairs[last]
	c.duePairs = c.duePairs[:last]
	return p
}

// spent: a delivery is due no more, and in no list. What a called branch has said names its
// delivery while it is on its way into the log, so those are left to the collector.
func (c *Core) spent(d *delivery) {
	p := d.pair
	if p == nil {
		return
	}
	p.left--
	p.held = p.held || d.word != nil || called(d.op)
	if p.left > 0 || p.held || len(c.duePairs) == duePairsMax {
		return
	}
	*p = duePair{}
	c.duePairs = append(c.duePairs, p)
}
