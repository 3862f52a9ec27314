package api

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/failpoint"
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

func enlisting(id uint64) *quoratev1.SessionRequest {
	return &quoratev1.SessionRequest{Id: id, Frame: &quoratev1.SessionRequest_Enlist{
		Enlist: &quoratev1.EnlistRequest{Gid: testGID.String(), Branch: &quoratev1.BranchSpec{Id: fmt.Sprint(id), Resource: "a"}}}}
}

func voting(id uint64) *quoratev1.SessionRequest {
	return &quoratev1.SessionRequest{Id: id, Frame: &quoratev1.SessionRequest_Vote{Vote: &quoratev1.VoteRequest{
		Gid: testGID.String(), Ballot: &quoratev1.Ballot{Branch: &quoratev1.BranchSpec{Id: fmt.Sprint(id), Resource: "a"}, Vote: quoratev1.Vote_VOTE_PREPARED}}}}
}

// answeredBy reads answers until so many have come, and says of each what it is.
func answeredBy(t *testing.T, stream sessionStream, many int) map[uint64]string {
	t.Helper()
	answers := map[uint64]string{}
	for len(answers) < many {
		for _, frame := range frames.Responses(receive(t, stream)) {
			if _, twice := answers[frame.GetId()]; twice {
				t.Fatalf("%d is answered twice", frame.GetId())
			}
			answers[frame.GetId()] = fmt.Sprintf("%T", frame.GetFrame())
		}
	}
	return answers
}

// TestEnlistsAndVotesOfOneMessageGoTogether, and each is answered by its id, one that
// cannot be read among them; nobody waits for id 0.
func TestEnlistsAndVotesOfOneMessageGoTogether(t *testing.T) {
	stream, session := attachedTaking(t, 100)
	bad := enlisting(6)
	bad.GetEnlist().Gid = "none"
	send(t, stream, frames.PackRequests([]*quoratev1.SessionRequest{enlisting(2), voting(3), enlisting(0), voting(4), bad, enlisting(5)}))
	got := answeredBy(t, stream, 5)
	for id, want := range map[uint64]string{2: "Enlist", 3: "Vote", 4: "Vote", 5: "Enlist", 6: "Error"} {
		if got[id] != "*quoratev1.SessionResponse_"+want {
			t.Errorf("%d was answered %q, want %s", id, got[id], want)
		}
	}
	session.mu.Lock()
	if fmt.Sprint(session.together) != "[5]" {
		t.Errorf("made together: %v, want the five that can be read at once", session.together)
	}
	session.together = nil
	session.fail = coordinator.ErrOverload
	session.mu.Unlock()
	send(t, stream, frames.PackRequests([]*quoratev1.SessionRequest{enlisting(7), voting(8)}))
	for id, got := range answeredBy(t, stream, 2) {
		if got != "*quoratev1.SessionResponse_Error" {
			t.Errorf("%d failed, and was answered %s", id, got)
		}
	}
}

// TestArmedNodesGoTheSameWay: what is armed changes how requests go only where one of them
// may stand still, or a node under faults would be another than the one that is used.
func TestArmedNodesGoTheSameWay(t *testing.T) {
	for spec, together := range map[string]string{
		"voted=note":             "[2]",
		"store-write=pause(1ms)": "[2]",
		"voted=pause(1ms)":       "[]",
	} {
		if err := failpoint.Arm(spec); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = failpoint.Arm("") })
		stream, session := attachedTaking(t, 100)
		send(t, stream, frames.PackRequests([]*quoratev1.SessionRequest{enlisting(2), voting(3)}))
		answeredBy(t, stream, 2)
		session.mu.Lock()
		if got := fmt.Sprint(session.together); got != together {
			t.Errorf("%s: made together: %s, want %s", spec, got, together)
		}
		session.mu.Unlock()
	}
}

// TestMoreTogetherThanThereIsRoomFor: a message may hold more requests than may be under
// way at once. None of them waits for one that has not begun.
func TestMoreTogetherThanThereIsRoomFor(t *testing.T) {
	stream, session := attachedTaking(t, 100)
	session.release = make(chan struct{})
	first, second := make([]*quoratev1.SessionRequest, 0, 200), make([]*quoratev1.SessionRequest, 0, 200)
	for i := range uint64(200) {
		first, second = append(first, enlisting(2+i)), append(second, voting(1000+i))
	}
	send(t, stream, frames.PackRequests(first))
	send(t, stream, frames.PackRequests(second))
	testkit.Eventually(t, 5*time.Second, func() bool {
		session.mu.Lock()
		defer session.mu.Unlock()
		made := 0
		for _, n := range session.together {
			made += n
		}
		return made == sessionRequestsMax
	}, "all that there is room for are under way")
	close(session.release)
	if got := answeredBy(t, stream, 400); len(got) != 400 {
		t.Errorf("%d were answered", len(got))
	}
	for i, n := range session.together {
		if n > coordinator.TogetherMax {
			t.Errorf("group %d is of %d", i, n)
		}
	}
}

// TestRequestsGatherUntilTheirTurn: what comes while a worker has not had its turn is made
// with what it was called for, no more than may go together, and nothing is left behind.
func TestRequestsGatherUntilTheirTurn(t *testing.T) {
	session := newFakeSession()
	s := &participantSession{
		Server: serve(t, Config{}, newFake(), newFakeCluster()).server, ctx: t.Context(), end: func(err error) { t.Errorf("the session ended: %v", err) }, session: session,
		out: frames.NewQueue[*quoratev1.SessionResponse](sessionQueueMax), slots: make(chan struct{}, sessionRequestsMax),
	}
	gather := func(from, many int) {
		var group []*quoratev1.SessionRequest
		for i := range many {
			if !s.admit() {
				t.Fatal("there was room")
			}
			group = append(group, enlisting(uint64(from+i)))
		}
		if from == 0 {
			s.asking.waiting = group // its worker is called, and has not had its turn
		} else {
			s.makeTogether(group)
		}
	}
	gather(0, 2)
	gather(2, 1)
	gather(3, coordinator.TogetherMax)
	if n := len(session.entered); n != 0 {
		t.Fatalf("%d were made before the worker's turn", n)
	}
	s.makeWaiting()
	s.requests.Wait()
	session.mu.Lock()
	defer session.mu.Unlock()
	slices.Sort(session.together)
	if fmt.Sprint(session.together) != fmt.Sprint([]int{3, coordinator.TogetherMax}) {
		t.Errorf("made together: %v", session.together)
	}
	if len(s.slots) != 0 || len(s.asking.waiting) != 0 {
		t.Errorf("%d places are kept, %d requests are left", len(s.slots), len(s.asking.waiting))
	}
}

// TestGoodbyeAfterRequestsTogether: they are made before it.
func TestGoodbyeAfterRequestsTogether(t *testing.T) {
	stream, session := attachedTaking(t, 100)
	send(t, stream, frames.PackRequests([]*quoratev1.SessionRequest{
		enlisting(2), voting(3), {Frame: &quoratev1.SessionRequest_Detach{Detach: &quoratev1.Detach{}}}, enlisting(4),
	}))
	if got := answeredBy(t, stream, 2); got[2] == "" || got[3] == "" {
		t.Errorf("answered: %v", got)
	}
	if got, err := stream.Recv(); err == nil {
		t.Errorf("after the goodbye: %v", got)
	}
	if n := len(session.entered); n != 2 {
		t.Errorf("%d requests were made, want 2", n)
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
