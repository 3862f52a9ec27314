package coordinator

import "time"

// calls are those in flight that do not hang yet, in the order in which they began, so
// that one timer serves all of them, and an answer moves none: it looks, when it fires,
// what has been in flight for how long. Nearly every call is answered long before.
type calls struct {
	first, last *call
	wait        timer
}

func (l *calls) push(k *call) {
	k.flying, k.before = true, l.last
	if l.last != nil {
		l.last.after = k
	} else {
		l.first = k
	}
	l.last = k
}

// remove takes a call out, if it is in.
func (l *calls) remove(k *call) {
	if !k.flying {
		return
	}
	if k.before != nil {
		k.before.after = k.after
	} else {
		l.first = k.after
	}
	if k.after != nil {
		k.after.before = k.before
	} else {
		l.last = k.before
	}
	k.flying, k.before, k.after = false, nil, nil
}

// watchCall sees to it that the call hangs one day. One that may take no longer than that
// has a timer of its own.
func (c *Core) watchCall(k *call) {
	if k.most <= callHangsAfter {
		c.timers.arm(&k.limit, k.began.Add(k.most), func() { c.callHangs(k) })
		return
	}
	c.flying.push(k)
	if !c.flying.wait.armed() {
		c.timers.arm(&c.flying.wait, k.began.Add(callHangsAfter), c.callsHang)
	}
}

// callsHang: those hang that began long enough ago.
func (c *Core) callsHang() {
	for k := c.flying.first; k != nil && !k.began.Add(callHangsAfter).After(c.now); k = c.flying.first {
		c.flying.remove(k)
		c.callHangs(k)
	}
	if k := c.flying.first; k != nil {
		c.timers.arm(&c.flying.wait, k.began.Add(callHangsAfter), c.callsHang)
	}
}

// callHangs lets others of the resource go before a call that takes long.
func (c *Core) callHangs(k *call) {
	if k.most-c.now.Sub(k.began) <= 0 {
		c.callLost(k, k.most)
		return
	}
	if k.attempt == 1 {
		k.r.newcomers--
	}
	c.proveHanging(k)
	c.doubt(k)
	c.timers.arm(&k.limit, k.began.Add(k.most), func() { c.callLost(k, k.most) })
	c.turn(k.r)
}

// callLost gives up on a Caller that does not answer.
func (c *Core) callLost(k *call, limit time.Duration) {
	c.obs.BranchCall(k.mode, k.op, k.protocol, ResultLost, c.now.Sub(k.began))
	k.r.callFailed()
	d := k.d
	c.endCall(k)
	c.afterCall(k)
	if d != nil {
		c.attemptFailed(d, ResultLost, "no answer within "+limit.String())
	}
}
