package participant

import "context"

// initiators is the resource by which a process that only begins transactions is
// attached. It guards nothing, so nothing is ever delivered to it.
const initiators = "initiators"

// Present opens the process' session with the cluster, for initiators that serve no
// resource: the cluster then notices the process' end within the grace, and asks at once
// what became of the messages that it had begun. It may be called again.
func (c *Client) Present(ctx context.Context) error {
	if len(c.attachments()) > 0 {
		return nil
	}
	_, err := c.Attach(ctx, nothing{})
	if c.attachment(initiators) != nil { // somebody else's Present was first
		return nil
	}
	return err
}

// nothing is the manager of no resource.
type nothing struct{}

func (nothing) Resource() string                                     { return initiators }
func (nothing) Commit(context.Context, BranchRef) (Outcome, error)   { return OutcomeHazard, ErrBusy }
func (nothing) Rollback(context.Context, BranchRef) (Outcome, error) { return OutcomeHazard, ErrBusy }
func (nothing) Recover(context.Context) ([]Prepared, error)          { return nil, nil }
