package coordinator

import (
	"fmt"
	"strings"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// delivery is a due branch: it must hear its outcome, and report. It lasts until
// the log says that the branch is terminal.
type delivery struct {
	t       *txn
	spec    *logpb.BranchSpec
	op      fsm.Operation
	verdict fsm.Verdict
	h       *holder // nil where the branch has none
	r       *resource
	over    *session // ready or in flight on it; nil for a call
	phase   phase
	links   [linkKinds]link
	// wait is the back-off, or the time limit of the attempt in flight.
	wait timer

	since    time.Time // it is due
	attempts uint32
	failures int // in a row: the back-off's exponent
	last     time.Time
	lastErr  string
	warned   bool
}

// phase is where a delivery stands.
type phase uint8

const (
	// routing: never between two steps.
	phaseRouting phase = iota
	// parked: nobody can be told. It is in its resource's list.
	phaseParked
	// ready: it waits for room, in its session's or resource's list.
	phaseReady
	// inFlight: sent. It is in its session's or resource's list; wait bounds it.
	phaseInFlight
	// reporting: its endpoint has answered, the report is being appended.
	phaseReporting
	// waiting: asked again when wait fires. It is in its resource's list.
	phaseWaiting
)

// setDue makes the deliveries of a transaction those that the state lists. Both
// are in the order of the branches' ids.
func (c *Core) setDue(t *txn, due []fsm.DueBranch) {
	old := t.due
	if len(old) == 0 && len(due) == 0 {
		return
	}
	t.due = make([]*delivery, 0, len(due))
	for _, b := range due {
		for len(old) > 0 && old[0].spec.GetId() < b.Branch.GetId() {
			c.removeDelivery(old[0])
			old = old[1:]
		}
		if len(old) > 0 && old[0].spec.GetId() == b.Branch.GetId() {
			t.due, old = append(t.due, old[0]), old[1:]
			continue
		}
		t.due = append(t.due, c.addDelivery(t, b))
	}
	for _, d := range old {
		c.removeDelivery(d)
	}
}

func (c *Core) addDelivery(t *txn, b fsm.DueBranch) *delivery {
	d := &delivery{t: t, spec: b.Branch, op: b.Operation, verdict: b.Verdict, r: c.resourceOf(b.Branch), since: c.now}
	if id, ok := holderOf(b.Branch); ok {
		d.h = c.holder(id)
		d.h.users++
	}
	c.due.push(d)
	c.route(d)
	return d
}

// removeDelivery: the branch is due no more.
func (c *Core) removeDelivery(d *delivery) {
	if d.phase == phaseInFlight {
		c.observeCall(d, ResultDone)
	}
	c.release(d)
	d.leave(dueLink)
	if d.h != nil {
		d.h.users--
		c.idle = append(c.idle, d.h)
	}
	c.tidy(d.r)
}

// release takes a delivery out of where it stands, and gives back its room.
func (c *Core) release(d *delivery) {
	c.timers.stop(&d.wait)
	d.leave(queueLink)
	if d.phase == phaseInFlight {
		if d.over != nil {
			c.roomy = append(c.roomy, d.over)
		} else {
			c.calls--
			c.turn(d.r)
		}
	}
	d.over, d.phase = nil, phaseRouting
}

// route sends a delivery on its way: to the session of the branch's holder; once
// that is lost, to any session of the resource; else to the endpoint. While a
// holder may still come back it is waited for, because a database may answer
// another session "not found" about what its preparing session still holds.
func (c *Core) route(d *delivery) {
	c.release(d)
	d.r = c.resourceOf(d.spec)
	switch h := d.h; {
	case h != nil && d.r.servedBy(h.session):
		c.queueOn(d, h.session)
		return
	case h != nil && h.session == nil && !h.lost:
		c.park(d, fmt.Sprintf("participant %s is away: waiting for it to come back, or for its grace to end", h.id))
		h.waitFor(d.r)
		return
	}
	if s := d.r.freest(); s != nil {
		c.queueOn(d, s)
		return
	}
	if d.spec.GetEndpoint() != "" {
		d.phase = phaseReady
		d.r.ready.push(d)
		c.turn(d.r)
		return
	}
	c.park(d, fmt.Sprintf("no participant of %q is attached, and the branch has no endpoint", d.spec.GetResource()))
}

func (c *Core) park(d *delivery, why string) {
	d.phase, d.lastErr = phaseParked, why
	d.r.parked.push(d)
}

// waitFor notes that deliveries of a resource wait for the holder.
func (h *holder) waitFor(r *resource) {
	for _, other := range h.parked {
		if other == r {
			return
		}
	}
	h.parked = append(h.parked, r)
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
	c.beginAttempt(d, c.cfg.DeliveryTimeout)
	c.ask(SendDelivery{Session: s.id, Delivery: c.told(d)})
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

// startCall calls an endpoint. The caller's context ends at DeliveryTimeout; the
// core's own limit is there for a Caller that does not heed it.
func (c *Core) startCall(r *resource, d *delivery) {
	d.leave(queueLink)
	r.calling.push(d)
	c.calls++
	c.beginAttempt(d, 2*c.cfg.DeliveryTimeout)
	c.ask(StartCall{Delivery: c.told(d)})
}

func (c *Core) beginAttempt(d *delivery, limit time.Duration) {
	d.phase, d.last = phaseInFlight, c.now
	d.attempts++
	c.timers.arm(&d.wait, c.now.Add(limit), func() {
		c.attemptFailed(d, ResultLost, fmt.Sprintf("no answer within %v", limit))
	})
}

// told is what a participant is told.
func (c *Core) told(d *delivery) Delivery {
	out := Delivery{
		GID: d.t.gid, Branch: d.spec.GetId(), Resource: d.spec.GetResource(), Operation: d.op, Verdict: d.verdict, Attempt: d.attempts,
		Epoch: Epoch{Incarnation: c.clock.Incarnation, Term: c.term}, FloorMS: c.clock.FloorMS, ClockMS: c.clock.ClockMS,
	}
	if d.over == nil {
		out.Endpoint = d.spec.GetEndpoint()
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

// Called brings what a StartCall effect came to. An answer that comes late still
// counts: it says what the branch did.
func (c *Core) Called(now time.Time, told Delivery, a Answered, err error) {
	d := c.find(BranchRef{GID: told.GID, Branch: told.Branch})
	if d == nil {
		return
	}
	c.begin(now)
	current := d.phase == phaseInFlight && d.over == nil && d.attempts == told.Attempt
	switch {
	case err == nil && !a.Busy:
		c.reportCall(d, a)
	case current && err == nil:
		c.callAnswered(d.r)
		c.attemptFailed(d, ResultBusy, a.Detail)
	case current:
		c.attemptFailed(d, ResultError, err.Error())
	}
	c.end()
}

// reportCall appends what an endpoint answered.
func (c *Core) reportCall(d *delivery, a Answered) {
	if d.phase == phaseReporting {
		return
	}
	if d.phase == phaseInFlight {
		c.observeCall(d, ResultDone)
	}
	c.callAnswered(d.r)
	c.release(d)
	d.phase = phaseReporting
	c.propose(&logpb.Command{Kind: &logpb.Command_Report{Report: &logpb.Report{
		Gid: d.t.gid.Bytes(), Branch: d.spec.GetId(), Outcome: a.Outcome, Detail: a.Detail, Attempts: d.attempts,
	}}}, func(r fsm.Result, err error) {
		if d.phase != phaseReporting || d.links[dueLink].in == nil {
			return // the log has it
		}
		detail := "the branch's report was not taken: " + r.Code.String() + " " + r.Detail
		if err != nil {
			detail = "the branch's report could not be appended: " + err.Error()
		}
		c.wait(d, detail)
	})
}

// attemptFailed ends an attempt without a report. Another follows, for ever.
func (c *Core) attemptFailed(d *delivery, result, detail string) {
	if d.over == nil && result != ResultBusy {
		d.r.callFailed()
	}
	c.noteFailure(d, result, detail)
	c.wait(d, detail)
}

// wait lets a delivery's back-off run.
func (c *Core) wait(d *delivery, detail string) {
	c.release(d)
	d.r = c.resourceOf(d.spec)
	d.phase, d.lastErr = phaseWaiting, detail
	d.r.waiting.push(d)
	c.timers.arm(&d.wait, c.now.Add(c.backoff(d.failures)), func() { c.route(d) })
}

// noteFailure counts an attempt that brought no report.
func (c *Core) noteFailure(d *delivery, result, detail string) {
	c.observeCall(d, result)
	d.failures++
	d.lastErr = detail
	if due := c.now.Sub(d.since); !d.warned && due >= c.cfg.StuckAfter {
		d.warned = true
		c.ask(Warn{Message: "branch is stuck", GID: d.t.gid, Branch: d.spec.GetId(), Detail: fmt.Sprintf(
			"due for %v, %d attempts, the last: %s; retry now: quorate tx retry %s --branch %s",
			due.Round(time.Second), d.attempts, detail, d.t.gid, d.spec.GetId())})
	}
}

// backoff doubles with each failure up to its cap; half of it is jitter, so that
// branches that failed together are not asked again together.
func (c *Core) backoff(failures int) time.Duration {
	d := c.cfg.BackoffMin
	for i := 1; i < failures && d < c.cfg.BackoffMax; i++ {
		d *= 2
	}
	d = min(d, c.cfg.BackoffMax)
	return d - time.Duration(c.random.Int64N(int64(d)/2+1))
}

func (c *Core) find(ref BranchRef) *delivery {
	if t := c.txns[ref.GID]; t != nil {
		for _, d := range t.due {
			if d.spec.GetId() == ref.Branch {
				return d
			}
		}
	}
	return nil
}

func (c *Core) observeCall(d *delivery, result string) {
	c.obs.BranchCall(d.t.mode(), d.op, d.protocol(), result, c.now.Sub(d.last))
}

func (d *delivery) protocol() string {
	switch {
	case d.over != nil:
		return ProtocolSession
	case strings.HasPrefix(d.spec.GetEndpoint(), "grpc"):
		return ProtocolGRPC
	default:
		return ProtocolHTTP
	}
}
