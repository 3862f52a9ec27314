package api

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/frames"
	"github.com/quorate/quorate/internal/testkit"
)

// attachedTaking opens a session of a participant that takes so many frames at once.
func attachedTaking(t *testing.T, batchMax uint32) (sessionStream, *fakeSession) {
	t.Helper()
	c := newFake()
	c.next = newFakeSession()
	n := serve(t, Config{}, c, newFakeCluster())
	stream, err := n.participants().Session(within(t))
	if err != nil {
		t.Fatal(err)
	}
	c.next.deliver(4) // there before the attach is answered: the answer still comes first, and alone
	send(t, stream, attachFrame(func(a *quoratev1.Attach) { a.BatchMax = batchMax }))
	if got := receive(t, stream); got.GetAttached().GetBatchMax() != frames.SessionFramesMax {
		t.Fatalf("attached: %v", got)
	}
	for heard := 0; heard < 4; {
		heard += len(frames.Responses(receive(t, stream)))
	}
	return stream, c.next
}

// deliver puts so many deliveries out.
func (s *fakeSession) deliver(many int) {
	for i := range many {
		s.out <- coordinator.Message{Deliver: &coordinator.Delivery{GID: testGID, Branch: fmt.Sprint(i), Verdict: fsm.VerdictCommit}}
	}
}

func inquiry(id uint64) *quoratev1.SessionRequest {
	return &quoratev1.SessionRequest{Id: id, Frame: &quoratev1.SessionRequest_Inquire{
		Inquire: &quoratev1.InquireRequest{Gid: testGID.String(), Branch: fmt.Sprint(id)}}}
}

// TestDeliveriesArePacked: what waits leaves together, in order, and no more of it in
// one message than the participant takes. One that said nothing gets them one by one, as
// before there were batches.
func TestDeliveriesArePacked(t *testing.T) {
	const many = SessionWindowMax // more are never outstanding
	for _, tt := range []struct {
		takes uint32
		most  int
	}{{0, 1}, {1, 1}, {8, 8}, {1 << 20, frames.SessionFramesMax}} {
		t.Run(fmt.Sprint("takes ", tt.takes), func(t *testing.T) {
			stream, session := attachedTaking(t, tt.takes)
			go session.deliver(many)
			heard, messages := 0, 0
			for heard < many {
				message := receive(t, stream)
				messages++
				if batch := message.GetBatch(); batch != nil && (len(batch.GetFrames()) < 2 || len(batch.GetFrames()) > tt.most) {
					t.Fatalf("a batch of %d frames to one that takes %d", len(batch.GetFrames()), tt.most)
				}
				for _, frame := range frames.Responses(message) {
					if got := frame.GetDeliver().GetBranch(); got != fmt.Sprint(heard) {
						t.Fatalf("delivery %s came in the place of %d", got, heard)
					}
					heard++
				}
			}
			if tt.most > 1 && messages == many {
				t.Errorf("%d deliveries that waited came in as many messages", many)
			}
		})
	}
}

// TestBatchOfRequests: each is answered by its id, whatever became of the others.
func TestBatchOfRequests(t *testing.T) {
	stream, session := attachedTaking(t, 100)
	vote := &quoratev1.SessionRequest{Id: 4, Frame: &quoratev1.SessionRequest_Vote{Vote: &quoratev1.VoteRequest{}}} // malformed
	nested := &quoratev1.SessionRequest{Id: 5, Frame: &quoratev1.SessionRequest_Batch{Batch: &quoratev1.SessionRequestBatch{
		Frames: []*quoratev1.SessionRequest{inquiry(99)}}}}
	send(t, stream, frames.PackRequests([]*quoratev1.SessionRequest{inquiry(2), inquiry(3), vote, nested, {Id: 6}, inquiry(7)}))
	refused := map[uint64]bool{4: true, 5: true, 6: true}
	seen := map[uint64]bool{}
	for len(seen) < 6 {
		for _, frame := range frames.Responses(receive(t, stream)) {
			id := frame.GetId()
			switch {
			case seen[id], id < 2, id > 7:
				t.Fatalf("answer %v", frame)
			case refused[id] && frameReason(t, frame) != ReasonInvalid:
				t.Errorf("%d was answered %v", id, frame)
			case !refused[id] && (frame.GetInquire().GetVerdict() != quoratev1.Verdict_VERDICT_ROLLBACK || frame.GetInquire().GetHeader().GetClockMs() != 2000):
				t.Errorf("%d was answered %v", id, frame)
			}
			seen[id] = true
		}
	}
	send(t, stream, &quoratev1.SessionRequest{Frame: &quoratev1.SessionRequest_Batch{}}) // of nothing: nothing to do
	send(t, stream, inquiry(8))
	if got := receive(t, stream); got.GetId() != 8 {
		t.Errorf("after an empty batch: %v", got)
	}
	if n := len(session.entered); n != 4 {
		t.Errorf("%d requests were handled, want 4", n)
	}
}

// TestBatchBeyondTheLimit ends the session, and nothing of it is done: who sent it waits
// for answers, and must not wait in vain.
func TestBatchBeyondTheLimit(t *testing.T) {
	stream, session := attachedTaking(t, 8)
	var many []*quoratev1.SessionRequest
	for i := range frames.SessionFramesMax + 1 {
		many = append(many, inquiry(uint64(i+2)))
	}
	send(t, stream, frames.PackRequests(many))
	if _, err := stream.Recv(); ReasonOf(err) != ReasonInvalid {
		t.Errorf("ended with %v", err)
	}
	if n := len(session.entered); n != 0 {
		t.Errorf("%d frames of it were handled", n)
	}
}

// TestGoodbyeInABatch: what stood before it is heard, what comes after it is not.
func TestGoodbyeInABatch(t *testing.T) {
	stream, session := attachedTaking(t, 8)
	send(t, stream, frames.PackRequests([]*quoratev1.SessionRequest{
		inquiry(2), {Frame: &quoratev1.SessionRequest_Detach{Detach: &quoratev1.Detach{}}}, inquiry(3),
	}))
	if got := receive(t, stream); got.GetId() != 2 {
		t.Errorf("before the goodbye: %v", got)
	}
	if got, err := stream.Recv(); err == nil {
		t.Errorf("after the goodbye: %v", got)
	}
	if n := len(session.entered); n != 1 {
		t.Errorf("%d requests were handled, want 1", n)
	}
}

// TestNestedBatchIsNoWayAroundTheLimit.
func TestNestedBatchIsNoWayAroundTheLimit(t *testing.T) {
	stream, session := attachedTaking(t, 8)
	batch := inquiry(1000)
	for depth := range 200 {
		batch = &quoratev1.SessionRequest{Id: uint64(depth + 2), Frame: &quoratev1.SessionRequest_Batch{
			Batch: &quoratev1.SessionRequestBatch{Frames: []*quoratev1.SessionRequest{batch, inquiry(1001)}}}}
	}
	send(t, stream, batch)
	for heard := 0; heard < 2; {
		for _, frame := range frames.Responses(receive(t, stream)) {
			heard++
			if id := frame.GetId(); id != 1001 && frameReason(t, frame) != ReasonInvalid {
				t.Errorf("answered %v", frame)
			}
		}
	}
	if n := len(session.entered); n != 1 {
		t.Errorf("%d requests were handled, want the one beside the nested batch", n)
	}
}

// rawFrame is a message of bytes as they are.
type rawFrame []byte

type rawFrameCodec struct{}

func (rawFrameCodec) Name() string { return "proto" }
func (rawFrameCodec) Marshal(v any) ([]byte, error) {
	if raw, ok := v.(rawFrame); ok {
		return raw, nil
	}
	return proto.Marshal(v.(proto.Message))
}
func (rawFrameCodec) Unmarshal(data []byte, v any) error {
	return proto.Unmarshal(data, v.(proto.Message))
}

// TestGarbageOnAStream ends it with an error, and the node serves others.
func TestGarbageOnAStream(t *testing.T) {
	for _, method := range []string{
		quoratev1.ParticipantService_Session_FullMethodName, quoratev1.TransactionService_SubmitStream_FullMethodName,
	} {
		for _, garbage := range []string{"\xff\xff\xff", "\x52\xff\xff\xff\xff\x0f", "\x0a\x01", "\x52\x04\x0a\x02\x08"} {
			c := newFake()
			c.next = newFakeSession()
			n := serve(t, Config{}, c, newFakeCluster())
			stream, err := n.conn.NewStream(within(t), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method, grpc.ForceCodec(rawFrameCodec{}))
			if err != nil {
				t.Fatal(err)
			}
			if method == quoratev1.ParticipantService_Session_FullMethodName {
				if err := stream.SendMsg(attachFrame(nil)); err != nil {
					t.Fatal(err)
				}
				if err := stream.RecvMsg(new(quoratev1.SessionResponse)); err != nil {
					t.Fatal(err)
				}
			}
			if err := stream.SendMsg(rawFrame(garbage)); err != nil {
				t.Fatal(err)
			}
			// A session may end without an error, as one whose stream broke.
			for stream.RecvMsg(new(quoratev1.SubmitStreamResponse)) == nil {
				t.Errorf("%s: %q was answered", method, garbage)
			}
			if c.called("Submit") != 0 {
				t.Errorf("%q was submitted", garbage)
			}
			testkit.Eventually(t, 5*time.Second, func() bool {
				_, err := n.cluster().Status(within(t), &quoratev1.StatusRequest{})
				return err == nil
			}, "the node to serve")
		}
	}
}
