package participant_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/participanttest"
)

// service is a gRPC service whose calls run the test's code: Check is unary, Watch
// is a stream.
type service struct {
	health.UnimplementedHealthServer
	work func(context.Context) error
}

func (s *service) Check(ctx context.Context, _ *health.HealthCheckRequest) (*health.HealthCheckResponse, error) {
	return &health.HealthCheckResponse{}, s.work(ctx)
}

func (s *service) Watch(_ *health.HealthCheckRequest, stream grpc.ServerStreamingServer[health.HealthCheckResponse]) error {
	if err := stream.Send(&health.HealthCheckResponse{}); err != nil {
		return err
	}
	return s.work(stream.Context())
}

// serveGRPC starts a service with the interceptors and returns a client of it with
// the interceptors, and others under them.
func serveGRPC(t testing.TB, work func(context.Context) error, under ...grpc.UnaryClientInterceptor) health.HealthClient {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(
		grpc.UnaryInterceptor(participant.UnaryServerInterceptor()),
		grpc.StreamInterceptor(participant.StreamServerInterceptor()))
	health.RegisterHealthServer(server, &service{work: work})
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(l)
	}()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithChainUnaryInterceptor(append([]grpc.UnaryClientInterceptor{participant.UnaryClientInterceptor()}, under...)...),
		grpc.WithStreamInterceptor(participant.StreamClientInterceptor()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		<-served
	})
	return health.NewHealthClient(conn)
}

// check makes the unary call.
func check(ctx context.Context, h health.HealthClient) error {
	_, err := h.Check(ctx, &health.HealthCheckRequest{})
	return err
}

// watch makes the streaming call and reads it to its end.
func watch(ctx context.Context, h health.HealthClient) error {
	stream, err := h.Watch(ctx, &health.HealthCheckRequest{})
	if err != nil {
		return err
	}
	for {
		if _, err := stream.Recv(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// The callee's branches hang below the call's path, whether the call is unary, a
// stream, or goes through two services; and a commit that must name the exact set
// gets it from the trailers.
func TestGRPCCallsCarryTheTransaction(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	initiator, callee := dial(t, c), dial(t, c)
	store := bank(t, callee, "bank")
	var paths []string
	inner := serveGRPC(t, func(ctx context.Context) error {
		info, _ := participant.FromContext(ctx)
		paths = append(paths, info.Path)
		return put(ctx, store, "inner "+info.Path, "1")
	})
	outer := serveGRPC(t, func(ctx context.Context) error {
		info, _ := participant.FromContext(ctx)
		paths = append(paths, info.Path)
		if err := put(ctx, store, "outer "+info.Path, "1"); err != nil {
			return err
		}
		return check(ctx, inner)
	})
	var gid participant.GID
	err := initiator.Run(t.Context(), func(ctx context.Context) error {
		info, _ := participant.FromContext(ctx)
		gid = info.GID
		if err := check(ctx, outer); err != nil {
			return err
		}
		return watch(ctx, outer)
	}, participant.WithEntry(participant.EntryNamed))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"1", "1.2", "2", "2.2"}
	if len(paths) != len(want) {
		t.Fatalf("call paths %v, want %v", paths, want)
	}
	for i := range want {
		if paths[i] != want[i] {
			t.Errorf("call path %s, want %s", paths[i], want[i])
		}
	}
	settled(t, c)
	for _, id := range []string{"1.1", "1.2.1", "2.1", "2.2.1"} {
		if b := branchOf(t, c, participant.BranchRef{GID: gid, ID: id}); b == nil || b.GetSpec().GetResource() != "bank" {
			t.Errorf("branch %s is %v", id, b)
		}
	}
	eventually(t, store, "inner 2.2", "1")
}

func TestGRPCCallsWithoutATransactionPassThrough(t *testing.T) {
	h := serveGRPC(t, func(ctx context.Context) error {
		if info, ok := participant.FromContext(ctx); ok {
			t.Errorf("the call carries %v", info)
		}
		return nil
	})
	if err := check(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	if err := watch(t.Context(), h); err != nil {
		t.Fatal(err)
	}
}

// "The SDK sends a one-shot commit only if every outgoing call ended with a
// complete trailer; otherwise only rollback remains."
func TestANamedCommitNeedsCompleteTrailers(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	serve(t, client, "r")
	h := serveGRPC(t, func(ctx context.Context) error {
		_, err := client.StartBranch(ctx, "r") // and answers before it has voted
		return err
	})
	var gid participant.GID
	err := client.Run(t.Context(), func(ctx context.Context) error {
		info, _ := participant.FromContext(ctx)
		gid = info.GID
		return check(ctx, h)
	}, participant.WithEntry(participant.EntryNamed))
	if !errors.Is(err, participant.ErrIncomplete) {
		t.Errorf("a commit whose callee still works: %v", err)
	}
	settled(t, c)
	if x := c.Transaction(string(gid)); x.GetState().String() != "STATE_ROLLED_BACK" {
		t.Errorf("it is %v", x.GetState())
	}
}

// A callee that cannot be reached, or that breaks off, counts as one that may
// still be at work, and the rollback names it.
func TestACallWithoutATrailerIsIncomplete(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	conn, err := grpc.NewClient("127.0.0.1:1", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(participant.UnaryClientInterceptor()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	err = client.Run(t.Context(), func(ctx context.Context) error {
		if err := check(ctx, health.NewHealthClient(conn)); status.Code(err) != codes.Unavailable {
			t.Errorf("a call to nobody: %v", err)
		}
		return nil // the initiator does not mind
	}, participant.WithEntry(participant.EntryNamed))
	if !errors.Is(err, participant.ErrIncomplete) {
		t.Errorf("commit after a call that got no answer: %v", err)
	}
}

// A repeated request of one call has the same path; another call has the next.
func TestARepeatedRequestHasTheSamePath(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	var paths []string
	h := serveGRPC(t, func(ctx context.Context) error {
		info, _ := participant.FromContext(ctx)
		paths = append(paths, info.Path)
		return nil
	})
	tx := begin(t, client)
	ctx, err := participant.Call(tx.Context(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	for _, ctx := range []context.Context{ctx, ctx, tx.Context(t.Context())} {
		if err := check(ctx, h); err != nil {
			t.Fatal(err)
		}
	}
	if len(paths) != 3 || paths[0] != "1" || paths[1] != "1" || paths[2] != "2" {
		t.Errorf("paths %v, want 1, 1, 2", paths)
	}
}

// Work that goes on after a complete answer cannot join any more: its commit may
// be on the way.
func TestNoBranchAfterTheAnswer(t *testing.T) {
	c := participanttest.NewCluster(t, 1)
	client := dial(t, c)
	serve(t, client, "r")
	var left context.Context
	h := serveGRPC(t, func(ctx context.Context) error {
		left = context.WithoutCancel(ctx)
		return nil
	})
	tx := begin(t, client)
	if err := check(tx.Context(t.Context()), h); err != nil {
		t.Fatal(err)
	}
	if _, err := client.StartBranch(left, "r"); !errors.Is(err, participant.ErrAnswered) {
		t.Errorf("a branch after the answer: %v", err)
	}
	if err := check(left, h); !errors.Is(err, participant.ErrAnswered) {
		t.Errorf("a call after the answer: %v", err)
	}
	if err := watch(left, h); !errors.Is(err, participant.ErrAnswered) {
		t.Errorf("a stream after the answer: %v", err)
	}
}

func TestBadHeadersAreRefused(t *testing.T) {
	h := serveGRPC(t, func(context.Context) error {
		t.Error("a call with bad headers was served")
		return nil
	})
	good := map[string]string{
		"quorate-gid": "01JD9S7KQZZZZZZZZZZZZZZZZZ", "quorate-branch": "1", "quorate-timeout": "30",
	}
	for name, bad := range map[string]string{
		"quorate-gid": "order-1", "quorate-branch": "1,2", "quorate-timeout": "soon",
	} {
		md := metadata.MD{}
		for n, v := range good {
			md.Set(n, v)
		}
		md.Set(name, bad)
		ctx := metadata.NewOutgoingContext(t.Context(), md)
		if err := check(ctx, h); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s = %s: %v", name, bad, err)
		}
		if err := watch(ctx, h); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s = %s on a stream: %v", name, bad, err)
		}
	}
}
