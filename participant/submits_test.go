package participant_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/realcluster"
	"github.com/quorate/quorate/internal/testkit"
	"github.com/quorate/quorate/participant"
)

// readOnly is a whole transaction whose one branch has nothing to commit.
func readOnly(gid participant.GID) *quoratev1.SubmitRequest {
	spec := &quoratev1.BranchSpec{Id: "1", Resource: "orders-db"}
	return &quoratev1.SubmitRequest{
		Begin: &quoratev1.BeginRequest{Gid: string(gid)}, Set: []*quoratev1.BranchSpec{spec},
		Votes: []*quoratev1.Ballot{{Branch: spec, Vote: quoratev1.Vote_VOTE_READ_ONLY}},
	}
}

func newGID(t testing.TB, client *participant.Client) participant.GID {
	t.Helper()
	gid, err := client.NewGID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return gid
}

// Submits over one stream are answered while leaders come and go: whatever breaks is sent
// again, to whoever leads, and is the same transaction.
func TestSubmitStreamFollowsTheLeader(t *testing.T) {
	cl := realcluster.New(t)
	client := dialReal(t, cl)
	submits := client.SubmitStream()
	defer submits.Close(t.Context())
	const callers, each = 16, 25
	var gids sync.Map
	var done atomic.Int32
	var submitting sync.WaitGroup
	for range callers {
		submitting.Go(func() {
			for range each {
				gid := newGID(t, client)
				got, err := submits.Submit(t.Context(), readOnly(gid))
				if err != nil || participant.Decision(got.GetDecision()) != participant.DecisionCommit || got.GetGid() != string(gid) {
					t.Errorf("%s: %v, %v", gid, got, err)
				}
				if _, twice := gids.LoadOrStore(gid, true); twice {
					t.Errorf("%s was made twice", gid)
				}
				done.Add(1)
			}
		})
	}
	for i, leader := range []int{1, 2, 0} {
		testkit.Eventually(t, patience, func() bool { return int(done.Load()) > (i+1)*callers*each/5 }, "submits to be answered")
		cl.Lead(leader)
	}
	submitting.Wait()
	gids.Range(func(gid, _ any) bool {
		if rec := cl.Transaction(string(gid.(participant.GID))); rec == nil {
			t.Errorf("%s was answered, and stands nowhere", gid)
		}
		return true
	})
}

// A submit that is refused fails as the call would.
func TestSubmitStreamErrors(t *testing.T) {
	cl := realcluster.New(t)
	client := dialReal(t, cl)
	submits := client.SubmitStream()
	gid := newGID(t, client)
	if _, err := submits.Submit(t.Context(), readOnly(gid)); err != nil {
		t.Fatal(err)
	}
	var refused *participant.RefusedError
	other := readOnly(gid)
	other.Begin.Labels = map[string]string{"other": "content"}
	if _, err := submits.Submit(t.Context(), other); !errors.As(err, &refused) || refused.Reason != "GID_CONFLICT" || refused.GID != gid {
		t.Errorf("the same gid with other content: %v", err)
	}
	malformed := readOnly(newGID(t, client))
	malformed.Set[0].Id = ""
	if _, err := submits.Submit(t.Context(), malformed); !errors.As(err, &refused) || refused.Reason != "INVALID" {
		t.Errorf("a branch without an id: %v", err)
	}
	unwritable := readOnly(newGID(t, client))
	unwritable.Begin.Key = "\xff"
	if _, err := submits.Submit(t.Context(), unwritable); !errors.As(err, &refused) || refused.Reason != "INVALID" {
		t.Errorf("a key that is not UTF-8: %v", err)
	}
	if _, err := submits.Submit(t.Context(), readOnly("")); !errors.As(err, &refused) {
		t.Errorf("a submit without a gid: %v", err)
	}
	cl.Down(0)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	var unavailable *participant.UnavailableError
	var unknown *participant.OutcomeUnknownError // where the answer of the last try did not come in time
	if _, err := submits.Submit(ctx, readOnly(newGID(t, client))); !errors.As(err, &unavailable) && !errors.As(err, &unknown) {
		t.Errorf("without a leader: %v", err)
	}
	submits.Close(t.Context())
	if _, err := submits.Submit(t.Context(), readOnly(gid)); !errors.As(err, &unavailable) || !errors.Is(err, participant.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// A cluster of before there was a stream is called.
func TestSubmitStreamOfAnOlderCluster(t *testing.T) {
	cl := realcluster.New(t)
	var calls, streams atomic.Int32
	client := dialReal(t, cl, participant.WithDialOptions(
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			if method == quoratev1.TransactionService_Submit_FullMethodName {
				calls.Add(1)
			}
			return invoke(ctx, method, req, reply, cc, opts...)
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			if method == quoratev1.TransactionService_SubmitStream_FullMethodName {
				streams.Add(1)
				return nil, status.Error(codes.Unimplemented, "unknown method SubmitStream")
			}
			return open(ctx, desc, cc, method, opts...)
		}),
	))
	submits := client.SubmitStream()
	defer submits.Close(t.Context())
	for range 3 {
		if _, err := submits.Submit(t.Context(), readOnly(newGID(t, client))); err != nil {
			t.Fatal(err)
		}
	}
	if calls.Load() != 3 || streams.Load() != 1 {
		t.Errorf("%d calls and %d streams, want 3 and 1", calls.Load(), streams.Load())
	}
}
