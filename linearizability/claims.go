package linearizability

import (
	"cmp"
	"fmt"
	"slices"
)

// claim is somebody's word that a transaction was decided: an answer, a node's log,
// a delivery, a ledger's line.
type claim struct {
	decision Decision
	// source is one holder of knowledge: the service as a whole (whose
	// linearizable answers are one voice), a node, a participant, a ledger.
	source string
	// from and to bound when it was said; 0 and 0 where that is not known.
	from, to int64
	// index of the decision in the log, 0 where not told; applied is the index that
	// the answer carried.
	index uint64
	by    witness
	line  int
}

// witness is what says so: an answer or an observation. Its text is made only where
// it is shown.
type witness struct {
	what string
	op   *Operation
	seen *Observation
}

func (w witness) String() string {
	switch {
	case w.seen != nil:
		return w.seen.describe()
	case w.what != "":
		return w.what + ": " + where(w.op)
	default:
		return where(w.op)
	}
}

// told is a branch's verdict as somebody heard it.
type told struct {
	kind     Kind // that was answered; empty for a delivery
	verdict  Verdict
	from, to int64
	unseen   bool
	delivery bool
	by       witness
	line     int
}

// facts are all that a history shows of one GID.
type facts struct {
	gid    string
	ops    []*Operation
	seen   []*Observation
	claims []claim
	told   map[string][]told
}

// decided is the decision that is claimed first, or none.
func (f *facts) decided() Decision {
	if len(f.claims) == 0 {
		return DecisionNone
	}
	return f.claims[0].decision
}

func (f *facts) claimed(d Decision) *claim {
	for i := range f.claims {
		if f.claims[i].decision == d {
			return &f.claims[i]
		}
	}
	return nil
}

// sights returns the observations of one kind.
func (f *facts) sights(s Sight) (out []*Observation) {
	for _, o := range f.seen {
		if o.Sight == s {
			out = append(out, o)
		}
	}
	return out
}

// gather sorts answers and observations by GID, in order of their first mention.
func gather(h *History, ops []*Operation) []*facts {
	g := gatherer{byGID: make(map[string]*facts)}
	owners := keyOwners(ops)
	for _, op := range ops {
		switch op.Kind {
		case KindList:
			for _, l := range op.Output.Transactions {
				f := g.of(l.GID)
				f.claim(l.Decision, 0, op, "listed")
				if d := decisionIn(l.State); l.Decision == DecisionNone && d != DecisionNone {
					f.claim(d, 0, op, "listed "+string(l.State))
				}
			}
			continue
		case KindWatch:
			for _, e := range op.Output.Events {
				var index uint64
				if e.Event == "decided" {
					index = e.Index
				}
				g.of(e.GID).claim(e.Decision, index, op, "event "+e.Event)
			}
			continue
		}
		gid := about(op, owners)
		if gid == "" {
			continue
		}
		f := g.of(gid)
		f.ops = append(f.ops, op)
		if op.Output.Refusal != refusalKey {
			f.answered(op)
		}
	}
	for i := range h.Observations {
		o := &h.Observations[i]
		if o.GID == "" || o.Sight == SightCommand {
			continue
		}
		f := g.of(o.GID)
		f.seen = append(f.seen, o)
		f.observed(o)
	}
	for _, f := range g.all {
		slices.SortStableFunc(f.claims, func(a, b claim) int { return cmp.Compare(a.to, b.to) })
	}
	return g.all
}

type gatherer struct {
	byGID map[string]*facts
	all   []*facts
}

func (g *gatherer) of(gid string) *facts {
	f := g.byGID[gid]
	if f == nil {
		f = &facts{gid: gid}
		g.byGID[gid] = f
		g.all = append(g.all, f)
	}
	return f
}

func decisionIn(s State) Decision {
	switch s {
	case StateCommitting, StateCommitted:
		return DecisionCommit
	case StateRollingBack, StateRolledBack:
		return DecisionRollback
	default:
		return DecisionNone
	}
}

func (f *facts) claim(d Decision, index uint64, op *Operation, what string) {
	if d == DecisionNone {
		return
	}
	source := "the service"
	if op.Input.Consistency == Local || op.Kind == KindWatch {
		source = "node " + op.Node
	}
	f.claims = append(f.claims, claim{
		decision: d, source: source, from: op.Call, to: op.Return, index: index, by: witness{what: what, op: op}, line: op.Line,
	})
}

// answered notes what an answer tells of the decision, and of a branch's verdict.
func (f *facts) answered(op *Operation) {
	if op.Status != StatusOK && op.Status != StatusRefused {
		return
	}
	out := &op.Output
	// For a participant, "rolled back" of what is at or below the horizon is
	// presumed, and of a dropped one says nothing about what was decided.
	gone := out.Refusal == refusalExpired || out.Unseen || op.Kind == KindReport ||
		op.Kind == KindRollback && op.Input.Participant && out.State == ""
	switch d := cmp.Or(out.Decision, decisionIn(out.State)); {
	case gone:
	case d != DecisionNone:
		f.claim(d, out.DecisionIndex, op, "answered")
	case out.Refusal == refusalDecided && (op.Kind == KindCommit || op.Kind == KindSubmit):
		f.claim(DecisionRollback, out.DecisionIndex, op, "refused")
	case out.Refusal == refusalDecided && op.Kind == KindRollback:
		f.claim(DecisionCommit, out.DecisionIndex, op, "refused")
	case out.Verdict == VerdictCommit:
		f.claim(DecisionCommit, out.DecisionIndex, op, "verdict")
	}
	if op.Branch != "" && out.Verdict != "" && op.Kind != KindReport && out.Refusal != refusalExpired {
		f.tell(op.Branch, told{kind: op.Kind, verdict: out.Verdict, from: op.Call, to: op.Return, unseen: out.Unseen, by: witness{op: op}, line: op.Line})
	}
}

func (f *facts) tell(branch string, t told) {
	if f.told == nil {
		f.told = make(map[string][]told)
	}
	f.told[branch] = append(f.told[branch], t)
}

func (f *facts) observed(o *Observation) {
	claimed := claim{decision: o.Decision, from: o.At, to: o.At, index: o.Index, by: witness{seen: o}, line: o.Line}
	switch o.Sight {
	case SightDecision:
		claimed.source = "node " + o.Node
	case SightFinal:
		claimed.source, claimed.decision = "the service", cmp.Or(o.Decision, decisionIn(o.State))
	case SightLedger:
		claimed.source = "a ledger"
	case SightDelivery:
		f.tell(o.Branch, told{verdict: o.Verdict, from: o.At, to: o.At, delivery: true, by: witness{seen: o}, line: o.Line})
		if o.Verdict == VerdictCommit {
			claimed.decision = DecisionCommit
		}
		claimed.source = "participant " + o.Process
	case SightJournal:
		if o.Step == StepCommitted {
			claimed.decision = DecisionCommit
		}
		claimed.source = "participant " + o.Process
	}
	if claimed.decision != DecisionNone {
		f.claims = append(f.claims, claimed)
	}
}

// describe is an observation on one line.
func (o *Observation) describe() string {
	s := string(o.Sight)
	if o.Line > 0 {
		s = fmt.Sprintf("line %d, %s", o.Line, s)
	}
	for _, part := range []struct{ name, value string }{
		{"of", short(o.GID)}, {"branch", o.Branch}, {"at", o.Resource}, {"by", o.Process}, {"node", o.Node},
		{"", string(o.Kind)}, {"verdict", string(o.Verdict)}, {"", string(o.Decision)}, {"", string(o.State)},
		{"", string(o.Vote)}, {"", string(o.Step)}, {"", o.Mode}, {"", string(o.Operation)}, {"", o.Text},
	} {
		switch {
		case part.value == "":
		case part.name == "":
			s += " " + part.value
		default:
			s += " " + part.name + " " + part.value
		}
	}
	if o.Index > 0 {
		s += fmt.Sprintf(" at index %d", o.Index)
	}
	return s
}
