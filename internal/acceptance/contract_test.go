package acceptance

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/linearizability"
)

// The state machine and the checker's model of it were written apart, from one
// protocol. Here they meet: random commands go through the machine, what it
// answers is written down as clients would have heard it, concurrent, with a part
// of the answers lost, and the checker must find nothing.

const contractSeeds = 500

func TestContract_TheModelExplainsTheStateMachine(t *testing.T) {
	answers := map[string]int{}
	for seed := range uint64(contractSeeds) {
		h := newContractRun(t, seed).history(120)
		report := linearizability.Check(context.Background(), h, linearizability.Options{})
		for _, v := range report.Violations {
			t.Errorf("seed %d: %v", seed, v)
		}
		if t.Failed() {
			t.FailNow()
		}
		for _, op := range h.Operations {
			if op.Status != linearizability.StatusUnknown {
				answers[fmt.Sprintf("%s %s", op.Kind, op.Output.Refusal)]++
			}
		}
	}
	// A run in which little happened would prove little.
	for _, want := range []string{"begin ", "begin GID_CONFLICT", "begin ALREADY_DECIDED", "begin EXPIRED", "enlist SEALED", "enlist BRANCH_CONFLICT",
		"vote NOT_ENLISTED", "vote VOTE_CONFLICT", "vote SEALED", "vote ALREADY_DECIDED", "commit ", "commit SET_REQUIRED", "commit SET_MISMATCH",
		"commit COMMIT_CONFLICT", "commit ALREADY_DECIDED", "rollback ALREADY_DECIDED", "rollback EXPIRED", "submit ", "submit GID_CONFLICT",
		"submit KEY_CONFLICT", "submit COMMIT_CONFLICT", "submit NOT_ENLISTED", "report ", "resolve ", "resolve UNDECIDED", "resolve ALREADY_REPORTED", "get NOT_FOUND", "inquire "} {
		if answers[want] == 0 {
			t.Errorf("nothing was answered %q; the answers were %v", want, answers)
		}
	}
}

// contractRun drives one state machine.
type contractRun struct {
	t     *testing.T
	r     *rand.Rand
	s     *fsm.State
	index uint64
	term  uint64
	clock uint64
	now   int64
	gids  []fsm.GID
}

func newContractRun(t *testing.T, seed uint64) *contractRun {
	c := &contractRun{t: t, r: rand.New(rand.NewPCG(seed, 1)), s: fsm.New(), term: 1, clock: 1, now: 1000}
	c.apply(&logpb.Command{Kind: &logpb.Command_Found{Found: &logpb.Found{
		ClusterId: fsm.NewGID(1, [10]byte{1}).Bytes(), Limits: &logpb.Limits{ClockAdvanceMaxMs: 3_600_000},
	}}})
	c.clock = 10_000_000
	c.tick()
	c.tick()
	c.tick()
	for i := range 3 {
		c.gids = append(c.gids, fsm.NewGID(c.clock-uint64(i)*400_000, [10]byte{9: byte(i) + 1}))
	}
	return c
}

func (c *contractRun) apply(command *logpb.Command) fsm.Result {
	c.index++
	results, err := c.s.ApplyEntry(c.index, c.term, fsm.EncodeEntry(nil, &logpb.Batch{ClockMs: c.clock, FeatureLevel: fsm.FeatureLevel, Commands: []*logpb.Command{command}}))
	if err != nil {
		c.t.Fatal(err)
	}
	return results[0]
}

func (c *contractRun) tick() {
	c.apply(&logpb.Command{Kind: &logpb.Command_Tick{Tick: &logpb.Tick{}}})
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

func (c *contractRun) history(operations int) *linearizability.History {
	h := &linearizability.History{Header: linearizability.Header{Format: linearizability.Format, ClockSkewed: true, TimeoutDefaultMS: 1000}}
	for range operations {
		if c.r.IntN(12) == 0 {
			c.clock += pick[uint64](c.r, 1, 300, 1000, 1_100_000)
			c.tick()
		}
		op := c.operation()
		if op.Status == linearizability.StatusFailed {
			continue
		}
		op.Call = max(1, c.now-int64(c.r.IntN(25)))
		if c.r.IntN(12) == 0 {
			op.Status, op.Output = linearizability.StatusUnknown, linearizability.Output{}
		} else {
			op.Return = c.now + int64(c.r.IntN(25))
			op.Output.ClockMS = c.s.ClockMS()
		}
		c.now += 10
		op.Client = len(h.Operations)
		h.Operations = append(h.Operations, op)
	}
	return h
}

// specOf makes a branch, and now and then another one of the same name.
func (c *contractRun) specOf(id string) linearizability.Branch {
	b := linearizability.Branch{ID: id, Resource: "r" + id}
	if id == "4" {
		b.Held, b.Holder = true, holderText
	}
	if c.r.IntN(15) == 0 {
		b.Resource = "other"
	}
	return b
}

const holderText = "holder-000000001"

func logSpec(b linearizability.Branch) *logpb.BranchSpec {
	return &logpb.BranchSpec{Id: b.ID, Resource: b.Resource, Held: b.Held, Holder: []byte(b.Holder)}
}

var logVotes = map[linearizability.Vote]logpb.VoteKind{
	linearizability.VotePrepared: logpb.VoteKind_VOTE_KIND_PREPARED,
	linearizability.VoteReadOnly: logpb.VoteKind_VOTE_KIND_READ_ONLY,
	linearizability.VoteRefused:  logpb.VoteKind_VOTE_KIND_REFUSED,
}

var logOutcomes = map[linearizability.Outcome]logpb.Outcome{
	linearizability.OutcomeCommitted:  logpb.Outcome_OUTCOME_COMMITTED,
	linearizability.OutcomeRolledBack: logpb.Outcome_OUTCOME_ROLLED_BACK,
	linearizability.OutcomeMixed:      logpb.Outcome_OUTCOME_MIXED,
	linearizability.OutcomeHazard:     logpb.Outcome_OUTCOME_HAZARD,
}

func (c *contractRun) vote() linearizability.Vote {
	return pick(c.r, linearizability.VotePrepared, linearizability.VotePrepared, linearizability.VotePrepared, linearizability.VoteReadOnly, linearizability.VoteRefused)
}

func (c *contractRun) operation() linearizability.Operation {
	n := c.r.IntN(len(c.gids))
	gid := c.gids[n]
	branch := c.specOf(pick(c.r, "1", "1", "2", "2", "3", "4"))
	op := linearizability.Operation{GID: gid.String()}
	switch c.r.IntN(13) {
	case 0, 1:
		return c.begin(op, gid, n)
	case 2, 3:
		op.Kind, op.Branch = linearizability.KindEnlist, branch.ID
		op.Input = linearizability.Input{Resource: branch.Resource, Held: branch.Held, Holder: branch.Holder}
		return c.answered(op, &logpb.Command{Kind: &logpb.Command_Enlist{Enlist: &logpb.Enlist{Gid: gid.Bytes(), Branch: logSpec(branch)}}})
	case 4, 5, 6:
		op.Kind, op.Branch = linearizability.KindVote, branch.ID
		vote := c.vote()
		maybe := vote == linearizability.VoteRefused && c.r.IntN(2) == 0
		op.Input = linearizability.Input{Resource: branch.Resource, Held: branch.Held, Holder: branch.Holder, Vote: vote, MaybePrepared: maybe}
		return c.answered(op, &logpb.Command{Kind: &logpb.Command_Vote{Vote: &logpb.Vote{Gid: gid.Bytes(), Ballot: &logpb.Ballot{
			Branch: logSpec(branch), Kind: logVotes[vote], MaybePrepared: maybe}}}})
	case 7:
		return c.commit(op, gid)
	case 8:
		return c.rollback(op, gid)
	case 9:
		return c.submit(op, gid, n)
	case 10:
		op.Kind, op.Branch = linearizability.KindReport, branch.ID
		op.Input.Outcome = pick(c.r, linearizability.OutcomeCommitted, linearizability.OutcomeRolledBack, linearizability.OutcomeRolledBack, linearizability.OutcomeHazard, linearizability.OutcomeMixed)
		op = c.answered(op, &logpb.Command{Kind: &logpb.Command_Report{Report: &logpb.Report{Gid: gid.Bytes(), Branch: branch.ID, Outcome: logOutcomes[op.Input.Outcome]}}})
		if c.r.IntN(2) == 0 {
			op.Output.Verdict = "" // as the API answers
		}
		return op
	case 11:
		if c.r.IntN(2) == 0 {
			op.Kind, op.Branch = linearizability.KindResolve, branch.ID
			op.Input.Outcome, op.Input.Operator = pick(c.r, linearizability.OutcomeCommitted, linearizability.OutcomeRolledBack), "o"
			return c.answered(op, &logpb.Command{Kind: &logpb.Command_Resolve{Resolve: &logpb.Resolve{
				Gid: gid.Bytes(), Branch: branch.ID, Outcome: logOutcomes[op.Input.Outcome], Operator: "o", Reason: "test"}}})
		}
		op.Kind, op.Branch, op.Status = linearizability.KindInquire, branch.ID, linearizability.StatusOK
		q := c.s.Inquire(gid, branch.ID)
		op.Output = linearizability.Output{Verdict: linearizability.FromWire[linearizability.Verdict](q.Verdict), Unseen: q.Unseen}
		return op
	default:
		return c.get(op, gid)
	}
}

func (c *contractRun) get(op linearizability.Operation, gid fsm.GID) linearizability.Operation {
	op.Kind, op.Status = linearizability.KindGet, linearizability.StatusOK
	tx, ok := c.s.Get(gid)
	if !ok {
		op.Status, op.Output.Refusal = linearizability.StatusRefused, "NOT_FOUND"
		if gid.BornMS() <= c.s.Clock().HorizonMS {
			op.Output.Refusal = "EXPIRED"
		}
		return op
	}
	op.Output = linearizability.Output{
		State:     linearizability.FromWire[linearizability.State](tx.GetState()),
		Decision:  linearizability.FromWire[linearizability.Decision](tx.GetDecision()),
		Reason:    linearizability.ReasonFromWire(tx.GetReason()),
		Tombstone: tx.GetTombstone(), Branches: []linearizability.BranchView{},
	}
	for _, b := range tx.GetBranches() {
		op.Output.Branches = append(op.Output.Branches, linearizability.BranchView{
			ID: b.GetSpec().GetId(), Vote: linearizability.FromWire[linearizability.Vote](b.GetVote()), Hint: b.GetHint(),
			Outcome: linearizability.FromWire[linearizability.Outcome](b.GetOutcome()),
			Terminal: b.GetOwn() != 0 || b.GetResolved() != 0 || b.GetVote() == logpb.VoteKind_VOTE_KIND_READ_ONLY ||
				b.GetVote() == logpb.VoteKind_VOTE_KIND_REFUSED && !b.GetMaybePrepared(),
		})
	}
	return op
}

// beginOf: each transaction has its usual begin, and now and then another.
func (c *contractRun) beginOf(gid fsm.GID, n int) (*logpb.Begin, linearizability.Input, string) {
	b := &logpb.Begin{Gid: gid.Bytes(), Namespace: "default", Mode: logpb.Mode_MODE_TWO_PHASE, TimeoutMs: 1000, Entry: logpb.Entry_ENTRY_EXPLICIT}
	in := linearizability.Input{Entry: linearizability.EntryExplicit, TimeoutMS: 1000}
	if n%2 == 1 {
		b.Entry, in.Entry = logpb.Entry_ENTRY_NAMED, linearizability.EntryNamed
	}
	if c.r.IntN(8) == 0 {
		b.TimeoutMs, in.TimeoutMS = 2000, 2000
	}
	key := ""
	if n > 0 {
		key = "order"
	}
	b.Key = key
	return b, in, key
}

func (c *contractRun) begin(op linearizability.Operation, gid fsm.GID, n int) linearizability.Operation {
	b, in, key := c.beginOf(gid, n)
	op.Kind, op.Input, op.Key = linearizability.KindBegin, in, key
	return c.answered(op, &logpb.Command{Kind: &logpb.Command_Begin{Begin: b}})
}

func (c *contractRun) commit(op linearizability.Operation, gid fsm.GID) linearizability.Operation {
	d := &logpb.Decide{Gid: gid.Bytes(), Decision: fsm.DecisionCommit, Origin: logpb.Origin_ORIGIN_CLIENT}
	op.Kind = linearizability.KindCommit
	op.Input.Wait = linearizability.WaitNone
	op.Input.Set = pick(c.r, nil, []string{"1", "2"}, []string{"1"}, []string{"1", "2", "3"}, []string{"1", "2", "4"})
	op.Input.Bare = op.Input.Set == nil
	if !op.Input.Bare {
		d.Set = &logpb.BranchSet{Ids: op.Input.Set}
	}
	return c.answered(op, &logpb.Command{Kind: &logpb.Command_Decide{Decide: d}})
}

func (c *contractRun) rollback(op linearizability.Operation, gid fsm.GID) linearizability.Operation {
	d := &logpb.Decide{Gid: gid.Bytes(), Decision: fsm.DecisionRollback, Origin: logpb.Origin_ORIGIN_CLIENT, Reason: logpb.Reason_REASON_REQUESTED}
	op.Kind = linearizability.KindRollback
	if c.r.IntN(5) == 0 {
		d.Origin, d.Reason, op.Input.Participant = logpb.Origin_ORIGIN_PARTICIPANT, logpb.Reason_REASON_PRESUMED, true
	}
	for _, id := range []string{"1", "2", "3"} {
		b := c.specOf(id)
		switch c.r.IntN(4) {
		case 0:
			b = linearizability.Branch{ID: id}
		case 1:
		default:
			continue
		}
		d.Branches = append(d.Branches, logSpec(b))
		op.Input.Branches = append(op.Input.Branches, b)
	}
	return c.answered(op, &logpb.Command{Kind: &logpb.Command_Decide{Decide: d}})
}

func (c *contractRun) submit(op linearizability.Operation, gid fsm.GID, n int) linearizability.Operation {
	b, in, key := c.beginOf(gid, n)
	op.Kind, op.Input, op.Key = linearizability.KindSubmit, in, key
	op.Input.Wait = linearizability.WaitNone
	s := &logpb.Submit{Begin: b}
	for _, id := range pick(c.r, []string{"1", "2"}, []string{"1", "2"}, []string{"1"}, []string{"1", "2", "4"}) {
		branch := c.specOf(id)
		op.Input.Branches = append(op.Input.Branches, branch)
		s.Set = append(s.Set, logSpec(branch))
		if branch.Held || c.r.IntN(3) == 0 {
			continue
		}
		vote := c.vote()
		op.Input.Votes = append(op.Input.Votes, linearizability.Ballot{Branch: branch, Vote: vote})
		s.Votes = append(s.Votes, &logpb.Ballot{Branch: logSpec(branch), Kind: logVotes[vote]})
	}
	return c.answered(op, &logpb.Command{Kind: &logpb.Command_Submit{Submit: s}})
}

// answered applies a command and writes down what the client hears.
func (c *contractRun) answered(op linearizability.Operation, command *logpb.Command) linearizability.Operation {
	res := c.apply(command)
	op.Status = linearizability.StatusOK
	op.Output = linearizability.Output{
		GID: res.GID.String(), Created: res.Created,
		Verdict:  linearizability.FromWire[linearizability.Verdict](res.Verdict),
		Decision: linearizability.FromWire[linearizability.Decision](res.Decision),
		State:    linearizability.FromWire[linearizability.State](res.State),
	}
	if res.Code != fsm.OK {
		op.Status, op.Output.Refusal = linearizability.StatusRefused, res.Code.String()
		op.Output.State = ""
	}
	if slices.Contains([]fsm.Code{fsm.Invalid, fsm.Quota}, res.Code) {
		op.Status = linearizability.StatusFailed
	}
	if res.GID.IsZero() || strings.Trim(op.Output.GID, "0") == "" {
		op.Output.GID = ""
	}
	return op
}
