package participanttest

import (
	"context"
	"net"
	"strconv"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// errBroken is what a connection that breaks looks like from outside.
var errBroken = status.Error(codes.Unavailable, "the connection broke")

// node is one address of the cluster. All of them share the one machine; only
// the leader uses it.
type node struct {
	quoratev1.UnimplementedTransactionServiceServer
	quoratev1.UnimplementedParticipantServiceServer

	c       *Cluster
	index   int
	address string
	server  *grpc.Server // nil while stopped; guarded by c.mu
}

func (n *node) serve(l net.Listener) {
	server := grpc.NewServer()
	quoratev1.RegisterTransactionServiceServer(server, n)
	quoratev1.RegisterParticipantServiceServer(server, n)
	n.c.mu.Lock()
	n.server = server
	n.c.mu.Unlock()
	n.c.wg.Add(1)
	go func() {
		defer n.c.wg.Done()
		_ = server.Serve(l)
	}()
}

// refuse is a refusal as the real API answers it.
func refuse(reason, detail string, metadata map[string]string) error {
	code := codes.FailedPrecondition
	switch reason {
	case "NOT_FOUND":
		code = codes.NotFound
	case "INVALID":
		code = codes.InvalidArgument
	case "NOT_LEADER", "NO_LEADER":
		code = codes.Unavailable
	case "QUOTA":
		code = codes.ResourceExhausted
	case "GID_CONFLICT", "KEY_CONFLICT", "BRANCH_CONFLICT", "VOTE_CONFLICT", "COMMIT_CONFLICT":
		code = codes.AlreadyExists
	}
	s, err := status.New(code, reason+": "+detail).WithDetails(&errdetails.ErrorInfo{
		Reason: reason, Domain: "quorate", Metadata: metadata,
	})
	if err != nil {
		panic(err) // the details are our own, and marshal
	}
	return s.Err()
}

// Refusal makes the error of a refusal for a Hook to return: reason is
// UPPER_SNAKE, retryAfter 0 for none.
func Refusal(reason, detail string, retryAfter time.Duration) error {
	err := refuse(reason, detail, nil)
	if retryAfter == 0 {
		return err
	}
	s, detailErr := status.Convert(err).WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(retryAfter)})
	if detailErr != nil {
		panic(detailErr)
	}
	return s.Err()
}

// notLeader is a follower's answer. c.mu is held.
func (c *Cluster) notLeader() error {
	md := map[string]string{"term": strconv.FormatUint(c.term, 10)}
	if c.leader < 0 {
		return refuse("NO_LEADER", "no node leads", md)
	}
	md["leader_grpc"] = c.nodes[c.leader].address
	return refuse("NOT_LEADER", "another node leads", md)
}

// do runs one request on the leader between its hooks. effect runs under c.mu.
func do[A any](n *node, method string, req proto.Message, effect func() (A, error)) (A, error) {
	var none A
	call := Call{Node: n.index, Method: method, Request: req}
	n.c.mu.Lock()
	before, after := n.c.before, n.c.after
	if n.c.leader != n.index {
		defer n.c.mu.Unlock()
		return none, n.c.notLeader()
	}
	n.c.mu.Unlock()
	if before != nil {
		if err := before(call); err != nil {
			return none, err
		}
	}
	n.c.mu.Lock()
	got, err := effect()
	n.c.mu.Unlock()
	if after != nil {
		if err := after(call); err != nil {
			return none, err
		}
	}
	return got, err
}

func (n *node) Begin(_ context.Context, r *quoratev1.BeginRequest) (*quoratev1.BeginResponse, error) {
	return do(n, "Begin", r, func() (*quoratev1.BeginResponse, error) {
		x, created, err := n.c.doBegin(r)
		if err != nil {
			return nil, err
		}
		return &quoratev1.BeginResponse{
			Header: n.c.header(n), Gid: x.begin.GetGid(), Created: created, Decision: x.decision, State: x.state(),
		}, nil
	})
}

func (n *node) Commit(ctx context.Context, r *quoratev1.CommitRequest) (*quoratev1.CommitResponse, error) {
	x, err := do(n, "Commit", r, func() (*tx, error) { return n.c.doCommit(r) })
	if err != nil {
		return nil, err
	}
	return n.await(ctx, x, r.GetWait())
}

func (n *node) Submit(ctx context.Context, r *quoratev1.SubmitRequest) (*quoratev1.SubmitResponse, error) {
	x, err := do(n, "Submit", r, func() (*tx, error) { return n.c.doSubmit(r) })
	if err != nil {
		return nil, err
	}
	got, err := n.await(ctx, x, r.GetWait())
	return &quoratev1.SubmitResponse{
		Header: got.GetHeader(), Gid: got.GetGid(), Decision: got.GetDecision(), State: got.GetState(), Index: got.GetIndex(),
		Reason: got.GetReason(), Detail: got.GetDetail(),
	}, err
}

// await waits for the decision, or for the end.
func (n *node) await(ctx context.Context, x *tx, wait quoratev1.Wait) (*quoratev1.CommitResponse, error) {
	bound := time.NewTimer(commitWait)
	defer bound.Stop()
	for {
		n.c.mu.Lock()
		done := x.decision != undecided
		if wait == quoratev1.Wait_WAIT_FINISH {
			done = x.state() == quoratev1.State_STATE_COMMITTED || x.state() == quoratev1.State_STATE_ROLLED_BACK
		}
		answer := &quoratev1.CommitResponse{
			Header: n.c.header(n), Gid: x.begin.GetGid(), Decision: x.decision, State: x.state(), Index: x.index,
			Reason: x.reason, Detail: x.detail,
		}
		changed, leads := n.c.changed, n.c.leader == n.index
		lost := n.c.notLeader()
		n.c.mu.Unlock()
		switch {
		case !leads:
			return nil, lost
		case done:
			return answer, nil
		}
		select {
		case <-changed:
		case <-bound.C:
			return answer, nil
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		case <-n.c.stop:
			return nil, errBroken
		}
	}
}

func (n *node) Rollback(_ context.Context, r *quoratev1.RollbackRequest) (*quoratev1.RollbackResponse, error) {
	return do(n, "Rollback", r, func() (*quoratev1.RollbackResponse, error) {
		x, err := n.c.doRollback(r)
		if err != nil {
			return nil, err
		}
		return &quoratev1.RollbackResponse{
			Header: n.c.header(n), Gid: x.begin.GetGid(), Decision: x.decision, State: x.state(), Index: x.index,
		}, nil
	})
}

func (n *node) Get(_ context.Context, r *quoratev1.GetRequest) (*quoratev1.GetResponse, error) {
	return do(n, "Get", r, func() (*quoratev1.GetResponse, error) {
		x := n.c.find(r.GetTransaction())
		if x == nil {
			return nil, refuse("NOT_FOUND", "unseen", nil)
		}
		return &quoratev1.GetResponse{Header: n.c.header(n), Transaction: x.proto()}, nil
	})
}

func (n *node) List(_ context.Context, r *quoratev1.ListRequest) (*quoratev1.ListResponse, error) {
	return do(n, "List", r, func() (*quoratev1.ListResponse, error) {
		return &quoratev1.ListResponse{Header: n.c.header(n)}, nil
	})
}

func (n *node) Inquire(_ context.Context, r *quoratev1.InquireRequest) (*quoratev1.InquireResponse, error) {
	return do(n, "Inquire", r, func() (*quoratev1.InquireResponse, error) {
		v, unseen := n.c.doInquire(r)
		return &quoratev1.InquireResponse{Header: n.c.header(n), Verdict: v, Unseen: unseen}, nil
	})
}
