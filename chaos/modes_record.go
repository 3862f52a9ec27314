package chaos

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/linearizability"
	"github.com/quorate/quorate/participant"
)

// recorded is the transaction service, with every call that begins, decides or reads
// written down, for S7: once anybody was told a decision, nobody hears another one, or
// none. A call that the SDK repeats inside is one operation.
type recorded struct {
	quoratev1.TransactionServiceClient
	w *modesWorkload
}

func (w *modesWorkload) service() recorded {
	return recorded{TransactionServiceClient: w.client.Service(), w: w}
}

// Begin, Submit, Commit, Rollback and Get are the client's, recorded.
func (s recorded) Begin(ctx context.Context, req *quoratev1.BeginRequest, opts ...grpc.CallOption) (*quoratev1.BeginResponse, error) {
	op := linearizability.Operation{Kind: linearizability.KindBegin, GID: req.GetGid(), Key: req.GetKey(), Input: inputOf(req), Call: s.w.env.Now().Nanoseconds()}
	got, err := s.TransactionServiceClient.Begin(ctx, req, opts...)
	s.w.record(op, outputOf(got.GetGid(), got.GetDecision(), got.GetHeader(), got.GetCreated()), err)
	return got, err
}

func (s recorded) Submit(ctx context.Context, req *quoratev1.SubmitRequest, opts ...grpc.CallOption) (*quoratev1.SubmitResponse, error) {
	b := req.GetBegin()
	op := linearizability.Operation{Kind: linearizability.KindSubmit, GID: b.GetGid(), Key: b.GetKey(), Input: inputOf(b), Call: s.w.env.Now().Nanoseconds()}
	for _, branch := range req.GetSet() { // what tells this one from another
		op.Input.Content += string(branch.GetPayload())
	}
	got, err := s.TransactionServiceClient.Submit(ctx, req, opts...)
	s.w.record(op, outputOf(got.GetGid(), got.GetDecision(), got.GetHeader(), got.GetCreated()), err)
	return got, err
}

func (s recorded) Commit(ctx context.Context, req *quoratev1.CommitRequest, opts ...grpc.CallOption) (*quoratev1.CommitResponse, error) {
	op := linearizability.Operation{Kind: linearizability.KindCommit, GID: req.GetTransaction(), Input: linearizability.Input{Bare: true}, Call: s.w.env.Now().Nanoseconds()}
	got, err := s.TransactionServiceClient.Commit(ctx, req, opts...)
	s.w.record(op, outputOf(got.GetGid(), got.GetDecision(), got.GetHeader(), false), err)
	return got, err
}

func (s recorded) Rollback(ctx context.Context, req *quoratev1.RollbackRequest, opts ...grpc.CallOption) (*quoratev1.RollbackResponse, error) {
	op := linearizability.Operation{Kind: linearizability.KindRollback, GID: req.GetTransaction(), Call: s.w.env.Now().Nanoseconds()}
	got, err := s.TransactionServiceClient.Rollback(ctx, req, opts...)
	s.w.record(op, outputOf(got.GetGid(), got.GetDecision(), got.GetHeader(), false), err)
	return got, err
}

func (s recorded) Get(ctx context.Context, req *quoratev1.GetRequest, opts ...grpc.CallOption) (*quoratev1.GetResponse, error) {
	op := linearizability.Operation{Kind: linearizability.KindGet, GID: req.GetTransaction(), Call: s.w.env.Now().Nanoseconds()}
	got, err := s.TransactionServiceClient.Get(ctx, req, opts...)
	tx := got.GetTransaction()
	out := outputOf(tx.GetGid(), tx.GetDecision(), got.GetHeader(), false)
	out.State = linearizability.FromWire[linearizability.State](tx.GetState())
	s.w.record(op, out, err)
	return got, err
}

func inputOf(b *quoratev1.BeginRequest) linearizability.Input {
	return linearizability.Input{Mode: linearizability.FromWire[string](b.GetMode()), TimeoutMS: uint64(b.GetTimeout().AsDuration().Milliseconds())}
}

func outputOf(gid string, d quoratev1.Decision, h *quoratev1.ResponseHeader, created bool) linearizability.Output {
	return linearizability.Output{
		GID: gid, Created: created, Decision: linearizability.FromWire[linearizability.Decision](d),
		AppliedIndex: h.GetAppliedIndex(), ClockMS: h.GetClockMs(),
	}
}

// record keeps one operation. Each has a client of its own: nobody calls again after an
// unknown outcome.
func (w *modesWorkload) record(op linearizability.Operation, out linearizability.Output, err error) {
	var refused *participant.RefusedError
	var unavailable *participant.UnavailableError
	switch {
	case err == nil:
		op.Status, op.Output = linearizability.StatusOK, out
	case errors.As(err, &refused):
		op.Status, op.Output = linearizability.StatusRefused, linearizability.Output{Refusal: refused.Reason}
	case errors.As(err, &unavailable):
		op.Status = linearizability.StatusFailed
	default:
		op.Status, op.Error = linearizability.StatusUnknown, err.Error()
	}
	if op.Status != linearizability.StatusUnknown {
		op.Return = w.env.Now().Nanoseconds()
		w.operations.Add(1)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	op.Client = len(w.ops) + 1
	w.ops = append(w.ops, op)
}

// read asks now and then how a transaction of late stands.
func (w *modesWorkload) read(ctx context.Context, r *rand.Rand) {
	for pause(ctx, readEvery); ctx.Err() == nil; pause(ctx, readEvery) {
		w.mu.Lock()
		gid := ""
		if n := len(w.begun); n > 0 {
			gid = w.begun[max(0, n-1-r.IntN(readAmong))].gid
		}
		w.mu.Unlock()
		if gid != "" {
			once, cancel := context.WithTimeout(ctx, modesAttemptMax)
			_, _ = w.service().Get(once, &quoratev1.GetRequest{Transaction: gid})
			cancel()
		}
	}
}

const (
	readEvery = 40 * time.Millisecond
	readAmong = 60
)
