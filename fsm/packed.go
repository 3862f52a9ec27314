package fsm

import (
	"fmt"
	"iter"
	"slices"

	"github.com/quorate/quorate/fsm/logpb"
)

// Several branches of one transaction often have their say at the same moment. A
// packed command brings all of it in one: each part is applied by the rules of the
// single command, to what the parts before it have left; the record is cloned and
// put once, and the invariants are held against the whole.

// change is a transaction as commands find it, and what they make of it.
type change struct {
	old  *transaction // nil: unseen
	next *transaction // a clone, nil while nothing has changed
	// parts is how many branches may have their say, and room memory for what they change.
	parts int
	room  []branch
	spare *spare // nil: what is changed gets memory of its own
}

// stands is what the next command finds.
func (x *change) stands() *transaction {
	if x.next != nil {
		return x.next
	}
	return x.old
}

// edit is what the next command may change.
func (x *change) edit() *transaction {
	switch {
	case x.next != nil:
	case x.spare != nil:
		x.next = x.old.cloneTo(&x.spare.record)
		x.room = x.spare.room(x.changing())
	case x.parts > 1:
		var next *transaction
		next, x.room = newRecord(x.changing())
		x.next = x.old.cloneTo(next)
	default:
		x.next = x.old.clone()
	}
	return x.next
}

// changing is how many branches may change.
func (x *change) changing() int { return min(x.parts, len(x.old.branches)) }

// editBranch is what the next command may change of one branch.
func (x *change) editBranch(id string) *branch {
	return x.next.editIn(&x.room, id)
}

// store puts what the commands have made, if anything. Where that broke an
// invariant, none of them has taken place: each answer becomes QUARANTINED.
func (s *State) store(x *change, answers ...Result) {
	if x.next == nil {
		return
	}
	if now := s.put(x.old, x.next); now.quarantined {
		for i, was := range answers {
			answers[i] = stored(now)
			if was.Verdict != VerdictNone {
				answers[i].Verdict = VerdictWait
			}
		}
	}
	s.reuse(x)
}

// reportsCommand applies what several branches report.
func (s *State) reportsCommand(c *logpb.Reports) Result {
	gid, refusal, ok := checkGID(c.GetGid())
	if !ok {
		return refusal
	}
	if refusal, ok := checkPacked("reports", c.GetReports()); !ok {
		return refusal
	}
	x := s.changeOf(gid, len(c.GetReports()))
	parts := s.partsOf(len(c.GetReports()))
	for i, r := range c.GetReports() {
		parts[i] = s.reportTo(&x, gid, r)
	}
	s.store(&x, parts...)
	return together(parts)
}

// answersCommand applies what several steps of a saga have answered.
func (s *State) answersCommand(c *logpb.Answers) Result {
	gid, refusal, ok := checkGID(c.GetGid())
	if !ok {
		return refusal
	}
	if refusal, ok := checkPacked("answers", c.GetAnswers()); !ok {
		return refusal
	}
	x := s.changeOf(gid, len(c.GetAnswers()))
	parts := s.partsOf(len(c.GetAnswers()))
	for i, a := range c.GetAnswers() {
		parts[i] = s.answerTo(&x, gid, a)
	}
	s.store(&x, parts...)
	return together(parts)
}

// partsOf is room for the results of n parts.
func (s *State) partsOf(n int) []Result {
	if !s.follows {
		return make([]Result, n)
	}
	s.unheardParts = slices.Grow(s.unheardParts[:0], n)[:n]
	return s.unheardParts
}

// checkPacked refuses a packed command without parts, and parts that name a
// transaction of their own.
func checkPacked[P interface{ GetGid() []byte }](field string, parts []P) (Result, bool) {
	if len(parts) == 0 {
		return invalid(field, "are none"), false
	}
	for i, p := range parts {
		if len(p.GetGid()) > 0 {
			return invalid(fmt.Sprintf("%s[%d].gid", field, i), "is given: the command names the transaction"), false
		}
	}
	return Result{}, true
}

// together is the answer to a packed command. It is OK, and says what stands after
// all parts, where any of them is; else it is the refusal of the first.
func together(parts []Result) Result {
	whole := parts[0]
	for _, p := range parts {
		if p.Code == OK {
			whole = p // later refusals change nothing
		}
	}
	whole.Verdict, whole.Parts = VerdictNone, parts
	for _, p := range parts {
		whole.Changed = whole.Changed || p.Changed
		if p.Alarm && !whole.Alarm {
			whole.Alarm, whole.Detail = true, p.Detail
		}
	}
	return whole
}

// Unpack gives the single commands that a packed one stands for, each with its own
// part of the result; any other command it gives as it is. It makes copies where
// it must: c stays as it was.
func Unpack(c *logpb.Command, r Result) iter.Seq2[*logpb.Command, Result] {
	return func(yield func(*logpb.Command, Result) bool) {
		part := func(i int) Result {
			if i < len(r.Parts) {
				return r.Parts[i]
			}
			return r // refused as a whole
		}
		switch k := c.GetKind().(type) {
		case *logpb.Command_Reports:
			for i, p := range k.Reports.GetReports() {
				single := &logpb.Report{
					Gid: k.Reports.GetGid(), Branch: p.GetBranch(), Outcome: p.GetOutcome(),
					Detail: p.GetDetail(), Attempts: p.GetAttempts(), Holder: p.GetHolder(),
				}
				if !yield(&logpb.Command{Kind: &logpb.Command_Report{Report: single}}, part(i)) {
					return
				}
			}
		case *logpb.Command_Answers:
			for i, p := range k.Answers.GetAnswers() {
				single := &logpb.Answer{
					Gid: k.Answers.GetGid(), Branch: p.GetBranch(), Kind: p.GetKind(),
					MaybeDone: p.GetMaybeDone(), Detail: p.GetDetail(), Attempts: p.GetAttempts(),
				}
				if !yield(&logpb.Command{Kind: &logpb.Command_Answer{Answer: single}}, part(i)) {
					return
				}
			}
		default:
			yield(c, r)
		}
	}
}
