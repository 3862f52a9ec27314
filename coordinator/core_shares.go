package coordinator

// The pool of calls is shared so that what is well never waits for what is not,
// however many endpoints hang and however they are spread. An endpoint says what it
// is by how its calls end; of one that was never called nobody knows, and where the
// paths hold a transaction's name each of them is such a one. So what is not known
// to be well has a part of the pool, of each host a part of that, and the rest is
// left to those that answer.

// host is where endpoints are: what hangs at one path of it says little of its other
// paths, and yet a dead host must not take the places of all others.
type host struct {
	name      string
	resources int
	calls     int
	hanging   int
	doubtful  int
	unproven  int
	repeated  int
	answered  bool // a call that ended was answered
	failures  int  // in a row
	listed    bool // it is in Core.unused
}

// hostsKept is how many hosts are remembered that nothing is due at.
const hostsKept = 1024

// host finds a host, or notes it.
func (c *Core) host(name string) *host {
	h, ok := c.hosts[name]
	if !ok {
		h = &host{name: name}
		c.hosts[name] = h
	}
	return h
}

// leaveHost: the host has one resource less. It is remembered for a while, for it
// may have shown that it is well.
func (c *Core) leaveHost(h *host) {
	h.resources--
	if h.resources > 0 || h.listed {
		return
	}
	h.listed = true
	c.unused = append(c.unused, h)
	if len(c.unused) <= hostsKept {
		return
	}
	oldest := c.unused[0]
	c.unused, oldest.listed = c.unused[1:], false
	if oldest.resources == 0 {
		delete(c.hosts, oldest.name)
	}
}

// standing is what is known of an endpoint, from which its part of the pool follows.
type standing uint8

const (
	// standingWell: its last call was answered, and none hangs.
	standingWell standing = iota
	// standingVouched: it was not called yet, or is forgotten, and its host is well.
	standingVouched
	// standingUnproven: it was not called yet, and nobody vouches for it.
	standingUnproven
	// standingSlow: it answers, and takes long.
	standingSlow
	// standingFailing: its calls fail or hang, and none was answered since.
	standingFailing
)

func (r *resource) standing() standing {
	h := r.host
	switch {
	case r.failures > 0 || r.hanging > 0 && !r.answered:
		return standingFailing
	case r.hanging > 0:
		return standingSlow
	case r.answered:
		return standingWell
	case h.answered && h.failures+h.hanging == 0:
		return standingVouched
	default:
		return standingUnproven
	}
}

// share is n eighths of the pool, or one place.
func (c *Core) share(n int) int { return max(1, c.cfg.CallsMax*n/8) }

// admits tells whether the pool has a place for a call of the resource. All that is
// not well holds less than the pool together: an eighth is left to what is.
func (c *Core) admits(r *resource) bool {
	h := r.host
	if c.calls >= c.cfg.CallsMax {
		return false
	}
	switch r.standing() {
	case standingVouched:
		return h.calls < c.share(4)
	case standingUnproven:
		// One call says as much of it as many do.
		most := c.share(5)
		if r.calls > 0 {
			most = c.share(1)
		}
		return c.unproven < c.share(2) && c.unproven+c.doubtful < most && h.unproven < c.share(1) && h.unproven+h.doubtful < c.share(2)
	case standingSlow:
		return c.doubtful < c.share(4)
	case standingFailing:
		return c.repeated < c.share(2) && h.repeated < c.share(1) && (r.calls == 0 || c.doubtful < c.share(4))
	default:
		return true
	}
}

// takePlace counts a call that begins.
func (c *Core) takePlace(k *call) {
	r, h := k.r, k.r.host
	c.calls, r.calls, h.calls = c.calls+1, r.calls+1, h.calls+1
	switch k.standing {
	case standingUnproven:
		c.unproven, h.unproven = c.unproven+1, h.unproven+1
	case standingFailing:
		c.repeated, h.repeated = c.repeated+1, h.repeated+1
	}
}

// proveHanging: the call takes so long that it counts as hanging.
func (c *Core) proveHanging(k *call) {
	k.hangs = true
	k.r.hanging++
	k.r.host.hanging++
	if k.standing == standingUnproven {
		c.unproven--
		k.r.host.unproven--
		c.stirred = true
	}
}

// doubt counts a call as one that may hold its place for long.
func (c *Core) doubt(k *call) {
	if !k.doubtful {
		k.doubtful = true
		c.doubtful++
		k.r.host.doubtful++
	}
}

// givePlaceBack counts a call that has ended.
func (c *Core) givePlaceBack(k *call) {
	r, h := k.r, k.r.host
	if k.doubtful || k.standing > standingVouched || c.calls >= c.cfg.CallsMax || h.calls >= c.share(4) {
		c.stirred = true
	}
	c.calls, r.calls, h.calls = c.calls-1, r.calls-1, h.calls-1
	switch {
	case k.hangs:
		r.hanging--
		h.hanging--
	case k.standing == standingUnproven:
		c.unproven, h.unproven = c.unproven-1, h.unproven-1
	}
	if k.standing == standingFailing {
		c.repeated, h.repeated = c.repeated-1, h.repeated-1
	}
	if k.doubtful {
		c.doubtful, h.doubtful = c.doubtful-1, h.doubtful-1
	}
}

// turn lets the resource have its turn at the pool of calls, if it needs one.
func (c *Core) turn(r *resource) {
	switch {
	case r.inTurn || c.nextCall(r) == nil:
	case c.mayRun(r):
		r.inTurn = true
		c.runnable = append(c.runnable, r)
	default:
		r.inTurn, c.stirred = true, true
		c.crowd = append(c.crowd, r)
	}
}

// mayRun tells of a resource that does not have to wait in the crowd.
func (c *Core) mayRun(r *resource) bool {
	s := r.standing()
	return s == standingWell || s == standingVouched && r.host.calls < c.share(4)
}

// startCalls fills the pool, one call a resource and turn.
func (c *Core) startCalls() {
	for c.stirred || c.calls < c.cfg.CallsMax && len(c.runnable) > 0 {
		if c.stirred {
			c.startCrowd()
			continue
		}
		r := c.runnable[0]
		c.runnable = c.runnable[1:]
		r.inTurn = false
		if d := c.nextCall(r); d != nil && c.mayRun(r) {
			c.startCall(r, d)
		}
		c.turn(r)
		c.tidy(r)
	}
}

// startCrowd starts one call of each in the crowd that the pool has a place for. Who
// was let in goes to the end.
func (c *Core) startCrowd() {
	waiting := c.crowd
	c.crowd, c.stirred = c.crowdSpare[:0], false
	served := waiting[:0] // what is written there was read
	for _, r := range waiting {
		switch d := c.nextCall(r); {
		case d == nil:
			r.inTurn = false
			c.tidy(r)
		case !c.admits(r):
			c.crowd = append(c.crowd, r)
		default:
			c.startCall(r, d)
			served = append(served, r)
		}
	}
	for _, r := range served {
		r.inTurn = false
		c.turn(r)
	}
	clear(waiting)
	c.crowdSpare = waiting[:0]
}
