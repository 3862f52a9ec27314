package wire

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/testkit"
)

// TestWorkersAreNoBound: a call is answered while more calls than there are workers wait,
// as sessions and those do that wait for the log.
func TestWorkersAreNoBound(t *testing.T) {
	l := bufconn.Listen(1 << 20)
	waiting, release := make(chan struct{}, 2*streamWorkers), make(chan struct{})
	server := grpc.NewServer(append(ServerOptions(), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		var in quoratev1.CommitRequest
		if err := stream.RecvMsg(&in); err != nil {
			return err
		}
		if in.GetTransaction() == "" {
			waiting <- struct{}{}
			<-release
		}
		return stream.SendMsg(&quoratev1.CommitResponse{Gid: in.GetTransaction()})
	}))...)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	defer func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	conn, err := grpc.NewClient("passthrough:///bufconn", append(DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))...)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	client := quoratev1.NewTransactionServiceClient(conn)
	const many = 2 * streamWorkers
	ended := make(chan error, many)
	for range many {
		go func() {
			_, err := client.Commit(ctx, &quoratev1.CommitRequest{})
			ended <- err
		}()
	}
	testkit.Eventually(t, 20*time.Second, func() bool { return len(waiting) == many }, "not all calls are served at once")
	if got, err := client.Commit(ctx, &quoratev1.CommitRequest{Transaction: "key:1"}); err != nil || got.GetGid() != "key:1" {
		t.Errorf("one more: %v %v", got, err)
	}
	close(release)
	for range many {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}
