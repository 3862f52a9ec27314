package coordinator

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// delivery is something due: a branch must hear its outcome, and report; or it is
// called for its part; or the initiator is called back. It lasts until the log
// says that it is due no more.
type delivery struct {
	t       *txn
	branch  string // its id
	spec    *logpb.BranchSpec
	op      fsm.Operation
	verdict fsm.Verdict
	// notBeforeMS is the cluster clock before which it is not called.
	notBeforeMS uint64
	h           *holder // nil where the branch has none
	r           *resource
	over        *session // ready or in flight on it; nil for a call
	call        *call    // in flight
	phase       phase
	gone        bool // it is due no more
	links       [linkKinds]link
	// wait is the delay, or the back-off.
	wait timer
	// word is what the branch has answered, until the log has it; said, that it has
	// reported over a session since it was told.
	word *word
	said bool
	pair *duePair // nil where it was made by itself

	since    time.Time // it is due, and not delayed
	attempts uint32
	failed   uint32 // attempts without an answer
	failures int    // in a row: the back-off's exponent
	busy     int    // in a row: how often it was still working
	last     time.Time
	lastErr  string
	warned   bool
}

// phase is where a delivery stands.
type phase uint8

const (
	// routing: never between two steps.
	phaseRouting phase = iota
	// delayed: the cluster clock has not come to it, which wait tells.
	phaseDelayed
	// held: another call to its branch is in flight, whose end releases it.
	phaseHeld
	// parked: nobody can be told. It is in its resource's list, or in its holder's,
	// who is away.
	phaseParked
	// ready: it waits for room, in its session's or resource's list.
	phaseReady
	// inFlight: sent. Over a session it is in its list, which bounds it.
	phaseInFlight
	// reporting: its endpoint has answered, the word is being appended.
	phaseReporting
	// waiting: asked again when wait fires. It is in its resource's list.
	phaseWaiting
)

// setDue makes the deliveries of a transaction those that the state lists, in the
// order of the branches' ids.
func (c *Core) setDue(t *txn, due []fsm.DueBranch) {
	old := t.due
	if len(old) == 0 && len(due) == 0 {
		return
	}
	if !slices.IsSortedFunc(due, byBranch) {
		due = slices.Clone(due)
		slices.SortFunc(due, byBranch)
	}
	t.due = make([]*delivery, 0, len(due))
	var fresh []delivery // made together: what is due at once ends about at once
	for i, b := range due {
		for len(old) > 0 && old[0].branch < b.Branch.GetId() {
			c.removeDelivery(old[0])
			old = old[1:]
		}
		if len(old) > 0 && old[0].branch == b.Branch.GetId() {
			before := old[0]
			old = old[1:]
			if before.op == b.Operation {
				t.due = append(t.due, before)
				continue
			}
			c.removeDelivery(before)
		}
		if fresh == nil {
			fresh = c.freshDue(len(due) - i)
		}
		t.due = append(t.due, c.addDelivery(&fresh[0], t, b))
		fresh = fresh[1:]
	}
	for _, d := range old {
		c.removeDelivery(d)
	}
}

func byBranch(a, b fsm.DueBranch) int { return cmp.Compare(a.Branch.GetId(), b.Branch.GetId()) }

func (c *Core) addDelivery(d *delivery, t *txn, b fsm.DueBranch) *delivery {
	d.t, d.branch, d.spec, d.op, d.verdict, d.notBeforeMS = t, b.Branch.GetId(), b.Branch, b.Operation, b.Verdict, c.notBefore(t, b)
	d.r = c.resourceOf(d)
	if id, ok := holderOf(b.Branch); ok && !called(d.op) {
		d.h = c.holder(id)
		d.h.users++
	}
	c.route(d)
	return d
}

// removeDelivery: it is due no more. A call that is in flight for it goes on.
func (c *Core) removeDelivery(d *delivery) {
	if d.phase == phaseInFlight && d.over != nil {
		c.observeTold(d, ResultDone)
	}
	c.release(d)
	d.leave(dueLink)
	d.gone = true
	if d.h != nil {
		d.h.users--
		c.idle = append(c.idle, d.h)
	}
	c.tidy(d.r)
	c.spent(d)
}

// release takes a delivery out of where it stands, and gives back its room on a
// session. The room of a call is given back at the call's end.
func (c *Core) release(d *delivery) {
	c.timers.stop(&d.wait)
	d.leave(queueLink)
	if d.phase == phaseInFlight && d.over != nil {
		c.roomy = append(c.roomy, d.over)
	}
	if d.call != nil {
		d.call.d = nil // it goes on for nobody
	}
	d.over, d.call, d.phase = nil, nil, phaseRouting
}

// route sends a delivery on its way, once its time has come: as a call, where the
// mode has calls; else to who waits for the outcome of a prepared branch.
func (c *Core) route(d *delivery) {
	c.release(d)
	if c.delay(d) {
		return
	}
	if d.links[dueLink].in == nil {
		d.since = c.now
		c.due.push(d)
	}
	d.r = c.resourceOf(d)
	switch {
	case d.word != nil:
		c.say(d)
	case called(d.op):
		c.routeCall(d)
	default:
		c.routeOutcome(d)
	}
}

// routeOutcome sends it to the session of the branch's holder; once that is lost,
// to any session of the resource; else to the endpoint. While a holder may still
// come back it is waited for, because a database may answer another session "not
// found" about what its preparing session still holds.
func (c *Core) routeOutcome(d *delivery) {
	switch h := d.h; {
	case h != nil && d.r.servedBy(h.session):
		c.queueOn(d, h.session)
		return
	case h != nil && h.session == nil && !h.lost:
		c.awaitHolder(d)
		return
	}
	if s := d.r.freest(); s != nil {
		c.queueOn(d, s)
		return
	}
	if d.spec.GetEndpoint() != "" {
		c.queueCall(d)
		return
	}
	c.park(d, fmt.Sprintf("no participant of %q is attached, and the branch has no endpoint", d.spec.GetResource()))
}

func (c *Core) park(d *delivery, why string) {
	d.phase, d.lastErr = phaseParked, why
	d.r.parked.push(d)
}

// awaitHolder parks a delivery at its branch's holder: nobody else may be told.
func (c *Core) awaitHolder(d *delivery) {
	if d.h.away == "" {
		d.h.away = fmt.Sprintf("participant %s is away: waiting for it to come back, or for its grace to end", d.h.id)
	}
	d.phase, d.lastErr = phaseParked, d.h.away
	d.h.waits.push(d)
}

// queueOn sends a delivery on a session, or queues it for room in the window.
func (c *Core) queueOn(d *delivery, s *session) {
	d.over = s
	if s.inflight.length >= s.window {
		d.phase = phaseReady
		s.ready.push(d)
		return
	}
	c.sendOn(d, s)
}

func (c *Core) sendOn(d *delivery, s *session) {
	s.inflight.push(d)
	d.phase, d.last, d.said = phaseInFlight, c.now, false
	d.attempts++
	if !s.overdue.armed() {
		c.watchAnswers(s)
	}
	if len(s.outbox) == 0 {
		c.outgoing = append(c.outgoing, s)
	}
	if s.outbox == nil {
		s.outbox = deliveryList(s.sentLast + 1)
	}
	s.outbox = append(s.outbox, c.told(d))
}

// sendOutgoing hands over what the step sends, to each session at once.
func (c *Core) sendOutgoing() {
	for _, s := range c.outgoing {
		if c.sessions[s.id] == s {
			c.ask(SendDeliveries{Session: s.id, Deliveries: s.outbox})
		}
		s.outbox, s.sentLast = nil, len(s.outbox)
	}
	clear(c.outgoing)
	c.outgoing = c.outgoing[:0]
}

// refillWindows sends what waits for room on the sessions that got some.
func (c *Core) refillWindows() {
	for _, s := range c.roomy {
		for c.sessions[s.id] == s && s.ready.length > 0 && s.inflight.length < s.window {
			d := s.ready.first
			d.leave(queueLink)
			c.sendOn(d, s)
		}
	}
	c.roomy = c.roomy[:0]
}

// watchAnswers ends the attempts over a session that are not answered in time. What is
// in flight stands in the order in which it was sent, so one timer serves all of it, and
// answers move none: it looks, when it fires, what has waited for how long.
func (c *Core) watchAnswers(s *session) {
	c.timers.arm(&s.overdue, s.inflight.first.last.Add(c.cfg.DeliveryTimeout), s.answersLate)
}

func (c *Core) answersOverdue(s *session) {
	late := c.now.Add(-c.cfg.DeliveryTimeout)
	for d := s.inflight.first; d != nil && !d.last.After(late); d = s.inflight.first {
		c.attemptFailed(d, ResultLost, fmt.Sprintf("no answer within %v", c.cfg.DeliveryTimeout))
	}
	if s.inflight.length > 0 {
		c.watchAnswers(s)
	}
}

// told is what a participant is told.
func (c *Core) told(d *delivery) Delivery {
	out := Delivery{
		GID: d.t.gid, Branch: d.branch, Resource: d.spec.GetResource(), Operation: d.op, Verdict: d.verdict, Attempt: d.attempts,
		Epoch: Epoch{Incarnation: c.clock.Incarnation, Term: c.term}, FloorMS: c.clock.FloorMS, ClockMS: c.clock.ClockMS,
	}
	if d.over != nil {
		return out
	}
	out.Endpoint, out.Timeout = endpointOf(d.spec, d.op), c.callTimeout(d)
	if called(d.op) {
		begin := d.t.rec.GetBegin()
		out.Mode, out.Key, out.Plan, out.Traceparent = d.t.mode(), begin.GetKey(), begin.GetPlan(), begin.GetTraceparent()
		out.Payload, out.Topic = d.spec.GetPayload(), d.spec.GetTopic()
	}
	return out
}

// Busy says that a participant was told and is not done: it is asked again.
func (c *Core) Busy(now time.Time, id SessionID, ref BranchRef, detail string) {
	s := c.sessions[id]
	if s == nil {
		return
	}
	c.begin(now)
	c.heard(s)
	if d := c.find(ref); d != nil && d.over == s && d.phase == phaseInFlight {
		c.attemptFailed(d, ResultBusy, detail)
	}
	c.end()
}

// attemptFailed ends an attempt without an answer. Another follows: for ever, but
// where the branch's attempts are bounded.
func (c *Core) attemptFailed(d *delivery, result, detail string) {
	detail = legible(detail)
	c.noteFailure(d, result, detail)
	if most := c.attemptsMax(d); most > 0 && d.failed >= most {
		c.gaveUp(d, detail)
		return
	}
	c.wait(d, detail)
}

// wait lets a delivery's back-off run.
func (c *Core) wait(d *delivery, detail string) {
	c.release(d)
	d.r = c.resourceOf(d)
	d.phase, d.lastErr = phaseWaiting, detail
	d.r.waiting.push(d)
	c.timers.await(d, c.now.Add(c.backoff(d)))
}

// noteFailure counts an attempt that brought no answer. A called branch that is
// still working has not failed.
func (c *Core) noteFailure(d *delivery, result, detail string) {
	if d.over != nil {
		c.observeTold(d, result)
	}
	d.lastErr = detail
	if result == ResultBusy && called(d.op) {
		d.busy++
	} else {
		d.failures, d.busy = d.failures+1, 0
	}
	if result != ResultBusy {
		d.failed++
	}
	if due := c.now.Sub(d.since); !d.warned && due >= c.cfg.StuckAfter {
		d.warned = true
		c.ask(Warn{Message: d.name() + " is stuck", GID: d.t.gid, Branch: d.branch, Detail: fmt.Sprintf(
			"due for %v, %d attempts, the last: %s; retry now: %s", due.Round(time.Second), d.attempts, detail, d.retryCommand())})
	}
}

// name is what the delivery is called where people read of it.
func (d *delivery) name() string {
	switch d.op {
	case fsm.OperationCheckBack:
		return "check-back"
	case fsm.OperationResume:
		return "resume"
	default:
		return "branch"
	}
}

func (d *delivery) retryCommand() string {
	if callsBack(d.op) {
		return "quorate tx retry " + d.t.gid.String()
	}
	return fmt.Sprintf("quorate tx retry %s --branch %s", d.t.gid, d.branch)
}

// find is the delivery of a prepared branch's outcome.
func (c *Core) find(ref BranchRef) *delivery {
	if t := c.txns[ref.GID]; t != nil {
		for _, d := range t.due {
			if d.branch == ref.Branch {
				return d
			}
		}
	}
	return nil
}

// observeTold tells the observer of an attempt over a session.
func (c *Core) observeTold(d *delivery, result string) {
	c.obs.BranchCall(d.t.mode(), d.op, ProtocolSession, result, c.now.Sub(d.last))
}
