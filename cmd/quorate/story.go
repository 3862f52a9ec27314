package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// scene is one line of a transaction's story: something that stands in the log.
type scene struct {
	stamp *quoratev1.Stamp
	rank  int // orders scenes of one log entry
	what  string
	more  string
}

// Ranks of scenes within one entry: a Submit begins, enlists, votes, seals and
// decides at one index.
const (
	rankBegin = iota
	rankEnlist
	rankVote
	rankSeal
	rankDecide
	rankReport
	rankResolve
	rankFinish
)

// writeStory prints a transaction as a story. now is the wall clock by which
// the next try is told. wide adds each scene's cluster clock.
func writeStory(w io.Writer, tx *quoratev1.Transaction, header *quoratev1.ResponseHeader, now time.Time, wide bool) error {
	p := &storyPrinter{w: w, tx: tx, wide: wide}
	p.title()
	p.scenes(header)
	if calledMode(tx) {
		p.calledBranches(now)
	} else {
		p.branches(now)
	}
	p.ending(header)
	return p.err
}

// storyPrinter keeps the first error of writing.
type storyPrinter struct {
	w    io.Writer
	tx   *quoratev1.Transaction
	wide bool
	err  error
}

func (p *storyPrinter) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

// title is who and where it stands.
func (p *storyPrinter) title() {
	tx := p.tx
	line := fmt.Sprintf("%s  %s  %s", tx.GetGid(), modeWord(tx.GetMode()), stateOf(tx))
	if d := tx.GetDecided(); d != nil {
		line += fmt.Sprintf("  decision %s  at %s  raft %d/%d", strings.ToUpper(decisionWord(tx.GetDecision())), clockTime(d), d.GetTerm(), d.GetIndex())
	} else {
		line += "  not decided"
	}
	if trace := tx.GetTraceparent(); trace != "" {
		line += "  trace " + trace
	}
	p.printf("%s", line)
	var about []string
	if tx.GetKey() != "" {
		about = append(about, "key "+tx.GetKey())
	}
	if len(tx.GetLabels()) > 0 {
		about = append(about, "labels "+labels(tx))
	}
	if tx.GetTimeout() != nil && !tx.GetTombstone() && (tx.GetTimeout().AsDuration() > 0 || !calledMode(tx)) {
		about = append(about, "timeout "+tx.GetTimeout().AsDuration().String())
	}
	about = append(about, aboutPlan(tx)...)
	if len(about) > 0 {
		p.printf("  %s", strings.Join(about, "  "))
	}
}

// clockTime is the wall clock of a stamp.
func clockTime(s *quoratev1.Stamp) string {
	if s.GetWallTime() == nil {
		return none
	}
	return s.GetWallTime().AsTime().Local().Format("15:04:05.000")
}

// scenes prints what stands in the log, and a line wherever the term changed
// between two entries: the leader of the former was lost, or handed over.
func (p *storyPrinter) scenes(header *quoratev1.ResponseHeader) {
	scenes := collectScenes(p.tx)
	if len(scenes) == 0 {
		return
	}
	start := scenes[0].stamp
	width := 0
	for _, s := range scenes {
		width = max(width, len([]rune(s.what)))
	}
	term := start.GetTerm()
	for _, s := range scenes {
		if s.stamp.GetTerm() != term {
			p.printf("           %s", leaderChange(term, s.stamp.GetTerm()))
			term = s.stamp.GetTerm()
		}
		line := fmt.Sprintf(" %9s  %-*s  %s", since(start, s.stamp), width, s.what, position(s.stamp))
		if p.wide {
			line += fmt.Sprintf("  clock %d", s.stamp.GetClockMs())
		}
		if s.more != "" {
			line += "  " + s.more
		}
		p.printf("%s", strings.TrimRight(line, " "))
	}
	if now := header.GetEpoch().GetTerm(); now > term && !p.finished() {
		p.printf("           %s", leaderChange(term, now))
	}
}

func (p *storyPrinter) finished() bool { return p.tx.GetFinished() != nil }

// leaderChange tells what a change of term means.
func leaderChange(from, to uint64) string {
	if to == from+1 {
		return fmt.Sprintf("-- the leader of term %d was lost; the leader of term %d carried on --", from, to)
	}
	return fmt.Sprintf("-- the leader of term %d was lost; after %d elections the leader of term %d carried on --", from, to-from, to)
}

// position is where in the log something stands.
func position(s *quoratev1.Stamp) string {
	return fmt.Sprintf("t%d #%d", s.GetTerm(), s.GetIndex())
}

// since is the time from the first scene, by the leaders' wall clocks, which may
// disagree after a change of leader: never less than zero is shown as such.
func since(start, s *quoratev1.Stamp) string {
	if start.GetWallTime() == nil || s.GetWallTime() == nil {
		return none
	}
	d := s.GetWallTime().AsTime().Sub(start.GetWallTime().AsTime())
	if d < 0 {
		return fmt.Sprintf("-%.3f", -d.Seconds())
	}
	return fmt.Sprintf("+%.3f", d.Seconds())
}

// collectScenes gathers the stamps of a transaction in the log's order.
func collectScenes(tx *quoratev1.Transaction) []scene {
	var scenes []scene
	add := func(stamp *quoratev1.Stamp, rank int, what, more string) {
		if stamp.GetIndex() != 0 {
			scenes = append(scenes, scene{stamp, rank, what, more})
		}
	}
	if !tx.GetTombstone() {
		add(tx.GetBegan(), rankBegin, "begin", by(tx.GetInitiator()))
	}
	for _, b := range tx.GetBranches() {
		addBranch(tx, b, add)
	}
	if tx.GetSealed() != nil {
		add(tx.GetSealed(), rankSeal, sealedWord(tx), "")
	}
	add(tx.GetDecided(), rankDecide, "DECIDED "+decisionWord(tx.GetDecision()), decidedWhy(tx))
	finished := "finished: " + stateWord(tx.GetState())
	if tx.GetStopped() {
		finished += ", STOPPED"
	}
	add(tx.GetFinished(), rankFinish, finished, stoppedWhy(tx))
	slices.SortStableFunc(scenes, func(a, b scene) int {
		if a.stamp.GetIndex() != b.stamp.GetIndex() {
			return int(int64(a.stamp.GetIndex()) - int64(b.stamp.GetIndex()))
		}
		return a.rank - b.rank
	})
	return scenes
}

// addBranch adds the scenes of one branch.
func addBranch(tx *quoratev1.Transaction, b *quoratev1.Branch, add func(*quoratev1.Stamp, int, string, string)) {
	name := nameOf(tx, b.GetSpec().GetId())
	voted := name + " voted " + voteWord(b.GetVote())
	reported := name + " reported " + outcomeWord(b.GetOutcome())
	where := whereOf(b.GetSpec())
	if b.GetMaybePrepared() {
		voted += " (maybe prepared)"
	}
	votedMore, reportedMore := of(b, true), of(b, false)
	if calledMode(tx) {
		// Its last words: the report's, once there is one.
		if votedMore, reportedMore = b.GetDetail(), ""; b.GetReported() != nil {
			votedMore, reportedMore = "", b.GetDetail()
		}
		voted, reported, where = name+" "+answeredWord(tx, b), name+" "+reportedWord(tx, b), calledWhere(tx, b.GetSpec())
	}
	if tx.GetMode() != quoratev1.Mode_MODE_WORKFLOW {
		add(b.GetEnlisted(), rankEnlist, name+" joined", where)
	}
	add(b.GetVoted(), rankVote, voted, votedMore)
	if h := b.GetHeuristic(); h != quoratev1.Heuristic_HEURISTIC_UNSPECIFIED {
		reported += "  HEURISTIC " + heuristicWord(h)
	}
	add(b.GetReported(), rankReport, reported, reportedMore)
	add(b.GetResolvedAt(), rankResolve, name+" resolved as "+outcomeWord(b.GetResolved()),
		fmt.Sprintf("by %s: %s", b.GetResolvedBy(), b.GetResolvedReason()))
}

// of returns the branch's own words with its vote, or with its report: it has
// one field for both, and a refusal is what needs them.
func of(b *quoratev1.Branch, vote bool) string {
	if refused := b.GetVote() == quoratev1.Vote_VOTE_REFUSED; refused == vote {
		return b.GetDetail()
	}
	return ""
}

func by(who string) string {
	if who == "" {
		return ""
	}
	return "by " + who
}

// whereOf is how a branch's participant is reached.
func whereOf(spec *quoratev1.BranchSpec) string {
	text := spec.GetResource()
	if spec.GetEndpoint() != "" {
		text += " " + spec.GetEndpoint()
	}
	if spec.GetHeld() {
		text += " (held)"
	}
	return strings.TrimSpace(text)
}

// stoppedWhy is whose word ended a transaction, and why.
func stoppedWhy(tx *quoratev1.Transaction) string {
	if !tx.GetStopped() {
		return ""
	}
	return "by operator " + tx.GetOperator() + ": " + tx.GetDetail()
}

// decidedWhy is the reason of a rollback, and whose decision it was.
func decidedWhy(tx *quoratev1.Transaction) string {
	var parts []string
	if r := tx.GetReason(); r != quoratev1.RollbackReason_ROLLBACK_REASON_UNSPECIFIED {
		parts = append(parts, strings.TrimPrefix(r.String(), "ROLLBACK_REASON_"))
	}
	if tx.GetStopped() && tx.GetReason() != quoratev1.RollbackReason_ROLLBACK_REASON_OPERATOR {
		return strings.Join(parts, ": ") // what else is there was said later, by the stop
	}
	if tx.GetOperator() != "" {
		parts = append(parts, "by operator "+tx.GetOperator())
	}
	if tx.GetDetail() != "" {
		parts = append(parts, tx.GetDetail())
	}
	return strings.Join(parts, ": ")
}

// branches tells of those that have not ended: what they wait for, and what to
// type.
func (p *storyPrinter) branches(now time.Time) {
	for _, b := range p.tx.GetBranches() {
		if b.GetTerminal() {
			continue
		}
		id := b.GetSpec().GetId()
		if p.tx.GetDecision() == quoratev1.Decision_DECISION_UNSPECIFIED {
			if b.GetVote() == quoratev1.Vote_VOTE_UNSPECIFIED {
				p.printf("  branch %s has not voted", id)
			}
			continue
		}
		d := b.GetDelivery()
		if d == nil {
			if b.GetHint() {
				p.printf("  branch %s is known by name only; it hears the outcome when it asks", id)
			} else {
				p.printf("  branch %s has not reported its outcome", id)
			}
			continue
		}
		p.delivery(id, b, d, now)
	}
}

// delivery tells of a branch that the leader is telling its outcome.
func (p *storyPrinter) delivery(id string, b *quoratev1.Branch, d *quoratev1.Delivery, now time.Time) {
	word := "commit"
	if p.tx.GetDecision() == quoratev1.Decision_DECISION_ROLLBACK {
		word = "rollback"
	}
	stuck := ""
	if d.GetStuck() {
		stuck = "  STUCK"
	}
	p.printf("  branch %s is to %s: %s in %s under this leader%s", id, word, plural(int(d.GetAttempts()), "attempt", "attempts"), age(d.GetDueFor().AsDuration()), stuck)
	p.lastError(d)
	if !d.GetAttached() && b.GetSpec().GetEndpoint() == "" {
		p.printf("         no process of resource %q is attached: start one", b.GetSpec().GetResource())
	}
	p.nextTry(d, now, " --branch "+id)
	if d.GetStuck() {
		p.printf("         if it never comes back: quorate tx resolve %s --branch %s --outcome ... --operator ... --reason ...", p.tx.GetGid(), id)
	}
}

func (p *storyPrinter) lastError(d *quoratev1.Delivery) {
	if d.GetLastError() == "" {
		return
	}
	at := ""
	if d.GetLastAttempt() != nil {
		at = d.GetLastAttempt().AsTime().Local().Format(time.TimeOnly) + " "
	}
	p.printf("         last %s%q", at, d.GetLastError())
}

// nextTry tells when, and what to type to make it now.
func (p *storyPrinter) nextTry(d *quoratev1.Delivery, now time.Time, flags string) {
	next := d.GetNextAttempt()
	if next == nil {
		return
	}
	when := "now"
	if left := next.AsTime().Sub(now); left > 0 {
		when = fmt.Sprintf("%s (in %s)", next.AsTime().Local().Format(time.TimeOnly), age(left))
	}
	p.printf("         next try %s      retry now: quorate tx retry %s%s", when, p.tx.GetGid(), flags)
}

// ending tells what comes next for the whole.
func (p *storyPrinter) ending(header *quoratev1.ResponseHeader) {
	tx := p.tx
	switch {
	case tx.GetQuarantined():
		p.printf("  QUARANTINED: its record broke an invariant; nothing happens to it until an operator decides. Keep the logs of all nodes.")
	case tx.GetWithheld():
		p.printf("  WITHHELD since a forced recovery: the lost nodes may have decided it. When you know: quorate tx rollback %s --operator ... --reason ...", tx.GetGid())
	case calledMode(tx):
		p.calledEnding(header)
	case tx.GetDecision() != quoratev1.Decision_DECISION_UNSPECIFIED:
	case tx.GetDeadlineMs() > header.GetClockMs():
		left := time.Duration(tx.GetDeadlineMs()-header.GetClockMs()) * time.Millisecond
		p.printf("  rolls back by itself in %s, unless decided before: quorate tx commit %s", age(left), tx.GetGid())
	case tx.GetDeadlineMs() != 0:
		p.printf("  its time is over: it rolls back at the next tick")
	}
}
