package sim

import (
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	lin "github.com/quorate/quorate/linearizability"
)

// What coordinator.Coordinator does with its callers, as steps: it waits in
// goroutines, which one thread has none of.

// answer is what a caller hears from a node.
type answer struct {
	// err is nil, or why there is no result: errUnknown, coordinator.ErrNotLeader.
	err    error
	hint   int // the node that leads, as far as this one knows; nobody
	code   fsm.Code
	result fsm.Result
	unseen bool
	record *logpb.Transaction
	header header
}

// header is what every answer carries.
type header struct {
	applied, clockMS, floorMS uint64
	epoch                     coordinator.Epoch
}

var errUnknown = coordinator.ErrUnknown

func isUnknown(err error) bool { return errors.Is(err, errUnknown) }

func (n *node) header() header {
	c := n.state.Clock()
	return header{c.AppliedIndex, c.ClockMS, c.FloorMS, coordinator.Epoch{Incarnation: c.Incarnation, Term: c.AppliedTerm}}
}

// request is a call that a node serves, and what it asks, for the history.
type request struct {
	kind    lin.Kind // empty where it is none of a history's operations
	command *logpb.Command
	waits   bool // for the decision

	branch, key string
	resource    string
	holder      []byte
	timeout     time.Duration
	local       bool
	minIndex    uint64

	// serve answers it; reply must be called at most once.
	serve func(n *node, reply func(answer))
}

// proposal serves a command, and waits for the decision where one was asked.
func proposal(command *logpb.Command) request {
	return request{kind: kindOf(command), command: command, serve: func(n *node, reply func(answer)) {
		if n.liesAbout(command) {
			reply(answer{})
			return
		}
		n.submit(n.planted(command), func(results []fsm.Result, err error) {
			if err != nil {
				reply(answer{err: err})
				return
			}
			r := results[len(results)-1]
			n.overwrites(command, &r)
			n.overwritesWord(command, &r)
			reply(answer{code: r.Code, result: r})
		})
	}}
}

// deciding serves a command that asks for a decision, and waits for that.
func deciding(command *logpb.Command) request {
	ask := proposal(command)
	return request{kind: ask.kind, command: command, waits: true, serve: func(n *node, reply func(answer)) {
		ask.serve(n, func(a answer) {
			if a.err != nil || a.code != fsm.OK || a.result.Decision != fsm.DecisionNone {
				reply(a)
				return
			}
			n.lastID++
			id, gid := n.lastID, a.result.GID
			n.waiters[id] = func(w coordinator.AnswerWaiter) {
				if w.Lost {
					reply(answer{err: errUnknown})
					return
				}
				a.result.Decision, a.result.State, a.result.Reason, a.result.Index = w.Status.Decision, w.Status.State, w.Status.Reason, w.Status.Index
				reply(a)
			}
			if n.w.bug == BugLocalTimeout {
				n.localTimeout(gid, id, reply)
			}
			n.step(func(now time.Time) { n.core.Wait(now, id, gid, false) })
		})
	}}
}

// inquiring serves a participant's question: PROTOCOL.md's Inquire row.
func inquiring(gid fsm.GID, branch, resource string, holder []byte, timeout time.Duration) request {
	return request{kind: lin.KindInquire, branch: branch, resource: resource, holder: holder, timeout: timeout, serve: func(n *node, reply func(answer)) {
		look := func() (answer, bool) {
			q := n.state.Inquire(gid, branch)
			over := n.state.ClockMS() > gid.BornMS()+fsm.ClockStaleMaxMS+uint64(timeout.Milliseconds())
			return answer{code: q.Code, unseen: q.Unseen, result: fsm.Result{GID: gid, Code: q.Code, Verdict: q.Verdict, Decision: q.Decision, State: q.State}}, over
		}
		if a, _ := look(); a.code == fsm.OK && a.result.Decision != fsm.DecisionNone {
			reply(a)
			return
		}
		n.readIndex(func(err error) {
			if err != nil {
				reply(answer{err: coordinator.ErrNotLeader}) // a read has no effect
				return
			}
			a, over := look()
			unseenWait := a.code == fsm.OK && a.unseen && a.result.Verdict == fsm.VerdictWait
			if unseenWait && n.w.bug == BugNoTombstone {
				a.result.Verdict, a.result.Decision = fsm.VerdictRollback, fsm.DecisionRollback
				reply(a)
				return
			}
			if !unseenWait || !over {
				reply(a)
				return
			}
			n.w.cover.meet("presumed abort")
			presume := decide(&logpb.Decide{
				Gid: gid.Bytes(), Decision: fsm.DecisionRollback, Origin: logpb.Origin_ORIGIN_PARTICIPANT,
				Reason: logpb.Reason_REASON_PRESUMED, Branches: []*logpb.BranchSpec{{Id: branch, Resource: resource, Holder: holder}},
			})
			proposal(presume).serve(n, func(p answer) {
				if p.err != nil {
					reply(p)
					return
				}
				a, _ := look()
				reply(a)
			})
		})
	}}
}

// getting serves a read of one transaction, by GID or by key.
func getting(gid fsm.GID, key string, linearizable bool, minIndex uint64) request {
	return request{kind: lin.KindGet, key: key, local: !linearizable, minIndex: minIndex, serve: func(n *node, reply func(answer)) {
		look := func(err error) {
			if err != nil {
				reply(answer{err: coordinator.ErrNotLeader})
				return
			}
			gid := gid
			if key != "" {
				var ok bool
				if gid, ok = n.state.Lookup(namespace, key); !ok {
					reply(answer{code: fsm.NotFound})
					return
				}
			}
			rec, ok := n.state.Get(gid)
			switch {
			case ok:
				reply(answer{record: n.forgets(rec), result: fsm.Result{GID: gid, Decision: rec.GetDecision(), State: rec.GetState(), Index: rec.GetDecided().GetIndex()}})
			case gid.BornMS() <= n.state.Clock().HorizonMS:
				reply(answer{code: fsm.Expired, result: fsm.Result{GID: gid}})
			default:
				reply(answer{code: fsm.NotFound, result: fsm.Result{GID: gid}})
			}
		}
		if linearizable {
			n.readIndex(look)
			return
		}
		n.waitApplied(minIndex, look)
	}}
}

const namespace = "default"

// dialing fetches the header.
func dialing() request {
	return request{serve: func(_ *node, reply func(answer)) { reply(answer{}) }}
}

// attaching opens a session over a connection.
func (c *conn) attach(r coordinator.AttachRequest) {
	n := c.n
	if n.reign == nil {
		c.closedByNode()
		return
	}
	n.lastID++
	c.id = coordinator.SessionID(n.lastID)
	n.sessions[c.id] = c
	c.aliveAt, c.since = n.clock(), n.w.now
	if n.awayFor(c.holder) >= n.w.plan.Settings.SessionGrace-time.Millisecond {
		n.cameBackAt[string(c.holder)] = n.w.now
	}
	n.w.cover.meet("attach")
	h := n.header()
	for _, l := range r.Live {
		if l.Held {
			c.vouches([]ref{l.BranchRef})
		}
	}
	n.step(func(now time.Time) {
		n.core.Attach(now, c.id, r)
		c.toProcess(func() { c.proc.attached(c, h) })
	})
}

// ask serves a request that came over the session.
func (c *conn) ask(r request, gid fsm.GID, hear func(answer)) {
	h := c.n.w.history
	at := h.invoke(r, gid)
	c.toNode(func() {
		c.alive()
		c.n.serve(r, func(a answer) {
			c.toProcess(func() {
				h.returns(at, c.n, a)
				hear(a)
			})
		})
	})
}

func (c *conn) alive() {
	c.aliveAt = c.n.clock()
	c.n.step(func(now time.Time) { c.n.core.Alive(now, c.id) })
}

// serve answers a request with what every answer carries.
func (n *node) serve(r request, reply func(answer)) {
	r.serve(n, func(a answer) {
		a.header, a.hint = n.header(), n.leader
		n.w.oracle.says(n, a)
		reply(a)
	})
}

// voting serves a vote over the session: a held branch's own vote vouches for it.
func (c *conn) voting(gid fsm.GID, ballot *logpb.Ballot) request {
	vote := proposal(&logpb.Command{Kind: &logpb.Command_Vote{Vote: &logpb.Vote{Gid: gid.Bytes(), Ballot: ballot}}})
	return request{kind: vote.kind, command: vote.command, serve: func(n *node, reply func(answer)) {
		if ballot.GetBranch().GetHeld() && ballot.GetKind() == prepared {
			ref := coordinator.BranchRef{GID: gid, Branch: ballot.GetBranch().GetId()}
			c.vouches([]coordinator.BranchRef{ref})
			n.step(func(now time.Time) { n.core.Vouch(now, c.id, []coordinator.BranchRef{ref}) })
		}
		vote.serve(n, reply)
	}}
}

// reporting serves a branch's own word, by the driver: it may wait there for those of
// its transaction's other branches, and goes into the log with them.
func reporting(gid fsm.GID, branch string, o fsm.Outcome, attempt uint32, holder []byte) request {
	report := &logpb.Report{Gid: gid.Bytes(), Branch: branch, Outcome: o, Attempts: attempt, Holder: holder}
	command := &logpb.Command{Kind: &logpb.Command_Report{Report: report}}
	return request{kind: kindOf(command), command: command, serve: func(n *node, reply func(answer)) {
		n.step(func(now time.Time) {
			n.core.Report(now, report, func(r fsm.Result, err error) {
				if err != nil {
					reply(answer{err: err})
					return
				}
				reply(answer{code: r.Code, result: r})
			})
		})
	}}
}

func decide(d *logpb.Decide) *logpb.Command {
	return &logpb.Command{Kind: &logpb.Command_Decide{Decide: d}}
}

const (
	prepared   = logpb.VoteKind_VOTE_KIND_PREPARED
	readOnly   = logpb.VoteKind_VOTE_KIND_READ_ONLY
	refused    = logpb.VoteKind_VOTE_KIND_REFUSED
	committed  = logpb.Outcome_OUTCOME_COMMITTED
	rolledBack = logpb.Outcome_OUTCOME_ROLLED_BACK
	hazard     = logpb.Outcome_OUTCOME_HAZARD
)

// what is an answer for people.
func (a answer) String() string {
	switch {
	case errors.Is(a.err, coordinator.ErrNotLeader):
		return "not the leader"
	case a.err != nil:
		return a.err.Error()
	case a.record != nil:
		return fmt.Sprintf("%v %v", a.result.State, a.result.Decision)
	}
	return fmt.Sprintf("%v decision=%v verdict=%v created=%v index=%d", a.code, a.result.Decision, a.result.Verdict, a.result.Created, a.result.Index)
}
