package sim

import (
	"bytes"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// Bug is planted in the simulated parts, to show that the simulator finds it.
// Bugs of the state machine and of the driver are planted in their sources.
type Bug string

// The planted bugs.
const (
	BugNone                 Bug = ""
	BugNoSync               Bug = "nosync"                // a write is acknowledged before it is on the platter
	BugCRCNotVerified       Bug = "crc-not-verified"      // a node starts from a damaged log
	BugAnswerBeforeApplied  Bug = "answer-before-applied" // a leader answers once an entry is appended
	BugLocalRead            Bug = "leader-local-read"     // a read asks nobody whether this node still leads
	BugResumesNothing       Bug = "new-leader-resumes-nothing"
	BugNoTombstone          Bug = "presumed-abort-without-tombstone"
	BugLocalTimeout         Bug = "timeout-by-local-clock"
	BugCommitVoteMissing    Bug = "commit-with-a-vote-missing"
	BugLastWriterWins       Bug = "last-writer-wins"
	BugVoteBeforePrepared   Bug = "vote-before-prepared"
	BugNotFoundIsSuccess    Bug = "not-found-is-success"
	BugNoFence              Bug = "empty-rollback-leaves-no-record"
	BugRecoveryRollsBackAll Bug = "recovery-rolls-back-all"
	// BugShopWithoutFence is of called branches: no row is kept, so that what comes twice
	// is done twice, and what comes late is done late.
	BugShopWithoutFence Bug = "shop-without-fence"
)

// Bugs lists them all.
var Bugs = []Bug{
	BugNoSync, BugCRCNotVerified, BugAnswerBeforeApplied, BugLocalRead, BugResumesNothing, BugNoTombstone, BugLocalTimeout,
	BugCommitVoteMissing, BugLastWriterWins, BugVoteBeforePrepared, BugNotFoundIsSuccess, BugNoFence, BugRecoveryRollsBackAll,
}

// answerEarly computes the answers of an entry on a copy of the state, and gives
// them before anybody else has it.
func (n *node) answerEarly(e logEntry) {
	f := n.inFlight[len(n.inFlight)-1]
	if len(n.inFlight) > 1 || n.reign == nil || n.applied != n.last()-1 {
		return
	}
	var copied bytes.Buffer
	if _, err := n.state.Pin().WriteTo(&copied); err != nil {
		return
	}
	scratch := fsm.New()
	if scratch.Restore(&copied) != nil {
		return
	}
	results, err := scratch.ApplyEntry(e.index, e.term, e.data)
	if err != nil {
		return
	}
	calls := f.calls
	f.calls = nil
	for _, c := range calls {
		part := results[:len(c.commands)]
		results = results[len(c.commands):]
		n.after(0, func() { c.done(part, nil) })
	}
}

// localTimeout answers a caller by the leader's own clock.
func (n *node) localTimeout(gid fsm.GID, waiter uint64, reply func(answer)) {
	rec, ok := n.state.Get(gid)
	if !ok {
		return
	}
	n.after(time.Duration(rec.GetBegin().GetTimeoutMs())*time.Millisecond/2, func() {
		if n.waiters[waiter] == nil {
			return
		}
		delete(n.waiters, waiter)
		reply(answer{result: fsm.Result{GID: gid, Decision: fsm.DecisionRollback}})
	})
}

// overwrites lets the last who asks have his way.
func (n *node) overwrites(c *logpb.Command, r *fsm.Result) {
	if d := c.GetDecide(); n.w.bug == BugLastWriterWins && r.Code == fsm.AlreadyDecided {
		r.Code, r.Decision = fsm.OK, d.GetDecision()
	}
}

// planted bends the commands that are proposed for a caller.
func (n *node) planted(c *logpb.Command) []*logpb.Command {
	d := c.GetDecide()
	if n.w.bug == BugCommitVoteMissing && d.GetDecision() == fsm.DecisionCommit {
		var out []*logpb.Command
		rec, _ := n.state.Get(fsm.GID(d.GetGid()))
		for _, b := range rec.GetBranches() {
			if b.GetVote() == 0 && !b.GetHint() {
				out = append(out, &logpb.Command{Kind: &logpb.Command_Vote{Vote: &logpb.Vote{Gid: d.GetGid(), Ballot: ballotOf(b.GetSpec(), prepared, false)}}})
			}
		}
		return append(out, c)
	}
	return []*logpb.Command{n.plantedModes(c)}
}
