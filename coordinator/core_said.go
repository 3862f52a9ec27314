package coordinator

import (
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// What the branches of one transaction say within a moment becomes one record of the
// log: a word waits while others of its transaction are about to speak and nothing
// becomes due by it. The last of them takes it along, or it goes when
// Settings.ReportHoldMax is over. A word that waits keeps its place in the window of the
// session that it came over, so it waits only while half of those are free: a branch that
// is slow must not slow down the participants of the others.
//
// Nobody waits for that but the branch itself: its transaction ends no earlier than
// with the last word, and the last is never held. A word that is held when the
// leadership goes was never appended, and is said again.

// said is a branch's word on its way into the log.
type said struct {
	t       *txn // nil for a report that answers no delivery
	branch  string
	command *logpb.Command // a Report or an Answer
	after   string         // the place of the protocol after it, or empty
	over    *session       // that it came over, or nil
	// done is the driver's own, reply whoever else waits for it; either may be nil.
	done  func(r fsm.Result, err error)
	reply Reply
}

// saidMax bounds the words of one record: each may have a detail of detailBytesMax.
const saidMax = 64

// holding is a transaction whose words wait, and until when. All wait for as long, so
// a queue of them is in the order of their times.
type holding struct {
	t     *txn
	until time.Time
}

// Report brings a branch's own word on its outcome. reply is told what came of it.
func (c *Core) Report(now time.Time, r *logpb.Report, reply Reply) {
	if !c.leading {
		c.ask(AnswerReport{Reply: reply, Err: ErrNotLeader})
		return
	}
	c.begin(now)
	w := said{branch: r.GetBranch(), command: reportOf(r), reply: reply}
	if d := c.reporter(r); d != nil {
		d.said, w.t, w.over = true, d.t, d.over
		c.utter(w, asDecided(d, r.GetOutcome()))
	} else {
		c.proposeSaid(w.command, w)
	}
	c.end()
}

// reporter is the delivery over a session that a report is the first to answer, or nil.
func (c *Core) reporter(r *logpb.Report) *delivery {
	gid, err := fsm.GIDFromBytes(r.GetGid())
	if err != nil {
		return nil
	}
	d := c.find(BranchRef{GID: gid, Branch: r.GetBranch()})
	if d == nil || d.phase != phaseInFlight || d.over == nil || d.said {
		return nil
	}
	return d
}

// asDecided: the branch did what it was told. Anything else people should hear of.
func asDecided(d *delivery, o fsm.Outcome) bool {
	switch d.op {
	case fsm.OperationCommit:
		return o == logpb.Outcome_OUTCOME_COMMITTED
	case fsm.OperationRollback:
		return o == logpb.Outcome_OUTCOME_ROLLED_BACK
	default:
		return false
	}
}

// utter takes a branch's word. It is proposed with those that were held, now or, if it
// may wait, a little later.
func (c *Core) utter(w said, mayWait bool) {
	t := w.t
	t.said = append(t.said, w)
	if w.over != nil {
		w.over.held++
	}
	switch {
	case !mayWait || len(t.said) >= saidMax || w.over.crowded() || !c.othersSpeak(t):
		c.flush(t)
	case len(t.said) == 1:
		c.hold(t)
	}
}

// crowded: half of its window is words that wait.
func (s *session) crowded() bool { return s != nil && s.held > s.window/2 }

// othersSpeak: another branch of the transaction is being told or called, and none
// waits for its turn.
func (c *Core) othersSpeak(t *txn) bool {
	if !c.packs || c.cfg.ReportHoldMax <= 0 || len(t.due) < 2 || t.rec.Unheard() != len(t.due) {
		return false
	}
	for _, d := range t.due {
		if d.phase == phaseInFlight && !d.said {
			return true
		}
	}
	return false
}

func (c *Core) hold(t *txn) {
	t.saidUntil = c.now.Add(c.cfg.ReportHoldMax)
	c.held = append(c.held, holding{t, t.saidUntil})
	if !c.holds.armed() {
		c.timers.arm(&c.holds, t.saidUntil, c.holdOver)
	}
}

// holdOver proposes what has been held for long enough.
func (c *Core) holdOver() {
	for len(c.held) > 0 {
		h := c.held[0]
		// Otherwise it was proposed with the last, and may hold others now.
		if waits := h.t.saidUntil.Equal(h.until); waits && h.until.After(c.now) {
			c.timers.arm(&c.holds, h.until, c.holdOver)
			return
		} else if waits {
			c.flush(h.t)
		}
		c.held = c.held[1:]
	}
}

// flush proposes what the branches of a transaction have said.
func (c *Core) flush(t *txn) {
	words := t.said
	t.said, t.saidUntil = nil, time.Time{}
	for i := range words {
		if s := words[i].over; s != nil {
			s.held--
		}
	}
	if len(words) > 1 {
		if command := packed(t.gid, words); c.packs && command != nil {
			c.proposeSaid(command, words...)
			return
		}
	}
	for _, w := range words {
		c.proposeSaid(w.command, w)
	}
}

// proposeSaid proposes the command that the words make.
func (c *Core) proposeSaid(command *logpb.Command, words ...said) {
	p := Propose{Command: command, Replies: make([]Reply, len(words))}
	ours := false
	for i, w := range words {
		p.Replies[i] = w.reply
		ours = ours || w.done != nil || w.after != ""
	}
	if ours {
		c.token++
		p.Token = c.token
		c.replies[p.Token] = func(r fsm.Result, err error) { c.heardOf(words, r, err) }
	}
	c.ask(p)
}

// packed is the one command of several words, nil where they are not of one kind. It
// shares nothing with theirs that it edits: they may have to be said again.
func packed(gid fsm.GID, words []said) *logpb.Command {
	reports := make([]*logpb.Report, 0, len(words))
	answers := make([]*logpb.Answer, 0, len(words))
	for _, w := range words {
		switch k := w.command.GetKind().(type) {
		case *logpb.Command_Report:
			r := k.Report
			reports = append(reports, &logpb.Report{
				Branch: r.GetBranch(), Outcome: r.GetOutcome(), Detail: r.GetDetail(), Attempts: r.GetAttempts(), Holder: r.GetHolder(),
			})
		case *logpb.Command_Answer:
			a := k.Answer
			answers = append(answers, &logpb.Answer{
				Branch: a.GetBranch(), Kind: a.GetKind(), MaybeDone: a.GetMaybeDone(), Detail: a.GetDetail(), Attempts: a.GetAttempts(),
			})
		}
	}
	switch {
	case len(reports) == len(words):
		return &logpb.Command{Kind: &logpb.Command_Reports{Reports: &logpb.Reports{Gid: gid.Bytes(), Reports: reports}}}
	case len(answers) == len(words):
		return &logpb.Command{Kind: &logpb.Command_Answers{Answers: &logpb.Answers{Gid: gid.Bytes(), Answers: answers}}}
	default:
		return nil
	}
}

// partOf is the result of one of several parts of a command.
func partOf(r fsm.Result, i, n int) fsm.Result {
	if len(r.Parts) == n {
		return r.Parts[i]
	}
	return r // of a single command, or it was refused as a whole
}

// Tell tells the result to those who wait for it.
func (p *Propose) Tell(r fsm.Result, err error) {
	for i, reply := range p.Replies {
		if reply != nil {
			reply(partOf(r, i, len(p.Replies)), err)
		}
	}
}

// heardOf does what follows once the words were appended, or could not be.
func (c *Core) heardOf(words []said, r fsm.Result, err error) {
	for i, w := range words {
		r := partOf(r, i, len(words))
		if err == nil && r.Code == fsm.OK {
			c.hitBranch(w.after, w.t, w.branch)
		}
		if w.done != nil {
			w.done(r, err)
		}
	}
}

// loseSaid answers those whose words were held, and never appended.
func (c *Core) loseSaid() {
	for _, h := range c.held {
		for _, w := range h.t.said {
			if w.reply != nil {
				c.ask(AnswerReport{Reply: w.reply, Err: ErrNotLeader})
			}
		}
		h.t.said = nil
	}
}
