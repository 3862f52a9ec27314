package branchbank

import (
	"context"
	"errors"
)

func (i *Initiator) workflow(ctx context.Context, t Transfer) error {
	return errors.New("branchbank: workflow is not yet wired")
}
