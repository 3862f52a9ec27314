package participant_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/realcluster"
	"github.com/quorate/quorate/internal/testkit"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/participanttest"
)

// A call whose answer was lost, and that was made again at a service with another
// store, has left branches of one name in two stores. "Every answer to a participant
// is the verdict for its branch": that of the vote commits, and the other one, which
// asks under the same name, rolls back. Nobody could compare them: neither enlisted.
func TestOneShotBranchesOfOneNameInTwoStores(t *testing.T) {
	run := func(t *testing.T, initiator, one, other *participant.Client) {
		t.Helper()
		a, b := bank(t, one, "store-a"), bank(t, other, "store-b")
		atA := serveGRPC(t, func(ctx context.Context) error { return put(ctx, a, "k", "1") }, lossy(1))
		atB := serveGRPC(t, func(ctx context.Context) error { return put(ctx, b, "k", "1") })
		err := initiator.Run(t.Context(), func(ctx context.Context) error {
			ctx, err := participant.Call(ctx)
			if err != nil {
				return err
			}
			if err := check(ctx, atA); status.Code(err) != codes.Unavailable {
				t.Errorf("the first answer was not lost: %v", err)
			}
			return check(ctx, atB)
		}, participant.OneShot())
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, b, "k", "1")
		settledBanks(t, a, b)
		if v, _ := a.Get("k"); v != nil {
			t.Errorf("the work was done in both stores: k is %q in the other one", v)
		}
	}
	t.Run("stand-in", func(t *testing.T) {
		c := participanttest.NewCluster(t, 1)
		run(t, dial(t, c), dial(t, c), dial(t, c))
	})
	t.Run("real", func(t *testing.T) {
		cl := realcluster.New(t)
		run(t, dialReal(t, cl), dialReal(t, cl), dialReal(t, cl))
	})
}

// The real state machine and driver take a one-shot transaction, with a held branch in
// it, without, and one that refuses.
func TestOneShotOnARealCluster(t *testing.T) {
	cl := realcluster.New(t)
	oneShotOnARealCluster(t, cl, dialReal(t, cl))
}

// Over the stream of submits it is no different, and no commit is a call of its own.
func TestOneShotOverAStream(t *testing.T) {
	cl := realcluster.New(t)
	var called atomic.Int32
	oneShotOnARealCluster(t, cl, dialReal(t, cl, participant.WithSubmitStream(), participant.WithDialOptions(grpc.WithChainUnaryInterceptor(
		func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			if strings.HasSuffix(method, "/Submit") {
				called.Add(1)
			}
			return invoker(ctx, method, req, reply, cc, opts...)
		}))))
	if n := called.Load(); n != 0 {
		t.Errorf("%d commits were calls", n)
	}
}

func oneShotOnARealCluster(t *testing.T, cl *realcluster.Cluster, client *participant.Client) {
	t.Helper()
	store, f := bank(t, client, "bank"), serve(t, client, "held")
	for name, work := range map[string]func(context.Context) error{
		"plain": func(ctx context.Context) error { return put(ctx, store, "plain", "1") },
		"held": func(ctx context.Context) error {
			b, err := client.StartBranch(ctx, "held", participant.Held())
			if err != nil {
				return err
			}
			if _, err := b.Vote(ctx, participant.Vote{Kind: participant.VotePrepared}); err != nil {
				return err
			}
			return put(ctx, store, "held", "1")
		},
	} {
		t.Run(name, func(t *testing.T) {
			var gid participant.GID
			err := client.Run(t.Context(), func(ctx context.Context) error {
				gid = gidOf(ctx)
				return work(ctx)
			}, participant.OneShot())
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, store, name, "1")
			testkit.Eventually(t, patience, func() bool { return cl.Transaction(string(gid)).GetState() == fsm.StateCommitted }, "the end")
		})
	}
	if heard := f.heard(); len(heard) != 1 || heard[0].verdict != participant.VerdictCommit {
		t.Errorf("the held branch was told %v", heard)
	}
	var gid participant.GID
	err := client.Run(t.Context(), func(ctx context.Context) error {
		gid = gidOf(ctx)
		if err := put(ctx, store, "refused", "1"); err != nil {
			return err
		}
		return refuse(ctx, store)
	}, participant.OneShot())
	if err == nil || cl.Transaction(string(gid)).GetDecision() != fsm.DecisionRollback {
		t.Errorf("with a refusal: %v", err)
	}
	settledBanks(t, store)
}
