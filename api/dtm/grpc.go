package dtm

import (
	"context"
	"net"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/quorate/quorate/api/dtm/dtmpb"
)

var _ dtmpb.DtmServer = (*Gateway)(nil)

// NewGid makes a fresh gid; it needs no leader.
func (g *Gateway) NewGid(context.Context, *emptypb.Empty) (*dtmpb.DtmGidReply, error) {
	return &dtmpb.DtmGidReply{Gid: newGid()}, nil
}

// Prepare begins a transaction whose initiator decides.
func (g *Gateway) Prepare(ctx context.Context, r *dtmpb.DtmRequest) (*emptypb.Empty, error) {
	return onTrans(ctx, r, g.prepare)
}

// Submit lets a transaction go on to its end.
func (g *Gateway) Submit(ctx context.Context, r *dtmpb.DtmRequest) (*emptypb.Empty, error) {
	return onTrans(ctx, r, g.submit)
}

// Abort rolls a prepared transaction back.
func (g *Gateway) Abort(ctx context.Context, r *dtmpb.DtmRequest) (*emptypb.Empty, error) {
	return onTrans(ctx, r, g.abort)
}

func onTrans(ctx context.Context, r *dtmpb.DtmRequest, f func(context.Context, *trans) error) (*emptypb.Empty, error) {
	t, err := transOfGRPC(r)
	if err == nil {
		err = f(fromGRPC(ctx), t)
	}
	return empty(err)
}

// RegisterBranch adds a branch, or keeps a step of a workflow.
func (g *Gateway) RegisterBranch(ctx context.Context, r *dtmpb.DtmBranchRequest) (*emptypb.Empty, error) {
	b, err := branchOfGRPC(r)
	if err == nil {
		err = g.registerBranch(fromGRPC(ctx), b)
	}
	return empty(err)
}

// PrepareWorkflow begins a workflow, or reads how far it has come.
func (g *Gateway) PrepareWorkflow(ctx context.Context, r *dtmpb.DtmRequest) (*dtmpb.DtmProgressesReply, error) {
	t, err := transOfGRPC(r)
	if err != nil {
		return nil, asReply(err)
	}
	stands, err := g.prepareWorkflow(fromGRPC(ctx), t)
	if err != nil {
		return nil, asReply(err)
	}
	row := stands.row()
	reply := &dtmpb.DtmProgressesReply{Transaction: &dtmpb.DtmTransaction{
		Gid: row.Gid, Status: row.Status, RollbackReason: row.RollbackReason, Result: row.Result,
	}}
	for _, b := range stands.rows() {
		reply.Progresses = append(reply.Progresses, &dtmpb.DtmProgress{Status: b.Status, BinData: b.BinData, BranchID: b.BranchID, Op: b.Op})
	}
	return reply, nil
}

// Subscribe adds a URL to a topic.
func (g *Gateway) Subscribe(ctx context.Context, r *dtmpb.DtmTopicRequest) (*emptypb.Empty, error) {
	return empty(g.subscribe(fromGRPC(ctx), r.GetTopic(), r.GetURL(), r.GetRemark()))
}

// Unsubscribe takes one out.
func (g *Gateway) Unsubscribe(ctx context.Context, r *dtmpb.DtmTopicRequest) (*emptypb.Empty, error) {
	return empty(g.unsubscribe(fromGRPC(ctx), r.GetTopic(), r.GetURL()))
}

// DeleteTopic takes a topic with all its subscribers out.
func (g *Gateway) DeleteTopic(ctx context.Context, r *dtmpb.DtmTopicRequest) (*emptypb.Empty, error) {
	return empty(g.deleteTopic(fromGRPC(ctx), r.GetTopic()))
}

func empty(err error) (*emptypb.Empty, error) {
	if err != nil {
		return nil, asReply(err)
	}
	return &emptypb.Empty{}, nil
}

// fromGRPC is the context of the native calls made for a call.
func fromGRPC(ctx context.Context) context.Context {
	caller := "dtm"
	if p, ok := peer.FromContext(ctx); ok {
		caller = "dtm@" + p.Addr.String()
		if host, _, err := net.SplitHostPort(p.Addr.String()); err == nil {
			caller = "dtm@" + host
		}
	}
	pairs := []string{initiatorHeader, caller}
	for _, name := range []string{"traceparent", "tracestate"} {
		if values := metadata.ValueFromIncomingContext(ctx, name); len(values) > 0 {
			pairs = append(pairs, name, values[0])
		}
	}
	return metadata.NewOutgoingContext(ctx, metadata.Pairs(pairs...))
}
