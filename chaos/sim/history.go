package sim

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	lin "github.com/quorate/quorate/linearizability"
)

// history records a run as clients and participants saw it, for the checks of
// package linearizability: a model written independently of the state machine.
type history struct {
	w *World
	h lin.History
}

func newHistory(w *World) *history {
	return &history{w: w, h: lin.History{Header: lin.Header{
		Format: lin.Format, Seed: w.plan.Seed, ClockSkewed: true,
		TimeoutDefaultMS: w.plan.Limits.GetTransactionTimeoutDefaultMs(), RetentionMS: w.plan.Limits.GetRetentionMs(),
	}}}
}

// recorded is an operation under way: its place in the history, from 1 on; 0 where
// nothing is recorded.
type recorded int

func (h *history) now() int64 { return int64(h.w.now) + 1 }

// invoke writes an operation before it is sent. Its outcome is unknown until it
// returns.
func (h *history) invoke(r request, gid fsm.GID) recorded {
	if h == nil || r.kind == "" {
		return 0
	}
	op := operationOf(r)
	op.Client, op.Call, op.Status = len(h.h.Operations)+1, h.now(), lin.StatusUnknown
	if op.GID == "" && op.Key == "" {
		op.GID = gid.String()
	}
	h.h.Operations = append(h.h.Operations, op)
	return recorded(len(h.h.Operations))
}

// returns completes an operation, once.
func (h *history) returns(at recorded, n *node, a answer) {
	if at == 0 {
		return
	}
	op := &h.h.Operations[at-1]
	if op.Status != lin.StatusUnknown || isUnknown(a.err) {
		return
	}
	op.Return, op.Node = h.now(), n.name
	if a.err != nil {
		op.Status = lin.StatusFailed
		op.Output.Refusal = "NOT_LEADER"
		if errors.Is(a.err, coordinator.ErrOverload) {
			op.Output.Refusal = "QUOTA"
		}
		return
	}
	op.Output = outputOf(a)
	if op.Kind == lin.KindInquire {
		op.Output.State = "" // a participant hears its verdict, and no more
	}
	switch a.code {
	case fsm.OK:
		op.Status = lin.StatusOK
	case fsm.Invalid, fsm.Quota, fsm.NotFounded:
		op.Status, op.Output.Refusal = lin.StatusFailed, a.code.String()
	default:
		op.Status, op.Output.Refusal = lin.StatusRefused, a.code.String()
	}
}

func outputOf(a answer) lin.Output {
	o := lin.Output{
		Created: a.result.Created, Attempts: 1, Decision: lin.FromWire[lin.Decision](a.result.Decision),
		State: lin.FromWire[lin.State](a.result.State), Unseen: a.unseen, DecisionIndex: a.result.Index,
		Reason: lin.ReasonFromWire(a.result.Reason), AppliedIndex: a.header.applied, ClockMS: a.header.clockMS, FloorMS: a.header.floorMS,
		Epoch: lin.Epoch{Incarnation: a.header.epoch.Incarnation, Term: a.header.epoch.Term},
	}
	if !a.result.GID.IsZero() {
		o.GID = a.result.GID.String()
	}
	if v := a.result.Verdict; v != fsm.VerdictNone {
		o.Verdict = lin.Verdict(strings.ToLower(v.String()))
	}
	if a.record != nil {
		o.Tombstone, o.Key = a.record.GetTombstone(), a.record.GetBegin().GetKey()
	}
	return o
}

// operationOf is a request in the history's words.
func operationOf(r request) lin.Operation {
	op := lin.Operation{Kind: r.kind, Namespace: namespace, Key: r.key, Branch: r.branch}
	switch r.kind {
	case lin.KindInquire:
		op.Input = branchInput(&logpb.BranchSpec{Id: r.branch, Resource: r.resource, Holder: r.holder})
		op.Input.TimeoutMS = uint64(r.timeout.Milliseconds())
	case lin.KindGet:
		op.Input.MinIndex = r.minIndex
		if r.local {
			op.Input.Consistency = lin.Local
		}
	default:
		c := commandOf(r.command)
		op.GID, op.Key, op.Branch, op.Input = c.GID, c.Key, c.Branch, c.Input
		if r.waits {
			op.Input.Wait = lin.WaitDecision
		} else if r.kind == lin.KindCommit || r.kind == lin.KindSubmit || r.kind == lin.KindRollback {
			op.Input.Wait = lin.WaitNone
		}
	}
	return op
}

func kindOf(c *logpb.Command) lin.Kind { return commandOf(c).Kind }

// commandOf is a command of the log in the history's words.
func commandOf(c *logpb.Command) lin.Command {
	gidOf := func(b []byte) string { return fsm.GID(b).String() }
	switch k := c.GetKind().(type) {
	case *logpb.Command_Begin:
		return lin.Command{Kind: lin.KindBegin, GID: gidOf(k.Begin.GetGid()), Namespace: namespace, Key: k.Begin.GetKey(), Input: beginInput(k.Begin)}
	case *logpb.Command_Enlist:
		b := k.Enlist.GetBranch()
		return lin.Command{Kind: lin.KindEnlist, GID: gidOf(k.Enlist.GetGid()), Branch: b.GetId(), Input: branchInput(b)}
	case *logpb.Command_Vote:
		b := k.Vote.GetBallot()
		in := branchInput(b.GetBranch())
		in.Vote, in.MaybePrepared = lin.FromWire[lin.Vote](b.GetKind()), b.GetMaybePrepared()
		return lin.Command{Kind: lin.KindVote, GID: gidOf(k.Vote.GetGid()), Branch: b.GetBranch().GetId(), Input: in}
	case *logpb.Command_Decide:
		return decideCommand(k.Decide)
	case *logpb.Command_Submit:
		in := beginInput(k.Submit.GetBegin())
		for _, b := range k.Submit.GetSet() {
			in.Branches = append(in.Branches, branchIn(b))
		}
		for _, b := range k.Submit.GetVotes() {
			in.Votes = append(in.Votes, lin.Ballot{Branch: branchIn(b.GetBranch()), Vote: lin.FromWire[lin.Vote](b.GetKind()), MaybePrepared: b.GetMaybePrepared()})
		}
		return lin.Command{Kind: lin.KindSubmit, GID: gidOf(k.Submit.GetBegin().GetGid()), Namespace: namespace, Key: k.Submit.GetBegin().GetKey(), Input: in}
	case *logpb.Command_Report:
		return lin.Command{Kind: lin.KindReport, GID: gidOf(k.Report.GetGid()), Branch: k.Report.GetBranch(), Input: lin.Input{Outcome: lin.FromWire[lin.Outcome](k.Report.GetOutcome())}}
	case *logpb.Command_Resolve:
		return lin.Command{Kind: lin.KindResolve, GID: gidOf(k.Resolve.GetGid()), Branch: k.Resolve.GetBranch(),
			Input: lin.Input{Outcome: lin.FromWire[lin.Outcome](k.Resolve.GetOutcome()), Operator: k.Resolve.GetOperator()}}
	case *logpb.Command_Tick:
		return lin.Command{Kind: lin.KindTick}
	}
	return lin.Command{Kind: lin.KindOther}
}

func decideCommand(d *logpb.Decide) lin.Command {
	c := lin.Command{
		Kind: lin.KindRollback, GID: fsm.GID(d.GetGid()).String(), Driver: d.GetOrigin() == logpb.Origin_ORIGIN_DRIVER,
		Reason: lin.ReasonFromWire(d.GetReason()), Epoch: lin.Epoch{Incarnation: d.GetEpoch().GetIncarnation(), Term: d.GetEpoch().GetTerm()},
	}
	if d.GetDecision() == fsm.DecisionCommit {
		c.Kind = lin.KindCommit
		if c.Input.Bare = d.GetSet() == nil; !c.Input.Bare {
			c.Input.Set = append([]string{}, d.GetSet().GetIds()...) // an empty set is one too
		}
		return c
	}
	c.Input.Participant, c.Input.Operator = d.GetOrigin() == logpb.Origin_ORIGIN_PARTICIPANT, d.GetOperator()
	for _, b := range d.GetBranches() {
		c.Input.Branches = append(c.Input.Branches, branchIn(b))
	}
	return c
}

func beginInput(b *logpb.Begin) lin.Input {
	return lin.Input{Entry: lin.FromWire[lin.Entry](b.GetEntry()), TimeoutMS: b.GetTimeoutMs()}
}

func branchIn(b *logpb.BranchSpec) lin.Branch {
	out := lin.Branch{ID: b.GetId(), Resource: b.GetResource(), Endpoint: b.GetEndpoint(), Held: b.GetHeld()}
	if len(b.GetHolder()) > 0 {
		out.Holder = fsm.GID(b.GetHolder()).String()
	}
	return out
}

func branchInput(b *logpb.BranchSpec) lin.Input {
	in := branchIn(b)
	return lin.Input{Resource: in.Resource, Endpoint: in.Endpoint, Held: in.Held, Holder: in.Holder}
}

// observe adds something seen outside of the answers.
func (h *history) observe(o lin.Observation) {
	if h != nil {
		o.At = h.now()
		h.h.Observations = append(h.h.Observations, o)
	}
}

func (h *history) journal(at ref, d *database, step lin.Step) {
	h.observe(lin.Observation{Sight: lin.SightJournal, GID: at.GID.String(), Branch: at.Branch, Resource: d.name, Step: step, Held: d.held})
}

// finish adds the log, whole, and what stands at rest.
func (h *history) finish(l *node) {
	for i, g := range h.w.oracle.ghost {
		if !g.has {
			continue
		}
		b, err := fsm.DecodeEntry(g.data)
		if err != nil {
			continue
		}
		for k, packed := range b.GetCommands() {
			for c, r := range fsm.Unpack(packed, g.results[k]) {
				command := commandOf(c)
				if reached(&command, r) {
					h.observe(lin.Observation{Sight: lin.SightCommand, Index: uint64(i), Term: g.term, ClockMS: g.clockMS, Command: &command})
				}
			}
		}
	}
	h.observe(lin.Observation{Sight: lin.SightLog, Node: l.name, From: 1, Through: max(l.applied, 1), Whole: true})
	h.observe(lin.Observation{Sight: lin.SightQuiescent})
	for _, gid := range h.w.oracle.order {
		o := lin.Observation{Sight: lin.SightFinal, GID: gid.String()}
		if rec, ok := l.state.Get(gid); ok {
			o.State, o.Decision = lin.FromWire[lin.State](rec.GetState()), lin.FromWire[lin.Decision](rec.GetDecision())
			for _, b := range rec.GetBranches() {
				o.Branches = append(o.Branches, lin.BranchView{
					ID: b.GetSpec().GetId(), Vote: lin.FromWire[lin.Vote](b.GetVote()), Outcome: lin.FromWire[lin.Outcome](b.GetOutcome()), Hint: b.GetHint(),
				})
			}
		} else if gid.BornMS() <= l.state.Clock().HorizonMS {
			continue // dropped, as it may be
		}
		h.observe(o)
	}
}

// reached says that a command got as far as a transaction: it was not malformed, nor
// over a quota. One that was answered for the GID that its key stands for is
// about that one.
func reached(c *lin.Command, r fsm.Result) bool {
	switch r.Code {
	case fsm.Invalid, fsm.Quota, fsm.NotFounded:
		return false
	}
	c.Key = ""
	if r.GID.IsZero() || r.GID.String() == c.GID {
		return true
	}
	c.GID = r.GID.String()
	return c.Kind == lin.KindSubmit && r.Code == fsm.OK
}

// check hands the history to the independent judge.
func (h *history) check(o *oracle) {
	report := lin.Check(context.Background(), &h.h, lin.Options{Parallel: 1, Timeout: 20 * time.Second})
	for _, v := range report.Violations {
		o.violate(v.Promise, v.GID, "by its history: %s\n    %s", v.Text, strings.Join(v.Operations, "\n    "))
	}
}
