package saga

import (
	"context"
	"errors"
	"fmt"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/internal/plan"
)

// Saga is one saga, in the hands of its initiator. It must not be used by several
// goroutines at once while it is built.
type Saga struct {
	client   *participant.Client
	settings plan.Settings
	steps    []*quoratev1.BranchSpec
	err      error // the first mistake made while building
}

// New makes a saga without steps.
func New(client *participant.Client, opts ...Option) *Saga {
	s := &Saga{client: client}
	for _, set := range opts {
		set(&s.settings)
	}
	return s
}

// Step adds a step after the one before it: what is called to do it, what is called to
// undo it (empty: nothing is to be undone), and the body of both calls. A payload is
// JSON, unless it is []byte or a protobuf message.
func (s *Saga) Step(action, compensate string, payload any, opts ...StepOption) *Saga {
	body, err := plan.Payload(payload)
	step := &quoratev1.BranchSpec{Id: fmt.Sprintf("%02d", len(s.steps)+1), Endpoint: action, Undo: compensate, Payload: body}
	if n := len(s.steps); n > 0 {
		step.After = []string{s.steps[n-1].GetId()}
	}
	for _, set := range opts {
		set(step)
	}
	if err != nil && s.err == nil {
		s.err = fmt.Errorf("saga: step %s: %w", step.GetId(), err)
	}
	s.steps = append(s.steps, step)
	return s
}

// GID names the transaction; empty before the first Submit, unless it was set. With a
// key that stood already it is the GID of the saga that has it.
func (s *Saga) GID() participant.GID { return participant.GID(s.settings.GID) }

// Submit hands the saga to the cluster; nil means that it stands in the log and will be
// run to an end, whatever becomes of this process. It may be called again after any
// error.
func (s *Saga) Submit(ctx context.Context) error {
	if s.err != nil {
		return s.err
	}
	if s.settings.GID == "" {
		gid, err := s.client.NewGID(ctx)
		if err != nil {
			return err
		}
		s.settings.GID = string(gid)
	}
	got, err := s.client.Service().Submit(ctx, &quoratev1.SubmitRequest{
		Begin: s.settings.Begin(quoratev1.Mode_MODE_SAGA), Set: s.steps, Wait: quoratev1.Wait_WAIT_NONE,
	})
	if err != nil {
		return participant.Decided(s.GID(), err)
	}
	s.settings.GID = got.GetGid() // a key may stand for an older one
	return nil
}

// Run submits the saga and waits until it has ended: nil is done, and
// *[participant.RolledBackError] is undone, with the reason. When the context ends
// first the error is [participant.ErrUnknown] and the saga goes on; Run may be called
// again.
func (s *Saga) Run(ctx context.Context) error {
	err := s.Submit(ctx)
	var rolledBack *participant.RolledBackError
	if err != nil && !errors.As(err, &rolledBack) { // a repeat may find it decided
		return err
	}
	return s.client.AwaitFinish(ctx, s.GID())
}
