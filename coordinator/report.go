package coordinator

import (
	"context"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/failpoint"
)

// Report records a branch's own outcome, in a proposal shared with others.
func (c *Coordinator) Report(ctx context.Context, r ReportRequest) (Status, error) {
	if r.Busy {
		return Status{}, invalid(r.GID, "branch %s is busy: only the answer to a delivery over a session may say so", r.Branch)
	}
	if err := c.leads(); err != nil {
		return Status{}, err
	}
	if err := c.admit(ending); err != nil {
		return Status{}, err
	}
	if err := c.pass(failpoint.BeforeReport, r.GID); err != nil {
		c.pending.Add(-1)
		return Status{}, err
	}
	done := make(chan result, 1)
	c.batcher.add(&logpb.Command{Kind: &logpb.Command_Report{Report: &logpb.Report{
		Gid: r.GID.Bytes(), Branch: r.Branch, Outcome: r.Outcome, Detail: r.Detail, Attempts: r.Attempt, Holder: r.Holder,
	}}}, func(res result) {
		c.pending.Add(-1)
		done <- res
	})
	select {
	case res := <-done:
		if res.err != nil {
			return Status{}, c.proposeError(r.GID, res.err)
		}
		if res.result.Alarm {
			c.log.Warn("a branch reported what nobody can put right", "gid", r.GID, "branch", r.Branch, "detail", res.result.Detail)
		}
		if err := refusal(res.result, "", r.Branch); err != nil {
			return Status{}, err
		}
		return statusOfResult(res.result), nil
	case <-ctx.Done():
		return Status{}, &UnknownError{GID: r.GID, Cause: context.Cause(ctx)}
	}
}

// Resolve records an operator's word on a branch that cannot report.
func (c *Coordinator) Resolve(ctx context.Context, r ResolveRequest) (Status, error) {
	gid, err := c.find(ctx, r.Transaction)
	if err != nil {
		return Status{}, err
	}
	if r.Operator == "" || r.Reason == "" {
		return Status{}, invalid(gid, "resolving a branch by hand needs an operator and a reason, which are kept")
	}
	res, err := c.proposeOne(ctx, gid, ending, &logpb.Command{Kind: &logpb.Command_Resolve{Resolve: &logpb.Resolve{
		Gid: gid.Bytes(), Branch: r.Branch, Outcome: r.Outcome, Operator: r.Operator, Reason: r.Reason,
	}}})
	if err != nil {
		return Status{}, err
	}
	if err := refusal(res, r.Transaction.Key, r.Branch); err != nil {
		return Status{}, err
	}
	c.log.Warn("an operator resolved a branch by hand", "gid", gid, "branch", r.Branch, "outcome", r.Outcome.String(), "operator", r.Operator, "reason", r.Reason)
	return statusOfResult(res), nil
}

// Retry delivers now what waits for its back-off: one branch, or all for "". It
// returns how many branches were due.
func (c *Coordinator) Retry(ctx context.Context, ref Ref, branch string) (int, error) {
	if err := c.leads(); err != nil {
		return 0, err
	}
	gid, err := c.find(ctx, ref)
	if err != nil {
		return 0, err
	}
	standing := false
	c.replog.View(func(s *fsm.State) { _, standing = s.Get(gid) })
	if !standing {
		return 0, &Refusal{Code: fsm.NotFound, GID: gid, Key: ref.Key, Detail: "no such transaction"}
	}
	answer := make(chan int, 1)
	if !c.query(ctx, func(core *Core, now time.Time) { answer <- core.Retry(now, gid, branch) }) {
		return 0, c.gone(ctx)
	}
	return <-answer, nil
}

// gone is why a query of the core was not answered.
func (c *Coordinator) gone(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return ErrClosed
}
