package sim

import (
	"slices"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	lin "github.com/quorate/quorate/linearizability"
)

// Result is what one run came to.
type Result struct {
	Seed       uint64
	Violations []Violation
	Hash       uint64
	Steps      int
	Delivered  int
	Faults     map[string]int
	Commits    int
	Rollbacks  int
	Acked      int
	Lost, Torn int // writes
	Histories  int // checked for linearizability
	History    *lin.History
	Coverage   *Coverage
	Story      []string
	Ended      time.Duration
}

// Counts says whether the run proves something: enough happened, and went wrong.
func (r *Result) Counts() bool { return r.Delivered >= DeliveredMin && len(r.Faults) > 0 }

// DeliveredMin is how many messages must arrive for a seed to count.
const DeliveredMin = 200

// quiesceMax is how long after the faults everything must have ended (S5). A
// branch whose GID nobody has seen waits for ClockStaleMax and its timeout.
const quiesceMax = 400 * time.Second

// How a plan is run.
type How struct {
	Bug     Bug
	Trace   bool // tell the story
	History bool // record a history, and have it judged
}

// Run plays a plan to its end.
func Run(plan *Plan, how How) *Result {
	w := &World{plan: plan, bug: how.Bug, tracing: how.Trace, cover: NewCoverage()}
	if how.History {
		w.history = newHistory(w)
	}
	w.oracle = newOracle(w)
	for i := range plan.Nodes {
		w.nodes = append(w.nodes, w.newNode(i))
	}
	for i, held := range plan.Databases {
		w.dbs = append(w.dbs, w.newDatabase(i, held))
	}
	for i, p := range plan.Procs {
		w.procs = append(w.procs, w.newProcess(i, w.dbs[p.Database], p.Endpoint))
	}
	for i := range plan.Clients {
		w.clients = append(w.clients, w.newClient(i))
	}
	for i := range plan.Shops {
		w.shops = append(w.shops, w.newShop(i))
	}
	w.net.open(w)
	w.faults.open(w)
	for _, n := range w.nodes {
		n.boot()
	}
	for _, c := range w.clients {
		c.boot()
	}
	for _, p := range w.procs {
		w.after(time.Duration(p.id)*50*time.Millisecond, p.boot)
	}
	for i := range plan.Txs {
		t := &plan.Txs[i]
		c := w.clients[t.Client]
		w.after(t.At, func() { c.do(c.life, func() { c.initiate(t) }) })
	}
	for _, s := range w.shops {
		s.start()
	}
	w.openModes()
	w.after(time.Second, w.oracle.watch)
	w.runUntil(plan.Span, nil)
	if !w.over {
		w.heal()
		w.quiesce()
	}
	if w.history != nil && !w.over {
		w.history.finish(w.leader())
		w.history.check(w.oracle)
	}
	return w.result()
}

// heal ends every fault, and everybody is up.
func (w *World) heal() {
	w.faults.heal()
	for _, n := range w.nodes {
		if !n.up {
			n.boot()
		}
	}
	for _, p := range w.procs {
		if !p.up && w.faults.lost == 0 {
			p.boot()
		}
	}
	for _, c := range w.clients {
		if !c.up {
			c.boot()
		}
	}
	for _, s := range w.shops {
		if !s.up {
			s.start()
		}
	}
	w.healed = true
	w.say("world", "is healed")
}

// quiesce lets everything end, and then judges what is left.
func (w *World) quiesce() {
	settled := 0
	for end := w.now + quiesceMax; w.now < end && settled < 3 && !w.over; {
		w.runUntil(w.now+5*time.Second, nil)
		if w.unsettled() == "" {
			settled++
		} else {
			settled = 0
		}
	}
	if w.over {
		return
	}
	if what := w.unsettled(); what != "" {
		w.oracle.violate("S5", "", "%v after the faults healed: %s", quiesceMax, what)
		return
	}
	w.oracle.final()
}

// unsettled says what has not ended; "" when all has.
func (w *World) unsettled() string {
	l := w.leader()
	if l == nil {
		return "no leader"
	}
	if w.faults.lost > 0 {
		return "a participant is away"
	}
	for _, n := range w.nodes {
		if n.applied != l.applied {
			return n.name + " is behind"
		}
	}
	for _, d := range w.dbs {
		if len(d.order) > 0 {
			return "branch " + short(d.order[0]) + " is still prepared in " + d.name
		}
		if len(d.open) > 0 {
			return "branch " + short(d.open[0].ref) + " is still open in " + d.name
		}
	}
	for page := (fsm.ListPage{More: true}); page.More; {
		page = l.state.List(page.Next, fsm.ListQuery{LimitMax: 64})
		for _, t := range page.Transactions {
			if s := t.GetState(); s != fsm.StateCommitted && s != fsm.StateRolledBack {
				return fsm.GID(t.GetBegin().GetGid()).String() + " is " + s.String()
			}
		}
	}
	return ""
}

func (w *World) result() *Result {
	r := &Result{
		Seed: w.plan.Seed, Violations: w.oracle.violations, Hash: w.hash, Steps: w.steps, Delivered: w.delivered,
		Faults: w.faults.done, Commits: w.oracle.commits, Rollbacks: w.oracle.rollbacks, Acked: w.oracle.acknowledged,
		Coverage: w.cover, Story: w.story, Ended: w.now,
	}
	if w.history != nil {
		r.Histories++
		r.History = &w.history.h
	}
	for _, n := range w.nodes {
		r.Lost += n.disk.lost
		r.Torn += n.disk.torn
	}
	return r
}

// final is what must stand when all is quiet.
func (o *oracle) final() {
	l := o.w.leader()
	for _, n := range o.w.nodes {
		o.invariants(n)
		if n.state.Digest() != l.state.Digest() {
			o.violate("S17", "", "at rest %s and %s differ", n.name, l.name)
		}
	}
	o.finalEffects()
	horizon := l.state.Clock().HorizonMS
	for _, gid := range o.order {
		o.finalOf(l, o.txs[gid], horizon)
	}
}

// finalOf compares one transaction with what was promised of it.
func (o *oracle) finalOf(l *node, a *account, horizon uint64) {
	gid := a.gid.String()
	rec, stands := l.state.Get(a.gid)
	if !stands && a.gid.BornMS() > horizon && (a.begunOK || a.decidedAt != 0) {
		o.violate("S6", gid, "was acknowledged, and is gone")
		return
	}
	if stands {
		o.saw(a.gid, rec.GetDecision(), "the state at rest")
		for _, b := range rec.GetBranches() {
			if x := a.branch(b.GetSpec().GetId()); x.vote != 0 && b.GetVote() != x.vote {
				o.violate("S6", gid, "branch %s voted %v, and %v stands", x.id, x.vote, b.GetVote())
			}
		}
	}
	o.finalWords(a, rec)
	for _, x := range a.branches {
		if x.byHand && a.stopped {
			continue // nobody was told
		}
		if x.byHand {
			o.finalByHand(rec, a, x, gid)
			continue
		}
		o.finalBranch(a, x, gid)
	}
}

// finalByHand: what an operator did against the decision is shown.
func (o *oracle) finalByHand(rec *logpb.Transaction, a *account, x *branchAccount, gid string) {
	against := (a.applied == fsm.DecisionCommit) != (x.effects > 0)
	for _, b := range rec.GetBranches() {
		byVote := b.GetVote() == readOnly || b.GetVote() == refused && !b.GetMaybePrepared() // nobody owes it a word
		if b.GetSpec().GetId() != x.id || b.GetHint() || b.GetResolved() != 0 || byVote || x.afterward || !against {
			continue
		}
		o.heuristics++
		o.w.cover.meet("heuristic outcome shown")
		if own := b.GetOwn(); own != logpb.Own_OWN_CONTRARY && own != logpb.Own_OWN_MIXED && own != logpb.Own_OWN_HAZARD {
			o.violate("S16", gid, "branch %s was ended by hand against the decision, and stands as %v", x.id, own)
		}
	}
}

func (o *oracle) finalBranch(a *account, x *branchAccount, gid string) {
	member := slices.Contains(a.members, x.id)
	switch {
	case a.applied == fsm.DecisionCommit && member && x.readOnly:
	case a.applied == fsm.DecisionCommit && member && x.effects == 0:
		if x.held && x.lost {
			o.heuristics++ // S16: and it was reported
			if x.reported == committed {
				o.violate("S14", gid, "held branch %s was lost, and is reported as committed", x.id)
			}
			return
		}
		o.violate("S14", gid, "is committed, and branch %s has no effect", x.id)
	case (a.applied != fsm.DecisionCommit || !member) && x.effects > 0:
		o.violate("S14", gid, "branch %s took effect, and it was not committed", x.id)
	}
}
