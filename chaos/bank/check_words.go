package bank

import (
	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/participant"
)

// ledger compares what initiators were told with what the cluster says now.
func (c *checker) ledger() {
	asked := map[string]bool{}   // GIDs whose commit was sent
	perhaps := map[string]bool{} // ... and not certainly refused
	calls := map[callKey]Entry{}
	for _, entry := range c.e.Ledger {
		key := callKey{entry.Seat, entry.Start, entry.Op}
		if entry.Ask != "" {
			calls[key] = entry
			if entry.Ask == AskCommit {
				asked[entry.GID], perhaps[entry.GID] = true, true
			}
		}
	}
	answered := map[callKey]bool{}
	for _, entry := range c.e.Ledger {
		if entry.Word != "" {
			answered[callKey{entry.Seat, entry.Start, entry.Op}] = true
			call := calls[callKey{entry.Seat, entry.Start, entry.Op}]
			c.count("heard_" + string(entry.Word))
			c.told(call, entry)
			if call.Ask == AskCommit && entry.Word == WordRefused {
				delete(perhaps, call.GID)
			}
		}
	}
	for key, call := range calls {
		// A rollback by Run is never answered; the others are lost with their process.
		if !answered[key] && call.Ask != AskRollback {
			c.count("never_answered_" + string(call.Ask))
		}
	}
	for _, tx := range c.e.Transactions {
		if tx.GetDecision() != quoratev1.Decision_DECISION_COMMIT || tx.GetLabels()["shape"] == "" {
			continue
		}
		switch gid := tx.GetGid(); {
		case !asked[gid]:
			c.found("S3", "%s is committed, and its initiator never asked for that", gid)
		case !perhaps[gid]:
			c.found("S7", "%s is committed, though the only one who asked was told that nothing was done", gid)
		}
	}
}

// callKey names a call of one start of an initiator.
type callKey struct {
	seat  string
	start int
	op    int64
}

// told checks one answer.
func (c *checker) told(call, answer Entry) {
	tx := c.byGID[answer.GID]
	if call.Ask == AskOutcome {
		tx = c.byKey[call.Key]
	}
	want := answer.Word.decided()
	switch {
	case answer.Word == WordBegun && tx == nil:
		c.missing("S6", "%s told %s that %s is begun; the cluster does not know it", "the cluster", answer.Seat, answer.GID)
	case want == quoratev1.Decision_DECISION_UNSPECIFIED:
	case tx == nil:
		c.missing("S6", "%s was told %s of %s%s; the cluster does not know it", answer.Seat, answer.Word, answer.GID, call.Key)
	case tx.GetDecision() != want:
		c.missing("S1", "%s was told %s of %s; it is decided %s", answer.Seat, answer.Word, tx.GetGid(), word(tx.GetDecision()))
	case answer.Index != 0 && tx.GetDecided().GetIndex() != answer.Index:
		c.found("S2", "%s was told that %s was decided at index %d; it is at %d", answer.Seat, tx.GetGid(), answer.Index, tx.GetDecided().GetIndex())
	}
}

// journal compares what participants heard and did with what was decided.
func (c *checker) journal() {
	ended := map[string]participant.Outcome{}
	heard, prepared := map[string]bool{}, map[string]bool{}
	for _, l := range c.e.Journal {
		prepared[l.ref()] = prepared[l.ref()] || l.Step == participant.StepPrepared || l.Step == participant.StepUnsure
	}
	for _, l := range c.e.Journal {
		switch {
		case len(l.Work) > 0 && l.Late:
			c.late(l)
		case l.Step == participant.StepVoted:
			c.voted(l)
		case l.Step == participant.StepHeard:
			c.count("verdicts_heard")
			if l.Attempt > 1 {
				c.count("deliveries_repeated")
			}
			if l.Attempt == 0 {
				c.count("verdicts_asked_for")
			}
			heard[l.ref()] = true
			c.heard(l)
		case l.Step == participant.StepEnded:
			c.ended(l, heard)
			if l.Outcome == participant.OutcomeRolledBack && !prepared[l.ref()] {
				c.fenced(l)
			}
			if before, ok := ended[l.ref()]; ok && before != l.Outcome {
				c.found("S11", "%s of %s ended twice, and differently: %v and %v", l.ref(), l.Resource, before, l.Outcome)
			}
			ended[l.ref()] = l.Outcome
		}
	}
}

// late counts branches that nobody waited for, by whether the seal was faster.
func (c *checker) late(l Line) {
	if b := c.member(l); b != nil && !b.GetHint() {
		c.count("late_in_time")
		return
	}
	c.count("late_refused")
}

// member finds the branch of a line in the cluster's record; nil when it is none.
func (c *checker) member(l Line) *quoratev1.Branch {
	for _, b := range c.byGID[l.GID].GetBranches() {
		if b.GetSpec().GetId() == l.Branch {
			return b
		}
	}
	return nil
}

// voted: a vote that was acknowledged stands.
func (c *checker) voted(l Line) {
	b := c.member(l)
	switch {
	case c.byGID[l.GID] == nil:
		c.missing("S6", "the vote of %s was acknowledged, and the cluster does not know the transaction", l.ref())
	case l.Vote == participant.VotePrepared && l.Verdict == participant.VerdictCommit && b == nil:
		c.found("S10", "%s was told commit when it voted, and is no branch of its transaction", l.ref())
	case l.Vote == participant.VotePrepared && l.Verdict != participant.VerdictRollback && (b == nil || b.GetVote() != quoratev1.Vote_VOTE_PREPARED):
		c.missing("S6", "the prepared vote of %s was acknowledged, and the cluster has %v", l.ref(), b.GetVote())
	}
}

// heard: a verdict is the decision, for a member of the set; for anyone else it is
// rollback.
func (c *checker) heard(l Line) {
	tx, b := c.byGID[l.GID], c.member(l)
	if tx == nil {
		c.missing("S6", "%s of %s heard %v, and the cluster does not know the transaction", l.ref(), l.Resource, l.Verdict)
		return
	}
	want := verdictOf(tx.GetDecision())
	if b == nil || b.GetHint() {
		want = participant.VerdictRollback
	}
	if l.Verdict != want {
		c.found("S1", "%s of %s heard %v in term %d, attempt %d; it is decided %s", l.ref(), l.Resource, l.Verdict, l.Term, l.Attempt, word(tx.GetDecision()))
	}
}

// ended: what a participant did was asked of it, and is what was decided.
func (c *checker) ended(l Line, heard map[string]bool) {
	tx := c.byGID[l.GID]
	commit := tx.GetDecision() == quoratev1.Decision_DECISION_COMMIT
	switch l.Outcome {
	case participant.OutcomeCommitted:
		if !commit {
			c.found("S11", "%s of %s was committed, and is decided %s", l.ref(), l.Resource, word(tx.GetDecision()))
		}
		if !heard[l.ref()] {
			c.found("S11", "%s of %s was committed before anybody there was told to", l.ref(), l.Resource)
		}
	case participant.OutcomeRolledBack:
		if b := c.member(l); commit && b != nil && !b.GetHint() && b.GetHeuristic() == quoratev1.Heuristic_HEURISTIC_UNSPECIFIED {
			c.found("S11", "%s of %s was rolled back, is decided commit, and the cluster was not told", l.ref(), l.Resource)
		}
	default:
		c.found("S11", "%s of %s ended as %v", l.ref(), l.Resource, l.Outcome)
	}
}

// fenced: a branch that was rolled back and had not prepared must be unable to: its
// store has a row that says so. Whether it had is not known where its process died
// before it could write that down, or where the answer to PREPARE was lost: then its
// own journal says so, and the cluster only where the refusal came before the decision.
func (c *checker) fenced(l Line) {
	b := c.member(l)
	holder, known := c.holders[b.GetSpec().GetHolder()]
	if b == nil || !known || b.GetMaybePrepared() || c.e.killed(holder.Seat, holder.Start) || b.GetVote() == quoratev1.Vote_VOTE_PREPARED {
		return
	}
	c.count("fences_looked_for")
	if done, ok := c.e.Books[l.Resource].Evidence[l.ref()]; !ok || done {
		c.found("S12", "%s of %s was rolled back before it had prepared, and nothing in the store keeps it from preparing", l.ref(), l.Resource)
	}
}
