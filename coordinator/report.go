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
	return reported(ctx, c, r.GID, func(done func(Status, error)) { c.ReportAsync(r, done) })
}

// reported waits for what comes of a report.
func reported(ctx context.Context, c *Coordinator, gid fsm.GID, report func(done func(Status, error))) (Status, error) {
	type outcome struct {
		status Status
		err    error
	}
	heard := make(chan outcome, 1)
	report(func(s Status, err error) { heard <- outcome{s, err} })
	select {
	case o := <-heard:
		return o.status, o.err
	case <-ctx.Done():
		return Status{}, &UnknownError{GID: gid, Cause: context.Cause(ctx)}
	}
}

// ReportAsync is Report for who does not wait: done hears what came of it, once, from
// another goroutine or from within the call. It must not block.
func (c *Coordinator) ReportAsync(r ReportRequest, done func(Status, error)) {
	err := c.admitReport(r)
	switch {
	case err != nil:
		done(Status{}, err)
	case failpoint.Armed():
		go func() { // it may stand still there
			if err := c.pass(failpoint.BeforeReport, r.GID); err != nil {
				c.pending.Add(-1)
				done(Status{}, err)
				return
			}
			c.report(r, done)
		}()
	default:
		c.report(r, done)
	}
}

func (c *Coordinator) admitReport(r ReportRequest) error {
	if r.Busy {
		return invalid(r.GID, "branch %s is busy: only the answer to a delivery over a session may say so", r.Branch)
	}
	if err := c.leads(); err != nil {
		return err
	}
	return c.admit(ending)
}

// report tells the core, which brings the report into the log.
func (c *Coordinator) report(r ReportRequest, done func(Status, error)) {
	u := &reportUnderWay{c: c, done: done, gid: r.GID}
	u.report.Gid, u.report.Branch, u.report.Outcome = u.gid[:], r.Branch, r.Outcome
	u.report.Detail, u.report.Attempts, u.report.Holder = r.Detail, r.Attempt, r.Holder
	u.kind.Report = &u.report
	u.command.Kind = &u.kind
	if !c.step(u.tell) {
		u.hear(fsm.Result{}, ErrClosed)
	}
}

// reportUnderWay is a report, its command, and who hears what came of it, in one piece of
// memory: every branch of every transaction makes one.
type reportUnderWay struct {
	c       *Coordinator
	done    func(Status, error)
	gid     fsm.GID
	report  logpb.Report
	kind    logpb.Command_Report
	command logpb.Command
}

func (u *reportUnderWay) tell(core *Core, now time.Time) {
	core.reportAs(now, &u.command, true, u.hear)
}

func (u *reportUnderWay) hear(res fsm.Result, err error) {
	u.c.pending.Add(-1)
	u.done(u.c.reportedAs(u.gid, u.report.Branch, res, err))
}

// reportedAs is the answer to a report.
func (c *Coordinator) reportedAs(gid fsm.GID, branch string, res fsm.Result, err error) (Status, error) {
	if err != nil {
		return Status{}, c.proposeError(gid, err)
	}
	if res.Alarm {
		c.log.Warn("a branch reported what nobody can put right", "gid", gid, "branch", branch, "detail", res.Detail)
	}
	if err := refusal(res, "", branch); err != nil {
		return Status{}, err
	}
	return statusOfResult(res), nil
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
	c.replog.View(func(s *fsm.State) { _, standing = s.Read(gid) })
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
