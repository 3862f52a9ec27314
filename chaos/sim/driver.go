package sim

import (
	"errors"
	"slices"
	"time"

	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	lin "github.com/quorate/quorate/linearizability"
)

// This file runs the real driver on a node: it performs the effects that the
// core asks for, and brings what comes of them back as steps of their own.

var epochStart = time.Unix(1_700_000_000, 0)

// time is the node's clock as the core sees it.
func (n *node) time() time.Time { return epochStart.Add(n.clock()) }

// step runs one step of the core and performs what it asks for.
func (n *node) step(f func(now time.Time)) {
	f(n.time())
	n.perform()
}

// look shows the core what was applied, a little later: any number of entries
// at once.
func (n *node) look() {
	if n.looking {
		return
	}
	n.looking = true
	n.after(between(n.rng, 0, time.Millisecond), func() {
		n.looking = false
		n.step(n.core.Applied)
	})
}

func (n *node) perform() {
	for {
		effects := n.core.Take()
		if len(effects) == 0 {
			break
		}
		for _, e := range effects {
			n.performOne(e)
			if !n.up {
				return
			}
		}
	}
	n.setWake()
}

func (n *node) performOne(e coordinator.Effect) {
	switch e := e.(type) {
	case coordinator.SendDeliveries:
		for _, d := range e.Deliveries {
			if c := n.sessions[e.Session]; c != nil && n.delivers(d) {
				n.w.oracle.delivery(n, c, d)
				c.toProcess(func() { c.proc.onDelivery(c, d) })
			}
		}
	case coordinator.SendVouchFor:
		if c := n.sessions[e.Session]; c != nil {
			c.toProcess(func() { c.proc.onVouchFor(c, e.Branches) })
		}
	case coordinator.CloseSession:
		n.closeSession(e.Session)
	case coordinator.StartCall:
		n.callEndpoint(e.Delivery)
	case coordinator.Propose:
		n.proposeForCore(e)
	case coordinator.AnswerReport:
		n.after(0, func() { e.Reply(fsm.Result{}, e.Err) })
	case coordinator.AnswerWaiter:
		if f := n.waiters[e.Waiter]; f != nil {
			delete(n.waiters, e.Waiter)
			f(e)
		}
	case coordinator.HitFailpoint:
		n.w.faults.phase(phase(e.Name), n.actor)
	case coordinator.Warn:
	}
}

// delivers: a planted bug is a new leader that resumes nothing.
func (n *node) delivers(d coordinator.Delivery) bool {
	if n.w.bug != BugResumesNothing {
		return true
	}
	rec, ok := n.state.Get(d.GID)
	return ok && rec.GetDecided().GetTerm() == n.hard.term
}

func (n *node) closeSession(id coordinator.SessionID) {
	if c := n.sessions[id]; c != nil {
		n.forgetSession(c, c.aliveAt) // silent since then
		c.closedByNode()
	}
}

// forgetSession notes when a holder left.
func (n *node) forgetSession(c *conn, at time.Duration) {
	delete(n.sessions, c.id)
	n.leftAt[string(c.holder)] = at
}

// sessionList is the sessions in the order of their ids.
func (n *node) sessionList() []*conn {
	out := make([]*conn, 0, len(n.sessions))
	for _, c := range n.sessions {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b *conn) int { return int(a.id) - int(b.id) })
	return out
}

func (n *node) proposeForCore(e coordinator.Propose) {
	n.w.oracle.proposes(n, e.Command)
	answered := n.wordsOf(e)
	bring := func(results []fsm.Result, err error) {
		var r fsm.Result
		if err == nil {
			r = results[0]
		}
		n.returnWords(answered, e, r, err)
		e.Tell(r, err)
		if e.Token != 0 {
			n.step(func(now time.Time) {
				n.core.Proposed(now, coordinator.ProposeResult{Token: e.Token, Result: r, Err: err})
			})
		}
	}
	submit := func() {
		if n.reign == nil {
			n.after(0, func() { bring(nil, coordinator.ErrNotLeader) })
			return
		}
		n.submit([]*logpb.Command{e.Command}, func(results []fsm.Result, err error) {
			n.after(0, func() { bring(results, err) }) // never within the step that asked
		})
	}
	if e.Rides { // as where no caller comes: for as long as it may wait
		n.w.cover.meet("words that ride")
		n.after(n.w.plan.Settings.ReportRideMax, submit)
		return
	}
	submit()
}

// wordsOf writes what endpoints have answered into the history, for each part of the
// command: what came as a participant's own report is there already.
func (n *node) wordsOf(e coordinator.Propose) (at []recorded) {
	if len(e.Replies) > 1 {
		n.w.cover.meet("words packed")
	}
	for c := range fsm.Unpack(e.Command, fsm.Result{}) {
		var one recorded
		if i := len(at); c.GetReport() != nil && (i >= len(e.Replies) || e.Replies[i] == nil) {
			one = n.w.history.invoke(request{kind: lin.KindReport, command: c}, fsm.GID{})
		}
		at = append(at, one)
	}
	return at
}

func (n *node) returnWords(at []recorded, e coordinator.Propose, whole fsm.Result, err error) {
	i := 0
	for _, r := range fsm.Unpack(e.Command, whole) {
		n.w.history.returns(at[i], n, answer{err: err, code: r.Code, result: r, header: n.header()})
		i++
	}
}

var errNoAnswer = errors.New("no answer in time")

// callEndpoint delivers to a branch without a session.
func (n *node) callEndpoint(d coordinator.Delivery) {
	if !n.delivers(d) {
		return
	}
	n.w.oracle.delivery(n, nil, d)
	answered := false
	called := n.plantedCall(d, func(a coordinator.Answered, err error) {
		if answered {
			return
		}
		answered = true
		n.step(func(now time.Time) { n.core.Called(now, d, a, err) })
	})
	n.after(n.w.plan.Settings.DeliveryTimeout, func() { called(coordinator.Answered{}, errNoAnswer) })
	if d.Endpoint == flowsURL {
		n.callFlow(d, called)
		return
	}
	if s := n.w.shopOf(d.Endpoint); s != nil {
		n.callShop(n.misdelivers(s, d), d, called)
		return
	}
	p := n.w.endpoint(d.Endpoint)
	n.w.net.send(n.actor, p.actor, func() {
		p.onCall(d, func(a coordinator.Answered) {
			n.w.net.send(p.actor, n.actor, func() { called(a, nil) })
		})
	})
}

// setWake lets the core be woken when it wants to be.
func (n *node) setWake() {
	at, ok := n.core.Wake()
	if !ok {
		return
	}
	due := max(at.Sub(epochStart), 1)
	if n.wakeAt != 0 && n.wakeAt <= due {
		return
	}
	n.wakeAt = due
	n.after(due-n.clock(), func() {
		if n.wakeAt != due {
			return // an earlier one has been asked for
		}
		n.wakeAt = 0
		n.step(n.core.Expire)
	})
}

// conn is a participant's session with a node: a stream, in order, either way.
// When a message is lost nothing follows it, as on a connection that the network
// has dropped; each side learns of that by silence, or by a reset.
type conn struct {
	n        *node
	nodeLife int
	proc     *process
	procLife int
	id       coordinator.SessionID

	arriveN, arriveP time.Duration // no later message arrives before
	stuckN, stuckP   bool
	nodeShut         bool // the node's side has ended
	procShut         bool // the participant's side has ended
	holder           []byte
	heard            time.Duration // by the participant's clock
	epoch            coordinator.Epoch
	aliveAt          time.Duration // by the node's clock
	since            time.Duration // when it was attached
	vouched          []ref         // what its participant said that it still holds
}

func (c *conn) toNode(f func()) {
	c.beatNode(func() {
		c.n.w.delivered++
		f()
	})
}

func (c *conn) toProcess(f func()) {
	c.beatProcess(func() {
		c.n.w.delivered++
		f()
	})
}

// beatNode is toNode for what says nothing new.
func (c *conn) beatNode(f func()) {
	if c.stuckN || c.procShut {
		return
	}
	d, ok := c.n.w.net.way(c.proc.actor, c.n.actor)
	if !ok {
		c.stuckN = true
		return
	}
	c.arriveN = max(c.arriveN, c.n.w.now+d)
	c.n.w.after(c.arriveN-c.n.w.now, func() {
		c.n.do(c.nodeLife, func() {
			if !c.nodeShut {
				f()
			}
		})
	})
}

// beatProcess is toProcess for what says nothing new.
func (c *conn) beatProcess(f func()) {
	if c.stuckP || c.nodeShut {
		return
	}
	d, ok := c.n.w.net.way(c.n.actor, c.proc.actor)
	if !ok {
		c.stuckP = true
		return
	}
	c.arriveP = max(c.arriveP, c.n.w.now+d)
	c.n.w.after(c.arriveP-c.n.w.now, func() {
		c.proc.do(c.procLife, func() {
			if !c.procShut {
				f()
			}
		})
	})
}

// closedByNode tells the participant, if the network lets it.
func (c *conn) closedByNode() {
	c.toProcess(func() { c.proc.lost(c) })
	c.nodeShut = true
}

// nodeGone: the node's system resets what was connected to it.
func (c *conn) nodeGone() { c.closedByNode() }

// closedByProcess ends the stream at the participant's side.
func (c *conn) closedByProcess(goodbye bool) {
	if c.procShut {
		return
	}
	c.toNode(func() {
		if c.n.sessions[c.id] == c { // or it was never attached: then it has not left either
			c.n.forgetSession(c, c.n.clock())
		}
		c.nodeShut = true
		c.n.step(func(now time.Time) { c.n.core.Detach(now, c.id, goodbye, errReset) })
	})
	c.procShut = true
}

var errReset = errors.New("connection reset")
