package api

import (
	"context"

	"google.golang.org/protobuf/proto"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// transactions is TransactionService: the initiator's and the operator's side.
type transactions struct {
	quoratev1.UnimplementedTransactionServiceServer
	*Server
}

// Begin creates a transaction.
func (t *transactions) Begin(ctx context.Context, req *quoratev1.BeginRequest) (*quoratev1.BeginResponse, error) {
	r := t.reader()
	begin := r.begin(ctx, "", req)
	r.beginMode(begin)
	if err := r.err(); err != nil {
		return nil, err
	}
	status, err := hold(ctx, t.Server, func() (coordinator.Status, error) { return t.coordinator.Begin(ctx, begin) })
	if err != nil {
		return nil, err
	}
	return &quoratev1.BeginResponse{
		Header: t.headerOfWrites(), Gid: status.GID.String(), Created: status.Created,
		Decision: quoratev1.Decision(status.Decision), State: quoratev1.State(status.State),
	}, nil
}

// Enlist adds a branch.
func (t *transactions) Enlist(ctx context.Context, req *quoratev1.EnlistRequest) (*quoratev1.EnlistResponse, error) {
	gid, spec, err := readEnlist(t.reader, req)
	if err != nil {
		return nil, err
	}
	r := t.reader()
	if t.enlistMode(ctx, r, gid, spec); r.err() != nil {
		return nil, r.err()
	}
	status, err := hold(ctx, t.Server, func() (coordinator.Status, error) { return t.coordinator.Enlist(ctx, gid, spec) })
	if err != nil {
		return nil, err
	}
	return &quoratev1.EnlistResponse{Header: t.headerOfWrites(), Verdict: verdictAnswer(status.Verdict)}, nil
}

func readEnlist(fresh func() *reader, req *quoratev1.EnlistRequest) (gid fsm.GID, spec *logpb.BranchSpec, err error) {
	spec, err = read(fresh, func(r *reader) *logpb.BranchSpec {
		gid = r.gid("gid", req.GetGid())
		return r.spec("branch", req.GetBranch())
	})
	return gid, spec, err
}

// Vote records a branch's vote.
func (t *transactions) Vote(ctx context.Context, req *quoratev1.VoteRequest) (*quoratev1.VoteResponse, error) {
	gid, ballot, err := readVote(t.endingReader, req)
	if err != nil {
		return nil, err
	}
	status, err := hold(ctx, t.Server, func() (coordinator.Status, error) { return t.coordinator.Vote(ctx, gid, ballot) })
	if err != nil {
		return nil, err
	}
	return &quoratev1.VoteResponse{Header: t.headerOfWrites(), Verdict: verdictAnswer(status.Verdict)}, nil
}

func readVote(fresh func() *reader, req *quoratev1.VoteRequest) (gid fsm.GID, ballot *logpb.Ballot, err error) {
	ballot, err = read(fresh, func(r *reader) *logpb.Ballot {
		gid = r.gid("gid", req.GetGid())
		ballot := r.ballot("ballot", req.GetBallot(), nil)
		r.plainSpec("ballot.branch", ballot.GetBranch())
		return ballot
	})
	return gid, ballot, err
}

// Commit asks for the commit. A decision to roll back is an answer, no error.
func (t *transactions) Commit(ctx context.Context, req *quoratev1.CommitRequest) (*quoratev1.CommitResponse, error) {
	r := t.reader()
	ask := coordinator.CommitRequest{
		Transaction: r.ref("transaction", req.GetTransaction()), Set: r.set("set", req.GetSet()), Wait: r.wait("wait", req.GetWait()),
		Result: req.GetResult(), DelayMS: r.milliseconds("delay", req.GetDelay()),
	}
	r.payload("result", req.GetResult())
	if err := r.err(); err != nil {
		return nil, err
	}
	status, err := hold(ctx, t.Server, func() (coordinator.Status, error) { return t.coordinator.Commit(ctx, ask) })
	if err != nil {
		return nil, err
	}
	return &quoratev1.CommitResponse{
		Header: t.headerOfWrites(), Gid: status.GID.String(), Decision: quoratev1.Decision(status.Decision),
		State: quoratev1.State(status.State), Index: status.Index,
		Reason: quoratev1.RollbackReason(status.Reason), Detail: status.Detail,
	}, nil
}

// Rollback decides rollback.
func (t *transactions) Rollback(ctx context.Context, req *quoratev1.RollbackRequest) (*quoratev1.RollbackResponse, error) {
	r := t.endingReader()
	ask := coordinator.RollbackRequest{
		Transaction: r.ref("transaction", req.GetTransaction()), Branches: r.specs("branches", req.GetBranches()),
		Detail: r.shownText(req.GetDetail()), Wait: r.wait("wait", req.GetWait()), Result: req.GetResult(),
	}
	r.payload("result", req.GetResult())
	if req.GetOperator() != "" || req.GetOperatorReason() != "" {
		ask.Operator = r.required("operator", req.GetOperator(), "an operator's decision carries a name")
		ask.Detail = r.required("operator_reason", req.GetOperatorReason(), "an operator's decision carries a reason")
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	status, err := hold(ctx, t.Server, func() (coordinator.Status, error) { return t.coordinator.Rollback(ctx, ask) })
	if err != nil {
		return nil, err
	}
	return &quoratev1.RollbackResponse{
		Header: t.headerOfWrites(), Gid: status.GID.String(), Decision: quoratev1.Decision(status.Decision),
		State: quoratev1.State(status.State), Index: status.Index,
	}, nil
}

// Submit begins, votes and asks commit in one entry.
func (t *transactions) Submit(ctx context.Context, req *quoratev1.SubmitRequest) (*quoratev1.SubmitResponse, error) {
	answer, err := t.submitted(ctx, req)
	if err != nil {
		return nil, err
	}
	answer.Header = t.headerOfWrites()
	return answer, nil
}

// submitted submits, and makes the answer but for its header.
func (t *transactions) submitted(ctx context.Context, req *quoratev1.SubmitRequest) (*quoratev1.SubmitResponse, error) {
	var memory *slab
	ask, err := read(t.reader, func(r *reader) coordinator.SubmitRequest {
		submit := readSubmit(ctx, r, req)
		memory = r.slab
		return coordinator.SubmitRequest{Submit: submit, Wait: r.wait("wait", req.GetWait())}
	})
	if err != nil {
		return nil, err
	}
	status, err := hold(ctx, t.Server, func() (coordinator.Status, error) { return t.coordinator.Submit(ctx, ask) })
	memory.free()
	if err != nil {
		return nil, err
	}
	return &quoratev1.SubmitResponse{
		Gid: gidAs(req.GetBegin().GetGid(), status.GID), Created: status.Created,
		Decision: quoratev1.Decision(status.Decision), State: quoratev1.State(status.State), Index: status.Index,
		Reason: quoratev1.RollbackReason(status.Reason), Detail: status.Detail,
	}, nil
}

// readSubmit reads a whole transaction. Nothing said how branches enter means
// by name: the set is there.
func readSubmit(ctx context.Context, r *reader, req *quoratev1.SubmitRequest) *logpb.Submit {
	submit := r.newSubmit(req)
	submit.Begin = r.begin(ctx, "begin.", req.GetBegin())
	r.slab.reading(req.GetSet())
	submit.Set = r.specs("set", req.GetSet())
	submit.Votes = r.ballots("votes", req.GetVotes())
	if mode := submit.Begin.GetMode(); req.GetBegin().GetEntry() == quoratev1.Entry_ENTRY_UNSPECIFIED && !traitsOf(mode).called {
		submit.Begin.Entry = logpb.Entry_ENTRY_NAMED
	}
	r.submitMode(submit)
	return submit
}

// Resolve records an operator's word on a branch that cannot report.
func (t *transactions) Resolve(ctx context.Context, req *quoratev1.ResolveRequest) (*quoratev1.ResolveResponse, error) {
	r := t.endingReader()
	ask := coordinator.ResolveRequest{
		Transaction: r.ref("transaction", req.GetTransaction()), Branch: req.GetBranch(), Outcome: r.outcome("outcome", req.GetOutcome()),
		Operator: r.required("operator", req.GetOperator(), "an operator's word carries a name"),
		Reason:   r.required("reason", req.GetReason(), "an operator's word carries a reason"),
	}
	r.branchID("branch", req.GetBranch())
	if err := r.err(); err != nil {
		return nil, err
	}
	status, err := hold(ctx, t.Server, func() (coordinator.Status, error) { return t.coordinator.Resolve(ctx, ask) })
	if err != nil {
		return nil, err
	}
	return &quoratev1.ResolveResponse{Header: t.header(), State: quoratev1.State(status.State)}, nil
}

// Retry delivers now what waits for its back-off.
func (t *transactions) Retry(ctx context.Context, req *quoratev1.RetryRequest) (*quoratev1.RetryResponse, error) {
	r := t.endingReader()
	ref := r.ref("transaction", req.GetTransaction())
	if req.GetBranch() != "" {
		r.branchID("branch", req.GetBranch())
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	branches, err := hold(ctx, t.Server, func() (int, error) { return t.coordinator.Retry(ctx, ref, req.GetBranch()) })
	if err != nil {
		return nil, err
	}
	return &quoratev1.RetryResponse{Header: t.header(), Branches: uint32(branches)}, nil
}

// Get reads one transaction.
func (t *transactions) Get(ctx context.Context, req *quoratev1.GetRequest) (*quoratev1.GetResponse, error) {
	r := t.endingReader()
	ask := coordinator.GetRequest{
		Transaction: r.ref("transaction", req.GetTransaction()),
		Consistency: r.consistency("consistency", req.GetConsistency()), MinIndex: req.GetMinIndex(),
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	view, err := hold(ctx, t.Server, func() (coordinator.View, error) { return t.coordinator.Get(ctx, ask) })
	if err != nil {
		return nil, t.lagging(err, ask.MinIndex)
	}
	return &quoratev1.GetResponse{Header: t.headerAt(view.At), Transaction: transactionAnswer(view)}, nil
}

// List reads a page of transactions, oldest first.
func (t *transactions) List(ctx context.Context, req *quoratev1.ListRequest) (*quoratev1.ListResponse, error) {
	r := t.endingReader()
	ask := coordinator.ListRequest{
		PageSize: r.pageSize("page_size", req.GetPageSize()), PageToken: req.GetPageToken(),
		Filter:      r.filter("filter", req.GetFilter()),
		Consistency: r.consistency("consistency", req.GetConsistency()), MinIndex: req.GetMinIndex(),
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	for {
		page, err := hold(ctx, t.Server, func() (coordinator.Page, error) { return t.coordinator.List(ctx, ask) })
		if err != nil {
			return nil, t.lagging(err, ask.MinIndex)
		}
		answer := &quoratev1.ListResponse{Header: t.headerAt(page.At), NextPageToken: page.NextPageToken}
		for _, view := range page.Transactions {
			answer.Transactions = append(answer.Transactions, transactionAnswer(view))
		}
		if !shorter(&ask.PageSize, answer) {
			return answer, nil
		}
	}
}

// shorter halves the page's size where the answer is too large to be taken in,
// and tells whether it did: then the page is read again.
func shorter(size *int, answer proto.Message) bool {
	if *size <= 1 || proto.Size(answer) <= AnswerBytesMax {
		return false
	}
	*size /= 2
	return true
}

// Watch streams events, entry by entry.
func (t *transactions) Watch(req *quoratev1.WatchRequest, stream quoratev1.TransactionService_WatchServer) error {
	r := t.endingReader()
	ask := coordinator.WatchRequest{AfterIndex: req.GetAfterIndex(), Namespace: Namespace}
	if req.GetTransaction() != "" {
		ask.Transaction = r.ref("transaction", req.GetTransaction())
	}
	if err := r.err(); err != nil {
		return err
	}
	return t.coordinator.Watch(stream.Context(), ask, func(index uint64, events []fsm.Event) error {
		answer := &quoratev1.WatchResponse{Index: index}
		for _, event := range events {
			answer.Events = append(answer.Events, eventAnswer(event))
		}
		return stream.Send(answer)
	})
}
