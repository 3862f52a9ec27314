package links

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/frames"
	"github.com/quorate/quorate/internal/testkit"
)

// node is a node that only counts.
type node struct {
	quoratev1.UnimplementedTransactionServiceServer
	quoratev1.UnimplementedParticipantServiceServer
	begins, commits atomic.Int64
	hop             atomic.Int64 // calls with the metadata that they were sent with

	mu     sync.Mutex
	frames []string
}

func (n *node) Begin(ctx context.Context, r *quoratev1.BeginRequest) (*quoratev1.BeginResponse, error) {
	n.begins.Add(1)
	if got, _ := metadata.FromIncomingContext(ctx); len(got.Get("quorate-hop")) == 1 {
		n.hop.Add(1)
	}
	return &quoratev1.BeginResponse{Gid: r.GetGid()}, nil
}

func (n *node) Commit(context.Context, *quoratev1.CommitRequest) (*quoratev1.CommitResponse, error) {
	n.commits.Add(1)
	return nil, status.Error(codes.FailedPrecondition, "refused")
}

// Session answers each request, refuses reports, and delivers once.
func (n *node) Session(stream quoratev1.ParticipantService_SessionServer) error {
	for {
		message, err := stream.Recv()
		if err != nil {
			return nil
		}
		var answers []*quoratev1.SessionResponse
		for _, frame := range frames.Requests(message) {
			n.mu.Lock()
			n.frames = append(n.frames, fmt.Sprintf("%d %T", frame.GetId(), frame.GetFrame()))
			n.mu.Unlock()
			answer := &quoratev1.SessionResponse{Id: frame.GetId()}
			switch frame.GetFrame().(type) {
			case *quoratev1.SessionRequest_Attach:
				answer.Frame = &quoratev1.SessionResponse_Attached{Attached: &quoratev1.Attached{}}
			case *quoratev1.SessionRequest_Vote:
				answer.Frame = &quoratev1.SessionResponse_Vote{Vote: &quoratev1.VoteResponse{}}
			case *quoratev1.SessionRequest_Report:
				answer.Frame = &quoratev1.SessionResponse_Error{Error: &quoratev1.SessionError{}}
			case *quoratev1.SessionRequest_Heartbeat:
				answer = &quoratev1.SessionResponse{Frame: &quoratev1.SessionResponse_Deliver{Deliver: &quoratev1.Deliver{}}}
			}
			answers = append(answers, answer)
		}
		if err := stream.Send(frames.PackResponses(answers, func() *quoratev1.ResponseHeader { return nil })); err != nil {
			return err
		}
	}
}

func (n *node) count(frame string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	count := 0
	for _, f := range n.frames {
		if f == frame {
			count++
		}
	}
	return count
}

// relayed is a node behind a relay.
func relayed(t *testing.T) (*Relays, *node, *grpc.ClientConn) {
	t.Helper()
	n := &node{}
	server := grpc.NewServer()
	quoratev1.RegisterTransactionServiceServer(server, n)
	quoratev1.RegisterParticipantServiceServer(server, n)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	r := NewRelays(1, nil)
	t.Cleanup(r.Close)
	address, err := r.Before(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return r, n, conn
}

func begin(t *testing.T, conn *grpc.ClientConn) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), "quorate-hop", "1"), 10*time.Second)
	defer cancel()
	got, err := quoratev1.NewTransactionServiceClient(conn).Begin(ctx, &quoratev1.BeginRequest{Gid: "g"})
	if err == nil && got.GetGid() != "g" {
		t.Errorf("answer %v", got)
	}
	return err
}

func TestRelayWithoutMischief(t *testing.T) {
	r, n, conn := relayed(t)
	for range 20 {
		if err := begin(t, conn); err != nil {
			t.Fatal(err)
		}
	}
	if n.begins.Load() != 20 || n.hop.Load() != 20 {
		t.Errorf("20 calls: the node saw %d, %d of them with their metadata", n.begins.Load(), n.hop.Load())
	}
	_, err := quoratev1.NewTransactionServiceClient(conn).Commit(t.Context(), &quoratev1.CommitRequest{})
	if status.Code(err) != codes.FailedPrecondition {
		t.Errorf("a refusal came through as %v", err)
	}
	if _, err := quoratev1.NewTransactionServiceClient(conn).Resolve(t.Context(), &quoratev1.ResolveRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("an unknown call came through as %v", err)
	}
	if got := r.Counts(); got.All() != 0 || got.Messages != 21 {
		t.Errorf("counts %v", got)
	}
}

func TestRelayDoublesDelaysRepeatsAndLosesAnswers(t *testing.T) {
	r, n, conn := relayed(t)
	r.Set(Mischief{Share: 1, LateMax: 20 * time.Millisecond, DelayMax: 20 * time.Millisecond})
	lost := int64(0)
	for range 200 {
		switch err := begin(t, conn); status.Code(err) {
		case codes.OK:
		case codes.Unavailable:
			lost++
		default:
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, 5*time.Second, func() bool {
		got := r.Counts()
		return got.All() == 200 && n.begins.Load() == 200+got.Doubled+got.Late
	}, "every late copy to arrive")
	got := r.Counts()
	if got.Doubled < 20 || got.Late < 20 || got.Delayed < 20 || got.Unanswered < 20 || got.Unanswered != lost {
		t.Errorf("counts %v; %d calls heard no answer", got, lost)
	}
	if n.hop.Load() != n.begins.Load() {
		t.Errorf("%d of %d calls came with their metadata", n.hop.Load(), n.begins.Load())
	}
}

// What was refused did nothing, and a copy must not do it later.
func TestRelayCopiesNoRefusedCall(t *testing.T) {
	r, n, conn := relayed(t)
	r.Set(Mischief{Share: 1, LateMax: time.Millisecond, DelayMax: time.Millisecond})
	for range 100 {
		_, err := quoratev1.NewTransactionServiceClient(conn).Commit(t.Context(), &quoratev1.CommitRequest{})
		if status.Code(err) != codes.FailedPrecondition {
			t.Fatal(err)
		}
	}
	r.Close() // waits for what is under way
	if n.commits.Load() != 100 {
		t.Errorf("100 refused calls were made %d times", n.commits.Load())
	}
}

// TestRelayRepeatsFramesOfSessions, which come alone, or several in one message.
func TestRelayRepeatsFramesOfSessions(t *testing.T) {
	for _, together := range []int{1, 7} {
		t.Run(fmt.Sprint(together, " in a message"), func(t *testing.T) { relayRepeatsFrames(t, together) })
	}
}

func relayRepeatsFrames(t *testing.T, together int) {
	r, n, conn := relayed(t)
	r.Set(Mischief{Share: 1, LateMax: 20 * time.Millisecond, DelayMax: 20 * time.Millisecond})
	stream, err := quoratev1.NewParticipantServiceClient(conn).Session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var delivered atomic.Int64
	go func() {
		for {
			message, err := stream.Recv()
			if err != nil {
				return
			}
			for _, frame := range frames.Responses(message) {
				if frame.GetDeliver() != nil {
					delivered.Add(1)
				}
			}
		}
	}()
	var waiting []*quoratev1.SessionRequest
	flush := func() {
		if err := stream.Send(frames.PackRequests(waiting)); err != nil {
			t.Fatal(err)
		}
		waiting = nil
	}
	send := func(id uint64, frame *quoratev1.SessionRequest) {
		frame.Id = id
		if waiting = append(waiting, frame); id == 1 || len(waiting) == together {
			flush()
		}
	}
	send(1, &quoratev1.SessionRequest{Frame: &quoratev1.SessionRequest_Attach{Attach: &quoratev1.Attach{Holder: "h"}}})
	const votes, reports, beats = 60, 60, 40
	for i := range votes {
		send(uint64(100+i), &quoratev1.SessionRequest{Frame: &quoratev1.SessionRequest_Vote{Vote: &quoratev1.VoteRequest{}}})
	}
	for i := range reports {
		send(uint64(300+i), &quoratev1.SessionRequest{Frame: &quoratev1.SessionRequest_Report{Report: &quoratev1.ReportRequest{}}})
	}
	for range beats {
		send(0, &quoratev1.SessionRequest{Frame: &quoratev1.SessionRequest_Heartbeat{Heartbeat: &quoratev1.Heartbeat{}}})
	}
	if len(waiting) > 0 {
		flush()
	}
	seen := func(kind string, from, to int) (total, twice int) {
		for id := from; id < to; id++ {
			c := n.count(fmt.Sprintf("%d *quoratev1.SessionRequest_%s", id, kind))
			if total += c; c > 1 {
				twice++
			}
		}
		return total, twice
	}
	testkit.Eventually(t, 10*time.Second, func() bool {
		total, twice := seen("Vote", 100, 100+votes)
		late := n.count("0 *quoratev1.SessionRequest_Vote")
		return total >= votes+twice && twice > 2 && late > 2 && delivered.Load() == 2*beats
	}, "votes to come twice and late, and every delivery twice")
	if attached := n.count("1 *quoratev1.SessionRequest_Attach"); attached != 1 {
		t.Errorf("%d attaches", attached)
	}
	testkit.Eventually(t, 5*time.Second, func() bool { total, _ := seen("Report", 300, 300+reports); return total == reports }, "every report")
	if _, twice := seen("Report", 300, 300+reports); twice > 0 || n.count("0 *quoratev1.SessionRequest_Report") > 0 {
		t.Error("a refused report was copied")
	}
}
