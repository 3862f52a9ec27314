package coordinator

import (
	"context"

	"github.com/quorate/quorate/fsm/logpb"
)

// Record keeps a step of a workflow's code. The first word on a step stands: the
// same again is OK, another one VOTE_CONFLICT.
func (c *Coordinator) Record(ctx context.Context, r RecordRequest) (Status, error) {
	gid, err := c.find(ctx, r.Transaction)
	if err != nil {
		return Status{}, err
	}
	res, err := c.proposeOne(ctx, gid, ending, &logpb.Command{Kind: &logpb.Command_Record{Record: &logpb.Record{
		Gid: gid.Bytes(), Branch: r.Branch, Operation: r.Operation, Failed: r.Failed, Result: r.Result, Detail: r.Detail,
	}}})
	if err != nil {
		return Status{}, err
	}
	if err := refusal(res, r.Transaction.Key, r.Branch.GetId()); err != nil {
		return Status{}, err
	}
	return statusOfResult(res), nil
}

// Stop ends a transaction by an operator's word, whatever its branches did.
func (c *Coordinator) Stop(ctx context.Context, r StopRequest) (Status, error) {
	gid, err := c.find(ctx, r.Transaction)
	if err != nil {
		return Status{}, err
	}
	if r.Operator == "" || r.Reason == "" {
		return Status{}, invalid(gid, "stopping a transaction by hand needs an operator and a reason, which are kept")
	}
	res, err := c.proposeOne(ctx, gid, ending, &logpb.Command{Kind: &logpb.Command_Stop{Stop: &logpb.Stop{
		Gid: gid.Bytes(), Operator: r.Operator, Reason: r.Reason,
	}}})
	if err != nil {
		return Status{}, err
	}
	if err := refusal(res, r.Transaction.Key, ""); err != nil {
		return Status{}, err
	}
	c.log.Warn("an operator stopped a transaction: its branches are called no more, whatever they did",
		"gid", gid, "operator", r.Operator, "reason", r.Reason)
	return statusOfResult(res), nil
}
