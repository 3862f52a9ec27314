package coordinator

import (
	"net/url"
	"slices"
)

// resource is what participants guard: the sessions that serve it, the calls to
// its endpoints, and the due branches that cannot be told right now. A prepared
// branch that names no resource belongs to the host of its endpoint, and a called
// one to the path there: one that hangs says nothing of its neighbours.
type resource struct {
	name     string
	sessions []*session // in the order of attaching
	parked   list       // nobody can be told, and no holder is waited for
	waiting  list       // their back-off runs

	// Calls to endpoints, those of them that hang, and those that do not and are the
	// first to their branch. limit is how many may be in flight that do not hang: it
	// doubles with each answer and halves with each failure, so that a
	// dead resource holds few places of the pool, and a live one all that it may.
	fresh     list // ready, and never called before
	ready     list // ready, and called before
	calls     int
	hanging   int
	newcomers int
	limit     int
	answered  bool // its last call that ended was answered
	failures  int  // in a row
	forgotten bool // another one may have its name
	inTurn    bool // it is in Core.runnable or in Core.crowd
	freshNext bool // the last call was of a branch that had been called before
	host      *host
}

// failuresDown in a row make a resource count as down: its first answer then
// wakes all that backs off from it.
const failuresDown = 3

// A resource's shares of the pool.
const (
	// callsAtFirst is how many calls it gets before it has answered one.
	callsAtFirst = 16
	// callsFresh is how many it gets beyond its limit for branches that were never
	// called before: what hangs or fails for one transaction may be well for another.
	callsFresh = 4
	// callsHanging is how many it may have, those that hang too, once its calls fail.
	callsHanging = 16
)

// resourceOf finds the resource of a delivery, or notes it.
func (c *Core) resourceOf(d *delivery) *resource {
	if d.r != nil && !d.r.forgotten {
		return d.r
	}
	if d.r != nil {
		return c.resource(d.r.name, d.r.host.name)
	}
	if name := d.spec.GetResource(); name != "" && !called(d.op) {
		return c.resource(name, name)
	}
	names := c.endpointNames(endpointOf(d.spec, d.op))
	if called(d.op) {
		return c.resource(names.path, names.host)
	}
	return c.resource(names.host, names.host)
}

// endpointNames are those of the resource that an endpoint's path is, and of the one that
// its host is.
type endpointNames struct{ path, host string }

// endpointNamesMax is how many endpoints' names are kept: most transactions name the same.
const endpointNamesMax = 1024

func (c *Core) endpointNames(endpoint string) endpointNames {
	names, ok := c.named[endpoint]
	if !ok {
		if c.named == nil || len(c.named) >= endpointNamesMax {
			c.named = make(map[string]endpointNames)
		}
		names = endpointNames{path: endpointName(endpoint, true), host: endpointName(endpoint, false)}
		c.named[endpoint] = names
	}
	return names
}

// endpointName names an endpoint's resource. No participant can attach under it.
func endpointName(endpoint string, path bool) string {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || u.Host == "":
		return "endpoint " + endpoint
	case path:
		return "endpoint " + u.Scheme + "://" + u.Host + u.Path
	default:
		return "endpoint " + u.Host
	}
}

// resource finds a resource, or notes it as one of a host.
func (c *Core) resource(name, host string) *resource {
	r, ok := c.resources[name]
	if !ok {
		r = &resource{name: name, limit: min(callsAtFirst, c.cfg.CallsPerResourceMax), host: c.host(host)}
		r.host.resources++
		c.resources[name] = r
	}
	return r
}

// tidy forgets a resource that nobody serves and nothing waits for. A holder may
// still name one that was forgotten before: a newer one of its name must stay.
func (c *Core) tidy(r *resource) {
	if !r.forgotten && len(r.sessions)+r.parked.length+r.waiting.length+r.ready.length+r.fresh.length+r.calls == 0 && !r.inTurn {
		delete(c.resources, r.name)
		r.forgotten = true
		c.leaveHost(r.host)
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

// servedBy looks among the few resources of a session, not among the thousands of
// sessions that a resource may have.
func (r *resource) servedBy(s *session) bool { return s != nil && slices.Contains(s.resources, r) }

// reroute tries anew what is parked.
func (c *Core) reroute(r *resource) {
	for _, d := range r.parked.all() {
		c.route(d)
	}
	c.tidy(r)
}

// hurry ends the back-off of all that waits: there is news of the resource. What
// has only so many attempts keeps to its own intervals.
func (c *Core) hurry(r *resource) {
	for _, d := range r.waiting.all() {
		if c.attemptsMax(d) == 0 {
			d.failures = 0
			c.route(d)
		}
	}
}

// nextCall is what the resource itself lets be called next, or nil: what was called
// before and what was not, by turns. Where there is one place for
// both, retries that fail as soon as they are made would leave none to the others.
func (c *Core) nextCall(r *resource) *delivery {
	within := r.calls-r.hanging < r.limit
	again, fresh := r.ready.first, r.fresh.first
	if !within || !c.mayCall(r, 0) {
		again = nil
	}
	if !within && r.newcomers >= callsFresh || !c.mayCall(r, callsFresh) {
		fresh = nil
	}
	if again != nil && (fresh == nil || !r.freshNext) {
		return again
	}
	return fresh
}

// mayCall: what hangs or fails gets so many places of its own.
func (c *Core) mayCall(r *resource, extra int) bool {
	most := c.cfg.CallsPerResourceMax
	if r.failures > 0 {
		most = min(most, callsHanging+extra)
	}
	return r.calls < most
}

// callFailed halves the resource's share of the pool.
func (r *resource) callFailed() {
	r.answered = false
	r.failures++
	r.limit = max(1, r.limit/2)
	r.host.failures++
}

// callAnswered doubles it. If the resource was down, all that waits for it goes.
func (c *Core) callAnswered(r *resource) {
	wasDown := r.failures >= failuresDown
	r.answered, r.failures = true, 0
	if r.host.failures > 0 {
		c.stirred = true // its word counts for its other paths again
	}
	r.limit = min(2*r.limit, c.cfg.CallsPerResourceMax)
	r.host.answered, r.host.failures = true, 0
	if wasDown {
		c.hurry(r)
	}
	c.turn(r)
}
