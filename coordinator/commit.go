package coordinator

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/failpoint"
)

// Commit asks for the commit and waits as the request says. The status' decision
// may be rollback: that is an answer, not an error. When the context ends or
// leadership goes first, the error is ErrUnknown, and repeating the request is safe.
func (c *Coordinator) Commit(ctx context.Context, r CommitRequest) (Status, error) {
	asked := c.now()
	gid, err := c.find(ctx, r.Transaction)
	if err != nil {
		return Status{}, err
	}
	if err := c.pass(failpoint.BeforeDecision, gid); err != nil {
		return Status{}, err
	}
	res, err := c.proposeOne(ctx, gid, ordinary, &logpb.Command{Kind: &logpb.Command_Decide{Decide: &logpb.Decide{
		Gid: gid.Bytes(), Decision: fsm.DecisionCommit, Set: sorted(r.Set), Origin: logpb.Origin_ORIGIN_CLIENT, Result: r.Result,
		DelayMs: r.DelayMS,
	}}})
	if err != nil {
		return Status{}, err
	}
	if err := refusal(res, r.Transaction.Key, ""); err != nil {
		return Status{}, err
	}
	return c.afterDecide(ctx, statusOfResult(res), c.modeOf(res.GID), r.Wait, asked)
}

// sorted returns the set in the order the log wants, without its repetitions.
func sorted(set *logpb.BranchSet) *logpb.BranchSet {
	if set == nil {
		return nil
	}
	ids := slices.Clone(set.GetIds())
	slices.Sort(ids)
	return &logpb.BranchSet{Ids: slices.Compact(ids)}
}

// Submit begins, votes and asks commit in one entry. It edits r.Submit, which may be
// used for the same request once more, and keeps nothing of it once it has returned.
func (c *Coordinator) Submit(ctx context.Context, r SubmitRequest) (Status, error) {
	asked := c.now()
	submit := r.Submit
	if submit == nil {
		submit = new(logpb.Submit)
	}
	if submit.Begin == nil {
		submit.Begin = new(logpb.Begin)
	}
	begin := submit.Begin
	gid, err := c.complete(begin)
	if err != nil {
		return Status{}, err
	}
	sortBranches(submit.Set)
	slices.SortFunc(submit.Votes, func(a, b *logpb.Ballot) int { return strings.Compare(a.GetBranch().GetId(), b.GetBranch().GetId()) })
	if err := c.passKey(failpoint.BeforeDecision, gid, begin.GetKey()); err != nil {
		return Status{}, err
	}
	command := &struct { // one piece of memory
		command logpb.Command
		kind    logpb.Command_Submit
	}{kind: logpb.Command_Submit{Submit: submit}}
	command.command.Kind = &command.kind
	res, err := c.proposeOne(ctx, gid, ordinary, &command.command)
	if err != nil {
		return Status{}, err
	}
	if err := refusal(res, begin.GetKey(), ""); err != nil {
		return Status{}, err
	}
	mode := begin.GetMode()
	if !res.Created && res.GID != gid { // a key stood for another one
		mode = c.modeOf(res.GID)
	}
	return c.afterDecide(ctx, statusOfResult(res), mode, r.Wait, asked)
}

// afterDecide waits for what the caller wants to know, once its request is applied.
func (c *Coordinator) afterDecide(ctx context.Context, s Status, mode fsm.Mode, wait Wait, asked time.Time) (Status, error) {
	if s.Decision == fsm.DecisionCommit {
		if err := c.pass(failpoint.AtDecision, s.GID); err != nil {
			return Status{}, err
		}
	}
	undecided := s.Decision == fsm.DecisionNone
	if wait != WaitNone && (undecided || wait == WaitFinish && !ended(s.State)) {
		created := s.Created
		var err error
		if s, err = c.await(ctx, s, wait == WaitFinish); err != nil {
			return Status{}, err
		}
		s.Created = created
	}
	if s.Decision != fsm.DecisionNone {
		c.observer.TransactionDecided(mode, s.Decision, c.now().Sub(asked))
	}
	return s, nil
}

func ended(s fsm.TxState) bool { return s == fsm.StateCommitted || s == fsm.StateRolledBack }

func (c *Coordinator) modeOf(gid fsm.GID) (mode fsm.Mode) {
	mode = logpb.Mode_MODE_TWO_PHASE
	c.replog.View(func(s *fsm.State) {
		if rec, ok := s.Read(gid); ok {
			mode = modeOf(rec)
		}
	})
	return mode
}

// await waits without a goroutine of its own: the core answers when it sees the
// decision (or the end) applied, or when leadership goes.
func (c *Coordinator) await(ctx context.Context, s Status, finish bool) (Status, error) {
	id := c.lastID.Add(1)
	answer := make(chan AnswerWaiter, 1)
	registered := c.step(func(core *Core, now time.Time) {
		c.waiters[id] = answer
		core.Wait(now, id, s.GID, finish)
	})
	if !registered {
		return Status{}, &UnknownError{GID: s.GID, Cause: ErrClosed}
	}
	// The core answers all who are registered, also when it closes. This select waits for no
	// channel that callers share: its lock would be what they wait for.
	select {
	case a := <-answer:
		if a.Lost {
			return Status{}, &UnknownError{GID: s.GID, Cause: c.whyLost()}
		}
		return a.Status, nil
	case <-ctx.Done():
		c.step(func(core *Core, _ time.Time) {
			core.Unwait(id)
			delete(c.waiters, id)
		})
		return Status{}, &UnknownError{GID: s.GID, Cause: context.Cause(ctx)}
	}
}

// whyLost is why the core answered before what was waited for came.
func (c *Coordinator) whyLost() error {
	if err := c.leads(); err != nil {
		return err
	}
	return c.notLeader() // it leads again
}

// Rollback decides rollback. An unseen GID gets a tombstone, so that a late
// Begin, Vote or Submit finds it decided; an unknown key is NOT_FOUND.
func (c *Coordinator) Rollback(ctx context.Context, r RollbackRequest) (Status, error) {
	asked := c.now()
	gid, err := c.find(ctx, r.Transaction)
	if err != nil {
		return Status{}, err
	}
	d := &logpb.Decide{
		Gid: gid.Bytes(), Decision: fsm.DecisionRollback, Branches: r.Branches, Detail: r.Detail,
		Origin: logpb.Origin_ORIGIN_CLIENT, Reason: logpb.Reason_REASON_REQUESTED, Result: r.Result,
	}
	mode := c.modeOf(gid)
	if mode == logpb.Mode_MODE_WORKFLOW {
		d.Reason = logpb.Reason_REASON_FAILED // its code says so, and nobody else asks
	}
	switch {
	case r.Operator != "":
		d.Origin, d.Reason, d.Operator = logpb.Origin_ORIGIN_OPERATOR, logpb.Reason_REASON_OPERATOR, r.Operator
	case r.Participant:
		d.Origin, d.Reason = logpb.Origin_ORIGIN_PARTICIPANT, logpb.Reason_REASON_PRESUMED
	}
	res, err := c.proposeOne(ctx, gid, ending, &logpb.Command{Kind: &logpb.Command_Decide{Decide: d}})
	if err != nil {
		return Status{}, err
	}
	if err := refusal(res, r.Transaction.Key, ""); err != nil {
		return Status{}, err
	}
	return c.afterDecide(ctx, statusOfResult(res), mode, r.Wait, asked)
}
