package chaos

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/linearizability"
)

// Observe writes the log into a history, in the history's words: what answers
// are compared with, and what tells which unknown calls never happened. Commands
// about transactions that mine says no to are left out.
func (r *Replay) Observe(to *linearizability.Recorder, mine func(gid string) bool) {
	for _, o := range r.observations(mine) {
		to.Observe(o)
	}
}

// observations are the log in a history's words.
func (r *Replay) observations(mine func(gid string) bool) (all []linearizability.Observation) {
	if len(r.Entries) == 0 {
		return nil
	}
	for _, e := range r.Entries {
		for _, packed := range e.Batch.GetCommands() {
			for c := range fsm.Unpack(packed, fsm.Result{}) {
				if command := commandOf(c); command.GID == "" || mine(command.GID) {
					all = append(all, linearizability.Observation{
						Sight: linearizability.SightCommand, Index: e.Index, Term: e.Term, ClockMS: e.Batch.GetClockMs(), Command: command,
					})
				}
			}
		}
	}
	return append(all, linearizability.Observation{
		Sight: linearizability.SightLog, From: r.Entries[0].Index, Through: r.Compared, Whole: r.Whole,
	})
}

// commandOf is a command in the history's words.
func commandOf(c *logpb.Command) *linearizability.Command {
	switch k := c.GetKind().(type) {
	case *logpb.Command_Begin:
		return ofBegin(linearizability.KindBegin, k.Begin)
	case *logpb.Command_Enlist:
		spec := k.Enlist.GetBranch()
		return &linearizability.Command{
			Kind: linearizability.KindEnlist, GID: gidText(k.Enlist.GetGid()), Branch: spec.GetId(), Input: specInput(spec),
		}
	case *logpb.Command_Vote:
		return ofVote(k.Vote)
	case *logpb.Command_Decide:
		return ofDecide(k.Decide)
	case *logpb.Command_Submit:
		return ofSubmit(k.Submit)
	case *logpb.Command_Report:
		return &linearizability.Command{
			Kind: linearizability.KindReport, GID: gidText(k.Report.GetGid()), Branch: k.Report.GetBranch(),
			Input: linearizability.Input{Outcome: linearizability.FromWire[linearizability.Outcome](k.Report.GetOutcome()), Holder: gidText(k.Report.GetHolder())},
		}
	case *logpb.Command_Resolve:
		return &linearizability.Command{
			Kind: linearizability.KindResolve, GID: gidText(k.Resolve.GetGid()), Branch: k.Resolve.GetBranch(),
			Input: linearizability.Input{Outcome: linearizability.FromWire[linearizability.Outcome](k.Resolve.GetOutcome()), Operator: k.Resolve.GetOperator()},
		}
	case *logpb.Command_Answer:
		a := k.Answer
		return &linearizability.Command{
			Kind: linearizability.KindAnswer, GID: gidText(a.GetGid()), Branch: a.GetBranch(), Driver: true,
			Input: linearizability.Input{Said: linearizability.FromWire[linearizability.Said](a.GetKind()), MaybeDone: a.GetMaybeDone()},
		}
	case *logpb.Command_Record:
		r := k.Record
		return &linearizability.Command{
			Kind: linearizability.KindRecord, GID: gidText(r.GetGid()), Branch: r.GetBranch().GetId(),
			Input: linearizability.Input{Operation: r.GetOperation(), Failed: r.GetFailed(), Result: string(r.GetResult())},
		}
	case *logpb.Command_Stop:
		return &linearizability.Command{Kind: linearizability.KindStop, GID: gidText(k.Stop.GetGid()), Input: linearizability.Input{Operator: k.Stop.GetOperator()}}
	case *logpb.Command_Tick:
		return &linearizability.Command{Kind: linearizability.KindTick}
	}
	return &linearizability.Command{Kind: linearizability.KindOther}
}

func ofBegin(kind linearizability.Kind, b *logpb.Begin) *linearizability.Command {
	mode := linearizability.FromWire[string](b.GetMode())
	if mode == "two_phase" {
		mode = ""
	}
	c := &linearizability.Command{
		Kind: kind, GID: gidText(b.GetGid()), Namespace: b.GetNamespace(), Key: b.GetKey(),
		Input: linearizability.Input{
			Mode: mode, Entry: linearizability.FromWire[linearizability.Entry](b.GetEntry()), TimeoutMS: b.GetTimeoutMs(), Content: contentOf(b.GetLabels()),
		},
	}
	if b.GetPlan() != nil {
		c.Input.Content += " " + sumOf(b.GetPlan())
	}
	for _, spec := range b.GetBranches() {
		c.Input.Branches = append(c.Input.Branches, loggedBranch(spec))
	}
	return c
}

// sumOf stands for a message, whatever it holds: what is the same has the same sum.
func sumOf(m proto.Message) string {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return err.Error()
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// contentOf stands for the labels: the workload's one label by its value alone.
func contentOf(labels []*logpb.Label) string {
	var words []string
	for _, l := range labels {
		if l.GetName() == contentLabel {
			words = append(words, l.GetValue())
		} else {
			words = append(words, l.GetName()+"="+l.GetValue())
		}
	}
	return strings.Join(words, ",")
}

func ofVote(v *logpb.Vote) *linearizability.Command {
	spec := v.GetBallot().GetBranch()
	input := specInput(spec)
	input.Vote = linearizability.FromWire[linearizability.Vote](v.GetBallot().GetKind())
	input.MaybePrepared = v.GetBallot().GetMaybePrepared()
	return &linearizability.Command{Kind: linearizability.KindVote, GID: gidText(v.GetGid()), Branch: spec.GetId(), Input: input}
}

func ofDecide(d *logpb.Decide) *linearizability.Command {
	c := &linearizability.Command{
		Kind: linearizability.KindCommit, GID: gidText(d.GetGid()), Driver: d.GetOrigin() == logpb.Origin_ORIGIN_DRIVER,
		Epoch: linearizability.Epoch{Incarnation: d.GetEpoch().GetIncarnation(), Term: d.GetEpoch().GetTerm()},
	}
	if d.GetDecision() == logpb.Decision_DECISION_COMMIT {
		c.Input.Bare, c.Input.Set, c.Input.Result = d.GetSet() == nil, d.GetSet().GetIds(), string(d.GetResult())
		return c
	}
	c.Kind, c.Reason = linearizability.KindRollback, linearizability.ReasonFromWire(d.GetReason())
	c.Input.Result = string(d.GetResult())
	c.Input.Operator, c.Input.Participant = d.GetOperator(), d.GetOrigin() == logpb.Origin_ORIGIN_PARTICIPANT
	for _, b := range d.GetBranches() {
		c.Input.Branches = append(c.Input.Branches, loggedBranch(b))
	}
	return c
}

func ofSubmit(s *logpb.Submit) *linearizability.Command {
	c := ofBegin(linearizability.KindSubmit, s.GetBegin())
	c.Input.Branches = nil
	for _, b := range s.GetSet() {
		c.Input.Branches = append(c.Input.Branches, loggedBranch(b))
	}
	for _, v := range s.GetVotes() {
		c.Input.Votes = append(c.Input.Votes, linearizability.Ballot{
			Branch: loggedBranch(v.GetBranch()), Vote: linearizability.FromWire[linearizability.Vote](v.GetKind()), MaybePrepared: v.GetMaybePrepared(),
		})
	}
	return c
}

func specInput(spec *logpb.BranchSpec) linearizability.Input {
	b := loggedBranch(spec)
	return linearizability.Input{
		Resource: b.Resource, Endpoint: b.Endpoint, Held: b.Held, Holder: b.Holder, Undo: b.Undo, After: b.After, Payload: b.Content,
	}
}

func loggedBranch(b *logpb.BranchSpec) linearizability.Branch {
	return linearizability.Branch{
		ID: b.GetId(), Resource: b.GetResource(), Endpoint: b.GetEndpoint(), Held: b.GetHeld(), Holder: gidText(b.GetHolder()),
		Undo: b.GetUndo(), After: linearizability.IDsOf(b.GetAfter()), Content: string(b.GetPayload()),
	}
}

// gidText is the text of 16 bytes, empty for none.
func gidText(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	gid, err := fsm.GIDFromBytes(b)
	if err != nil {
		return ""
	}
	return gid.String()
}
