package sim

import (
	"slices"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// work is one branch that a process works on: from its local registration until
// its outcome.
type work struct {
	p    *process
	ref  ref
	plan branchPlan
	spec *logpb.BranchSpec
	call workCall
	tx   *localTx

	ballot  *logpb.Ballot // nil until it has voted
	verdict fsm.Verdict
}

// workCall is what an initiator asks of a participant.
type workCall struct {
	gid       fsm.GID
	branch    string
	timeoutMS uint64
	enlists   bool // the branch enlists first; else its vote does
	carries   bool // its vote goes back with the answer, and by no other way
}

// worked is the participant's answer: nil where there is no branch to commit.
type worked struct{ ballot *logpb.Ballot }

func (b *work) isHeld() bool { return b.spec.GetHeld() }

// onWork does a branch's part. A repeated call is the same branch: the work is not
// done again, and the first vote is said again.
func (p *process) onWork(c workCall, plan branchPlan, reply func(worked)) {
	at := ref{GID: c.gid, Branch: c.branch}
	if b := p.find(at); b != nil {
		if b.ballot != nil {
			reply(worked{b.ballot})
		}
		return
	}
	spec := &logpb.BranchSpec{Id: c.branch, Resource: p.db.name, Held: p.db.held}
	if p.endpoint {
		spec.Endpoint = "http://" + p.name
	} else {
		spec.Holder = p.holder
	}
	b := &work{p: p, ref: at, plan: plan, spec: spec, call: c}
	p.live = append(p.live, b) // before it enlists, so that no attach misses it
	p.w.oracle.works(at, b)
	if !c.enlists && !p.db.held {
		b.begin(reply)
		return
	}
	b.enlist(reply)
}

func (b *work) enlist(reply func(worked)) {
	enlist := proposal(&logpb.Command{Kind: &logpb.Command_Enlist{Enlist: &logpb.Enlist{Gid: b.ref.GID.Bytes(), Branch: b.spec}}})
	b.tell("enlist", 6*time.Second, func(*conn) request { return enlist }, func(a answer) {
		switch {
		case a.err != nil: // taken back, because the cluster may have heard of it
			b.refuseLater(reply)
		case a.code != fsm.OK || a.result.Decision != fsm.DecisionNone:
			b.p.drop(b.ref)
			reply(worked{})
		default:
			b.p.w.oracle.enlisted(b.ref)
			b.begin(reply)
		}
	})
}

// tell sends over the session, or, for a process without one, by a call.
func (b *work) tell(what string, patience time.Duration, make func(*conn) request, done func(answer)) {
	hear := func(a answer) {
		b.p.w.oracle.hears(what, a)
		done(a)
	}
	if b.p.endpoint {
		b.p.dials.call(what, b.ref.GID, patience, make(nil), hear)
		return
	}
	b.p.request(b.ref.GID, patience, make, hear)
}

// begin starts the local transaction, and takes its time.
func (b *work) begin(reply func(worked)) {
	b.tx = b.p.db.begin(b.p, b.ref, b.call.timeoutMS)
	b.p.after(b.plan.Takes, func() {
		switch b.plan.Kind {
		case workReadOnly:
			b.p.db.close(b.tx)
			b.p.w.oracle.branchReadOnly(b.p.db, b.ref)
			b.vote(readOnly, false, reply)
		case workRefuses:
			b.p.db.close(b.tx)
			b.vote(refused, false, reply)
		default:
			b.prepare(reply)
		}
	})
}

// prepare makes the work durable before the vote is said. An error from the
// database is never a plain refusal: the branch may be prepared all the same.
func (b *work) prepare(reply func(worked)) {
	p := b.p
	if p.db.held {
		if !p.db.mayHold(b.tx) {
			b.vote(refused, false, reply)
			return
		}
		p.w.oracle.branchHeld(p.db, b.ref)
		b.vote(prepared, false, reply)
		return
	}
	if p.w.bug == BugVoteBeforePrepared {
		b.vote(prepared, false, reply)
		p.after(p.dbTime()+between(p.rng, 0, 300*time.Millisecond), func() { p.db.prepare(b.tx) })
		return
	}
	p.after(p.dbTime(), func() {
		if b.verdict == fsm.VerdictRollback {
			p.db.close(b.tx) // it heard so while it worked
			b.vote(refused, false, reply)
			return
		}
		maybe := b.plan.Kind == workMaybe
		if maybe && chance(p.rng, 0.5) {
			p.db.close(b.tx)
			b.vote(refused, true, reply)
			return
		}
		ok := p.db.prepare(b.tx)
		p.w.faults.phase(phasePrepared, p.actor) // it may stop, or die, here
		if !p.up {
			return
		}
		switch {
		case maybe:
			b.vote(refused, true, reply)
		case ok:
			p.after(p.dbTime(), func() { b.vote(prepared, false, reply) })
		default:
			b.vote(refused, false, reply)
		}
	})
}

// vote says the branch's word. On the fast path the initiator carries it, and the
// branch is left to recovery.
func (b *work) vote(kind logpb.VoteKind, maybe bool, reply func(worked)) {
	b.ballot = ballotOf(b.spec, kind, maybe)
	b.p.say("%s votes %v", short(b.ref), kind)
	if b.call.carries && !b.isHeld() {
		b.p.drop(b.ref)
		reply(worked{b.ballot})
		return
	}
	b.tell("vote", 12*time.Second, func(c *conn) request {
		if c == nil {
			return proposal(&logpb.Command{Kind: &logpb.Command_Vote{Vote: &logpb.Vote{Gid: b.ref.GID.Bytes(), Ballot: b.ballot}}})
		}
		return c.voting(b.ref.GID, b.ballot)
	}, func(a answer) { b.voted(kind, maybe, a, reply) })
}

func (b *work) voted(kind logpb.VoteKind, maybe bool, a answer, reply func(worked)) {
	taken := a.err == nil && a.code == fsm.OK
	if taken {
		b.p.w.oracle.voted(b.ref, b.ballot)
	}
	switch {
	case kind != prepared && !(kind == refused && maybe):
		b.p.drop(b.ref)
	case taken && a.result.Verdict == fsm.VerdictCommit || taken && a.result.Verdict == fsm.VerdictRollback:
		b.p.w.oracle.told(b.p, b.ref, a.result.Verdict)
		b.p.obey(b.ref, a.result.Verdict, b.p.reports(b.ref))
	case taken && !b.p.endpoint:
		b.watch()
	case b.isHeld():
		b.settleLater()
	default: // recovery ends it
		b.p.drop(b.ref)
		b.p.kick()
	}
	if taken || kind == refused {
		reply(worked{b.ballot})
	} else {
		reply(worked{})
	}
}

// watch lets go of a prepared branch that nobody has spoken of for long: its
// coordinator's word may have been given to another process.
func (b *work) watch() {
	if b.isHeld() {
		b.settleLater()
		return
	}
	b.p.after(between(b.p.rng, 20*time.Second, 40*time.Second), func() {
		if slices.Contains(b.p.live, b) {
			b.p.drop(b.ref)
			b.p.kick()
		}
	})
}

// settleLater asks for the verdict on a held branch, which no recovery can see.
func (b *work) settleLater() {
	b.p.after(between(b.p.rng, 2*time.Second, 5*time.Second), func() {
		if slices.Contains(b.p.live, b) && b.p.db.openOf(b.p, b.ref) != nil {
			b.p.settle(b.ref, time.Duration(b.call.timeoutMS)*time.Millisecond)
			b.settleLater()
		}
	})
}

// refuseLater takes an enlisted branch back that nobody will work on.
func (b *work) refuseLater(reply func(worked)) {
	b.ballot = ballotOf(b.spec, refused, false)
	b.tell("vote", 6*time.Second, func(c *conn) request {
		return proposal(&logpb.Command{Kind: &logpb.Command_Vote{Vote: &logpb.Vote{Gid: b.ref.GID.Bytes(), Ballot: b.ballot}}})
	}, func(answer) { b.p.drop(b.ref) })
	reply(worked{})
}
