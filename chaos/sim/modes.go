package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// The modes whose branches are called, beside the two-phase transactions of a plan, in
// their initiators' hands. Their participants are shops (shop.go); what the shops hold
// in the end is judged by S15. A workflow's code is in workflow.go.

// calledRun is one such transaction in its initiator's hands.
type calledRun struct {
	c     *client
	plan  *calledPlan
	gid   fsm.GID
	doing int // things it has done
}

// localBranch is the branch of a message's local transaction, at the first step's shop.
const localBranch = "local"

// initiateCalled runs a transaction by its plan.
func (c *client) initiateCalled(plan *calledPlan) {
	if c.heardMS == 0 {
		c.dial(func() { c.initiateCalled(plan) })
		return
	}
	r := &calledRun{c: c, plan: plan, gid: c.mint(plan.Old)}
	c.w.oracle.calls(r)
	for i := range plan.Rivals {
		rival := &plan.Rivals[i]
		other := c.w.clients[rival.Client%len(c.w.clients)]
		c.w.after(rival.After, func() { other.do(other.life, func() { other.rivalCalled(r, rival) }) })
	}
	switch plan.Mode {
	case logpb.Mode_MODE_SAGA, logpb.Mode_MODE_NOTIFY:
		r.submit()
	case logpb.Mode_MODE_WORKFLOW:
		r.begin(func() { c.goOn(r, nil) })
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
	switch r.plan.Mode {
	case logpb.Mode_MODE_MESSAGE:
		b.Plan.Callback, b.Plan.CallbackAfterMs = r.shop(0).url, 1_500
		b.Branches = r.specs()
	case logpb.Mode_MODE_WORKFLOW:
		b.Plan.Callback, b.Plan.CallbackAfterMs, b.Plan.Workflow = flowsURL, 1_000+r.plan.ResumeMS, "order"
		b.Plan.CallbackPayload = []byte(strconv.Itoa(r.plan.ID))
		b.Plan.Retry.IntervalMs, b.Plan.Retry.IntervalMaxMs = 1_000+r.plan.ResumeMS, 1_000+r.plan.ResumeMS
	}
	return b
}

func (r *calledRun) shop(step int) *shop {
	return r.c.w.shops[r.plan.Steps[step].Shop%len(r.c.w.shops)]
}

func (r *calledRun) specs() (all []*logpb.BranchSpec) {
	for i, s := range r.plan.Steps {
		spec := &logpb.BranchSpec{Id: s.ID, Endpoint: r.shop(i).url, After: s.After}
		if r.plan.Mode == logpb.Mode_MODE_SAGA || r.plan.Mode == logpb.Mode_MODE_TCC {
			spec.Undo = r.shop(i).url
		}
		if s.Topic != "" {
			spec.Endpoint = "topic://" + s.Topic
		}
		all = append(all, spec)
	}
	return all
}

// submit hands it over whole, and takes it back where the plan says so.
func (r *calledRun) submit() {
	r.call("submit", 25*time.Second, deciding(r.submission()), nil)
	if r.plan.TakesBack > 0 {
		r.c.after(r.plan.TakesBack, r.rollback)
	}
}

func (r *calledRun) submission() *logpb.Command {
	return &logpb.Command{Kind: &logpb.Command_Submit{Submit: &logpb.Submit{Begin: r.beginning(), Set: r.specs()}}}
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
	r.c.ask(s, call, func(a shopAnswer) { done(a == shopDone) })
}

// ask calls a shop, once; no answer in time is that it fails.
func (c *client) ask(s *shop, call shopCall, done func(shopAnswer)) {
	life, answered := c.life, false
	hear := func(a shopAnswer) {
		if !answered {
			answered = true
			done(a)
		}
	}
	c.w.net.send(c.actor, s.actor, func() {
		s.serve(call, func(a shopAnswer) {
			c.w.net.send(s.actor, c.actor, func() { c.do(life, func() { hear(a) }) })
		})
	})
	c.after(between(c.rng, 2*time.Second, 5*time.Second), func() { hear(shopFails) })
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

// rivalCalled is another client that knows the GID, or an operator.
func (c *client) rivalCalled(r *calledRun, plan *calledRival) {
	call := func(what string, q request, done func(answer)) {
		c.dials.call(what, r.gid, 12*time.Second, q, func(a answer) {
			c.hear(a)
			c.say("%s %s: %v", what, short(ref{GID: r.gid}), a)
			if done != nil {
				done(a)
			}
		})
	}
	switch plan.Wish {
	case calledStop:
		c.stop(r.gid)
	case calledRollback:
		call("rollback", deciding(decide(&logpb.Decide{
			Gid: r.gid.Bytes(), Decision: fsm.DecisionRollback, Origin: logpb.Origin_ORIGIN_CLIENT, Reason: logpb.Reason_REASON_REQUESTED,
		})), nil)
	case calledOther:
		other := r.beginning()
		other.TimeoutMs += 1000
		call("begin other", proposal(r.whole(other)), nil)
	case calledSame:
		call("begin", proposal(r.whole(r.beginning())), nil)
	case calledResolve:
		call("get", getting(r.gid, "", true, 0), func(a answer) {
			branches := a.record.GetBranches()
			if a.err != nil || a.result.Decision == fsm.DecisionNone || len(branches) == 0 {
				return
			}
			o := rolledBack
			if a.result.Decision == fsm.DecisionCommit {
				o = committed
			}
			call("resolve", proposal(&logpb.Command{Kind: &logpb.Command_Resolve{Resolve: &logpb.Resolve{
				Gid: r.gid.Bytes(), Branch: branches[c.rng.IntN(len(branches))].GetSpec().GetId(), Outcome: o, Operator: "alice", Reason: "looked at the shelf",
			}}}), nil)
		})
	}
}

// whole is the command that opens it.
func (r *calledRun) whole(b *logpb.Begin) *logpb.Command {
	if r.plan.Mode == logpb.Mode_MODE_SAGA || r.plan.Mode == logpb.Mode_MODE_NOTIFY {
		return &logpb.Command{Kind: &logpb.Command_Submit{Submit: &logpb.Submit{Begin: b, Set: r.specs()}}}
	}
	return &logpb.Command{Kind: &logpb.Command_Begin{Begin: b}}
}

// stop is an operator's word on a transaction of any mode.
func (c *client) stop(gid fsm.GID) {
	s := &logpb.Stop{Gid: gid.Bytes(), Operator: "alice", Reason: "it hangs"}
	c.dials.call("stop", gid, 12*time.Second, proposal(&logpb.Command{Kind: &logpb.Command_Stop{Stop: s}}), func(a answer) {
		c.say("stop %s: %v", short(ref{GID: gid}), a)
		if a.err == nil && a.code == fsm.OK {
			c.w.oracle.stopAcknowledged(gid)
		}
	})
}

// openModes makes the shops and lets the called transactions and the shops' faults
// come.
func (w *World) openModes() {
	for i := range w.plan.Called {
		t := &w.plan.Called[i]
		c := w.clients[t.Client]
		w.after(t.At, func() { c.do(c.life, func() { c.initiateCalled(t) }) })
	}
	for i := range w.plan.TopicChanges {
		change := &w.plan.TopicChanges[i]
		c := w.clients[change.Client%len(w.clients)]
		w.after(change.At, func() { c.do(c.life, func() { c.changeTopic(change) }) })
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
