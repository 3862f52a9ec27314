package participanttest

import quoratev1 "github.com/quorate/quorate/api/v1"

// SetTerm makes the cluster speak in a term of the test's choice, such as that of
// a leader which was deposed and does not know it.
func (c *Cluster) SetTerm(term uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.term = term
}

// Usurp makes node i the leader, in a new term, while the sessions with the old one
// stay open: it is frozen, or cut off, and cannot end them.
func (c *Cluster) Usurp(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leader = i
	c.term++
	c.notify()
}

// DeliverAs has every decided and unreported branch delivered once, in the name of
// another epoch.
func (c *Cluster) DeliverAs(incarnation, term uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range c.txs {
		for id, b := range x.branches {
			if x.decision == undecided || b.ended(x.decision) {
				continue
			}
			if s := c.sessionFor(b); s != nil {
				d := c.delivery(x, id)
				d.GetDeliver().Epoch = &quoratev1.Epoch{Incarnation: incarnation, Term: term}
				s.say(d)
			}
		}
	}
}

// ClockMS is the cluster's clock, in milliseconds.
func (c *Cluster) ClockMS() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.clockMS()
}
