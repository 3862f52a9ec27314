package sim

import (
	"bytes"
	"fmt"
	"strconv"
	"time"

	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// A workflow's code, as package participant/workflow runs it: what is recorded is
// answered from the record, all else is done and recorded. Every client's process knows
// the code, so that whichever is asked goes on where another was cut off.

// flowsURL is where the coordinator asks for unfinished workflows.
const flowsURL = "http://flows/"

// What is recorded of a step.
const (
	didStep   = "action"
	undidStep = "compensate"
)

// maybeDone is the result of a failed record that nobody knows the truth of.
const maybeDone = "maybe"

// wordName names what is recorded once; word is what was said.
type wordName struct{ step, operation string }

type word struct {
	failed bool
	result string
}

// flow is one run of a workflow's code, in one life of a client's process.
type flow struct {
	r    *calledRun
	c    *client
	life int
	// asked is when its progress was asked for, by World.steps.
	asked   uint64
	words   map[wordName]word
	started []int // steps, in the order in which they were started
	undoing bool
	over    bool
	waiting []func(ended bool)
}

// goOn runs the code, unless this process does so already; done, if any, hears whether
// it has ended.
func (c *client) goOn(r *calledRun, done func(ended bool)) {
	f := c.flows[r.gid]
	running := f != nil && f.life == c.life && !f.over
	if !running {
		f = &flow{r: r, c: c, life: c.life, words: map[wordName]word{}}
		c.flows[r.gid] = f
	}
	if done != nil {
		f.waiting = append(f.waiting, done)
	}
	if !running {
		c.w.cover.meet("workflow run")
		f.read(f.run)
	}
}

// callFlow is callEndpoint for a resume: any process may be asked.
func (n *node) callFlow(d coordinator.Delivery, called func(coordinator.Answered, error)) {
	c := n.w.clients[n.rng.IntN(len(n.w.clients))]
	n.w.net.send(n.actor, c.actor, func() {
		a := n.w.oracle.txs[d.GID]
		if a == nil || a.called == nil || string(d.Payload) != strconv.Itoa(a.called.plan.ID) {
			n.w.oracle.violate("S9", d.GID.String(), "is resumed with payload %q, which it never had", d.Payload)
			return
		}
		n.w.cover.meet("workflow resumed")
		c.goOn(a.called, func(ended bool) {
			n.w.net.send(c.actor, n.actor, func() {
				if ended {
					called(coordinator.Answered{}, nil)
				} else {
					called(coordinator.Answered{}, errShop)
				}
			})
		})
	})
}

// ends is the end of this run, if not of the workflow.
func (f *flow) ends(ended bool) {
	if f.over {
		return
	}
	f.over = true
	for _, done := range f.waiting {
		done(ended)
	}
}

// dies counts what the code has done, and says whether its process dies here.
func (f *flow) dies() bool {
	f.r.doing++
	if f.r.doing != f.r.plan.Leaves+1 || f.c.w.healed {
		return false
	}
	c := f.c
	c.w.cover.meet("workflow cut off")
	c.crash("in the middle of its code")
	c.w.after(between(c.rng, 50*time.Millisecond, 3*time.Second), func() {
		if !c.up {
			c.boot()
		}
	})
	return true
}

// read asks for what is recorded.
func (f *flow) read(then func()) {
	asked := uint64(f.c.w.steps)
	f.c.dials.call("get", f.r.gid, 8*time.Second, getting(f.r.gid, "", true, 0), func(a answer) {
		f.c.hear(a)
		switch {
		case f.over:
		case a.err != nil || a.record == nil:
			f.ends(false)
		default:
			f.c.w.oracle.progressRead(f.r.gid, asked, a.record)
			if a.result.Decision != fsm.DecisionNone {
				f.ends(true)
				return
			}
			f.asked = asked
			for _, b := range a.record.GetBranches() {
				f.words[wordOf(b)] = word{failed: b.GetVote() == refused, result: string(b.GetResult())}
			}
			then()
		}
	})
}

func wordOf(b *logpb.Branch) wordName { return wordName{b.GetSpec().GetId(), b.GetOperation()} }

// run is the code: its steps one after the other, or all at once.
func (f *flow) run() {
	if f.r.plan.Wide {
		f.wide()
		return
	}
	f.step(0)
}

// wide starts every step before it looks at any answer, so that each run has started
// the same ones, and knows how to undo them.
func (f *flow) wide() {
	open := len(f.r.plan.Steps)
	for i := range f.r.plan.Steps {
		f.started = append(f.started, i)
	}
	for i := range f.r.plan.Steps {
		f.do(i, func(w word) {
			open--
			switch {
			case f.undoing:
			case w.failed:
				f.undo()
			case open == 0:
				f.commit()
			}
		})
		if f.over || f.undoing || !f.alive() {
			return
		}
	}
}

func (f *flow) alive() bool { return f.c.up && f.c.life == f.life }

func (f *flow) step(i int) {
	if i == len(f.r.plan.Steps) || i > 0 && f.c.w.bug == BugWorkflowHalf {
		f.commit()
		return
	}
	f.started = append(f.started, i)
	f.do(i, func(w word) {
		if w.failed {
			f.undo()
			return
		}
		f.step(i + 1)
	})
}

// do does a step, or answers it from the record. Without an answer this run decides
// nothing.
func (f *flow) do(i int, then func(word)) {
	name := wordName{f.r.plan.Steps[i].ID, didStep}
	if w, ok := f.words[name]; ok && f.c.w.bug != BugWorkflowForgets {
		f.c.w.cover.meet("workflow replayed")
		then(w)
		return
	}
	f.c.w.oracle.stepRuns(f, name)
	f.c.ask(f.r.shop(i), shopCall{ref: ref{GID: f.r.gid, Branch: name.step}, op: fsm.OperationAction}, func(a shopAnswer) {
		switch {
		case f.over || f.dies():
		case a == shopFails && f.undoing:
		case a == shopFails:
			f.ends(false)
		default:
			f.record(name, word{failed: a == shopSaysNo, result: f.result(name)}, then)
		}
	})
}

// result is what the code makes of a step: another thing each time.
func (f *flow) result(name wordName) string {
	return fmt.Sprintf("%s by %s.%d, %d", name.step, f.c.name, f.life, f.c.rng.IntN(1000))
}

// record writes a word; then hears the one that stands.
func (f *flow) record(name wordName, w word, then func(word)) {
	record := &logpb.Record{
		Gid: f.r.gid.Bytes(), Branch: &logpb.BranchSpec{Id: name.step}, Operation: name.operation, Failed: w.failed, Result: []byte(w.result),
	}
	f.c.dials.call("record", f.r.gid, 12*time.Second, proposal(&logpb.Command{Kind: &logpb.Command_Record{Record: record}}), func(a answer) {
		f.c.hear(a)
		f.c.say("records %s of %s: %v", name.operation, short(ref{GID: f.r.gid, Branch: name.step}), a)
		switch {
		case f.over:
		case a.err == nil && a.code == fsm.OK:
			f.c.w.oracle.recordAcknowledged(f.r.gid, name, w)
			f.words[name] = w
			if !f.dies() {
				then(w)
			}
		case a.err == nil && a.code == fsm.VoteConflict:
			f.read(func() {
				if w, ok := f.words[name]; ok {
					then(w)
					return
				}
				f.c.w.oracle.violate("S9", f.r.gid.String(), "another word stands for step %s, and a read does not find it", name.step)
			})
		default:
			f.ends(a.err == nil && a.code == fsm.AlreadyDecided)
		}
	})
}

// undo gives each step without an answer one, and then undoes all that was or may have
// been done, the last one first.
func (f *flow) undo() {
	f.undoing = true
	for i := len(f.started) - 1; i >= 0; i-- {
		name := wordName{f.r.plan.Steps[f.started[i]].ID, didStep}
		if _, ok := f.words[name]; !ok {
			f.c.w.cover.meet("workflow maybe")
			f.record(name, word{failed: true, result: maybeDone}, func(word) { f.undo() })
			return
		}
	}
	f.undoNext(len(f.started) - 1)
}

func (f *flow) undoNext(i int) {
	if i < 0 {
		f.decide(fsm.DecisionRollback, undoneResult)
		return
	}
	name := wordName{f.r.plan.Steps[f.started[i]].ID, undidStep}
	w := f.words[wordName{name.step, didStep}]
	if _, ok := f.words[name]; ok || w.failed && w.result != maybeDone {
		f.undoNext(i - 1)
		return
	}
	f.c.w.oracle.stepRuns(f, name)
	f.c.ask(f.r.shop(f.started[i]), shopCall{ref: ref{GID: f.r.gid, Branch: name.step}, op: fsm.OperationCompensate}, func(a shopAnswer) {
		switch {
		case f.over || f.dies():
		case a != shopDone:
			f.ends(false)
		default:
			f.record(name, word{}, func(word) { f.undoNext(i - 1) })
		}
	})
}

// undoneResult is what a workflow returns that has failed.
const undoneResult = "undone"

// commit returns what was recorded, and nothing of this run's own.
func (f *flow) commit() {
	var result bytes.Buffer
	for _, s := range f.r.plan.Steps {
		fmt.Fprintf(&result, "%s\n", f.words[wordName{s.ID, didStep}].result)
	}
	f.decide(fsm.DecisionCommit, result.String())
}

func (f *flow) decide(d fsm.Decision, result string) {
	command := &logpb.Decide{Gid: f.r.gid.Bytes(), Decision: d, Origin: logpb.Origin_ORIGIN_CLIENT, Result: []byte(result)}
	what := "commit"
	if d == fsm.DecisionRollback {
		what, command.Reason = "rollback", logpb.Reason_REASON_FAILED
	}
	f.c.dials.call(what, f.r.gid, 15*time.Second, deciding(decide(command)), func(a answer) {
		f.c.hear(a)
		f.c.say("%s %s: %v", what, short(ref{GID: f.r.gid}), a)
		f.ends(a.err == nil)
	})
}
