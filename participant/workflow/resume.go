package workflow

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/fence"
	"github.com/quorate/quorate/participant/handlers"
)

// ServeHTTP is where the coordinator asks for unfinished workflows.
func (e *Engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	handlers.Func(e.Serve).ServeHTTP(w, r)
}

// Serve is ServeHTTP for gRPC: a [handlers.Func] for a method of [handlers.Methods].
func (e *Engine) Serve(ctx context.Context, _ []byte) ([]byte, error) {
	call := fence.FromContext(ctx)
	if call.Operation != fence.Resume {
		return nil, fmt.Errorf("workflow: the callback is for resumes, not for %q", call.Operation)
	}
	err := e.Resume(ctx, participant.GID(call.GID))
	var rolledBack *participant.RolledBackError
	switch {
	case errors.As(err, &rolledBack): // it has ended: that is what was asked for
		return nil, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%w: %w", participant.ErrOngoing, err)
	}
	return nil, err
}

func withCall(ctx context.Context, wf *Workflow, name string, operation fence.Operation) context.Context {
	return fence.NewContext(ctx, fence.Call{
		GID: string(wf.gid), Key: wf.key, Branch: name, Operation: operation, Mode: "workflow",
		FloorMS: wf.engine.client.FloorMS(), ClockMS: wf.engine.client.ClockMS(), Cluster: wf.engine.client.ClusterID(),
	})
}
