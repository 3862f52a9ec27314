package acceptance

import (
	"context"
	"fmt"
	"testing"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	lin "github.com/quorate/quorate/linearizability"
)

// The same meeting for the modes whose branches are called. Here the log is written
// down, too: what the leader's driver proposes is in it, and no client's operation.

const modesSeeds = 120

func TestContract_TheModelExplainsTheModes(t *testing.T) {
	answers := map[string]int{}
	for seed := range uint64(modesSeeds) {
		r := &modesRun{contractRun: newContractRun(t, 7000+seed)}
		r.term = 3
		h := r.history(140, seed%2 == 0)
		report := lin.Check(context.Background(), h, lin.Options{})
		for _, v := range report.Violations {
			t.Errorf("seed %d: %v", seed, v)
		}
		if t.Failed() {
			t.FailNow()
		}
		for _, op := range h.Operations {
			if op.Status != lin.StatusUnknown {
				answers[fmt.Sprintf("%s %s", op.Kind, op.Output.Refusal)]++
			}
		}
		for _, o := range h.Observations {
			if o.Command != nil {
				answers["log "+string(o.Command.Kind)]++
			}
		}
		answers["committed"] += report.Stats.Committed
		answers["rolled back"] += report.Stats.RolledBack
	}
	for _, want := range []string{"begin ", "begin GID_CONFLICT", "begin ALREADY_DECIDED", "submit ", "submit GID_CONFLICT", "submit ALREADY_DECIDED",
		"enlist ", "enlist BRANCH_CONFLICT", "enlist ALREADY_DECIDED", "commit ", "commit SET_MISMATCH", "commit NOT_ENLISTED", "commit ALREADY_DECIDED",
		"rollback ", "rollback ALREADY_DECIDED", "record ", "record VOTE_CONFLICT", "record ALREADY_DECIDED", "record NOT_FOUND",
		"stop ", "stop NOT_FOUND", "report ", "report UNDECIDED", "resolve ", "resolve UNDECIDED", "resolve ALREADY_REPORTED", "get NOT_FOUND", "get EXPIRED",
		"inquire ", "log answer", "committed", "rolled back"} {
		if answers[want] == 0 {
			t.Errorf("nothing was answered %q; the answers were %v", want, answers)
		}
	}
}

// modesRun drives one state machine with transactions of called modes.
type modesRun struct {
	*contractRun
	commands []lin.Observation
}

var modesOfGID = []logpb.Mode{logpb.Mode_MODE_SAGA, logpb.Mode_MODE_TCC, logpb.Mode_MODE_MESSAGE, logpb.Mode_MODE_WORKFLOW, logpb.Mode_MODE_NOTIFY}

func (c *modesRun) history(operations int, logged bool) *lin.History {
	h := &lin.History{Header: lin.Header{Format: lin.Format, ClockSkewed: true, TimeoutDefaultMS: 1000}}
	modes := make([]logpb.Mode, len(c.gids))
	for i := range modes {
		modes[i] = pick(c.r, modesOfGID...)
	}
	for range operations {
		if c.r.IntN(20) == 0 {
			c.clock += pick[uint64](c.r, 1, 300, 1000, 1_100_000)
			c.tick()
			c.commands = append(c.commands, lin.Observation{Sight: lin.SightCommand, Index: c.index, Term: c.term, ClockMS: c.s.ClockMS(), Command: &lin.Command{Kind: lin.KindTick}})
		}
		n := c.r.IntN(len(c.gids))
		op := c.modeOperation(c.gids[n], modes[n], logged)
		if op.Status == lin.StatusFailed || op.Status == "" {
			continue
		}
		op.Call = max(1, c.now-int64(c.r.IntN(25)))
		if c.r.IntN(12) == 0 {
			op.Status, op.Output = lin.StatusUnknown, lin.Output{}
		} else {
			op.Return, op.Output.ClockMS = c.now+int64(c.r.IntN(25)), c.s.ClockMS()
		}
		c.now += 10
		op.Client = len(h.Operations)
		h.Operations = append(h.Operations, op)
	}
	if logged {
		h.Observations = append(c.commands, lin.Observation{Sight: lin.SightLog, From: 1, Through: c.index, Whole: true})
	}
	return h
}

// stepsOf are three branches: 1, then 2 and 3, of which 3 has nothing to undo it.
func (c *modesRun) stepsOf() (specs []*logpb.BranchSpec, said []lin.Branch) {
	payload := pick(c.r, "p", "p", "p", "p", "q")
	for _, b := range []lin.Branch{
		{ID: "1", Endpoint: "http://a/1", Undo: "http://a/u", Content: payload},
		{ID: "2", Endpoint: "http://a/2", Undo: "http://a/u", After: lin.IDsOf([]string{"1"})},
		{ID: "3", Endpoint: "http://a/3", After: lin.IDsOf([]string{"1"})},
	} {
		said = append(said, b)
		specs = append(specs, &logpb.BranchSpec{Id: b.ID, Endpoint: b.Endpoint, Undo: b.Undo, Payload: []byte(b.Content), After: b.After.List()})
	}
	return specs, said
}

// command applies one, notes it in the log's words, and says what was answered.
func (c *modesRun) command(op lin.Operation, as lin.Command, command *logpb.Command) lin.Operation {
	out := c.answered(op, command)
	if out.Status != lin.StatusFailed {
		as.Kind, as.GID, as.Key, as.Branch, as.Input = cmpKind(as.Kind, op.Kind), op.GID, op.Key, op.Branch, op.Input
		as.Namespace = "default"
		c.commands = append(c.commands, lin.Observation{Sight: lin.SightCommand, Index: c.index, Term: c.term, ClockMS: c.s.ClockMS(), Command: &as})
	}
	return out
}

func cmpKind(a, b lin.Kind) lin.Kind {
	if a != "" {
		return a
	}
	return b
}

// driver is command for what no client says: it is in the log alone, or, where there
// is none, said by a client all the same.
func (c *modesRun) driver(op lin.Operation, as lin.Command, command *logpb.Command, logged bool) lin.Operation {
	out := c.command(op, as, command)
	if logged {
		out.Status = ""
	}
	return out
}

func (c *modesRun) beginOf(gid fsm.GID, mode logpb.Mode) (*logpb.Begin, lin.Input) {
	timeout := pick[uint64](c.r, 1000, 1000, 1000, 1000, 1000, 2000)
	in := lin.Input{Mode: lin.FromWire[string](mode), TimeoutMS: timeout, Entry: lin.EntryExplicit}
	return &logpb.Begin{Gid: gid.Bytes(), Namespace: "default", Mode: mode, TimeoutMs: timeout, Entry: logpb.Entry_ENTRY_EXPLICIT,
		Plan: planFor(mode)}, in
}

func planFor(mode logpb.Mode) *logpb.Plan {
	if mode == logpb.Mode_MODE_MESSAGE || mode == logpb.Mode_MODE_WORKFLOW {
		return &logpb.Plan{Callback: "http://a/back", Workflow: map[bool]string{true: "w"}[mode == logpb.Mode_MODE_WORKFLOW]}
	}
	return nil
}

func (c *modesRun) modeOperation(gid fsm.GID, mode logpb.Mode, logged bool) lin.Operation {
	op := lin.Operation{GID: gid.String(), Branch: pick(c.r, "1", "1", "2", "2", "3", "4")}
	specs, said := c.stepsOf()
	begin, input := c.beginOf(gid, mode)
	if c.r.IntN(30) == 0 {
		begin.Mode = pick(c.r, logpb.Mode_MODE_TCC, logpb.Mode_MODE_MESSAGE, logpb.Mode_MODE_SAGA)
		begin.Plan = planFor(begin.Mode)
		input.Mode = lin.FromWire[string](begin.Mode)
	}
	switch c.r.IntN(17) {
	case 0, 1:
		op.Kind, op.Branch, op.Input = lin.KindBegin, "", input
		if begin.Mode == logpb.Mode_MODE_MESSAGE {
			begin.Branches, op.Input.Branches = specs, said
		}
		return c.command(op, lin.Command{}, &logpb.Command{Kind: &logpb.Command_Begin{Begin: begin}})
	case 2, 3:
		op.Kind, op.Branch, op.Input = lin.KindSubmit, "", input
		op.Input.Branches, op.Input.Wait = said, lin.WaitNone
		return c.command(op, lin.Command{}, &logpb.Command{Kind: &logpb.Command_Submit{Submit: &logpb.Submit{Begin: begin, Set: specs}}})
	case 4, 5:
		op.Kind = lin.KindEnlist
		endpoint := pick(c.r, "http://a/1", "http://a/1", "http://a/1", "http://b/1")
		op.Input = lin.Input{Endpoint: endpoint, Undo: "http://a/u", Payload: "p"}
		return c.command(op, lin.Command{}, &logpb.Command{Kind: &logpb.Command_Enlist{Enlist: &logpb.Enlist{Gid: gid.Bytes(),
			Branch: &logpb.BranchSpec{Id: op.Branch, Endpoint: endpoint, Undo: "http://a/u", Payload: []byte("p")}}}})
	case 6, 7, 8:
		op.Kind = lin.KindAnswer
		op.Input.Said = pick(c.r, lin.SaidDone, lin.SaidDone, lin.SaidDone, lin.SaidRefused, lin.SaidGaveUp)
		op.Input.MaybeDone = op.Input.Said == lin.SaidRefused && c.r.IntN(3) == 0
		kinds := map[lin.Said]logpb.Answer_Kind{lin.SaidDone: logpb.Answer_KIND_DONE, lin.SaidRefused: logpb.Answer_KIND_REFUSED, lin.SaidGaveUp: logpb.Answer_KIND_GAVE_UP}
		return c.driver(op, lin.Command{}, &logpb.Command{Kind: &logpb.Command_Answer{Answer: &logpb.Answer{
			Gid: gid.Bytes(), Branch: op.Branch, Kind: kinds[op.Input.Said], MaybeDone: op.Input.MaybeDone}}}, logged)
	case 9:
		if c.r.IntN(3) > 0 {
			op.Kind, op.Branch = lin.KindGet, ""
			return c.getMode(op, gid)
		}
		return c.decide(op, gid, mode, logged)
	case 10:
		return c.decide(op, gid, mode, logged)
	case 11:
		op.Kind = lin.KindReport
		op.Input.Outcome = pick(c.r, lin.OutcomeCommitted, lin.OutcomeRolledBack, lin.OutcomeRolledBack, lin.OutcomeHazard)
		wire := logOutcomes[op.Input.Outcome]
		if c.r.IntN(5) == 0 {
			op.Input.Outcome, wire = lin.OutcomeGaveUp, logpb.Outcome_OUTCOME_GAVE_UP
		}
		return c.command(op, lin.Command{}, &logpb.Command{Kind: &logpb.Command_Report{Report: &logpb.Report{Gid: gid.Bytes(), Branch: op.Branch, Outcome: wire}}})
	case 12:
		op.Kind = lin.KindResolve
		op.Input.Outcome, op.Input.Operator = pick(c.r, lin.OutcomeCommitted, lin.OutcomeRolledBack), "o"
		return c.command(op, lin.Command{}, &logpb.Command{Kind: &logpb.Command_Resolve{Resolve: &logpb.Resolve{
			Gid: gid.Bytes(), Branch: op.Branch, Outcome: logOutcomes[op.Input.Outcome], Operator: "o", Reason: "test"}}})
	case 13:
		if c.r.IntN(3) > 0 {
			op.Kind, op.Branch = lin.KindGet, ""
			return c.getMode(op, gid)
		}
		op.Kind, op.Branch, op.Input.Operator = lin.KindStop, "", "o"
		return c.command(op, lin.Command{}, &logpb.Command{Kind: &logpb.Command_Stop{Stop: &logpb.Stop{Gid: gid.Bytes(), Operator: "o", Reason: "test"}}})
	case 14:
		op.Kind = lin.KindRecord
		op.Input = lin.Input{Operation: pick(c.r, "pay", "ship"), Result: pick(c.r, "r", "r", "s"), Failed: c.r.IntN(8) == 0}
		return c.command(op, lin.Command{}, &logpb.Command{Kind: &logpb.Command_Record{Record: &logpb.Record{Gid: gid.Bytes(),
			Branch: &logpb.BranchSpec{Id: op.Branch}, Operation: op.Input.Operation, Failed: op.Input.Failed, Result: []byte(op.Input.Result)}}})
	case 15:
		op.Kind, op.Status = lin.KindInquire, lin.StatusOK
		q := c.s.Inquire(gid, op.Branch)
		op.Output = lin.Output{Verdict: lin.FromWire[lin.Verdict](q.Verdict), Unseen: q.Unseen}
		return op
	default:
		op.Kind, op.Branch = lin.KindGet, ""
		return c.getMode(op, gid)
	}
}

func (c *modesRun) getMode(op lin.Operation, gid fsm.GID) lin.Operation {
	op = c.get(op, gid)
	if op.Status != lin.StatusOK {
		return op
	}
	tx, _ := c.s.Get(gid)
	op.Output.Stopped, op.Output.Result = tx.GetStopped(), string(tx.GetResult())
	op.Output.AppliedIndex = c.index
	for i, b := range tx.GetBranches() {
		view := &op.Output.Branches[i]
		view.Recorded, view.Result = b.GetOperation(), string(b.GetResult())
	}
	return op
}

// decide asks, as a client or as the driver, for a commit or a rollback.
func (c *modesRun) decide(op lin.Operation, gid fsm.GID, mode logpb.Mode, logged bool) lin.Operation {
	op.Branch, op.Input.Wait = "", lin.WaitNone
	d := &logpb.Decide{Gid: gid.Bytes(), Origin: logpb.Origin_ORIGIN_CLIENT}
	driver := mode == logpb.Mode_MODE_MESSAGE && logged && c.r.IntN(2) == 0
	var as lin.Command
	if driver {
		d.Origin, d.Epoch = logpb.Origin_ORIGIN_DRIVER, &logpb.Epoch{Incarnation: 1, Term: c.term - uint64(c.r.IntN(2))}
		as.Driver, as.Epoch = true, lin.Epoch{Incarnation: 1, Term: d.Epoch.Term}
	}
	if mode == logpb.Mode_MODE_WORKFLOW {
		op.Input.Result = pick(c.r, "", "whole")
		d.Result = []byte(op.Input.Result)
	}
	if c.r.IntN(3) > 0 {
		op.Kind, d.Decision, op.Input.Bare = lin.KindCommit, fsm.DecisionCommit, true
		if mode == logpb.Mode_MODE_TCC && c.r.IntN(2) == 0 {
			op.Input.Bare, op.Input.Set = false, pick(c.r, []string{"1"}, []string{"1", "2"}, []string{"1", "2", "3"})
			d.Set = &logpb.BranchSet{Ids: op.Input.Set}
		}
	} else {
		op.Kind, d.Decision, d.Reason = lin.KindRollback, fsm.DecisionRollback, logpb.Reason_REASON_REQUESTED
		as.Reason = "REQUESTED"
		if driver {
			d.Reason, as.Reason = logpb.Reason_REASON_CHECKED_BACK, "CHECKED_BACK"
		}
		if mode == logpb.Mode_MODE_TCC && c.r.IntN(2) == 0 {
			b := lin.Branch{ID: pick(c.r, "1", "7"), Endpoint: "http://a/1", Undo: "http://a/u", Content: "p"}
			op.Input.Branches = []lin.Branch{b}
			d.Branches = []*logpb.BranchSpec{{Id: b.ID, Endpoint: b.Endpoint, Undo: b.Undo, Payload: []byte("p")}}
		}
	}
	command := &logpb.Command{Kind: &logpb.Command_Decide{Decide: d}}
	if driver {
		return c.driver(op, as, command, true)
	}
	return c.command(op, as, command)
}
