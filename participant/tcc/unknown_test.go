package tcc_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/internal/modetest"
	"github.com/quorate/quorate/participant/tcc"
)

// "ErrUnknown: the commit may have been decided: nothing is undone then". A commit that
// was on its way when its answer was lost is not refused by the full queue that its
// repetitions meet.
func TestTCC_ACommitOnItsWayIsNotRolledBack(t *testing.T) {
	w := modetest.New(t)
	full, err := status.New(codes.ResourceExhausted, "the queue is full").WithDetails(&errdetails.ErrorInfo{Reason: "QUOTA", Domain: "quorate"})
	if err != nil {
		t.Fatal(err)
	}
	var commits, rollbacks atomic.Int32
	client, err := participant.Dial(t.Context(), w.Cluster.Addresses(), participant.WithDialOptions(grpc.WithChainUnaryInterceptor(
		func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			switch method {
			case quoratev1.TransactionService_Commit_FullMethodName:
				if commits.Add(1) == 1 {
					return status.Error(codes.Unavailable, "the connection was lost")
				}
				return full.Err()
			case quoratev1.TransactionService_Rollback_FullMethodName:
				rollbacks.Add(1)
			}
			return invoke(ctx, method, req, reply, cc, opts...)
		})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	err = tcc.Run(within(t), client, func(ctx context.Context, tx *tcc.Transaction) error {
		_, err := tx.Call(ctx, branch(w, "hold"), nil)
		return err
	}, tcc.Key("k"), tcc.Timeout(time.Minute))
	if !errors.Is(err, participant.ErrUnknown) || commits.Load() < 2 || rollbacks.Load() != 0 {
		t.Errorf("%v after %d commits and %d rollbacks", err, commits.Load(), rollbacks.Load())
	}
}
