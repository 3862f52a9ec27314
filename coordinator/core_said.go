package coordinator

import (
	"slices"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// What the branches of one transaction say within a moment becomes one record of the
// log: a word waits while others of its transaction are about to speak and nothing
// becomes due by it. The last of them takes it along, or it goes when
// Settings.ReportHoldMax is over. A word that waits keeps its place in the window of the
// session that it came over, so it waits for long only where half of those are free: a
// branch that is slow must not slow down the participants of the others.
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
	// calm: it was told, did that and no more, and said so once.
	calm bool
	// given: nobody else has the command, nor will it be said again.
	given bool
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
	c.reportAs(now, reportOf(r), false, reply)
}

// reportAs is Report with the command that was made of it, which it takes over where
// that is given.
func (c *Core) reportAs(now time.Time, command *logpb.Command, given bool, reply Reply) {
	r := command.GetReport()
	if !c.leading {
		c.ask(AnswerReport{Reply: reply, Err: ErrNotLeader})
		return
	}
	c.begin(now)
	w := said{branch: r.GetBranch(), command: command, given: given, reply: reply}
	if d := c.reporter(r); d != nil {
		d.said, w.t, w.over = true, d.t, d.over
		c.utter(w, asDecided(d, r.GetOutcome()))
	} else {
		c.proposeSaid(w.command, false, w)
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
	w.calm = mayWait
	if t.said == nil {
		t.said = make([]said, 0, min(len(t.due), saidMax))
	}
	t.said = append(t.said, w)
	if w.over != nil {
		w.over.held++
	}
	switch {
	case !mayWait || len(t.said) >= saidMax || !c.othersSpeak(t):
		c.flush(t)
	case len(t.said) == 1:
		c.hold(t, heldAnyway)
	}
}

// othersSpeak: another branch of the transaction is being told or called, or will be
// told once its session has room; and none waits for what another one does.
func (c *Core) othersSpeak(t *txn) bool {
	if !c.packs || c.cfg.ReportHoldMax <= 0 || len(t.due) < 2 || t.unheard != len(t.due) {
		return false
	}
	for _, d := range t.due {
		if d.phase == phaseInFlight && !d.said || d.phase == phaseReady && d.over != nil {
			return true
		}
	}
	return false
}

// Every word may wait for a while; for the rest of Settings.ReportHoldMax only what
// leaves its session room.
const (
	heldAnyway = iota
	heldWithRoom
	holdStages
)

// holdAnywayShare is the part of Settings.ReportHoldMax that every word may wait.
const holdAnywayShare = 2

// hold lets the words of a transaction wait, in the queue of a stage.
func (c *Core) hold(t *txn, stage int) {
	most := c.cfg.ReportHoldMax / holdAnywayShare
	if stage == heldWithRoom {
		most = c.cfg.ReportHoldMax - most
	}
	t.saidUntil = c.now.Add(most)
	c.held[stage] = append(c.held[stage], holding{t, t.saidUntil})
	if !c.holds.armed() || t.saidUntil.Before(c.holds.at) {
		c.timers.arm(&c.holds, t.saidUntil, c.holdOver)
	}
}

// holdOver proposes what has been held for long enough.
func (c *Core) holdOver() {
	for stage := range c.held {
		c.endHolds(stage)
	}
	for _, queue := range c.held {
		if len(queue) > 0 && (!c.holds.armed() || queue[0].until.Before(c.holds.at)) {
			c.timers.arm(&c.holds, queue[0].until, c.holdOver)
		}
	}
}

// endHolds takes from the front of a stage's queue what waits no longer, or has waited
// for as long as the stage lets it.
func (c *Core) endHolds(stage int) {
	queue := c.held[stage]
	for ; len(queue) > 0; queue = queue[1:] {
		h := queue[0]
		if !h.t.saidUntil.Equal(h.until) {
			continue // it was proposed with the last, and may hold others now
		}
		if h.until.After(c.now) {
			break
		}
		if stage == heldAnyway && !h.t.crowds() {
			c.hold(h.t, heldWithRoom)
		} else {
			c.flush(h.t)
		}
	}
	c.held[stage] = queue
}

// crowds: its words keep places of a session's window, half of which words keep that
// wait.
func (t *txn) crowds() bool {
	for i := range t.said {
		if s := t.said[i].over; s != nil && s.held > s.window/2 {
			return true
		}
	}
	return false
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
	rides := c.mayRide(t, words)
	if c.packs && len(words) > 1 { // asked first: packed takes what it was given apart
		if command := packed(t.gid, words); command != nil {
			c.proposeSaid(command, rides, words...)
			return
		}
	}
	for _, w := range words {
		c.proposeSaid(w.command, rides, w)
	}
}

// rideDetailBytesMax bounds what the branches' words say in a command that rides.
const rideDetailBytesMax = 512

// mayRide: the branches did what was decided, nothing becomes due by that, and nobody
// waits for the end.
func (c *Core) mayRide(t *txn, words []said) bool {
	if c.cfg.ReportRideMax <= 0 || t.undecided() || t.unheard != len(t.due) || t.endAwaited() {
		return false
	}
	bytes := 0
	for i := range words {
		bytes += len(words[i].command.GetReport().GetDetail())
		if !words[i].calm || words[i].command.GetReport() == nil {
			return false
		}
	}
	return bytes <= rideDetailBytesMax
}

// proposeSaid proposes the command that the words make.
func (c *Core) proposeSaid(command *logpb.Command, rides bool, words ...said) {
	p := Propose{Command: command, Replies: make([]Reply, len(words)), Rides: rides}
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
// edits nothing of theirs that was not given: they may have to be said again.
func packed(gid fsm.GID, words []said) *logpb.Command {
	switch words[0].command.GetKind().(type) {
	case *logpb.Command_Report:
		return packedReports(gid, words)
	case *logpb.Command_Answer:
		return packedAnswers(gid, words)
	default:
		return nil
	}
}

func packedReports(gid fsm.GID, words []said) *logpb.Command {
	for i := range words {
		if words[i].command.GetReport() == nil {
			return nil
		}
	}
	p := &struct { // one piece of memory, for there is one of them in every transaction
		command logpb.Command
		kind    logpb.Command_Reports
		reports logpb.Reports
		gid     fsm.GID
		two     [2]*logpb.Report
	}{gid: gid}
	p.reports.Gid, p.reports.Reports = p.gid[:], roomFor(len(words), p.two[:])
	var own []logpb.Report
	for i := range words {
		r := words[i].command.GetReport()
		if words[i].given {
			r.Gid = nil
			p.reports.Reports[i] = r
			continue
		}
		if own == nil {
			own = make([]logpb.Report, len(words))
		}
		o := &own[i]
		o.Branch, o.Outcome, o.Detail, o.Attempts, o.Holder = r.GetBranch(), r.GetOutcome(), r.GetDetail(), r.GetAttempts(), r.GetHolder()
		p.reports.Reports[i] = o
	}
	p.kind.Reports = &p.reports
	p.command.Kind = &p.kind
	return &p.command
}

func packedAnswers(gid fsm.GID, words []said) *logpb.Command {
	p := &struct { // as packedReports has it
		command logpb.Command
		kind    logpb.Command_Answers
		answers logpb.Answers
		gid     fsm.GID
		two     [2]*logpb.Answer
	}{gid: gid}
	own := make([]logpb.Answer, len(words))
	p.answers.Gid, p.answers.Answers = p.gid[:], roomFor(len(words), p.two[:])
	for i, w := range words {
		a := w.command.GetAnswer()
		if a == nil {
			return nil
		}
		o := &own[i]
		o.Branch, o.Kind, o.MaybeDone, o.Detail, o.Attempts = a.GetBranch(), a.GetKind(), a.GetMaybeDone(), a.GetDetail(), a.GetAttempts()
		p.answers.Answers[i] = o
	}
	p.kind.Answers = &p.answers
	p.command.Kind = &p.kind
	return &p.command
}

// roomFor is a list of so many: the one at hand, where it is as long.
func roomFor[T any](n int, atHand []T) []T {
	if n == len(atHand) {
		return atHand
	}
	return make([]T, n)
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
	for _, h := range slices.Concat(c.held[:]...) {
		for _, w := range h.t.said {
			if w.reply != nil {
				c.ask(AnswerReport{Reply: w.reply, Err: ErrNotLeader})
			}
		}
		h.t.said = nil
	}
}
