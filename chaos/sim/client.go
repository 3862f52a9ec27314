package sim

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// dialer follows the leader for whoever calls.
type dialer struct {
	*actor
	leader int // the node that is thought to lead; nobody
	turn   int
}

func (d *dialer) forget() { d.leader = nobody }

// next is the node to ask: the leader, or each in turn.
func (d *dialer) next() *node {
	nodes := d.w.nodes
	if d.leader >= 0 && d.leader < len(nodes) {
		return nodes[d.leader]
	}
	d.turn++
	return nodes[(d.turn+d.id)%len(nodes)]
}

// call asks until somebody answers or patience is over; done then hears
// errUnknown. Each try is the same request: it may be served more than once.
func (d *dialer) call(what string, gid fsm.GID, patience time.Duration, r request, done func(answer)) {
	end, over := d.clock()+patience, false
	finish := func(a answer) {
		if !over {
			over = true
			done(a)
		}
	}
	var try func()
	try = func() {
		if over {
			return
		}
		if d.clock() >= end {
			finish(answer{err: errUnknown})
			return
		}
		n := d.next()
		d.once(n, what, gid, r, between(d.rng, 800*time.Millisecond, 2500*time.Millisecond), func(a answer) {
			if a.err == nil {
				d.leader = n.id
				finish(a)
				return
			}
			d.leader = a.hint
			if a.hint == n.id {
				d.leader = nobody // it is only about to lead
			}
			d.after(between(d.rng, 10*time.Millisecond, 150*time.Millisecond), try)
		})
	}
	try()
}

// once asks one node; done hears errUnknown when it does not answer in time.
func (d *dialer) once(n *node, what string, gid fsm.GID, r request, patience time.Duration, done func(answer)) {
	life, over := d.life, false
	finish := func(a answer) {
		if !over {
			over = true
			done(a)
		}
	}
	asked := d.w.oracle.asks()
	at := d.w.history.invoke(r, gid)
	repeated := d.w.net.send(d.actor, n.actor, func() {
		n.serve(r, func(a answer) {
			d.w.net.send(n.actor, d.actor, func() {
				d.do(life, func() {
					if !over {
						d.w.history.returns(at, n, a)
						d.w.oracle.answered(what, gid, asked, a)
					}
					finish(a)
				})
			})
		})
	})
	if repeated {
		d.w.history.invoke(r, gid) // served at any time, and its answer is nobody's
	}
	d.after(patience, func() { finish(answer{err: errUnknown, hint: nobody}) })
}

// client is an initiator's process.
type client struct {
	*actor
	dials   *dialer
	heardMS uint64 // the newest cluster clock that it has heard
	made    uint32
	flows   map[fsm.GID]*flow
}

func (w *World) newClient(i int) *client {
	c := &client{actor: w.newActor(fmt.Sprintf("c%d", i+1)), flows: map[fsm.GID]*flow{}}
	c.dials = &dialer{actor: c.actor, leader: nobody}
	return c
}

func (c *client) say(format string, args ...any) { c.w.say(c.name, format, args...) }

func (c *client) boot() { c.actor.start() }

// dial fetches the cluster clock, which a GID is made of.
func (c *client) dial(done func()) {
	c.dials.call("dial", fsm.GID{}, time.Minute, dialing(), func(a answer) {
		c.hear(a)
		if a.err != nil || a.header.clockMS == 0 {
			c.after(500*time.Millisecond, func() { c.dial(done) })
			return
		}
		done()
	})
}

func (c *client) hear(a answer) { c.heardMS = max(c.heardMS, a.header.clockMS) }

func (c *client) mint(old bool) fsm.GID {
	var random [10]byte
	c.made++
	binary.BigEndian.PutUint32(random[:], c.made)
	random[4] = byte(c.id)
	binary.BigEndian.PutUint32(random[6:], c.rng.Uint32())
	born := c.heardMS
	if l := c.w.leader(); old && l != nil {
		// Nobody knows it so exactly, but for bad luck. The judge of histories does
		// not know that born 0 lies at the horizon of a new cluster.
		if horizon := l.state.Clock().HorizonMS; horizon > 0 || c.w.history == nil {
			born = horizon
		}
	}
	return fsm.NewGID(born, random)
}

// run is one transaction in its initiator's hands.
type run struct {
	c      *client
	plan   *txPlan
	gid    fsm.GID
	begin  *logpb.Begin
	answer []worked // by branch
	wait   int      // branches that have not answered
	failed bool
	asked  bool // for the end
}

// initiate runs a transaction by its plan.
func (c *client) initiate(plan *txPlan) {
	if c.heardMS == 0 {
		c.dial(func() { c.initiate(plan) })
		return
	}
	r := &run{c: c, plan: plan, gid: c.mint(plan.Old), answer: make([]worked, len(plan.Branches)), wait: len(plan.Branches)}
	r.begin = &logpb.Begin{
		Gid: r.gid.Bytes(), Namespace: namespace, Key: plan.Key, Mode: logpb.Mode_MODE_TWO_PHASE,
		Entry: plan.entry(), TimeoutMs: plan.TimeoutMS,
	}
	c.w.oracle.initiated(r)
	for i := range plan.Rivals {
		rival := &plan.Rivals[i]
		other := c.w.clients[rival.Client%len(c.w.clients)]
		c.w.after(rival.After, func() { other.do(other.life, func() { other.rival(r, rival) }) })
	}
	if plan.Shape == shapeFast {
		r.work()
		return
	}
	r.call("begin", 10*time.Second, proposal(&logpb.Command{Kind: &logpb.Command_Begin{Begin: r.begin}}), func(a answer) {
		switch {
		case a.err != nil:
			r.rollback("begin unknown")
		case a.code != fsm.OK || a.result.GID != r.gid || a.result.Decision != fsm.DecisionNone:
			r.outcome(a.result.GID)
		default:
			r.work()
		}
	})
}

func (r *run) call(what string, patience time.Duration, q request, done func(answer)) {
	r.c.dials.call(what, r.gid, patience, q, func(a answer) {
		r.c.hear(a)
		r.c.say("%s %s: %v", what, short(ref{GID: r.gid}), a)
		done(a)
	})
}

// outcome waits for what another's transaction, or this one, comes to.
func (r *run) outcome(gid fsm.GID) {
	if gid.IsZero() {
		gid = r.gid
	}
	r.c.dials.call("get", gid, 5*time.Second, getting(gid, "", true, 0), func(a answer) { r.c.hear(a) })
}

// work calls every branch, side by side.
func (r *run) work() {
	if len(r.plan.Branches) == 0 {
		r.end()
		return
	}
	for i := range r.plan.Branches {
		r.c.after(r.plan.Branches[i].After, func() { r.workOn(i, 0) })
	}
	if r.plan.Hasty > 0 {
		r.c.after(r.plan.Hasty, r.end)
	}
	r.c.after(r.plan.Patience, func() {
		r.failed = r.failed || r.wait > 0
		r.end()
	})
}

func (r *run) workOn(i, tries int) {
	b := r.plan.Branches[i]
	p := r.c.w.procs[b.Proc%len(r.c.w.procs)]
	if tries > 0 && b.Moves {
		p = r.c.w.sibling(p, tries)
	}
	life, answered := r.c.life, false
	c := workCall{
		gid: r.gid, branch: b.ID, timeoutMS: r.plan.TimeoutMS,
		enlists: r.plan.Shape == shapeExplicit || p.db.held, carries: r.plan.Shape == shapeFast && !b.Alone,
	}
	r.c.w.net.send(r.c.actor, p.actor, func() {
		p.onWork(c, b, func(a worked) {
			r.c.w.net.send(p.actor, r.c.actor, func() {
				r.c.do(life, func() {
					if !answered {
						answered = true
						r.heard(i, a)
					}
				})
			})
		})
	})
	r.c.after(between(r.c.rng, 2*time.Second, 4*time.Second), func() {
		if !answered && tries < 3 && !r.asked {
			answered = true
			r.workOn(i, tries+1)
		}
	})
}

func (r *run) heard(i int, a worked) {
	if r.answer[i].ballot != nil {
		return
	}
	r.answer[i] = a
	if a.ballot == nil || a.ballot.GetKind() == refused {
		r.failed = true
	}
	if r.wait--; r.wait == 0 || r.failed {
		r.end()
	}
}

// end asks for what the plan wishes.
func (r *run) end() {
	if r.asked {
		return
	}
	r.asked = true
	switch {
	case r.plan.Wish == wishNothing:
	case r.plan.Wish == wishRollback || r.failed && r.plan.Wish != wishStubborn:
		r.rollback("its initiator's wish")
	case r.plan.Shape == shapeFast || r.plan.Shape == shapeSubmit:
		r.submit()
	default:
		r.commit()
	}
}

func (r *run) set() []string {
	var ids []string
	for _, b := range r.plan.Branches {
		ids = append(ids, b.ID)
	}
	slices.Sort(ids)
	return ids
}

func (r *run) commit() {
	d := &logpb.Decide{Gid: r.gid.Bytes(), Decision: fsm.DecisionCommit, Origin: logpb.Origin_ORIGIN_CLIENT}
	if r.plan.Shape == shapeNamed || r.plan.NamesSet {
		d.Set = &logpb.BranchSet{Ids: r.set()}
		r.c.w.oracle.setAsked(r.gid, r.set())
	} else {
		r.c.w.oracle.bareAsked(r.gid)
	}
	r.call("commit", 25*time.Second, deciding(decide(d)), func(answer) {})
}

// submission is the whole transaction in one command.
func (r *run) submission() *logpb.Submit {
	s := &logpb.Submit{Begin: r.begin}
	for i, b := range r.plan.Branches {
		spec := &logpb.BranchSpec{Id: b.ID}
		if a := r.answer[i].ballot; a != nil {
			spec = a.GetBranch()
			if !spec.GetHeld() && (r.plan.Shape == shapeFast && !b.Alone || b.Carried) {
				s.Votes = append(s.Votes, a)
			}
		}
		s.Set = append(s.Set, spec)
	}
	slices.SortFunc(s.Set, func(a, b *logpb.BranchSpec) int { return compare(a.GetId(), b.GetId()) })
	slices.SortFunc(s.Votes, func(a, b *logpb.Ballot) int { return compare(a.GetBranch().GetId(), b.GetBranch().GetId()) })
	return s
}

func (r *run) submit() {
	s := r.submission()
	r.c.w.oracle.setAsked(r.gid, r.set())
	r.call("submit", 25*time.Second, deciding(&logpb.Command{Kind: &logpb.Command_Submit{Submit: s}}), func(a answer) {
		if a.err == nil && a.code == fsm.KeyConflict {
			r.rollback("the key stands for another")
		}
	})
}

// rollback names the branches that were called, so that they hear.
func (r *run) rollback(why string) {
	d := &logpb.Decide{Gid: r.gid.Bytes(), Decision: fsm.DecisionRollback, Origin: logpb.Origin_ORIGIN_CLIENT, Detail: why}
	for i, b := range r.plan.Branches {
		spec := &logpb.BranchSpec{Id: b.ID}
		if a := r.answer[i].ballot; a != nil {
			spec = a.GetBranch()
		}
		d.Branches = append(d.Branches, spec)
	}
	r.call("rollback", 15*time.Second, deciding(decide(d)), func(answer) {})
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// rival is another client that knows the GID and wants something of its own.
func (c *client) rival(r *run, plan *rivalPlan) {
	call := func(what string, q request) {
		c.dials.call(what, r.gid, 12*time.Second, q, func(a answer) {
			c.hear(a)
			c.say("%s %s: %v", what, short(ref{GID: r.gid}), a)
		})
	}
	if len(r.plan.Branches) == 0 && (plan.Wish == rivalRefuse || plan.Wish == rivalCommitLess) {
		return
	}
	switch plan.Wish {
	case rivalRollback:
		call("rollback", deciding(decide(&logpb.Decide{Gid: r.gid.Bytes(), Decision: fsm.DecisionRollback, Origin: logpb.Origin_ORIGIN_CLIENT})))
	case rivalCommit:
		c.w.oracle.bareAsked(r.gid)
		call("commit", deciding(decide(&logpb.Decide{Gid: r.gid.Bytes(), Decision: fsm.DecisionCommit, Origin: logpb.Origin_ORIGIN_CLIENT})))
	case rivalCommitSet:
		c.w.oracle.setAsked(r.gid, r.set())
		call("commit", deciding(decide(&logpb.Decide{Gid: r.gid.Bytes(), Decision: fsm.DecisionCommit, Origin: logpb.Origin_ORIGIN_CLIENT,
			Set: &logpb.BranchSet{Ids: r.set()}})))
	case rivalCommitLess:
		set := r.set()
		set = set[:len(set)/2]
		c.w.oracle.setAsked(r.gid, set)
		call("commit", deciding(decide(&logpb.Decide{Gid: r.gid.Bytes(), Decision: fsm.DecisionCommit, Origin: logpb.Origin_ORIGIN_CLIENT,
			Set: &logpb.BranchSet{Ids: set}})))
	case rivalBegin:
		call("begin", proposal(&logpb.Command{Kind: &logpb.Command_Begin{Begin: r.begin}}))
	case rivalBeginOther:
		other := &logpb.Begin{Gid: r.gid.Bytes(), Namespace: namespace, Mode: logpb.Mode_MODE_TWO_PHASE, Entry: r.begin.GetEntry(), TimeoutMs: r.begin.GetTimeoutMs() + 1000}
		call("begin other", proposal(&logpb.Command{Kind: &logpb.Command_Begin{Begin: other}}))
	case rivalSubmit:
		c.w.oracle.setAsked(r.gid, r.set())
		call("submit", deciding(&logpb.Command{Kind: &logpb.Command_Submit{Submit: r.submission()}}))
	case rivalEnlist:
		call("enlist", proposal(&logpb.Command{Kind: &logpb.Command_Enlist{Enlist: &logpb.Enlist{Gid: r.gid.Bytes(), Branch: c.w.stranger()}}}))
	case rivalRefuse:
		id := r.set()[0]
		call("refuse", proposal(&logpb.Command{Kind: &logpb.Command_Vote{Vote: &logpb.Vote{Gid: r.gid.Bytes(), Ballot: ballotOf(&logpb.BranchSpec{Id: id}, refused, plan.Maybe)}}}))
	case rivalRead:
		call("get", getting(r.gid, "", true, 0))
	case rivalReadLocal:
		n := c.w.nodes[c.rng.IntN(len(c.w.nodes))]
		c.dials.once(n, "get local", r.gid, getting(r.gid, "", false, 0), 2*time.Second, func(answer) {})
	case rivalResolve:
		c.resolve(r)
	case rivalStop:
		c.stop(r.gid)
	}
}

// resolve is an operator who knows the decision and says it for a branch.
func (c *client) resolve(r *run) {
	c.dials.call("get", r.gid, 5*time.Second, getting(r.gid, "", true, 0), func(a answer) {
		o := rolledBack
		if a.result.Decision == fsm.DecisionCommit {
			o = committed
		}
		if a.err != nil || len(r.plan.Branches) == 0 {
			return
		}
		c.dials.call("resolve", r.gid, 5*time.Second, proposal(&logpb.Command{Kind: &logpb.Command_Resolve{Resolve: &logpb.Resolve{
			Gid: r.gid.Bytes(), Branch: r.set()[0], Outcome: o, Operator: "alice", Reason: "looked at the ledger",
		}}}), func(a answer) { c.say("resolve %s: %v", short(ref{GID: r.gid}), a) })
	})
}

// stranger is a branch that somebody names and nobody works on.
func (w *World) stranger() *logpb.BranchSpec {
	p := w.procs[len(w.procs)-1]
	return &logpb.BranchSpec{Id: "9", Resource: p.db.name, Endpoint: "http://" + p.name}
}

// sibling is another process of the same database, where there is one.
func (w *World) sibling(p *process, k int) *process {
	var same []*process
	for _, o := range w.procs {
		if o.db == p.db {
			same = append(same, o)
		}
	}
	at := slices.Index(same, p)
	return same[(at+k)%len(same)]
}

// endpoint is the process that an endpoint names.
func (w *World) endpoint(url string) *process {
	for _, p := range w.procs {
		if url == "http://"+p.name {
			return p
		}
	}
	return w.procs[len(w.procs)-1]
}
