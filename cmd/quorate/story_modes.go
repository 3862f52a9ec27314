package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// What the modes whose branches are called say differently in a story: a branch
// there is something that is done, not somebody who votes.

// calledMode tells a mode whose branches, or whose initiator, the leader calls.
func calledMode(tx *quoratev1.Transaction) bool {
	switch tx.GetMode() {
	case quoratev1.Mode_MODE_UNSPECIFIED, quoratev1.Mode_MODE_TWO_PHASE:
		return false
	default:
		return !tx.GetTombstone()
	}
}

// nameOf is what a branch is called in its mode's story.
func nameOf(tx *quoratev1.Transaction, id string) string {
	switch tx.GetMode() {
	case quoratev1.Mode_MODE_SAGA, quoratev1.Mode_MODE_WORKFLOW:
		return "step " + id
	default:
		return "branch " + id
	}
}

func operationWord(op quoratev1.Operation) string { return word(op.String(), "OPERATION_") }

// answeredWord is what a step said to its action, or a workflow's code of a step.
func answeredWord(tx *quoratev1.Transaction, b *quoratev1.Branch) string {
	failed := b.GetVote() == quoratev1.Vote_VOTE_REFUSED
	switch {
	case tx.GetMode() == quoratev1.Mode_MODE_WORKFLOW && failed:
		return strings.TrimSpace(b.GetRecorded() + " failed")
	case tx.GetMode() == quoratev1.Mode_MODE_WORKFLOW:
		return strings.TrimSpace(b.GetRecorded() + " recorded")
	case failed && b.GetMaybePrepared():
		return "failed, maybe done"
	case failed:
		return "refused"
	default:
		return "done"
	}
}

// reportedWord is what a branch did once it was decided.
func reportedWord(tx *quoratev1.Transaction, b *quoratev1.Branch) string {
	done := map[quoratev1.Mode]map[quoratev1.Outcome]string{
		quoratev1.Mode_MODE_SAGA: {quoratev1.Outcome_OUTCOME_ROLLED_BACK: "compensated"},
		quoratev1.Mode_MODE_TCC: {
			quoratev1.Outcome_OUTCOME_COMMITTED: "confirmed", quoratev1.Outcome_OUTCOME_ROLLED_BACK: "cancelled",
		},
		quoratev1.Mode_MODE_MESSAGE: {quoratev1.Outcome_OUTCOME_COMMITTED: "delivered"},
		quoratev1.Mode_MODE_NOTIFY: {
			quoratev1.Outcome_OUTCOME_COMMITTED: "delivered", quoratev1.Outcome_OUTCOME_GAVE_UP: "given up, best effort ends here",
		},
	}
	if text, ok := done[tx.GetMode()][b.GetOutcome()]; ok {
		return text
	}
	return "reported " + outcomeWord(b.GetOutcome())
}

// calledWhere is where a branch is called, forward and back, and what it waits for.
func calledWhere(tx *quoratev1.Transaction, spec *quoratev1.BranchSpec) string {
	parts, back := []string{whereOf(spec)}, "undo at "
	if tx.GetMode() == quoratev1.Mode_MODE_TCC {
		back = "cancel at "
	}
	if spec.GetUndo() != "" {
		parts = append(parts, back+spec.GetUndo())
	}
	if spec.GetTopic() != "" {
		parts = append(parts, "of topic "+spec.GetTopic())
	}
	if len(spec.GetAfter()) > 0 {
		parts = append(parts, "after "+strings.Join(spec.GetAfter(), ", "))
	}
	return strings.TrimSpace(strings.Join(parts, "  "))
}

// sealedWord is what a client asked for.
func sealedWord(tx *quoratev1.Transaction) string {
	if calledMode(tx) {
		return "submitted"
	}
	return "commit asked, set sealed"
}

// aboutPlan is the second line's share of what a mode carries.
func aboutPlan(tx *quoratev1.Transaction) (about []string) {
	plan := tx.GetPlan()
	if plan.GetWorkflow() != "" {
		about = append(about, "workflow "+plan.GetWorkflow())
	}
	if plan.GetCallback() != "" {
		about = append(about, "callback "+plan.GetCallback())
	}
	if d := plan.GetDelay().AsDuration(); d > 0 {
		about = append(about, "delay "+d.String())
	}
	if n := plan.GetConcurrencyMax(); n > 0 {
		about = append(about, fmt.Sprintf("at most %d at once", n))
	}
	if plan.GetDialect() != "" {
		about = append(about, strings.TrimSpace("in the tongue "+plan.GetDialect()+" "+plan.GetDialectMode()))
	}
	return about
}

// calledBranches tells of what is being called, and of what waits for it.
func (p *storyPrinter) calledBranches(now time.Time) {
	if p.finished() {
		return
	}
	if d := p.tx.GetCallback(); d != nil {
		p.callback(d, now)
	}
	for _, b := range p.tx.GetBranches() {
		switch {
		case b.GetTerminal() && b.GetDelivery() == nil:
		case b.GetDelivery() != nil:
			p.call(b, now)
		case p.answered(b):
		default:
			p.waits(b)
		}
	}
}

// answered tells of a branch that has nothing to do for now: a step of a saga
// that was done, while others go on.
func (p *storyPrinter) answered(b *quoratev1.Branch) bool {
	return p.undecided() && b.GetVote() != quoratev1.Vote_VOTE_UNSPECIFIED
}

func (p *storyPrinter) undecided() bool {
	return p.tx.GetDecision() == quoratev1.Decision_DECISION_UNSPECIFIED
}

// call tells of a branch that is being called.
func (p *storyPrinter) call(b *quoratev1.Branch, now time.Time) {
	d, id := b.GetDelivery(), b.GetSpec().GetId()
	p.attempts(nameOf(p.tx, id)+" "+operationWord(b.GetOperation()), d)
	p.nextTry(d, now, " --branch "+id)
	if d.GetStuck() {
		p.wayOut(b)
	}
}

// callback tells of the initiator that is asked.
func (p *storyPrinter) callback(d *quoratev1.Delivery, now time.Time) {
	what := "check-back at "
	if p.tx.GetMode() == quoratev1.Mode_MODE_WORKFLOW {
		what = "resume at "
	}
	p.attempts(what+p.tx.GetPlan().GetCallback(), d)
	p.nextTry(d, now, "")
}

func (p *storyPrinter) attempts(what string, d *quoratev1.Delivery) {
	stuck := ""
	if d.GetStuck() {
		stuck = "  STUCK"
	}
	p.printf("  %s: %s in %s under this leader%s", what, plural(int(d.GetAttempts()), "attempt", "attempts"), age(d.GetDueFor().AsDuration()), stuck)
	p.lastError(d)
}

// wayOut tells how what never answers can be ended.
func (p *storyPrinter) wayOut(b *quoratev1.Branch) {
	gid, id := p.tx.GetGid(), b.GetSpec().GetId()
	if p.undecided() {
		p.printf("         to give the whole up and compensate: quorate tx rollback %s", gid)
		return
	}
	p.printf("         if you know that it is done: quorate tx resolve %s --branch %s --outcome ... --operator ... --reason ...", gid, id)
	p.printf("         if nobody will ever answer: quorate tx stop %s --operator ... --reason ...", gid)
}

// waits tells why a branch is not called yet.
func (p *storyPrinter) waits(b *quoratev1.Branch) {
	name := nameOf(p.tx, b.GetSpec().GetId())
	switch {
	case p.tx.GetMode() == quoratev1.Mode_MODE_TCC && p.undecided():
		p.printf("  %s is registered: it is confirmed or cancelled once that is decided", name)
	case p.tx.GetMode() == quoratev1.Mode_MODE_MESSAGE && p.undecided():
		p.printf("  %s is called once the message is submitted", name)
	default:
		if before := p.before(b); len(before) > 0 {
			p.printf("  %s waits for %s", name, strings.Join(before, ", "))
			return
		}
		p.printf("  %s is next", name)
	}
}

// before lists what a branch waits for: forward what it comes after, back what
// comes after it.
func (p *storyPrinter) before(b *quoratev1.Branch) (names []string) {
	back := p.tx.GetDecision() == quoratev1.Decision_DECISION_ROLLBACK
	for _, other := range p.tx.GetBranches() {
		ended := other.GetTerminal()
		if p.undecided() {
			ended = other.GetVote() == quoratev1.Vote_VOTE_PREPARED
		}
		linked := slices.Contains(b.GetSpec().GetAfter(), other.GetSpec().GetId())
		if back {
			linked = slices.Contains(other.GetSpec().GetAfter(), b.GetSpec().GetId())
		}
		if linked && !ended {
			names = append(names, nameOf(p.tx, other.GetSpec().GetId()))
		}
	}
	return names
}

// calledEnding tells what time does to an undecided one.
func (p *storyPrinter) calledEnding(header *quoratev1.ResponseHeader) {
	tx := p.tx
	switch {
	case !p.undecided() || p.finished():
	case tx.GetDeadlineMs() > header.GetClockMs():
		left := age(time.Duration(tx.GetDeadlineMs()-header.GetClockMs()) * time.Millisecond)
		if tx.GetMode() == quoratev1.Mode_MODE_TCC {
			p.printf("  is cancelled by itself in %s, unless decided before: quorate tx commit %s", left, tx.GetGid())
		} else {
			p.printf("  is compensated by itself in %s, unless every step is done before", left)
		}
	case tx.GetDeadlineMs() != 0:
		p.printf("  its time is over: it rolls back at the next tick")
	case tx.GetPlan().GetCallback() == "" && (tx.GetMode() == quoratev1.Mode_MODE_MESSAGE || tx.GetMode() == quoratev1.Mode_MODE_WORKFLOW):
		p.printf("  names nobody to call back: it waits for its initiator alone, for ever; to end it by hand: quorate tx stop %s", tx.GetGid())
	case tx.GetMode() == quoratev1.Mode_MODE_MESSAGE && tx.GetCallback() == nil:
		p.printf("  waits for its initiator, who is asked by the leader when nothing is heard; to decide it by hand: quorate tx commit|rollback %s", tx.GetGid())
	}
}
