package chaos

import (
	"strings"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/linearizability"
)

// Observe writes the log into a history, in the history's words: what answers
// are compared with, and what tells which unknown calls never happened. Commands
// about transactions that mine says no to are left out.
func (r *Replay) Observe(to *linearizability.Recorder, mine func(gid string) bool) {
	if len(r.Entries) == 0 {
		return
	}
	for _, e := range r.Entries {
		for _, c := range e.Batch.GetCommands() {
			if command := commandOf(c); command.GID == "" || mine(command.GID) {
				to.Observe(linearizability.Observation{
					Sight: linearizability.SightCommand, Index: e.Index, Term: e.Term, ClockMS: e.Batch.GetClockMs(), Command: command,
				})
			}
		}
	}
	to.Observe(linearizability.Observation{
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
	return &linearizability.Command{
		Kind: kind, GID: gidText(b.GetGid()), Namespace: b.GetNamespace(), Key: b.GetKey(),
		Input: linearizability.Input{
			Mode: mode, Entry: linearizability.FromWire[linearizability.Entry](b.GetEntry()), TimeoutMS: b.GetTimeoutMs(), Content: contentOf(b.GetLabels()),
		},
	}
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
		c.Input.Bare, c.Input.Set = d.GetSet() == nil, d.GetSet().GetIds()
		return c
	}
	c.Kind, c.Reason = linearizability.KindRollback, linearizability.ReasonFromWire(d.GetReason())
	c.Input.Operator, c.Input.Participant = d.GetOperator(), d.GetOrigin() == logpb.Origin_ORIGIN_PARTICIPANT
	for _, b := range d.GetBranches() {
		c.Input.Branches = append(c.Input.Branches, loggedBranch(b))
	}
	return c
}

func ofSubmit(s *logpb.Submit) *linearizability.Command {
	c := ofBegin(linearizability.KindSubmit, s.GetBegin())
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

func specInput(b *logpb.BranchSpec) linearizability.Input {
	return linearizability.Input{Resource: b.GetResource(), Endpoint: b.GetEndpoint(), Held: b.GetHeld(), Holder: gidText(b.GetHolder())}
}

func loggedBranch(b *logpb.BranchSpec) linearizability.Branch {
	return linearizability.Branch{ID: b.GetId(), Resource: b.GetResource(), Endpoint: b.GetEndpoint(), Held: b.GetHeld(), Holder: gidText(b.GetHolder())}
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
