package coordinator

import (
	"time"

	"github.com/quorate/quorate/fsm"
)

// Retry delivers now what waits for its delay or back-off, and forgets its failures.
// An empty branch means all of them, and what calls back. It returns how many were
// due.
func (c *Core) Retry(now time.Time, gid fsm.GID, branch string) int {
	c.Applied(now) // what was just begun is due already
	t := c.known(gid)
	if t == nil {
		return 0
	}
	due := 0
	for _, d := range t.due {
		if branch != "" && d.branch != branch {
			continue
		}
		due++
		d.failures, d.busy, d.notBeforeMS = 0, 0, 0
		switch d.phase {
		case phaseDelayed, phaseWaiting, phaseParked:
			c.route(d)
		}
	}
	c.end()
	return due
}

// Deliveries tells how the due branches of a transaction stand.
func (c *Core) Deliveries(now time.Time, gid fsm.GID) []DeliveryStatus {
	c.Applied(now)
	t := c.known(gid)
	c.end()
	if t == nil {
		return nil
	}
	out := make([]DeliveryStatus, 0, len(t.due))
	for _, d := range t.due {
		out = append(out, c.deliveryStatus(now, d))
	}
	return out
}

func (c *Core) deliveryStatus(now time.Time, d *delivery) DeliveryStatus {
	s := DeliveryStatus{
		Branch: d.branch, Operation: d.op, Attempts: d.attempts, LastAttempt: d.last, LastError: d.lastErr,
		Attached: c.attachedTo(d), InFlight: d.phase == phaseInFlight || d.phase == phaseReporting,
	}
	if d.phase == phaseWaiting || d.phase == phaseDelayed {
		s.NextAttempt = d.wait.at
	}
	if d.phase != phaseDelayed {
		s.DueFor, s.Stuck = now.Sub(d.since), c.stuck(now, d)
	}
	return s
}

// attachedTo: what waits for a holder does not keep its resource, which may have
// been forgotten and made anew.
func (c *Core) attachedTo(d *delivery) bool {
	r := c.resources[d.r.name]
	return r != nil && len(r.sessions) > 0
}

func (c *Core) stuck(now time.Time, d *delivery) bool { return now.Sub(d.since) >= c.cfg.StuckAfter }

// Stuck lists the transactions with a branch that is stuck, longest first.
func (c *Core) Stuck(now time.Time) []fsm.GID {
	var gids []fsm.GID
	seen := make(map[fsm.GID]struct{})
	for d := c.due.first; d != nil && c.stuck(now, d); d = c.due.next(d) {
		if _, again := seen[d.t.gid]; !again {
			seen[d.t.gid] = struct{}{}
			gids = append(gids, d.t.gid)
		}
	}
	return gids
}

// CoreStats are the core's figures.
type CoreStats struct {
	Sessions, Due, Calls, Waiters int
	Stuck                         [7]int // branches, by mode
}

// Stats counts what the core has under way.
func (c *Core) Stats(now time.Time) CoreStats {
	s := CoreStats{Sessions: len(c.sessions), Due: c.due.length, Calls: c.calls, Waiters: len(c.waiters)}
	for d := c.due.first; d != nil && c.stuck(now, d); d = c.due.next(d) {
		if m := int(d.t.mode()); m < len(s.Stuck) {
			s.Stuck[m]++
		}
	}
	return s
}
