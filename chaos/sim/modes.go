package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// The modes whose branches are called: sagas, TCC and messages, beside the two-phase
// transactions of a plan. Their participants are shops (shop.go); what the shops hold in
// the end is judged by S15.

// calledPlan is one transaction whose branches are called.
type calledPlan struct {
	ID        int
	At        time.Duration
	Client    int
	Mode      logpb.Mode
	TimeoutMS uint64
	Steps     []calledStep
	// Leaves is after how many of its own doings the initiator is not heard of again;
	// more than it has to do: it stays.
	Leaves int
	// Attempts at an action before it counts as given up; 0: no bound.
	Attempts uint32
	// Takes back: it asks for a rollback so long after its submit; 0: never.
	TakesBack time.Duration
	// Again says everything a second time, so long after.
	Again time.Duration
}

// calledStep is one branch.
type calledStep struct {
	ID      string
	Shop    int
	After   []string
	Refuses bool
	Takes   time.Duration
}

// shopFault is a shop that is away.
type shopFault struct {
	Shop    int
	At, For time.Duration
	Paused  bool // else it dies
}

// modesPlan adds transactions of every such mode, and shops that fail.
func (p *Plan) modesPlan(calm bool) {
	r := source(p.Seed, 99)
	p.Shops = 2 + r.IntN(2)
	active := p.Span
	for i := range 6 + r.IntN(6) {
		t := calledPlan{
			ID: i, At: between(r, 2*time.Second, max(3*time.Second, active/2)), Client: r.IntN(p.Clients), Leaves: 99,
			Mode: []logpb.Mode{logpb.Mode_MODE_SAGA, logpb.Mode_MODE_TCC, logpb.Mode_MODE_MESSAGE}[r.IntN(3)],
		}
		for k := range 1 + r.IntN(4) {
			s := calledStep{ID: fmt.Sprintf("%02d", k+1), Shop: r.IntN(p.Shops), Takes: between(r, 0, 80*time.Millisecond)}
			for _, earlier := range t.Steps {
				if t.Mode != logpb.Mode_MODE_TCC && chance(r, 0.6) {
					s.After = append(s.After, earlier.ID)
				}
			}
			t.Steps = append(t.Steps, s)
		}
		if t.Mode == logpb.Mode_MODE_TCC {
			t.TimeoutMS = 3_000 + r.Uint64N(12_000)
		}
		if !calm {
			p.calledTrouble(r, &t)
		}
		p.Called = append(p.Called, t)
	}
	for range r.IntN(4) {
		if !calm {
			p.ShopFaults = append(p.ShopFaults, shopFault{
				Shop: r.IntN(p.Shops), At: between(r, 2*time.Second, active), For: between(r, 100*time.Millisecond, 9*time.Second), Paused: chance(r, 0.5),
			})
		}
	}
}

func (p *Plan) calledTrouble(r *rand.Rand, t *calledPlan) {
	if chance(r, 0.3) && t.Mode != logpb.Mode_MODE_MESSAGE {
		t.Steps[r.IntN(len(t.Steps))].Refuses = true
	}
	if chance(r, 0.25) {
		t.Leaves = r.IntN(4)
	}
	if t.Mode == logpb.Mode_MODE_SAGA && chance(r, 0.2) {
		t.TimeoutMS = 50 + r.Uint64N(3_000)
	}
	switch {
	case t.Mode == logpb.Mode_MODE_MESSAGE && chance(r, 0.4): // which must not end it
		t.TimeoutMS = 500 + r.Uint64N(5_000)
	case t.Mode == logpb.Mode_MODE_SAGA && chance(r, 0.3):
		t.Attempts = 1 + uint32(r.IntN(3))
	}
	if chance(r, 0.15) {
		t.TakesBack = between(r, time.Millisecond, 2*time.Second)
	}
	if chance(r, 0.3) {
		t.Again = between(r, time.Millisecond, 4*time.Second)
	}
	if chance(r, 0.2) {
		t.Steps[r.IntN(len(t.Steps))].Takes = between(r, time.Second, 6*time.Second)
	}
}

// calledRun is one such transaction in its initiator's hands.
type calledRun struct {
	c     *client
	plan  *calledPlan
	gid   fsm.GID
	doing int  // things it has done
	tried bool // a local transaction, or every try
}

// localBranch is the branch of a message's local transaction, at the first step's shop.
const localBranch = "local"

// initiateCalled runs a transaction by its plan.
func (c *client) initiateCalled(plan *calledPlan) {
	if c.heardMS == 0 {
		c.dial(func() { c.initiateCalled(plan) })
		return
	}
	r := &calledRun{c: c, plan: plan, gid: c.mint(false)}
	c.w.oracle.calls(r)
	switch plan.Mode {
	case logpb.Mode_MODE_SAGA:
		r.submit()
	case logpb.Mode_MODE_TCC:
		r.begin(func() { r.tryNext(0) })
	default:
		r.begin(r.local)
	}
}

// leaves counts what the initiator does, and says whether it is gone.
func (r *calledRun) leaves() bool {
	r.doing++
	return r.doing > r.plan.Leaves
}

func (r *calledRun) call(what string, patience time.Duration, q request, done func(answer)) {
	ask := func() {
		r.c.dials.call(what, r.gid, patience, q, func(a answer) {
			r.c.hear(a)
			r.c.say("%s %s: %v", what, short(ref{GID: r.gid}), a)
			if done != nil {
				done(a)
			}
		})
	}
	ask()
	if r.plan.Again > 0 {
		r.c.after(r.plan.Again, func() {
			r.c.dials.call(what, r.gid, patience, q, func(a answer) { r.c.hear(a) })
		})
	}
}

func (r *calledRun) beginning() *logpb.Begin {
	b := &logpb.Begin{
		Gid: r.gid.Bytes(), Namespace: namespace, Key: fmt.Sprintf("called-%d", r.plan.ID), Mode: r.plan.Mode,
		Entry: logpb.Entry_ENTRY_EXPLICIT, TimeoutMs: r.plan.TimeoutMS,
		Plan: &logpb.Plan{Retry: &logpb.Retry{IntervalMs: 100, IntervalMaxMs: 2_000, AttemptsMax: r.plan.Attempts}},
	}
	if r.plan.Mode == logpb.Mode_MODE_MESSAGE {
		b.Plan.Callback, b.Plan.CallbackAfterMs = r.shop(0).url, 1_500
		b.Branches = r.specs()
	}
	return b
}

func (r *calledRun) shop(step int) *shop {
	return r.c.w.shops[r.plan.Steps[step].Shop%len(r.c.w.shops)]
}

func (r *calledRun) specs() (all []*logpb.BranchSpec) {
	for i, s := range r.plan.Steps {
		spec := &logpb.BranchSpec{Id: s.ID, Endpoint: r.shop(i).url, After: s.After}
		if r.plan.Mode != logpb.Mode_MODE_MESSAGE {
			spec.Undo = r.shop(i).url
		}
		all = append(all, spec)
	}
	return all
}

// submit hands a saga over, and takes it back where the plan says so.
func (r *calledRun) submit() {
	s := &logpb.Submit{Begin: r.beginning(), Set: r.specs()}
	r.call("submit", 25*time.Second, deciding(&logpb.Command{Kind: &logpb.Command_Submit{Submit: s}}), nil)
	if r.plan.TakesBack > 0 {
		r.c.after(r.plan.TakesBack, r.rollback)
	}
}

func (r *calledRun) begin(then func()) {
	b := r.beginning()
	r.call("begin", 10*time.Second, proposal(&logpb.Command{Kind: &logpb.Command_Begin{Begin: b}}), func(a answer) {
		if a.err == nil && a.code == fsm.OK && a.result.Decision == fsm.DecisionNone && !r.leaves() {
			then()
		}
	})
}

// tryNext registers a branch, then tries it; with the last one it commits.
func (r *calledRun) tryNext(i int) {
	if i == len(r.plan.Steps) {
		r.commit()
		return
	}
	enlist := &logpb.Enlist{Gid: r.gid.Bytes(), Branch: r.specs()[i]}
	r.call("enlist", 6*time.Second, proposal(&logpb.Command{Kind: &logpb.Command_Enlist{Enlist: enlist}}), func(a answer) {
		if a.err != nil || a.code != fsm.OK || a.result.Decision != fsm.DecisionNone {
			r.rollback()
			return
		}
		if r.leaves() {
			return
		}
		r.ask(r.shop(i), shopCall{ref: ref{GID: r.gid, Branch: r.plan.Steps[i].ID}, op: opTry}, func(ok bool) {
			if !ok {
				r.rollback()
				return
			}
			r.tryNext(i + 1)
		})
	})
}

// local is a message's local transaction; then it is submitted.
func (r *calledRun) local() {
	r.ask(r.shop(0), shopCall{ref: ref{GID: r.gid, Branch: localBranch}, op: opLocal}, func(ok bool) {
		switch {
		case r.leaves():
		case ok:
			r.commit()
		}
		// Else nobody knows: the check-back tells.
	})
}

// ask calls a shop itself, once; no answer in time is a no.
func (r *calledRun) ask(s *shop, call shopCall, done func(ok bool)) {
	life, answered := r.c.life, false
	hear := func(ok bool) {
		if !answered {
			answered = true
			done(ok)
		}
	}
	r.c.w.net.send(r.c.actor, s.actor, func() {
		s.serve(call, func(a shopAnswer) {
			r.c.w.net.send(s.actor, r.c.actor, func() { r.c.do(life, func() { hear(a == shopDone) }) })
		})
	})
	r.c.after(between(r.c.rng, 2*time.Second, 5*time.Second), func() { hear(false) })
}

func (r *calledRun) commit() {
	d := &logpb.Decide{Gid: r.gid.Bytes(), Decision: fsm.DecisionCommit, Origin: logpb.Origin_ORIGIN_CLIENT}
	r.call("commit", 25*time.Second, deciding(decide(d)), nil)
}

func (r *calledRun) rollback() {
	if r.leaves() {
		return
	}
	d := &logpb.Decide{Gid: r.gid.Bytes(), Decision: fsm.DecisionRollback, Origin: logpb.Origin_ORIGIN_CLIENT, Reason: logpb.Reason_REASON_REQUESTED}
	r.call("rollback", 15*time.Second, deciding(decide(d)), nil)
}

// openModes makes the shops and lets the called transactions and the shops' faults
// come.
func (w *World) openModes() {
	for i := range w.plan.Called {
		t := &w.plan.Called[i]
		c := w.clients[t.Client]
		w.after(t.At, func() { c.do(c.life, func() { c.initiateCalled(t) }) })
	}
	for _, f := range w.plan.ShopFaults {
		s := w.shops[f.Shop%len(w.shops)]
		w.after(f.At, func() {
			switch {
			case !s.up || s.paused > 0 || w.healed:
			case f.Paused:
				s.pause()
				w.after(f.For, s.resume)
			default:
				s.crash("a fault")
				w.after(f.For, s.actor.start)
			}
		})
	}
}

// shopOf is the shop that an endpoint names.
func (w *World) shopOf(url string) *shop {
	if i := slices.IndexFunc(w.shops, func(s *shop) bool { return strings.HasPrefix(url, s.url) }); i >= 0 {
		return w.shops[i]
	}
	return nil
}
