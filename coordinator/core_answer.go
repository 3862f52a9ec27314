package coordinator

import (
	"strings"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/failpoint"
)

// word is what a branch has answered, as the log will hold it, and the places of
// the protocol before and after that, where they have a name. It is appended until it is taken: a branch
// that has answered is not called again under this leader.
type word struct {
	command       *logpb.Command
	before, after string
	done          bool // the branch did what it was asked
}

// detailBytesMax is how much of what a branch says is kept.
const detailBytesMax = 1024

// legible is what a branch said, as the log and an answer to people can hold it, and
// a terminal can show it: it may have said anything.
func legible(detail string) string {
	return strings.Map(func(r rune) rune {
		if fsm.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(detail[:min(len(detail), detailBytesMax)], "?"))
}

// answered does what follows from a branch's answer.
func (c *Core) answered(d *delivery, a Answered) {
	a.Detail = legible(a.Detail)
	switch {
	case d.op == fsm.OperationResume:
		// The code is running, or has failed to: only its own word ends it.
		d.failures++
		c.wait(d, "resumed; the workflow has not said its last word")
	case !called(d.op) && a.Outcome == logpb.Outcome_OUTCOME_UNSPECIFIED:
		d.r.callFailed()
		c.attemptFailed(d, ResultError, "the answer says nothing of what was done: "+a.Detail)
	case a.Refused && !mayRefuse(d.t.mode(), d.op):
		d.r.callFailed()
		c.attemptFailed(d, ResultError, "refused, which "+operationName(d.op)+" cannot be: "+a.Detail)
	default:
		d.word = c.wordOf(d.t, d.branch, d.op, d.attempts, a)
		c.release(d)
		c.say(d)
	}
}

// mayRefuse: a saga's step may say that it did nothing and never will, and a
// check-back that the local transaction did not commit. What must be done cannot
// be refused.
func mayRefuse(mode fsm.Mode, op fsm.Operation) bool {
	return op == fsm.OperationCheckBack || op == fsm.OperationAction && mode == logpb.Mode_MODE_SAGA
}

// wordOf is what the log is told of an answer.
func (c *Core) wordOf(t *txn, branch string, op fsm.Operation, attempts uint32, a Answered) *word {
	if op == fsm.OperationCheckBack {
		return &word{command: c.checkedBack(t, a), before: failpoint.BeforeDecision}
	}
	if op == fsm.OperationAction && t.mode() == logpb.Mode_MODE_SAGA {
		kind := logpb.Answer_KIND_DONE
		if a.Refused {
			kind = logpb.Answer_KIND_REFUSED
		}
		w := answerWord(t.gid, branch, kind, a.Detail, attempts)
		// DTM compensates a step that has failed, too.
		w.command.GetAnswer().MaybeDone = a.Refused && t.rec.GetBegin().GetPlan().GetDialect() != logpb.Dialect_DIALECT_UNSPECIFIED
		return w
	}
	outcome := a.Outcome
	switch op {
	case fsm.OperationAction, fsm.OperationConfirm:
		outcome = logpb.Outcome_OUTCOME_COMMITTED
	case fsm.OperationCompensate, fsm.OperationCancel:
		outcome = logpb.Outcome_OUTCOME_ROLLED_BACK
	}
	return reportWord(&logpb.Report{Gid: t.gid.Bytes(), Branch: branch, Outcome: outcome, Detail: a.Detail, Attempts: attempts})
}

func answerWord(gid fsm.GID, branch string, kind logpb.Answer_Kind, detail string, attempts uint32) *word {
	w := &struct { // one piece of memory, for each step has one
		word    word
		command logpb.Command
		kind    logpb.Command_Answer
		answer  logpb.Answer
		gid     fsm.GID
	}{gid: gid}
	a := &w.answer
	a.Gid, a.Branch, a.Kind, a.Detail, a.Attempts = w.gid[:], branch, kind, detail, attempts
	w.kind.Answer = a
	w.command.Kind = &w.kind
	w.word = word{&w.command, failpoint.BeforeAnswer, failpoint.AfterAnswer, kind == logpb.Answer_KIND_DONE}
	return &w.word
}

func reportWord(r *logpb.Report) *word {
	done := r.GetOutcome() == logpb.Outcome_OUTCOME_COMMITTED || r.GetOutcome() == logpb.Outcome_OUTCOME_ROLLED_BACK
	return &word{reportOf(r), failpoint.BeforeReport, failpoint.AfterReport, done}
}

func reportOf(r *logpb.Report) *logpb.Command {
	c := &struct { // one piece of memory
		command logpb.Command
		kind    logpb.Command_Report
	}{kind: logpb.Command_Report{Report: r}}
	c.command.Kind = &c.kind
	return &c.command
}

// checkedBack decides a message by its initiator's word on the local transaction.
func (c *Core) checkedBack(t *txn, a Answered) *logpb.Command {
	d := &logpb.Decide{
		Gid: t.gid.Bytes(), Decision: fsm.DecisionCommit, Origin: logpb.Origin_ORIGIN_DRIVER, Epoch: c.logEpoch(),
		Detail: "checked back: the local transaction committed",
	}
	if a.Refused {
		d.Decision, d.Reason, d.Detail = fsm.DecisionRollback, logpb.Reason_REASON_CHECKED_BACK, "checked back: the local transaction did not commit"
	}
	if a.Detail != "" {
		d.Detail += ": " + a.Detail
	}
	return &logpb.Command{Kind: &logpb.Command_Decide{Decide: d}}
}

// gaveUp: the branch's attempts are used up, and nobody knows what it did.
func (c *Core) gaveUp(d *delivery, detail string) {
	c.release(d)
	if d.t.mode() == logpb.Mode_MODE_SAGA {
		d.word = answerWord(d.t.gid, d.branch, logpb.Answer_KIND_GAVE_UP, detail, d.attempts)
	} else {
		d.word = reportWord(&logpb.Report{
			Gid: d.t.gid.Bytes(), Branch: d.branch, Outcome: logpb.Outcome_OUTCOME_GAVE_UP, Detail: detail, Attempts: d.attempts,
		})
	}
	c.say(d)
}

// say appends what the branch has answered.
func (c *Core) say(d *delivery) {
	d.phase = phaseReporting
	branch := d.branch
	c.append(d.t, branch, d.word, true, func(r fsm.Result, err error) {
		if d.gone || d.phase != phaseReporting {
			return // the log has it
		}
		d.failures++
		c.wait(d, "the branch's answer "+notTaken(r, err))
	})
}

func notTaken(r fsm.Result, err error) string {
	if err != nil {
		return "could not be appended: " + err.Error()
	}
	return "was not taken: " + r.Code.String() + " " + r.Detail
}

// append proposes a word, and passes the places of the protocol around it. mayWait: it
// may go with those of other branches.
func (c *Core) append(t *txn, branch string, w *word, mayWait bool, done func(r fsm.Result, err error)) {
	c.hitBranch(w.before, t, branch)
	c.utter(said{t: t, branch: branch, command: w.command, after: w.after, done: done}, mayWait && w.done)
}

func (c *Core) hitBranch(name string, t *txn, branch string) {
	if c.points && name != "" {
		c.ask(HitFailpoint{Name: name, Key: failpoint.BranchKey(t.rec.GetBegin().GetKey(), branch)})
	}
}

// answeredForNobody: the branch is asked for something else by now, or for nothing,
// or waits for its turn. What it did is told the log where that still matters; only
// then does the branch hear anything else.
func (c *Core) answeredForNobody(k *call, a Answered, err error) {
	t := c.txns[k.ref.GID]
	a.Detail = legible(a.Detail)
	if t == nil || err != nil || a.Busy || a.Refused && !mayRefuse(t.mode(), k.op) || !matters(t, k.op, a) {
		c.afterCall(k)
		return
	}
	c.append(t, k.ref.Branch, c.wordOf(t, k.ref.Branch, k.op, k.attempt, a), false, func(fsm.Result, error) { c.afterCall(k) })
}

// matters: a saga that compensates wants to know that a step did nothing; that it
// was done it presumes.
func matters(t *txn, op fsm.Operation, a Answered) bool {
	switch op {
	case fsm.OperationAction:
		if t.mode() == logpb.Mode_MODE_SAGA {
			return t.undecided() || t.rec.GetDecision() == fsm.DecisionRollback && a.Refused
		}
		return t.rec.GetDecision() == fsm.DecisionCommit
	case fsm.OperationConfirm:
		return t.rec.GetDecision() == fsm.DecisionCommit
	case fsm.OperationCompensate, fsm.OperationCancel:
		return t.rec.GetDecision() == fsm.DecisionRollback
	default:
		return false
	}
}
