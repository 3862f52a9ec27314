package coordinator

import (
	"net/url"
	"slices"

	"github.com/quorate/quorate/fsm/logpb"
)

// resource is what participants guard: the sessions that serve it, the calls to
// its endpoints, and the due branches that cannot be told right now. A branch
// that names no resource belongs to the host of its endpoint.
type resource struct {
	name     string
	sessions []*session // in the order of attaching
	parked   list       // nobody can be told
	waiting  list       // their back-off runs

	// Calls to endpoints. limit is how many may be in flight: it doubles with
	// each answer and halves with each failure, so that a dead resource holds
	// one place of the pool, and a live one all that it may.
	ready    list
	calling  list
	limit    int
	failures int  // in a row
	inTurn   bool // it is in Core.runnable
}

// failuresDown in a row make a resource count as down: its first answer then
// wakes all that backs off from it.
const failuresDown = 3

// callsAtFirst is how many calls a resource gets before it has answered one.
const callsAtFirst = 4

// resourceOf finds the resource of a branch, or notes it.
func (c *Core) resourceOf(spec *logpb.BranchSpec) *resource {
	name := spec.GetResource()
	if name == "" {
		name = "endpoint " + authority(spec.GetEndpoint())
	}
	return c.resource(name)
}

func authority(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" {
		return endpoint
	}
	return u.Host
}

func (c *Core) resource(name string) *resource {
	r, ok := c.resources[name]
	if !ok {
		r = &resource{name: name, limit: min(callsAtFirst, c.cfg.CallsPerResourceMax)}
		c.resources[name] = r
	}
	return r
}

// tidy forgets a resource that nobody serves and nothing waits for. A holder may
// still name one that was forgotten before: a newer one of its name must stay.
func (c *Core) tidy(r *resource) {
	if c.resources[r.name] == r && len(r.sessions)+r.parked.length+r.waiting.length+r.ready.length+r.calling.length == 0 && !r.inTurn {
		delete(c.resources, r.name)
	}
}

// freest is the session with the least to do; the earliest attached of equals.
func (r *resource) freest() *session {
	var best *session
	for _, s := range r.sessions {
		if best == nil || s.load() < best.load() {
			best = s
		}
	}
	return best
}

func (r *resource) servedBy(s *session) bool { return s != nil && slices.Contains(r.sessions, s) }

// reroute tries anew what is parked.
func (c *Core) reroute(r *resource) {
	for _, d := range r.parked.all() {
		c.route(d)
	}
	c.tidy(r)
}

// hurry ends the back-off of all that waits: there is news of the resource.
func (c *Core) hurry(r *resource) {
	for _, d := range r.waiting.all() {
		d.failures = 0
		c.route(d)
	}
}

// turn lets the resource have its turn at the pool of calls, if it needs one.
func (c *Core) turn(r *resource) {
	if !r.inTurn && r.ready.length > 0 && r.calling.length < r.limit {
		r.inTurn = true
		c.runnable = append(c.runnable, r)
	}
}

// startCalls fills the pool, one call a resource and turn.
func (c *Core) startCalls() {
	for c.calls < c.cfg.CallsMax && len(c.runnable) > 0 {
		r := c.runnable[0]
		c.runnable = c.runnable[1:]
		r.inTurn = false
		if d := r.ready.first; d != nil && r.calling.length < r.limit {
			c.startCall(r, d)
		}
		c.turn(r)
		c.tidy(r)
	}
}

// callFailed halves the resource's share of the pool.
func (r *resource) callFailed() {
	r.failures++
	r.limit = max(1, r.limit/2)
}

// callAnswered doubles it. If the resource was down, all that waits for it goes.
func (c *Core) callAnswered(r *resource) {
	wasDown := r.failures >= failuresDown
	r.failures = 0
	r.limit = min(2*r.limit, c.cfg.CallsPerResourceMax)
	if wasDown {
		c.hurry(r)
	}
}
