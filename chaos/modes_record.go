package chaos

import (
	"context"
	"math/rand/v2"
	"strings"
	"time"

	"google.golang.org/grpc"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/branchbank"
	"github.com/quorate/quorate/linearizability"
)

// recorder writes down every call that the initiators' client makes, a repetition as a
// call of its own, for S7: some order of them explains every answer. It stands below the
// SDK: what modes' packages ask is recorded as what the workload asks itself. The banks
// that send messages write nothing down; the log tells what they asked.
func (w *modesWorkload) recorder(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	op := operationOf(req)
	op.Namespace, op.Call = "default", w.env.Now().Nanoseconds()
	err := invoke(ctx, method, req, reply, conn, opts...)
	if op.Kind != "" {
		w.record(op, reply, err)
	}
	return err
}

// service is the client's.
func (w *modesWorkload) service() quoratev1.TransactionServiceClient { return w.client.Service() }

// operationOf is a request in the history's words; of no kind when it is not recorded.
func operationOf(req any) linearizability.Operation {
	switch q := req.(type) {
	case *quoratev1.BeginRequest:
		return linearizability.Operation{Kind: linearizability.KindBegin, GID: q.GetGid(), Key: q.GetKey(), Input: begunInput(q, q.GetBranches())}
	case *quoratev1.SubmitRequest:
		b := q.GetBegin()
		op := linearizability.Operation{Kind: linearizability.KindSubmit, GID: b.GetGid(), Key: b.GetKey(), Input: begunInput(b, q.GetSet())}
		op.Input.Wait = waitOf(q.GetWait())
		return op
	case *quoratev1.EnlistRequest:
		b := branchOf(q.GetBranch())
		return linearizability.Operation{Kind: linearizability.KindEnlist, GID: q.GetGid(), Branch: b.ID, Input: linearizability.Input{
			Resource: b.Resource, Endpoint: b.Endpoint, Undo: b.Undo, After: b.After, Payload: b.Content,
		}}
	case *quoratev1.CommitRequest:
		return about(linearizability.KindCommit, q.GetTransaction(), linearizability.Input{
			Bare: q.GetSet() == nil, Set: q.GetSet().GetIds(), Wait: waitOf(q.GetWait()), Result: string(q.GetResult()),
		})
	case *quoratev1.RollbackRequest:
		in := linearizability.Input{Wait: waitOf(q.GetWait()), Operator: q.GetOperator(), Result: string(q.GetResult())}
		for _, b := range q.GetBranches() {
			in.Branches = append(in.Branches, branchOf(b))
		}
		return about(linearizability.KindRollback, q.GetTransaction(), in)
	case *quoratev1.RecordRequest:
		return linearizability.Operation{Kind: linearizability.KindRecord, GID: q.GetGid(), Branch: q.GetBranch(), Input: linearizability.Input{
			Operation: q.GetOperation(), Failed: q.GetFailed(), Result: string(q.GetResult()),
		}}
	case *quoratev1.StopRequest:
		return about(linearizability.KindStop, q.GetTransaction(), linearizability.Input{Operator: q.GetOperator()})
	case *quoratev1.GetRequest:
		return about(linearizability.KindGet, q.GetTransaction(), linearizability.Input{
			Consistency: linearizability.FromWire[linearizability.Consistency](q.GetConsistency()), MinIndex: q.GetMinIndex(),
		})
	}
	return linearizability.Operation{}
}

// about is an operation on a transaction that is named by its GID or by its key.
func about(kind linearizability.Kind, transaction string, in linearizability.Input) linearizability.Operation {
	op := linearizability.Operation{Kind: kind, GID: transaction, Input: in}
	if key, ok := strings.CutPrefix(transaction, "key:"); ok {
		op.GID, op.Key = "", key
	}
	return op
}

func begunInput(b *quoratev1.BeginRequest, branches []*quoratev1.BranchSpec) linearizability.Input {
	in := linearizability.Input{
		Mode: linearizability.FromWire[string](b.GetMode()), Entry: linearizability.FromWire[linearizability.Entry](b.GetEntry()),
		TimeoutMS: uint64(b.GetTimeout().AsDuration().Milliseconds()),
	}
	if b.GetPlan() != nil {
		in.Content = sumOf(b.GetPlan())
	}
	for _, spec := range branches {
		in.Branches = append(in.Branches, branchOf(spec))
	}
	return in
}

// answerOf is an answer in the history's words.
func answerOf(reply any) linearizability.Output {
	var out linearizability.Output
	switch r := reply.(type) {
	case *quoratev1.BeginResponse:
		out = decidedOutput(r)
		out.Created = r.GetCreated()
	case *quoratev1.SubmitResponse:
		out = decidedOutput(r)
		out.Created, out.Reason, out.DecisionIndex = r.GetCreated(), linearizability.ReasonFromWire(r.GetReason()), r.GetIndex()
	case *quoratev1.CommitResponse:
		out = decidedOutput(r)
		out.Reason, out.DecisionIndex = linearizability.ReasonFromWire(r.GetReason()), r.GetIndex()
	case *quoratev1.RollbackResponse:
		out = decidedOutput(r)
		out.DecisionIndex = r.GetIndex()
	case *quoratev1.EnlistResponse:
		out.Verdict = linearizability.FromWire[linearizability.Verdict](r.GetVerdict())
	case *quoratev1.StopResponse:
		out.State = linearizability.FromWire[linearizability.State](r.GetState())
	case *quoratev1.GetResponse:
		out = transactionOutput(r.GetTransaction())
	}
	if r, ok := reply.(interface {
		GetHeader() *quoratev1.ResponseHeader
	}); ok {
		fillHeader(&out, r.GetHeader())
	}
	return out
}

func decidedOutput(r interface {
	GetGid() string
	GetDecision() quoratev1.Decision
	GetState() quoratev1.State
}) linearizability.Output {
	return linearizability.Output{
		GID: r.GetGid(), Decision: linearizability.FromWire[linearizability.Decision](r.GetDecision()),
		State: linearizability.FromWire[linearizability.State](r.GetState()),
	}
}

// record keeps one operation. Each has a client of its own: nobody calls again after an
// unknown outcome.
func (w *modesWorkload) record(op linearizability.Operation, reply any, err error) {
	got := classify(err)
	switch op.Status = got.status; op.Status {
	case linearizability.StatusOK:
		op.Output = answerOf(reply)
	case linearizability.StatusUnknown:
		op.Error = err.Error()
	default:
		op.Output = linearizability.Output{Refusal: got.reason, GID: got.gid}
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

// called notes a call that an initiator got.
func (w *modesWorkload) called(call branchbank.Call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, branchbank.CallOf(call, ""))
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
