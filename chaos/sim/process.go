package sim

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// process is a participant's process: a model of the SDK by the rules of
// PROTOCOL.md sections 2 and 5. Several may serve one database.
type process struct {
	*actor
	db       *database
	endpoint bool // it has no session: it is called
	dials    *dialer

	holder   []byte
	conn     *conn // attached, or nil
	trying   *conn // asked to attach
	newest   coordinator.Epoch
	floorMS  uint64
	live     []*work
	waiting  []*sessionCall
	inFlight []ref
	kicked   bool
}

func (w *World) newProcess(i int, db *database, endpoint bool) *process {
	p := &process{actor: w.newActor(fmt.Sprintf("p%d", i+1)), db: db, endpoint: endpoint}
	p.dials = &dialer{actor: p.actor, leader: nobody}
	return p
}

func (p *process) say(format string, args ...any) { p.w.say(p.name, format, args...) }

func (p *process) boot() {
	p.actor.start()
	var random [10]byte
	binary.BigEndian.PutUint32(random[:], uint32(p.life))
	random[9] = byte(p.id)
	p.holder = fsm.NewGID(1000+uint64(p.life), random).Bytes()
	p.conn, p.trying, p.live, p.waiting, p.inFlight, p.kicked = nil, nil, nil, nil, nil, false
	if p.w.bug == BugRecoveryRollsBackAll {
		for _, at := range slices.Clone(p.db.order) {
			p.db.end(p, at, fsm.VerdictRollback)
		}
	}
	if !p.endpoint {
		p.attach()
	}
	p.scan()
}

func (p *process) crash(why string) {
	if !p.up {
		return
	}
	c, t := p.conn, p.trying
	if c != nil {
		c.closedByProcess(false)
	}
	if t != nil {
		t.closedByProcess(false)
	}
	p.actor.crash(why)
	p.db.disconnect(p)
}

// attach opens a session with whoever leads, again and again until one stands.
// The back-off stays below a third of the grace.
func (p *process) attach() {
	if p.conn != nil || p.trying != nil {
		return
	}
	n := p.dials.next()
	c := &conn{n: n, nodeLife: n.life, proc: p, procLife: p.life, holder: p.holder}
	p.trying = c
	r := coordinator.AttachRequest{Holder: p.holder, Resources: []string{p.db.name}, Process: p.w.plan.processName(p)}
	for _, b := range p.live {
		r.Live = append(r.Live, coordinator.LiveBranch{BranchRef: b.ref, Held: b.isHeld(), Resource: p.db.name})
	}
	c.toNode(func() { c.attach(r) })
	p.after(between(p.rng, 800*time.Millisecond, 1200*time.Millisecond), func() {
		if p.trying == c {
			c.closedByProcess(false)
			p.trying = nil
			p.dials.forget()
			p.attach()
		}
	})
}

func (p *process) attached(c *conn, h header) {
	if p.trying != c {
		return
	}
	p.trying = nil
	p.hear(h)
	if less(h.epoch, p.newest) {
		c.closedByProcess(false)
		p.attachLater()
		return
	}
	p.conn, c.epoch, c.heard = c, h.epoch, p.clock()
	p.dials.leader = c.n.id
	p.say("attaches to %s", c.n.name)
	p.beat(c)
	for _, r := range slices.Clone(p.waiting) {
		r.send()
	}
	p.kick()
}

func (p *process) attachLater() {
	p.after(between(p.rng, 20*time.Millisecond, p.w.plan.Settings.SessionGrace/4), p.attach)
}

// lost: the stream ended at the other side.
func (p *process) lost(c *conn) {
	c.procShut = true
	if p.conn != c && p.trying != c {
		return
	}
	p.conn, p.trying = nil, nil
	p.dials.forget()
	p.attachLater()
}

// beat keeps the session alive, and ends it when the leader is silent for too
// long. A session whose leader another one has followed is of no use.
func (p *process) beat(c *conn) {
	if p.conn != c {
		return
	}
	silence := max(3*p.w.plan.Settings.SessionHeartbeat, p.w.plan.Settings.SessionGrace/3)
	if p.clock()-c.heard > silence || less(c.epoch, p.newest) {
		c.closedByProcess(false)
		p.conn = nil
		p.dials.forget()
		p.attachLater()
		return
	}
	c.beatNode(func() {
		c.alive()
		h := c.n.header()
		c.beatProcess(func() {
			c.heard = p.clock()
			p.hear(h)
		})
	})
	p.after(p.w.plan.Settings.SessionHeartbeat, func() { p.beat(c) })
}

func (p *process) hear(h header) {
	p.floorMS = max(p.floorMS, h.floorMS)
	if less(p.newest, h.epoch) {
		p.newest = h.epoch
	}
}

func less(a, b coordinator.Epoch) bool {
	return a.Incarnation < b.Incarnation || a.Incarnation == b.Incarnation && a.Term < b.Term
}

// sessionCall is a request that is sent again over each new session, until it is
// answered or given up.
type sessionCall struct {
	p     *process
	gid   fsm.GID
	make  func(c *conn) request
	done  func(answer)
	over  bool
	until time.Duration
}

// request sends over the session; done hears the answer, or errUnknown.
func (p *process) request(gid fsm.GID, patience time.Duration, make func(c *conn) request, done func(answer)) {
	r := &sessionCall{p: p, gid: gid, make: make, done: done, until: p.clock() + patience}
	p.waiting = append(p.waiting, r)
	p.after(patience, func() { r.end(answer{err: errUnknown}) })
	r.again()
}

func (r *sessionCall) again() {
	if r.over {
		return
	}
	r.send()
	r.p.after(between(r.p.rng, 700*time.Millisecond, 1500*time.Millisecond), r.again)
}

func (r *sessionCall) send() {
	c := r.p.conn
	if c == nil || r.over {
		return
	}
	c.ask(r.make(c), r.gid, func(a answer) {
		r.p.hear(a.header)
		if a.err == nil {
			r.end(a)
		}
	})
}

func (r *sessionCall) end(a answer) {
	if r.over {
		return
	}
	r.over = true
	r.p.waiting = slices.DeleteFunc(r.p.waiting, func(o *sessionCall) bool { return o == r })
	r.done(a)
}

// onDelivery obeys the leader's word.
func (p *process) onDelivery(c *conn, d coordinator.Delivery) {
	p.floorMS = max(p.floorMS, d.FloorMS)
	p.w.oracle.told(p, ref{GID: d.GID, Branch: d.Branch}, d.Verdict)
	p.say("hears %v of %s from term %d", d.Verdict, short(ref{GID: d.GID, Branch: d.Branch}), d.Epoch.Term)
	p.obey(ref{GID: d.GID, Branch: d.Branch}, d.Verdict, func(o fsm.Outcome, busy bool) {
		if p.conn == nil {
			return
		}
		c := p.conn
		if busy {
			c.toNode(func() {
				c.n.step(func(now time.Time) {
					c.n.core.Busy(now, c.id, ref{GID: d.GID, Branch: d.Branch}, "busy")
				})
			})
			return
		}
		c.ask(reporting(d.GID, d.Branch, o, d.Attempt, p.holder), d.GID, func(a answer) { p.hear(a.header) })
	})
}

// onCall obeys a call to its endpoint.
func (p *process) onCall(d coordinator.Delivery, reply func(coordinator.Answered)) {
	p.w.oracle.told(p, ref{GID: d.GID, Branch: d.Branch}, d.Verdict)
	p.obey(ref{GID: d.GID, Branch: d.Branch}, d.Verdict, func(o fsm.Outcome, busy bool) {
		reply(coordinator.Answered{Outcome: o, Busy: busy})
	})
}

// obey ends a branch by its verdict; one that is being ended is left alone.
func (p *process) obey(at ref, v fsm.Verdict, done func(o fsm.Outcome, busy bool)) {
	if b := p.find(at); b != nil {
		b.verdict = v
	}
	if slices.Contains(p.inFlight, at) {
		return
	}
	p.inFlight = append(p.inFlight, at)
	p.after(p.dbTime(), func() {
		p.inFlight = slices.DeleteFunc(p.inFlight, func(o ref) bool { return o == at })
		o, busy := p.db.end(p, at, v)
		if !busy {
			p.say("%s: %v", short(at), o)
			p.w.oracle.outcome(p, at, o)
			p.drop(at)
		}
		p.w.faults.phase(phaseObeyed, p.actor)
		life := p.life
		p.after(p.dbTime(), func() { p.do(life, func() { done(o, busy) }) })
	})
}

func (p *process) dbTime() time.Duration {
	return between(p.rng, 200*time.Microsecond, 4*time.Millisecond)
}

// onVouchFor says which of the held branches are still open here.
func (p *process) onVouchFor(c *conn, refs []ref) {
	var mine []ref
	for _, at := range refs {
		if p.db.held && p.db.openOf(p, at) != nil {
			mine = append(mine, at)
		}
	}
	c.toNode(func() {
		c.vouches(mine)
		c.n.step(func(now time.Time) { c.n.core.Vouch(now, c.id, mine) })
	})
}

// scan is recovery: at start, after each attach, and from time to time it asks
// for the verdict on what is prepared and not in this process' hands.
func (p *process) scan() {
	p.recover()
	p.after(between(p.rng, 3*time.Second, p.w.plan.Scan), p.scan)
}

func (p *process) kick() {
	if p.kicked {
		return
	}
	p.kicked = true
	p.after(between(p.rng, time.Millisecond, 100*time.Millisecond), func() {
		p.kicked = false
		p.recover()
	})
}

func (p *process) recover() {
	for _, at := range p.db.order {
		if p.find(at) == nil && !slices.Contains(p.inFlight, at) {
			p.settle(at, time.Duration(p.db.prepared[at].timeoutMS)*time.Millisecond)
		}
	}
	p.db.sweep(p.floorMS)
}

// settle asks for the verdict on a branch and has a final one obeyed. "Wait"
// means nothing, whoever says it.
func (p *process) settle(at ref, timeout time.Duration) {
	p.dials.call("inquire", at.GID, 3*time.Second, inquiring(at.GID, at.Branch, p.db.name, p.holder, timeout), func(a answer) {
		p.hear(a.header)
		if a.err != nil || a.code != fsm.OK {
			return
		}
		if v := a.result.Verdict; v == fsm.VerdictCommit || v == fsm.VerdictRollback {
			p.w.cover.meet("recovered")
			p.w.oracle.told(p, at, v)
			p.obey(at, v, p.reports(at))
		}
	})
}

// reports tells the cluster what a branch did that was not delivered to.
func (p *process) reports(at ref) func(o fsm.Outcome, busy bool) {
	return func(o fsm.Outcome, busy bool) {
		report := reporting(at.GID, at.Branch, o, 0, p.holder)
		switch {
		case busy:
		case p.endpoint:
			p.dials.call("report", at.GID, 10*time.Second, report, func(answer) {})
		case p.conn != nil:
			p.conn.ask(report, at.GID, func(answer) {})
		}
	}
}

// connectionLost: a held branch that has voted is gone, and says so unasked.
func (p *process) connectionLost(at ref) {
	b := p.find(at)
	if b == nil || !b.isHeld() || b.ballot.GetKind() != prepared {
		return
	}
	p.drop(at)
	p.obey(at, fsm.VerdictRollback, p.reports(at)) // by its evidence row it can never happen any more
}

func (p *process) find(at ref) *work {
	for _, b := range p.live {
		if b.ref == at {
			return b
		}
	}
	return nil
}

func (p *process) drop(at ref) {
	p.live = slices.DeleteFunc(p.live, func(b *work) bool { return b.ref == at })
}

func short(at ref) string { return at.GID.String()[18:] + "/" + at.Branch }

func ballotOf(spec *logpb.BranchSpec, kind logpb.VoteKind, maybe bool) *logpb.Ballot {
	return &logpb.Ballot{Branch: spec, Kind: kind, MaybePrepared: maybe}
}
