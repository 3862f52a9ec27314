package participant_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"

	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/participanttest"
)

// Bugs that other databases and coordinators shipped, each as a test of this
// client. docs/history.md lists them all.

// CockroachDB #103817: a commit whose answer was lost was sent again, and the
// failure of the second try, which was certain, was told as the outcome of both:
// a committed transaction was reported as failed. Here what may have taken effect
// once stays unknown, however certainly the later tries failed.
func TestHistory_CockroachDB103817_AmbiguousCommitReportedAsFailure(t *testing.T) {
	cluster := participanttest.NewCluster(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var tries atomic.Int32
	client := dial(t, cluster, participant.WithDialOptions(grpc.WithChainUnaryInterceptor(
		func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			err := invoke(ctx, method, req, reply, cc, opts...)
			if tries.Load() > 1 {
				cancel() // the caller leaves once the second one's answer was heard, and before a third is asked
			}
			return err
		})))
	tx := begin(t, client)
	cluster.Before(func(c participanttest.Call) error {
		if c.Method == "Commit" && tries.Add(1) > 1 {
			return participanttest.Refusal("NO_LEADER", "no node leads", 0) // this one was certainly not done
		}
		return nil
	})
	hook, _ := failing("Commit", 1, errLost)
	cluster.After(hook)
	err := tx.Commit(ctx)
	var unknown *participant.OutcomeUnknownError
	if !errors.As(err, &unknown) || tries.Load() != 2 {
		t.Errorf("after %d tries, the first of which committed: %v, want an unknown outcome", tries.Load(), err)
	}
	cluster.Before(nil)
	cluster.After(nil)
	if err := tx.Commit(t.Context()); err != nil {
		t.Errorf("asked for again: %v", err)
	}
}
