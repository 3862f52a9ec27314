package chaos

import (
	"context"
	"io"
	"time"

	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/linearizability"
)

const (
	// readPause lies between two reads of one reader.
	readPause = 30 * time.Millisecond
	// watchSpan is how long one watch lasts before it is written down.
	watchSpan = 1500 * time.Millisecond
	// listPageMax is a page; a list that needs two is not of one moment, and is
	// not written down.
	listPageMax = 1000
)

// readForEver reads transactions of late, from any node: linearizable, and local
// with an index below which the answer must not be.
func (w *registers) readForEver(ctx context.Context) {
	r := w.env.NewRand()
	a := w.newActor(w.hosts[r.IntN(len(w.hosts))], r)
	var seen uint64 // the newest index that this client has been answered from
	for ctx.Err() == nil {
		pause(ctx, readPause)
		p := w.anyRecent(r.IntN(recentMax))
		if p == nil {
			continue
		}
		node := r.IntN(len(a.h.nodes))
		local := quoratev1.Consistency_CONSISTENCY_LOCAL
		var q request
		switch d := r.Float64(); {
		case d < 0.45:
			q = getRequest(p.gid, "", local, seen, node)
		case d < 0.60:
			q, node = getRequest(p.gid, "", quoratev1.Consistency_CONSISTENCY_LINEARIZABLE, 0, node), a.h.pick(r)
		case d < 0.70 && p.key != "":
			q, node = getRequest("", p.key, quoratev1.Consistency_CONSISTENCY_LINEARIZABLE, 0, node), a.h.pick(r)
		case d < 0.90:
			q, node = inquireRequest(p.gid, p.branches[0].spec), a.h.pick(r)
		default:
			q = w.listRequest(local, seen)
		}
		before := a.id
		if _, out := a.once(ctx, q, node); a.id == before && q.op.Input.Consistency == linearizability.Local {
			seen = max(seen, out.AppliedIndex)
		} else if a.id != before {
			seen = 0 // another client, which has seen nothing
		}
	}
}

func (w *registers) anyRecent(i int) *plan {
	w.recentMu.Lock()
	defer w.recentMu.Unlock()
	if len(w.recent) == 0 {
		return nil
	}
	return w.recent[i%len(w.recent)]
}

// watchForEver follows the events on one node after the other.
func (w *registers) watchForEver(ctx context.Context) {
	r := w.env.NewRand()
	for i := 0; ctx.Err() == nil; i++ {
		a := w.newActor(w.hosts[r.IntN(len(w.hosts))], r)
		after := w.heard.index.Load()
		q := watchRequest(ctx, after)
		a.watch(ctx, q, after, i%len(a.h.nodes))
		pause(ctx, readPause)
	}
}

func getRequest(gid, key string, consistency quoratev1.Consistency, minIndex uint64, _ int) request {
	transaction := gid
	if gid == "" {
		transaction = "key:" + key
	}
	req := &quoratev1.GetRequest{Transaction: transaction, Consistency: consistency, MinIndex: minIndex}
	return request{
		read: true,
		op: linearizability.Operation{Kind: linearizability.KindGet, GID: gid, Namespace: "default", Key: key, Input: linearizability.Input{
			Consistency: linearizability.FromWire[linearizability.Consistency](consistency), MinIndex: minIndex,
		}},
		send: func(ctx context.Context, conn *grpc.ClientConn) (linearizability.Output, *quoratev1.ResponseHeader, error) {
			r, err := quoratev1.NewTransactionServiceClient(conn).Get(ctx, req)
			if err != nil {
				return linearizability.Output{}, nil, err
			}
			return transactionOutput(r.GetTransaction()), r.GetHeader(), nil
		},
	}
}

// transactionOutput is a transaction as an answer showed it.
func transactionOutput(t *quoratev1.Transaction) linearizability.Output {
	out := linearizability.Output{
		GID: t.GetGid(), Key: t.GetKey(), Tombstone: t.GetTombstone(),
		Decision: linearizability.FromWire[linearizability.Decision](t.GetDecision()), State: linearizability.FromWire[linearizability.State](t.GetState()),
		Reason: linearizability.ReasonFromWire(t.GetReason()), DecisionIndex: t.GetDecided().GetIndex(),
		Stopped: t.GetStopped(), Result: string(t.GetResult()), Branches: []linearizability.BranchView{},
	}
	for _, b := range t.GetBranches() {
		out.Branches = append(out.Branches, linearizability.BranchView{
			ID: b.GetSpec().GetId(), Vote: linearizability.FromWire[linearizability.Vote](b.GetVote()),
			Outcome: linearizability.FromWire[linearizability.Outcome](b.GetOutcome()), Hint: b.GetHint(), Terminal: b.GetTerminal(),
			Recorded: b.GetRecorded(), Result: string(b.GetResult()),
		})
	}
	return out
}

func inquireRequest(gid string, spec *quoratev1.BranchSpec) request {
	req := &quoratev1.InquireRequest{Gid: gid, Branch: spec.GetId(), Resource: spec.GetResource(), Holder: spec.GetHolder()}
	return request{
		read: true,
		op:   linearizability.Operation{Kind: linearizability.KindInquire, GID: gid, Namespace: "default", Branch: spec.GetId()},
		send: func(ctx context.Context, conn *grpc.ClientConn) (linearizability.Output, *quoratev1.ResponseHeader, error) {
			r, err := quoratev1.NewParticipantServiceClient(conn).Inquire(ctx, req)
			return linearizability.Output{Verdict: linearizability.FromWire[linearizability.Verdict](r.GetVerdict()), Unseen: r.GetUnseen()}, r.GetHeader(), err
		},
	}
}

// errManyPages says that a list was not of one moment.
var errManyPages = errors.New("the list needs more than one page")

// listRequest lists what has not ended.
func (w *registers) listRequest(consistency quoratev1.Consistency, minIndex uint64) request {
	req := &quoratev1.ListRequest{PageSize: listPageMax, Consistency: consistency, MinIndex: minIndex}
	return request{
		read: true,
		op: linearizability.Operation{Kind: linearizability.KindList, Namespace: "default", Input: linearizability.Input{
			Consistency: linearizability.FromWire[linearizability.Consistency](consistency), MinIndex: minIndex,
		}},
		send: func(ctx context.Context, conn *grpc.ClientConn) (linearizability.Output, *quoratev1.ResponseHeader, error) {
			r, err := quoratev1.NewTransactionServiceClient(conn).List(ctx, req)
			if err != nil {
				return linearizability.Output{}, nil, err
			}
			if r.GetNextPageToken() != "" {
				return linearizability.Output{}, nil, errManyPages
			}
			out := linearizability.Output{Transactions: []linearizability.Listed{}}
			for _, t := range r.GetTransactions() {
				if !w.isMine(t.GetGid()) {
					continue
				}
				out.Transactions = append(out.Transactions, linearizability.Listed{
					GID: t.GetGid(), State: linearizability.FromWire[linearizability.State](t.GetState()), Decision: linearizability.FromWire[linearizability.Decision](t.GetDecision()),
				})
			}
			return out, r.GetHeader(), nil
		},
	}
}

func watchRequest(_ context.Context, after uint64) request {
	return request{
		read: true,
		op:   linearizability.Operation{Kind: linearizability.KindWatch, Namespace: "default", Input: linearizability.Input{AfterIndex: after}},
	}
}

// watch follows events for a while; what came until then is the answer, also
// when the stream broke: it is whole up to its last event.
func (a *actor) watch(ctx context.Context, q request, after uint64, node int) {
	q.op.Client = a.id
	ctx, cancel := context.WithTimeout(ctx, watchSpan)
	defer cancel()
	pending := a.w.recorder.Invoke(q.op)
	a.w.operations.Add(1)
	out := linearizability.Output{Through: after}
	stream, err := quoratev1.NewTransactionServiceClient(a.h.conns[node]).Watch(ctx, &quoratev1.WatchRequest{AfterIndex: after})
	for err == nil {
		var r *quoratev1.WatchResponse
		if r, err = stream.Recv(); err != nil {
			break
		}
		out.Through = r.GetIndex()
		for _, e := range r.GetEvents() {
			if !a.w.isMine(e.GetGid()) {
				continue
			}
			out.Events = append(out.Events, linearizability.Event{
				Index: r.GetIndex(), GID: e.GetGid(), Event: linearizability.FromWire[string](e.GetKind()), Branch: e.GetBranch(),
				State: linearizability.FromWire[linearizability.State](e.GetState()), Decision: linearizability.FromWire[linearizability.Decision](e.GetDecision()),
			})
		}
	}
	switch {
	case errors.Is(err, io.EOF), status.Code(err) == codes.DeadlineExceeded, status.Code(err) == codes.Canceled, len(out.Events) > 0:
		pending.ReturnFrom(a.h.nodes[node].Name, linearizability.StatusOK, out)
	default:
		pending.Unknown(err)
		a.id = int(a.w.clients.Add(1))
	}
}
