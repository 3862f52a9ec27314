package linearizability

import (
	"fmt"
	"slices"
	"strings"
)

// What each field of the format may hold. A word that is not listed is an error
// of the reader: it would otherwise be compared with nothing.
var (
	kinds = []Kind{KindBegin, KindEnlist, KindVote, KindCommit, KindRollback, KindSubmit, KindReport,
		KindResolve, KindRecord, KindStop, KindAnswer, KindInquire, KindGet, KindList, KindWatch}
	commandKinds = []Kind{KindBegin, KindEnlist, KindVote, KindCommit, KindRollback, KindSubmit, KindReport,
		KindResolve, KindRecord, KindStop, KindAnswer, KindTick, KindOther}
	statuses    = []Status{StatusOK, StatusRefused, StatusFailed, StatusUnknown}
	decisions   = []Decision{DecisionNone, DecisionCommit, DecisionRollback}
	states      = []State{"", StateActive, StateSealed, StateCommitting, StateCommitted, StateRollingBack, StateRolledBack}
	verdicts    = []Verdict{"", VerdictWait, VerdictCommit, VerdictRollback}
	votes       = []Vote{"", VotePrepared, VoteReadOnly, VoteRefused}
	outcomes    = []Outcome{"", OutcomeCommitted, OutcomeRolledBack, OutcomeMixed, OutcomeHazard, OutcomeGaveUp}
	answersSaid = []Said{"", SaidDone, SaidRefused, SaidGaveUp}
	modes       = []string{"", modeTwoPhase, modeSaga, modeTCC, modeMessage, modeWorkflow, modeNotify}
	entries     = []Entry{"", EntryExplicit, EntryNamed}
	waits       = []Wait{"", WaitDecision, WaitFinish, WaitNone}
	reads       = []Consistency{"", Linearizable, Local}
	sights      = []Sight{SightDelivery, SightJournal, SightEvidence, SightDecision, SightLedger, SightFinal,
		SightInDoubt, SightSum, SightQuiescent, SightCommand, SightPlan, SightEffect, SightCall, SightLog}
	effects = []Effect{"", EffectLocal, EffectAction, EffectCompensate, EffectTry, EffectConfirm, EffectCancel, EffectCheckBack, EffectResume}
	// modesOfEffects are those whose branches are called.
	modesOfEffects = []string{"", modeSaga, modeTCC, modeMessage, modeWorkflow, modeNotify}
	steps          = []Step{"", StepPrepared, StepReadOnly, StepRefused, StepCommitted, StepRolledBack}
)

// wrong collects the first word that is none.
type wrong struct{ why, do string }

func word[T ~string](w *wrong, field string, got T, known []T) {
	if w.why == "" && !slices.Contains(known, got) {
		list := make([]string, 0, len(known))
		for _, k := range known {
			if k != "" {
				list = append(list, string(k))
			}
		}
		w.why = fmt.Sprintf("%s is %q", field, got)
		w.do = "known are " + strings.Join(list, ", ")
	}
}

func (w *wrong) must(ok bool, why, do string) {
	if w.why == "" && !ok {
		w.why, w.do = why, do
	}
}

func (w *wrong) input(in *Input) {
	word(w, "entry", in.Entry, entries)
	word(w, "vote", in.Vote, votes)
	word(w, "wait", in.Wait, waits)
	word(w, "outcome", in.Outcome, outcomes)
	word(w, "consistency", in.Consistency, reads)
	word(w, "mode", in.Mode, modes)
	word(w, "said", in.Said, answersSaid)
	for _, ballot := range in.Votes {
		word(w, "a ballot's vote", ballot.Vote, votes[1:])
	}
	for _, s := range in.States {
		word(w, "a state", s, states[1:])
	}
	w.must(!in.Bare || len(in.Set) == 0, "a bare commit that names a set", "give one or the other")
}

func (w *wrong) branches(branches []BranchView) {
	for _, b := range branches {
		word(w, "a branch's vote", b.Vote, votes)
		word(w, "a branch's outcome", b.Outcome, outcomes)
	}
}

// plan refuses steps that name others that are not there.
func (w *wrong) plan(steps []PlannedStep) {
	known := map[string]bool{}
	for _, s := range steps {
		w.must(s.ID != "" && !known[s.ID], "a step without an id of its own", "give each step its branch's id")
		known[s.ID] = true
	}
	for _, s := range steps {
		for _, before := range s.After {
			w.must(known[before] && before != s.ID, fmt.Sprintf("step %s comes after %s, which is no other step", s.ID, before), "name steps of the plan")
		}
	}
}

// needsGID: whose transaction must be known when it is called. The others may
// name a key instead.
func needsBranch(k Kind) bool {
	switch k {
	case KindEnlist, KindVote, KindReport, KindResolve, KindRecord, KindAnswer, KindInquire:
		return true
	default:
		return false
	}
}

func (p *parser) checkCall(op *Operation) error {
	var w wrong
	word(&w, "kind", op.Kind, kinds)
	if op.Kind != KindList && op.Kind != KindWatch {
		w.must(op.GID != "" || op.Key != "", "an operation without a gid or a key", "name the transaction that it is about")
	}
	w.must(!needsBranch(op.Kind) || op.Branch != "", fmt.Sprintf("%s without a branch", op.Kind), "name the branch")
	w.must(op.Kind != KindVote || op.Input.Vote != "", "a vote without a vote", "give input.vote")
	w.must(op.Kind != KindAnswer || op.Input.Said != "", "an answer that says nothing", "give input.said")
	w.must(op.Kind != KindRecord || op.Input.Operation != "", "a record without an operation", "give the code's own word for the step")
	w.must(op.Call > 0, "a call without a time", "times are nanoseconds since the recorder's start, above 0")
	w.input(&op.Input)
	return p.verdictOf(w)
}

func (p *parser) checkReturn(op *Operation) error {
	var w wrong
	word(&w, "status", op.Status, statuses)
	out := &op.Output
	word(&w, "decision", out.Decision, decisions)
	word(&w, "state", out.State, states)
	word(&w, "verdict", out.Verdict, verdicts)
	w.branches(out.Branches)
	for _, l := range out.Transactions {
		word(&w, "a listed state", l.State, states)
		word(&w, "a listed decision", l.Decision, decisions)
	}
	for _, e := range out.Events {
		word(&w, "an event's state", e.State, states)
		word(&w, "an event's decision", e.Decision, decisions)
	}
	w.must(op.Status != StatusRefused || out.Refusal != "", "a refusal without a reason", "give output.refusal")
	if op.Status == StatusUnknown {
		w.must(op.Return == 0, "an unknown outcome that returned", "leave its return out: it may take effect at any time")
	} else {
		w.must(op.Return >= op.Call, fmt.Sprintf("it returned at %d, before its call at %d", op.Return, op.Call),
			"take all times from one monotonic clock")
	}
	return p.verdictOf(w)
}

func (p *parser) checkObservation(o *Observation) error {
	var w wrong
	word(&w, "sight", o.Sight, sights)
	word(&w, "verdict", o.Verdict, verdicts)
	word(&w, "decision", o.Decision, decisions)
	word(&w, "state", o.State, states)
	word(&w, "vote", o.Vote, votes)
	word(&w, "step", o.Step, steps)
	w.branches(o.Branches)
	switch o.Sight {
	case SightCall:
		w.must(o.GID != "" && o.Operation != "", "a call without gid or operation", "name both")
		w.must(o.Branch != "" || o.Operation == EffectCheckBack || o.Operation == EffectResume, "a call without a branch", "name it")
	case SightDelivery, SightJournal, SightEvidence, SightEffect:
		w.must(o.GID != "" && o.Branch != "", fmt.Sprintf("%s without gid and branch", o.Sight), "name both")
	case SightDecision, SightFinal, SightLedger, SightPlan:
		w.must(o.GID != "", fmt.Sprintf("%s without a gid", o.Sight), "name the transaction")
	case SightCommand:
		w.must(o.Command != nil && o.Index > 0, "a command without its index or content", "give index and command")
	case SightLog:
		w.must(o.From > 0 && o.Through >= o.From-1, "a log without its bounds", "give from and through, both included")
	}
	word(&w, "mode", o.Mode, modesOfEffects)
	word(&w, "operation", o.Operation, effects)
	if o.Sight == SightPlan {
		w.must(o.Mode != "", "a plan without a mode", "give mode and steps")
		w.plan(o.Steps)
	}
	if o.Sight == SightEffect {
		w.must(o.Operation != "", "an effect without an operation", "give what was done")
	}
	if o.Sight == SightDelivery {
		w.must(o.Verdict != "", "a delivery without a verdict", "give what the participant was told")
	}
	if o.Sight == SightJournal {
		w.must(o.Step != "", "a journal line without a step", "give what the participant did")
	}
	if o.Sight == SightLedger {
		word(&w, "kind", o.Kind, kinds)
	}
	if o.Command != nil {
		word(&w, "a command's kind", o.Command.Kind, commandKinds)
		w.input(&o.Command.Input)
	}
	return p.verdictOf(w)
}

func (p *parser) verdictOf(w wrong) error {
	if w.why == "" {
		return nil
	}
	return p.fail(w.why, w.do)
}
