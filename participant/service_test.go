package participant_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/participant"
	"github.com/quorate/quorate/participant/participanttest"
)

// newborn is a node of a cluster whose clock stands at zero for a while.
type newborn struct {
	quoratev1.UnimplementedTransactionServiceServer
	zeros atomic.Int32
}

func (n *newborn) List(context.Context, *quoratev1.ListRequest) (*quoratev1.ListResponse, error) {
	h := &quoratev1.ResponseHeader{ClusterId: "01JD9S7KQ0000000000000000B", NodeId: "n1"}
	if n.zeros.Add(-1) < 0 {
		h.ClockMs = 7
	}
	return &quoratev1.ListResponse{Header: h}, nil
}

// Nothing is created with a GID born at or below the horizon, and a new cluster's horizon
// is zero: a GID of its first moment would be expired from the start.
func TestAClusterJustFounded_MakesNoGIDThatHasExpired(t *testing.T) {
	node := new(newborn)
	node.zeros.Store(4)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	quoratev1.RegisterTransactionServiceServer(server, node)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	defer func() { server.Stop(); <-done }()
	client, err := participant.Dial(t.Context(), []string{l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	gid, err := client.NewGID(t.Context())
	if err != nil || gid.BornMS() != 7 {
		t.Errorf("%s born at %d, %v", gid, gid.BornMS(), err)
	}
}

// Service follows the leader as the client's own methods do, and has their errors.
func TestService_FollowsTheLeader(t *testing.T) {
	c := participanttest.NewCluster(t, 3)
	client, err := participant.Dial(t.Context(), c.Addresses())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	gid, err := client.NewGID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.Lead(2)
	lost, seen := failing("Begin", 2, status.Error(codes.Unavailable, "the answer was lost"))
	c.Before(lost)
	got, err := client.Service().Begin(t.Context(), &quoratev1.BeginRequest{Gid: string(gid), Mode: quoratev1.Mode_MODE_TWO_PHASE})
	if err != nil || got.GetGid() != string(gid) || seen.Load() != 3 {
		t.Errorf("%v, %v after %d tries", got, err, seen.Load())
	}
	_, err = client.Service().Enlist(t.Context(), &quoratev1.EnlistRequest{Gid: string(gid)})
	var refused *participant.RefusedError
	if !errors.As(err, &refused) {
		t.Errorf("a branch without a name: %v", err)
	}
	// Whoever leads is gone: the request was sent, and nobody knows.
	c.Lead(-1)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("no more time"))
	if err := client.AwaitDecision(ctx, gid); !errors.Is(err, participant.ErrUnknown) || !strings.Contains(err.Error(), string(gid)) {
		t.Errorf("awaiting after the context has ended: %v", err)
	}
}

func TestErrors_AreWhatTheySay(t *testing.T) {
	unknown := error(&participant.OutcomeUnknownError{GID: "G", Err: errors.New("x")})
	rolledBack := error(&participant.RolledBackError{GID: "G"})
	if !errors.Is(unknown, participant.ErrUnknown) || errors.Is(unknown, participant.ErrRefused) ||
		!errors.Is(rolledBack, participant.ErrRefused) || errors.Is(rolledBack, participant.ErrUnknown) {
		t.Error("an unknown outcome is ErrUnknown alone, and a rollback is ErrRefused alone")
	}
	for in, want := range map[error]error{
		nil: nil,
		&participant.RefusedError{Reason: "EXPIRED"}:                                                              participant.ErrUnknown,
		&participant.RefusedError{Reason: "ALREADY_DECIDED", Metadata: map[string]string{"decision": "rollback"}}: participant.ErrRefused,
	} {
		if got := participant.Decided("G", in); !errors.Is(got, want) {
			t.Errorf("%v is %v, want %v", in, got, want)
		}
	}
}
