package chaos

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/linearizability"
)

// conduct plays one transaction.
func (w *registers) conduct(ctx context.Context, h *host, r *rand.Rand) {
	p := w.newPlan(r, w.begun.Add(1))
	w.remember(p)
	a := w.newActor(h, r)
	var crowd sync.WaitGroup
	if p.contended {
		w.contended.Add(1)
		a.contend(ctx, p, &crowd)
	}
	switch p.shape {
	case submit:
		a.playSubmit(ctx, p)
	default:
		a.play(ctx, p)
	}
	crowd.Wait()
	if r.Float64() < 0.25 {
		a.try(ctx, getRequest(p.gid, "", quoratev1.Consistency_CONSISTENCY_LINEARIZABLE, 0, 0))
	}
	for _, b := range p.branches {
		if b.by != nil {
			b.by.forget(p.gid, b.spec.GetId())
		}
	}
}

// play goes step by step: begin, enlist, vote, and what the initiator wishes.
func (a *actor) play(ctx context.Context, p *plan) {
	if got, out := a.try(ctx, beginRequest(p)); got.status == linearizability.StatusOK && out.GID != p.gid {
		return // the key stands for another transaction: its function is not run
	} else if got.status == linearizability.StatusRefused {
		return
	}
	if a.rand.Float64() < 0.03 {
		other := *p
		other.content += "-other"
		a.try(ctx, beginRequest(&other)) // the same GID, other content: refused
	}
	var votes sync.WaitGroup
	for _, b := range p.branches {
		twin := a.fork()
		votes.Go(func() { twin.takePart(ctx, p, b) })
	}
	votes.Wait()
	a.decide(ctx, p)
}

// takePart is a branch's share: enlist where the transaction wants it, then vote.
func (a *actor) takePart(ctx context.Context, p *plan, b planned) {
	if b.by != nil {
		b.by.takePart(ctx, a, p, b)
		return
	}
	if p.shape == explicit {
		got, out := a.try(ctx, enlistRequest(p.gid, b.spec))
		if got.status != linearizability.StatusOK || out.Verdict == linearizability.VerdictRollback {
			return
		}
	}
	a.vote(ctx, p.gid, b.spec, b.vote)
}

// vote makes the branch able to go either way, and says so.
func (a *actor) vote(ctx context.Context, gid string, spec *quoratev1.BranchSpec, vote quoratev1.Vote) {
	a.w.branches.vote(gid, spec, vote, a.h.name)
	a.try(ctx, voteRequest(gid, spec, vote))
}

// decide asks for what the initiator wishes.
func (a *actor) decide(ctx context.Context, p *plan) {
	switch p.wish {
	case wishCommit:
		a.try(ctx, commitRequest(p.gid, a.setOf(p), a.wait()))
	case wishRollback:
		a.try(ctx, rollbackRequest(p.gid, nil, a.wait()))
	}
}

// setOf is the set that a commit names: an explicit transaction may leave it out.
func (a *actor) setOf(p *plan) []string {
	if p.shape == named || p.shape == submit || a.rand.Float64() < 0.4 {
		return p.ids()
	}
	return nil
}

// wait draws how long a call that decides waits.
func (a *actor) wait() quoratev1.Wait {
	switch d := a.rand.Float64(); {
	case d < 0.10:
		return quoratev1.Wait_WAIT_FINISH
	case d < 0.20:
		return quoratev1.Wait_WAIT_NONE
	}
	return quoratev1.Wait_WAIT_DECISION
}

// playSubmit sends everything at once, and the votes that are missing after.
func (a *actor) playSubmit(ctx context.Context, p *plan) {
	missing := map[string]bool{}
	wait := a.wait()
	if a.rand.Float64() < 0.3 {
		missing[p.branches[a.rand.IntN(len(p.branches))].spec.GetId()] = true
		wait = quoratev1.Wait_WAIT_NONE
	}
	for _, b := range p.branches {
		if !missing[b.spec.GetId()] {
			a.w.branches.vote(p.gid, b.spec, b.vote, a.h.name)
		}
	}
	got, _ := a.try(ctx, submitRequest(p, missing, wait))
	if got.status == linearizability.StatusRefused {
		return
	}
	for _, b := range p.branches {
		if missing[b.spec.GetId()] {
			a.vote(ctx, p.gid, b.spec, b.vote)
		}
	}
}

// contend sends a crowd of at least four clients at a transaction: some want it
// committed, some rolled back, some come late, some ask. They strike within a
// few milliseconds of each other, at a moment somewhere in the story.
func (a *actor) contend(ctx context.Context, p *plan, crowd *sync.WaitGroup) {
	moment := time.Duration(a.rand.IntN(40)) * time.Millisecond
	if a.rand.Float64() < 0.25 {
		moment = 0 // before there is anything: a tombstone, or NOT_FOUND
	}
	roles := []func(*actor){
		func(c *actor) { c.try(ctx, commitRequest(p.gid, c.setOf(p), quoratev1.Wait_WAIT_DECISION)) },
		func(c *actor) { c.try(ctx, rollbackRequest(p.gid, c.called(p), quoratev1.Wait_WAIT_DECISION)) },
		func(c *actor) { c.try(ctx, commitRequest(p.gid, p.ids(), quoratev1.Wait_WAIT_NONE)) },
		func(c *actor) { c.try(ctx, rollbackRequest(p.gid, nil, c.wait())) },
	}
	for range a.rand.IntN(3) {
		roles = append(roles, a.bystander(ctx, p))
	}
	for _, role := range roles {
		c := a.fork()
		delay := moment + time.Duration(c.rand.IntN(4000))*time.Microsecond
		crowd.Go(func() {
			pause(ctx, delay)
			role(c)
		})
	}
}

// called names the branches that a rollback should reach, mostly none.
func (a *actor) called(p *plan) []*quoratev1.BranchSpec {
	if a.rand.Float64() < 0.7 {
		return nil
	}
	var specs []*quoratev1.BranchSpec
	for _, b := range p.branches {
		if !b.spec.GetHeld() {
			specs = append(specs, b.spec)
		}
	}
	return specs
}

// bystander is a client that wants neither: it enlists late, votes again or asks.
func (a *actor) bystander(ctx context.Context, p *plan) func(*actor) {
	late := &quoratev1.BranchSpec{Id: "9", Resource: resourceName(0)}
	b := p.branches[a.rand.IntN(len(p.branches))]
	return []func(*actor){
		func(c *actor) { c.try(ctx, enlistRequest(p.gid, late)) },
		func(c *actor) { c.vote(ctx, p.gid, late, quoratev1.Vote_VOTE_PREPARED) },
		func(c *actor) { c.try(ctx, inquireRequest(p.gid, b.spec)) },
		func(c *actor) {
			c.try(ctx, getRequest(p.gid, "", quoratev1.Consistency_CONSISTENCY_LINEARIZABLE, 0, 0))
		},
	}[a.rand.IntN(4)]
}
