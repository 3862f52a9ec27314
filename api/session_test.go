package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/testkit"
)

type sessionStream = grpc.BidiStreamingClient[quoratev1.SessionRequest, quoratev1.SessionResponse]

var testHolder = fsm.NewGID(77, [10]byte{7}).String()

func attachFrame(change func(*quoratev1.Attach)) *quoratev1.SessionRequest {
	attach := &quoratev1.Attach{Holder: testHolder, Resources: []string{"orders-db"}, Name: "orders@h", Window: 1 << 20}
	if change != nil {
		change(attach)
	}
	return &quoratev1.SessionRequest{Id: 1, Frame: &quoratev1.SessionRequest_Attach{Attach: attach}}
}

// attached opens a session on a fake and returns both ends.
func attached(t *testing.T) (sessionStream, *fakeSession, *fake, *node) {
	t.Helper()
	c := newFake()
	c.next = newFakeSession()
	n := serve(t, Config{}, c, newFakeCluster())
	stream, err := n.participants().Session(within(t))
	if err != nil {
		t.Fatal(err)
	}
	send(t, stream, attachFrame(nil))
	if got := receive(t, stream); got.GetId() != 1 || got.GetAttached().GetHeartbeat().AsDuration() != 300*time.Millisecond ||
		got.GetAttached().GetGrace().AsDuration() != 2*time.Second || got.GetAttached().GetHeader().GetClockMs() != 2000 {
		t.Fatalf("attached: %v", got)
	}
	return stream, c.next, c, n
}

func send(t *testing.T, stream sessionStream, frame *quoratev1.SessionRequest) {
	t.Helper()
	if err := stream.Send(frame); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, stream sessionStream) *quoratev1.SessionResponse {
	t.Helper()
	got, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// frameReason is the reason of a SessionError.
func frameReason(t *testing.T, got *quoratev1.SessionResponse) Reason {
	t.Helper()
	var st spb.Status
	if err := proto.Unmarshal(got.GetError().GetStatusProto(), &st); err != nil {
		t.Fatal(err)
	}
	return ReasonOf(status.FromProto(&st).Err())
}

// TestSessionMultiplexes: every kind of request is answered under its id, and
// the leader's own words come between.
func TestSessionMultiplexes(t *testing.T) {
	stream, session, c, _ := attached(t)
	// The participant's SDK and the node ask for the same room, and the driver gives it.
	if driver := coordinator.DefaultSettings().SessionWindowMax; driver != SessionWindowMax {
		t.Errorf("the driver's window is %d, the session's %d", driver, SessionWindowMax)
	}
	if asked := c.last("Attach").(coordinator.AttachRequest); asked.Window != SessionWindowMax || len(asked.Holder) != 16 || asked.Resources[0] != "orders-db" {
		t.Errorf("attach %+v", asked)
	}
	gid := testGID.String()
	spec := &quoratev1.BranchSpec{Id: "1", Resource: "orders-db"}
	for _, tt := range []struct {
		frame *quoratev1.SessionRequest
		ok    func(*quoratev1.SessionResponse) bool
	}{
		{&quoratev1.SessionRequest{Id: 2, Frame: &quoratev1.SessionRequest_Enlist{Enlist: &quoratev1.EnlistRequest{Gid: gid, Branch: spec}}},
			func(r *quoratev1.SessionResponse) bool {
				return r.GetEnlist().GetVerdict() == quoratev1.Verdict_VERDICT_WAIT
			}},
		{&quoratev1.SessionRequest{Id: 3, Frame: &quoratev1.SessionRequest_Vote{Vote: &quoratev1.VoteRequest{Gid: gid, Ballot: &quoratev1.Ballot{Branch: spec, Vote: quoratev1.Vote_VOTE_PREPARED}}}},
			func(r *quoratev1.SessionResponse) bool {
				return r.GetVote().GetVerdict() == quoratev1.Verdict_VERDICT_WAIT
			}},
		{&quoratev1.SessionRequest{Id: 4, Frame: &quoratev1.SessionRequest_Report{Report: &quoratev1.ReportRequest{Gid: gid, Branch: "1", Busy: true}}},
			func(r *quoratev1.SessionResponse) bool { return r.GetReport().GetHeader().GetAppliedIndex() == 42 }},
		{&quoratev1.SessionRequest{Id: 5, Frame: &quoratev1.SessionRequest_Inquire{Inquire: &quoratev1.InquireRequest{Gid: gid, Branch: "1"}}},
			func(r *quoratev1.SessionResponse) bool {
				return r.GetInquire().GetVerdict() == quoratev1.Verdict_VERDICT_ROLLBACK
			}},
		{&quoratev1.SessionRequest{Id: 6, Frame: &quoratev1.SessionRequest_Vouch{Vouch: &quoratev1.Vouch{Branches: []*quoratev1.LiveBranch{{Gid: gid, Branch: "1", Held: true}}}}},
			func(r *quoratev1.SessionResponse) bool { return r.GetVouched().GetHeader().GetClockMs() == 2000 }},
		{&quoratev1.SessionRequest{Id: 7, Frame: &quoratev1.SessionRequest_Heartbeat{}},
			func(r *quoratev1.SessionResponse) bool { return r.GetHeartbeat().GetHeader().GetClockMs() == 2000 }},
		{&quoratev1.SessionRequest{Id: 8}, func(r *quoratev1.SessionResponse) bool { return r.GetError() != nil }},
		{attachFrame(nil), func(r *quoratev1.SessionResponse) bool { return r.GetError() != nil }},
		{&quoratev1.SessionRequest{Id: 9, Frame: &quoratev1.SessionRequest_Vouch{Vouch: &quoratev1.Vouch{Branches: []*quoratev1.LiveBranch{{}}}}},
			func(r *quoratev1.SessionResponse) bool { return r.GetError() != nil }},
	} {
		send(t, stream, tt.frame)
		got := receive(t, stream)
		if got.GetId() != tt.frame.GetId() || !tt.ok(got) {
			t.Errorf("%v was answered %v", tt.frame, got)
		}
		if got.GetError() != nil && frameReason(t, got) != ReasonInvalid {
			t.Errorf("%v was refused as %s", tt.frame, frameReason(t, got))
		}
	}
	session.mu.Lock()
	if len(session.vouched) != 1 || session.vouched[0] != (coordinator.BranchRef{GID: testGID, Branch: "1"}) || session.alive < 8 || !session.reports[0].Busy {
		t.Errorf("vouched %v, alive %d, reports %v", session.vouched, session.alive, session.reports)
	}
	session.mu.Unlock()

	session.out <- coordinator.Message{Deliver: &coordinator.Delivery{
		GID: testGID, Branch: "1", Resource: "orders-db", Verdict: fsm.VerdictCommit, Attempt: 2,
		Epoch: coordinator.Epoch{Incarnation: 1, Term: 3}, FloorMS: 5, ClockMS: 6,
	}}
	d := receive(t, stream).GetDeliver()
	if d.GetGid() != gid || d.GetVerdict() != quoratev1.Verdict_VERDICT_COMMIT || d.GetAttempt() != 2 || d.GetEpoch().GetTerm() != 3 || d.GetFloorMs() != 5 || d.GetClockMs() != 6 {
		t.Errorf("delivery %v", d)
	}
	session.out <- coordinator.Message{VouchFor: []coordinator.BranchRef{{GID: testGID, Branch: "1"}}}
	if v := receive(t, stream).GetVouchFor().GetBranches(); len(v) != 1 || v[0].GetGid() != gid || !v[0].GetHeld() {
		t.Errorf("vouch for %v", v)
	}
}

// TestSessionErrorsAreTyped: a refused frame is answered in its own place, and
// the session goes on.
func TestSessionErrorsAreTyped(t *testing.T) {
	stream, session, _, _ := attached(t)
	session.fail = &coordinator.Refusal{Code: fsm.Sealed, GID: testGID, Branch: "1"}
	enlist := &quoratev1.SessionRequest{Frame: &quoratev1.SessionRequest_Enlist{
		Enlist: &quoratev1.EnlistRequest{Gid: testGID.String(), Branch: &quoratev1.BranchSpec{Id: "1", Resource: "r"}}}}
	send(t, stream, enlist) // id 0: refused, and nobody wants to know
	enlist.Id = 2
	send(t, stream, enlist)
	if got := receive(t, stream); got.GetId() != 2 || frameReason(t, got) != ReasonSealed {
		t.Errorf("got %v", got)
	}
	for id, frame := range []*quoratev1.SessionRequest{
		{Frame: &quoratev1.SessionRequest_Enlist{Enlist: &quoratev1.EnlistRequest{}}},
		{Frame: &quoratev1.SessionRequest_Vote{Vote: &quoratev1.VoteRequest{}}},
		{Frame: &quoratev1.SessionRequest_Report{Report: &quoratev1.ReportRequest{}}},
		{Frame: &quoratev1.SessionRequest_Inquire{Inquire: &quoratev1.InquireRequest{}}},
	} {
		frame.Id = uint64(id + 3)
		send(t, stream, frame)
		if got := receive(t, stream); got.GetId() != frame.Id || frameReason(t, got) != ReasonInvalid {
			t.Errorf("%v was answered %v", frame, got)
		}
	}
	session.fail = errors.New("who knows")
	enlist.Id = 9
	send(t, stream, enlist)
	if got := receive(t, stream); frameReason(t, got) != ReasonOutcomeUnknown {
		t.Errorf("an untyped error was answered %s", frameReason(t, got))
	}
}

// TestSessionMustBegin: whatever is no Attach of this cluster ends the stream
// with a reason.
func TestSessionMustBegin(t *testing.T) {
	other := fsm.NewGID(5, [10]byte{5}).String()
	for _, tt := range []struct {
		name  string
		frame *quoratev1.SessionRequest
		fail  error
		want  Reason
	}{
		{"heartbeat first", &quoratev1.SessionRequest{Frame: &quoratev1.SessionRequest_Heartbeat{}}, nil, ReasonInvalid},
		{"no frame", nil, nil, ReasonInvalid},
		{"no holder", attachFrame(func(a *quoratev1.Attach) { a.Holder = "" }), nil, ReasonInvalid},
		{"holder is no ULID", attachFrame(func(a *quoratev1.Attach) { a.Holder = "me" }), nil, ReasonInvalid},
		{"control character in a resource", attachFrame(func(a *quoratev1.Attach) { a.Resources[0] = "a\x1b[2J" }), nil, ReasonInvalid},
		{"a live branch without gid", attachFrame(func(a *quoratev1.Attach) { a.Live = []*quoratev1.LiveBranch{{Branch: "1"}} }), nil, ReasonInvalid},
		{"another cluster's participant", attachFrame(func(a *quoratev1.Attach) { a.ClusterId = other }), nil, ReasonForeignCluster},
		{"no ULID for a cluster", attachFrame(func(a *quoratev1.Attach) { a.ClusterId = "prod" }), nil, ReasonForeignCluster},
		{"a follower", attachFrame(nil), &coordinator.NotLeaderError{Leader: coordinator.LeaderInfo{ID: "n2", GRPCAddress: "h:1"}}, ReasonNotLeader},
		{"nobody leads", attachFrame(nil), coordinator.ErrNoLeader, ReasonNoLeader},
		{"full", attachFrame(nil), &coordinator.OverloadError{Limit: "SessionsMax", Max: 1}, ReasonQuota},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newFake()
			c.next = newFakeSession()
			c.fail = tt.fail
			n := serve(t, Config{}, c, newFakeCluster())
			stream, err := n.participants().Session(within(t))
			if err != nil {
				t.Fatal(err)
			}
			if tt.frame != nil {
				send(t, stream, tt.frame)
			} else if err := stream.CloseSend(); err != nil {
				t.Fatal(err)
			}
			_, err = stream.Recv()
			if got := ReasonOf(err); got != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// TestSessionEndsWithTheLeadership: the participant is told NOT_LEADER, with the
// next leader where it is known.
func TestSessionEndsWithTheLeadership(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  error
		want Reason
		grpc string
	}{
		{"the next is known", &coordinator.NotLeaderError{Leader: coordinator.LeaderInfo{ID: "n2", GRPCAddress: "h:1"}}, ReasonNotLeader, "h:1"},
		{"nobody leads yet", coordinator.ErrNoLeader, ReasonNotLeader, ""},
		{"silent", coordinator.ErrSilent, ReasonSessionLost, ""},
		{"superseded", coordinator.ErrSuperseded, ReasonSessionLost, ""},
		{"stopping", coordinator.ErrClosed, ReasonNoLeader, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stream, session, _, _ := attached(t)
			session.end(tt.end)
			_, err := stream.Recv()
			if ReasonOf(err) != tt.want || infoOf(err).GetMetadata()["leader_grpc"] != tt.grpc {
				t.Errorf("got %v with %v", err, infoOf(err))
			}
		})
	}
}

// TestSessionDetach: what was said before the goodbye is heard before it, and
// the stream ends without an error.
func TestSessionDetach(t *testing.T) {
	stream, session, _, _ := attached(t)
	session.release = make(chan struct{})
	send(t, stream, &quoratev1.SessionRequest{Frame: &quoratev1.SessionRequest_Report{
		Report: &quoratev1.ReportRequest{Gid: testGID.String(), Branch: "1", Outcome: quoratev1.Outcome_OUTCOME_COMMITTED}}})
	<-session.entered
	send(t, stream, &quoratev1.SessionRequest{Frame: &quoratev1.SessionRequest_Detach{}})
	session.mu.Lock()
	early := session.detached
	session.mu.Unlock()
	if early {
		t.Error("detached before the report was heard")
	}
	close(session.release)
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v, want EOF", err)
	}
	session.mu.Lock()
	defer session.mu.Unlock()
	if !session.detached || !errors.Is(session.closed, coordinator.ErrDetached) {
		t.Errorf("detached %v, closed with %v", session.detached, session.closed)
	}
}

// TestSessionStreamLost: a stream that breaks is no goodbye.
func TestSessionStreamLost(t *testing.T) {
	stream, session, _, n := attached(t)
	_ = stream.CloseSend()
	_ = n.conn.Close()
	testkit.Eventually(t, 5*time.Second, func() bool {
		session.mu.Lock()
		defer session.mu.Unlock()
		return session.closed != nil
	}, "the session to be closed")
	session.mu.Lock()
	defer session.mu.Unlock()
	if session.detached {
		t.Error("a lost stream was taken for a goodbye")
	}
}

// TestSessionRequestsAreBounded: beyond the bound the stream is not read.
func TestSessionRequestsAreBounded(t *testing.T) {
	stream, session, _, _ := attached(t)
	session.release = make(chan struct{})
	const more = 20
	for i := range sessionRequestsMax + more {
		send(t, stream, &quoratev1.SessionRequest{Id: uint64(i + 2), Frame: &quoratev1.SessionRequest_Inquire{
			Inquire: &quoratev1.InquireRequest{Gid: testGID.String(), Branch: fmt.Sprint(i)}}})
	}
	testkit.Eventually(t, 5*time.Second, func() bool { return len(session.entered) == sessionRequestsMax }, "the bound to be reached")
	session.release <- struct{}{}
	testkit.Eventually(t, 5*time.Second, func() bool { return len(session.entered) == sessionRequestsMax+1 }, "one more to enter")
	close(session.release)
	seen := make(map[uint64]bool)
	for range sessionRequestsMax + more {
		seen[receive(t, stream).GetId()] = true
	}
	if len(seen) != sessionRequestsMax+more {
		t.Errorf("%d different answers", len(seen))
	}
}

// TestSlowParticipantIsCut: one that does not read holds no memory beyond the queue.
func TestSlowParticipantIsCut(t *testing.T) {
	stream, session, _, _ := attached(t)
	resource := strings.Repeat("r", 1024)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for range 100_000 {
		select {
		case session.out <- coordinator.Message{Deliver: &coordinator.Delivery{GID: testGID, Branch: "1", Resource: resource, Verdict: fsm.VerdictCommit}}:
			continue
		case <-session.done:
		case <-ctx.Done():
			t.Fatal("the session was not cut")
		}
		break
	}
	for {
		if _, err := stream.Recv(); err != nil {
			if ReasonOf(err) != ReasonSessionLost {
				t.Errorf("cut with %v", err)
			}
			return
		}
	}
}

// TestNodeSurvivesAPanicInASession: a panic ends the session, not the node.
func TestNodeSurvivesAPanicInASession(t *testing.T) {
	stream, session, _, n := attached(t)
	session.fail = panicError{}
	send(t, stream, &quoratev1.SessionRequest{Id: 2, Frame: &quoratev1.SessionRequest_Inquire{Inquire: &quoratev1.InquireRequest{Gid: testGID.String(), Branch: "1"}}})
	if _, err := stream.Recv(); ReasonOf(err) != ReasonOutcomeUnknown {
		t.Errorf("ended with %v", err)
	}
	if _, err := n.cluster().Status(within(t), &quoratev1.StatusRequest{}); err != nil {
		t.Errorf("the node does not answer any more: %v", err)
	}
}

// panicError panics when it is looked at.
type panicError struct{}

func (panicError) Error() string   { panic("boom") }
func (panicError) Is(error) bool   { panic("boom") }
func (panicError) Unwrap() []error { panic("boom") }

// TestSessionReadsEveryHolder: its own, which it knows, and any other, as each is spelled.
func TestSessionReadsEveryHolder(t *testing.T) {
	stream, session, _, _ := attached(t)
	other := fsm.NewGID(78, [10]byte{8}).String()
	want := []string{testHolder, other, testHolder, ""}
	for i, holder := range []string{testHolder, other, strings.ToLower(testHolder), ""} {
		report := &quoratev1.ReportRequest{Gid: testGID.String(), Branch: "1", Outcome: quoratev1.Outcome_OUTCOME_COMMITTED, Holder: holder}
		if err := stream.Send(&quoratev1.SessionRequest{Id: uint64(i) + 2, Frame: &quoratev1.SessionRequest_Report{Report: report}}); err != nil {
			t.Fatal(err)
		}
		receive(t, stream)
	}
	session.mu.Lock()
	defer session.mu.Unlock()
	for i, r := range session.reports {
		if got := gidAnswer(r.Holder); got != want[i] {
			t.Errorf("report %d is of holder %q, want %q", i, got, want[i])
		}
	}
	if len(session.reports) != len(want) {
		t.Errorf("%d reports", len(session.reports))
	}
}
