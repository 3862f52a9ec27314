package sim

import (
	"fmt"
	"slices"
	"strings"

	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// The oracle's account of what the log says about transactions whose branches are
// called, by the order of its commands: who was subscribed, what was recorded, what was
// given up, what an operator has ended.

// loggedWord is what the log first said of a workflow's step.
type loggedWord struct {
	word
	// acknowledged is when somebody heard so, by World.steps; 0: nobody has.
	acknowledged uint64
}

// leadershipCall counts the calls of one branch by one leader.
type leadershipCall struct {
	branch string
	term   uint64
}

// logged follows an entry's commands, as they were answered when it was first applied.
func (o *oracle) logged(n *node, e logEntry, results []fsm.Result) {
	if o.w.plan.Shops == 0 {
		return
	}
	b, err := fsm.DecodeEntry(e.data)
	if err != nil || len(b.GetCommands()) != len(results) {
		return
	}
	var created []*account
	for i, packed := range b.GetCommands() {
		for c, r := range fsm.Unpack(packed, results[i]) {
			if r.Code != fsm.OK {
				continue
			}
			if a := o.commandLogged(n, c, r); a != nil {
				created = append(created, a)
			}
		}
	}
	for _, a := range created {
		o.goesToSubscribers(n, a)
	}
}

// commandLogged follows one command that was taken; it returns the account of what
// that has created.
func (o *oracle) commandLogged(n *node, c *logpb.Command, r fsm.Result) (created *account) {
	switch k := c.GetKind().(type) {
	case *logpb.Command_PutTopic:
		o.topicLogged(k.PutTopic)
	case *logpb.Command_Begin, *logpb.Command_Submit:
		if a := o.txs[r.GID]; r.Created && a != nil && a.called != nil {
			o.expands(a)
			return a
		}
	case *logpb.Command_Record:
		o.recordLogged(k.Record)
	case *logpb.Command_Stop:
		o.stopLogged(n, fsm.GID(k.Stop.GetGid()), r)
	case *logpb.Command_Resolve:
		o.of(fsm.GID(k.Resolve.GetGid())).resolved = true
	case *logpb.Command_Answer:
		if k.Answer.GetKind() == logpb.Answer_KIND_DONE {
			o.saysDone(fsm.GID(k.Answer.GetGid()), k.Answer.GetBranch())
		}
	case *logpb.Command_Report:
		o.reportLogged(k.Report)
	}
	return nil
}

// recordLogged: S9: the first word on a step stands.
func (o *oracle) recordLogged(c *logpb.Record) {
	a := o.of(fsm.GID(c.GetGid()))
	if a.words == nil {
		a.words = map[wordName]*loggedWord{}
	}
	name, said := wordName{c.GetBranch().GetId(), c.GetOperation()}, word{c.GetFailed(), string(c.GetResult())}
	switch had := a.words[name]; {
	case had == nil:
		a.words[name] = &loggedWord{word: said}
	case had.word != said:
		o.violate("S9", a.gid.String(), "%s of step %s is recorded as %v, and %v stands", name.operation, name.step, said, had.word)
	}
}

// recordAcknowledged: whoever hears that a word was taken relies on it.
func (o *oracle) recordAcknowledged(gid fsm.GID, name wordName, said word) {
	a := o.of(gid)
	switch had := a.words[name]; {
	case had == nil:
		o.violate("S6", gid.String(), "%s of step %s is acknowledged, and nobody has applied it", name.operation, name.step)
	case had.word != said:
		o.violate("S9", gid.String(), "%s of step %s is acknowledged as %v, and %v stands", name.operation, name.step, said, had.word)
	case had.acknowledged == 0:
		had.acknowledged = uint64(o.w.steps)
		o.acknowledged++
	}
}

// progressRead: S7: a workflow's progress that is asked for after a word was
// acknowledged holds it; S9: no read ever shows another word than the first.
func (o *oracle) progressRead(gid fsm.GID, asked uint64, rec *logpb.Transaction) {
	a := o.of(gid)
	shown := map[wordName]bool{}
	for _, b := range rec.GetBranches() {
		name, said := wordOf(b), word{b.GetVote() == refused, string(b.GetResult())}
		shown[name] = true
		if had := a.words[name]; had == nil || had.word != said {
			o.violate("S9", gid.String(), "%s of step %s reads as %v, and that is not what was recorded", name.operation, name.step, said)
			return
		}
	}
	for _, name := range a.wordNames() {
		if w := a.words[name]; w.acknowledged != 0 && w.acknowledged < asked && !shown[name] {
			o.violate("S7", gid.String(), "%s of step %s was acknowledged as recorded, and a read that began later does not show it", name.operation, name.step)
			return
		}
	}
}

// wordNames are the words in an order of their own.
func (a *account) wordNames() []wordName {
	names := make([]wordName, 0, len(a.words))
	for name := range a.words {
		names = append(names, name)
	}
	slices.SortFunc(names, func(x, y wordName) int {
		return strings.Compare(x.step+" "+x.operation, y.step+" "+y.operation)
	})
	return names
}

// stepRuns: S15: what a run of the code had read as recorded, or could have read, it
// does not do again.
func (o *oracle) stepRuns(f *flow, name wordName) {
	if w := o.of(f.r.gid).words[name]; w != nil && w.acknowledged != 0 && w.acknowledged < f.asked {
		o.violate("S15", f.r.gid.String(), "%s of step %s runs again after it was recorded", name.operation, name.step)
	}
}

// workflowCommitted: S15: a workflow commits with every step recorded as done, and
// returns what was recorded.
func (o *oracle) workflowCommitted(n *node, a *account) {
	if a.called.plan.Mode != logpb.Mode_MODE_WORKFLOW {
		return
	}
	var want strings.Builder
	for _, s := range a.called.plan.Steps {
		w := a.words[wordName{s.ID, didStep}]
		if w == nil || w.failed {
			o.violate("S15", a.gid.String(), "is committed, and step %s is not recorded as done", s.ID)
			return
		}
		fmt.Fprintf(&want, "%s\n", w.result)
	}
	if rec, ok := n.state.Get(a.gid); ok && string(rec.GetResult()) != want.String() {
		o.violate("S15", a.gid.String(), "returns %q, and its steps returned %q", rec.GetResult(), want.String())
	}
}

// finalWords: S6: what was recorded stands as long as the record does.
func (o *oracle) finalWords(a *account, rec *logpb.Transaction) {
	if a.called == nil || rec == nil {
		return
	}
	if len(a.words) > 0 {
		o.progressRead(a.gid, uint64(o.w.steps), rec)
	}
	if a.stopped && !rec.GetStopped() {
		o.violate("S6", a.gid.String(), "was stopped, and does not say so")
	}
}

// stopLogged: a stop ends what stands. What had ended already is not stopped by it.
func (o *oracle) stopLogged(n *node, gid fsm.GID, r fsm.Result) {
	a := o.of(gid)
	a.stopAsked = true
	if !r.Changed {
		return
	}
	a.stopped = true
	o.w.cover.meet("stopped")
	if rec, ok := n.state.Get(gid); ok && rec.GetState() != fsm.StateCommitted && rec.GetState() != fsm.StateRolledBack {
		o.violate("S5", gid.String(), "was stopped, and is %v", rec.GetState())
	}
}

func (o *oracle) stopAcknowledged(gid fsm.GID) {
	if !o.of(gid).stopAsked {
		o.violate("S6", gid.String(), "a stop is acknowledged, and nobody has applied it")
	}
}

// calledNow judges a call as it begins: nothing that has ended is called, by a driver
// that was shown it, and best effort is no more than was asked for.
func (o *oracle) calledNow(n *node, d coordinator.Delivery) {
	if !d.Called() {
		return
	}
	rec, ok := n.state.Get(d.GID)
	ended := ok && (rec.GetState() == fsm.StateCommitted || rec.GetState() == fsm.StateRolledBack)
	if ended && !n.looking {
		o.violate("S11", d.GID.String(), "%s calls branch %s of what has ended (stopped: %v)", n.name, d.Branch, rec.GetStopped())
		return
	}
	a := o.of(d.GID)
	if d.Mode != logpb.Mode_MODE_NOTIFY || a.called == nil {
		return
	}
	if a.calls == nil {
		a.calls = map[leadershipCall]uint32{}
	}
	at := leadershipCall{d.Branch, n.hard.term}
	if a.calls[at]++; a.calls[at] > o.attemptsMax(a) {
		o.violate("S15", d.GID.String(), "branch %s is called %d times by one leader, at most %d were asked for", d.Branch, a.calls[at], o.attemptsMax(a))
	}
}

func (o *oracle) attemptsMax(a *account) uint32 {
	if most := a.called.plan.Attempts; most > 0 {
		return most
	}
	return uint32(o.w.plan.Settings.NotifyAttemptsMax)
}

// reportLogged: S15: what is reported as done was done, and what is given up was tried as
// often as was asked for, by one leader.
func (o *oracle) reportLogged(c *logpb.Report) {
	a := o.of(fsm.GID(c.GetGid()))
	if a.called == nil {
		return
	}
	switch c.GetOutcome() {
	case committed:
		o.saysDone(a.gid, c.GetBranch())
	case logpb.Outcome_OUTCOME_GAVE_UP:
		o.w.cover.meet("notify gave up")
		for at, n := range a.calls {
			if at.branch == c.GetBranch() && n >= o.attemptsMax(a) {
				return
			}
		}
		o.violate("S15", a.gid.String(), "branch %s is given up, and no leader has called it %d times", c.GetBranch(), o.attemptsMax(a))
	}
}

// saysDone: an action or a confirmation that the log calls done is in a shop's books.
func (o *oracle) saysDone(gid fsm.GID, branch string) {
	step := o.stepOf(ref{GID: gid, Branch: branch})
	if step == nil {
		return
	}
	if a := o.of(gid); step.Topic != "" && len(a.heirs[step.ID]) == 0 {
		return // nobody had subscribed
	}
	for _, s := range o.w.shops {
		for _, e := range s.effects {
			if e.at.GID == gid && e.at.Branch == branch && (e.op == shopWords[fsm.OperationAction] || e.op == shopWords[fsm.OperationConfirm]) {
				return
			}
		}
	}
	o.violate("S15", gid.String(), "branch %s is reported as done, and no shop has done it", branch)
}
