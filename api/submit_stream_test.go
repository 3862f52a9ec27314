package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/frames"
	"github.com/quorate/quorate/internal/testkit"
)

type submitsStream = grpc.BidiStreamingClient[quoratev1.SubmitStreamRequest, quoratev1.SubmitStreamResponse]

// streamed are submits with the ids from and following.
func streamed(from, many int) *quoratev1.SubmitStreamRequest {
	m := &quoratev1.SubmitStreamRequest{}
	for i := range many {
		m.Submits = append(m.Submits, &quoratev1.StreamedSubmit{Id: uint64(from + i), Submit: &quoratev1.SubmitRequest{
			Begin: &quoratev1.BeginRequest{Gid: fsm.NewGID(1000, [10]byte{byte(from >> 8), byte(from), byte(i >> 8), byte(i)}).String()},
			Set:   []*quoratev1.BranchSpec{{Id: "1", Resource: "orders-db"}},
			Votes: []*quoratev1.Ballot{{Branch: &quoratev1.BranchSpec{Id: "1", Resource: "orders-db"}, Vote: quoratev1.Vote_VOTE_READ_ONLY}},
		}})
	}
	return m
}

func openSubmits(t *testing.T, n *node) submitsStream {
	t.Helper()
	stream, err := n.transactions().SubmitStream(within(t))
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func submitAll(t *testing.T, stream submitsStream, m *quoratev1.SubmitStreamRequest) {
	t.Helper()
	if err := stream.Send(m); err != nil {
		t.Fatal(err)
	}
}

// heard collects answers by id until there are so many; the same id twice is an error.
func heard(t *testing.T, stream submitsStream, many int) map[uint64]*quoratev1.StreamedAnswer {
	t.Helper()
	answers := map[uint64]*quoratev1.StreamedAnswer{}
	for len(answers) < many {
		got, err := stream.Recv()
		if err != nil {
			t.Fatalf("after %d of %d answers: %v", len(answers), many, err)
		}
		if got.GetHeader().GetAppliedIndex() != 42 || len(got.GetAnswers()) == 0 || len(got.GetAnswers()) > frames.SubmitsMax {
			t.Fatalf("%d answers with the header %v", len(got.GetAnswers()), got.GetHeader())
		}
		for _, answer := range got.GetAnswers() {
			if answers[answer.GetId()] != nil {
				t.Fatalf("%d was answered twice", answer.GetId())
			}
			answers[answer.GetId()] = answer
		}
	}
	return answers
}

// answerReason is the reason of a submit that failed.
func answerReason(t *testing.T, answer *quoratev1.StreamedAnswer) Reason {
	t.Helper()
	var st spb.Status
	if err := proto.Unmarshal(answer.GetStatusProto(), &st); err != nil {
		t.Fatal(err)
	}
	return ReasonOf(status.FromProto(&st).Err())
}

// TestSubmitStreamAnswersEach by its id, and refuses what the unary call would, as it would.
func TestSubmitStreamAnswersEach(t *testing.T) {
	c := newFake()
	n := serve(t, Config{}, c, newFakeCluster())
	stream := openSubmits(t, n)
	m := streamed(10, 5)
	m.Submits[1].Submit = nil
	m.Submits[3].Submit.Begin.Gid = "no gid"
	submitAll(t, stream, m)
	for id, answer := range heard(t, stream, 5) {
		switch refused := id == 11 || id == 13; {
		case refused && answerReason(t, answer) != ReasonInvalid:
			t.Errorf("%d was answered %v", id, answer)
		case !refused && (answer.GetSubmitted().GetDecision() != quoratev1.Decision_DECISION_COMMIT || answer.GetSubmitted().GetHeader() != nil || !answer.GetSubmitted().GetCreated()):
			t.Errorf("%d was answered %v", id, answer)
		}
	}
	if got := c.last("Submit").(coordinator.SubmitRequest).Submit.GetBegin().GetInitiator(); !strings.HasPrefix(got, "127.0.0.1:") {
		t.Errorf("initiator %q", got)
	}
	for _, tt := range []struct {
		fail error
		want Reason
	}{
		{&coordinator.NotLeaderError{Leader: coordinator.LeaderInfo{ID: "n2", GRPCAddress: "h:1"}}, ReasonNotLeader},
		{coordinator.ErrNoLeader, ReasonNoLeader},
		{&coordinator.UnknownError{GID: testGID, Cause: errors.New("leadership was lost")}, ReasonOutcomeUnknown},
		{errors.New("who knows"), ReasonOutcomeUnknown},
		{&coordinator.OverloadError{Limit: "ProposalsPendingMax", Max: 1}, ReasonQuota},
		{&coordinator.Refusal{Code: fsm.GIDConflict, GID: testGID}, "GID_CONFLICT"},
	} {
		c.setFail(tt.fail)
		submitAll(t, stream, streamed(1, 1))
		if got := heard(t, stream, 1)[1]; answerReason(t, got) != tt.want {
			t.Errorf("%v was answered %v", tt.fail, got)
		}
	}
	c.setFail(nil)
	submitAll(t, stream, streamed(1, 1)) // the stream goes on
	if got := heard(t, stream, 1)[1]; got.GetSubmitted() == nil {
		t.Errorf("after refusals: %v", got)
	}
}

// gate holds a fake's submits back until it is opened.
func gate(c *fake) (waiting *atomic.Int64, open func()) {
	opened := make(chan struct{})
	waiting = new(atomic.Int64)
	c.on = func(method string) {
		if method == "Submit" {
			waiting.Add(1)
			<-opened
		}
	}
	return waiting, sync.OnceFunc(func() { close(opened) })
}

// TestSubmitStreamIsBounded: beyond the bound the stream is not read, and nothing is lost.
func TestSubmitStreamIsBounded(t *testing.T) {
	c := newFake()
	waiting, open := gate(c)
	n := serve(t, Config{}, c, newFakeCluster())
	defer open()
	stream := openSubmits(t, n)
	const rounds = SubmitsPendingMax/frames.SubmitsMax + 2
	for i := range rounds {
		submitAll(t, stream, streamed(1+i*frames.SubmitsMax, frames.SubmitsMax))
	}
	testkit.Eventually(t, 10*time.Second, func() bool { return waiting.Load() == SubmitsPendingMax }, "the bound to be reached")
	if _, err := n.cluster().Status(within(t), &quoratev1.StatusRequest{}); err != nil {
		t.Error(err) // while one stream is full, others are served
	}
	if got := waiting.Load(); got != SubmitsPendingMax {
		t.Errorf("%d submits are under way, at most %d", got, SubmitsPendingMax)
	}
	open()
	heard(t, stream, rounds*frames.SubmitsMax)
}

// TestSubmitStreamBeyondTheLimit: a message of too many ends the stream, nothing of it is
// done, and what was under way before is answered.
func TestSubmitStreamBeyondTheLimit(t *testing.T) {
	c := newFake()
	n := serve(t, Config{}, c, newFakeCluster())
	stream := openSubmits(t, n)
	submitAll(t, stream, streamed(1, 3))
	heard(t, stream, 3)
	submitAll(t, stream, streamed(10, frames.SubmitsMax+1))
	if _, err := stream.Recv(); ReasonOf(err) != ReasonInvalid {
		t.Errorf("ended with %v", err)
	}
	if got := c.called("Submit"); got != 3 {
		t.Errorf("%d submits were made, want the 3 before", got)
	}
}

// TestSubmitStreamHalfClosed: a client that has said all hears every answer, then the end.
func TestSubmitStreamHalfClosed(t *testing.T) {
	c := newFake()
	waiting, open := gate(c)
	n := serve(t, Config{}, c, newFakeCluster())
	defer open()
	stream := openSubmits(t, n)
	submitAll(t, stream, streamed(1, 40))
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 10*time.Second, func() bool { return waiting.Load() == 40 }, "all to be under way")
	open()
	heard(t, stream, 40)
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("ended with %v", err)
	}
}

// TestSubmitStreamEndsWithItsNode: the stream of a node that stops ends with an error that
// names no outcome, and its client's submits are unknown, never refused.
func TestSubmitStreamEndsWithItsNode(t *testing.T) {
	c := newFake()
	waiting, open := gate(c)
	n := serve(t, Config{}, c, newFakeCluster())
	defer open()
	shared := frames.NewSubmits(n.conn)
	failed := make(chan error, 1)
	go func() {
		_, err := shared.Submit(within(t), streamed(1, 1).Submits[0].Submit)
		failed <- err
	}()
	testkit.Eventually(t, 10*time.Second, func() bool { return waiting.Load() == 1 }, "it to be under way")
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		n.server.Stop(ctx)
	}()
	err := <-failed
	if reason := ReasonOf(err); err == nil || reason != "" && reason != ReasonOutcomeUnknown {
		t.Errorf("a submit under way was answered %v", err)
	}
	open()
	<-stopped
}

// TestSubmitStreamOfAClientThatIsGone leaves nothing behind.
func TestSubmitStreamOfAClientThatIsGone(t *testing.T) {
	c := newFake()
	waiting, open := gate(c)
	n := serve(t, Config{}, c, newFakeCluster())
	defer open()
	ctx, cancel := context.WithCancel(within(t))
	stream, err := n.transactions().SubmitStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	submitAll(t, stream, streamed(1, 7))
	testkit.Eventually(t, 10*time.Second, func() bool { return waiting.Load() == 7 }, "all to be under way")
	cancel()
	open()
	testkit.Eventually(t, 10*time.Second, func() bool { return n.server.workers.resting.Load() == 7 }, "all to be over")
	if _, err := n.cluster().Status(within(t), &quoratev1.StatusRequest{}); err != nil {
		t.Error(err)
	}
}

// TestSubmitStreamSurvivesAPanic: a panic is one submit's unknown outcome.
func TestSubmitStreamSurvivesAPanic(t *testing.T) {
	c := newFake()
	var once sync.Once
	c.on = func(method string) {
		if method == "Submit" {
			once.Do(func() { panic("boom") })
		}
	}
	n := serve(t, Config{}, c, newFakeCluster())
	stream := openSubmits(t, n)
	submitAll(t, stream, streamed(1, 1))
	if got := heard(t, stream, 1)[1]; answerReason(t, got) != ReasonOutcomeUnknown {
		t.Errorf("answered %v", got)
	}
	submitAll(t, stream, streamed(2, 1))
	if got := heard(t, stream, 1)[2]; got.GetSubmitted() == nil {
		t.Errorf("answered %v", got)
	}
}

// TestSharedSubmits: callers share a stream, each gets its own answer, and one whose
// request cannot be written or is too large breaks nobody else's.
func TestSharedSubmits(t *testing.T) {
	c := newFake()
	n := serve(t, Config{}, c, newFakeCluster())
	shared := frames.NewSubmits(n.conn)
	ctx := within(t)
	var callers sync.WaitGroup
	for i := range 64 {
		callers.Go(func() {
			for j := range 20 {
				req := streamed(i*100+j, 1).Submits[0].Submit
				got, err := shared.Submit(ctx, req)
				if err != nil || got.GetHeader().GetAppliedIndex() != 42 {
					t.Errorf("caller %d: %v, %v", i, got, err)
				}
			}
		})
	}
	callers.Go(func() {
		for range 20 {
			req := streamed(1, 1).Submits[0].Submit
			req.Begin.Labels = map[string]string{"a": "\xff"}
			if _, err := shared.Submit(ctx, req); status.Code(err) != codes.Internal {
				t.Errorf("text that is not UTF-8: %v", err)
			}
			req.Begin.Labels = map[string]string{"a": strings.Repeat("x", MessageBytesMax)}
			if _, err := shared.Submit(ctx, req); status.Code(err) != codes.InvalidArgument {
				t.Errorf("a submit of a megabyte: %v", err)
			}
		}
	})
	callers.Wait()
	shared.Close(ctx)
	if _, err := shared.Submit(ctx, streamed(1, 1).Submits[0].Submit); !errors.Is(err, frames.ErrSubmitsClosed) {
		t.Errorf("after Close: %v", err)
	}
	if got := c.called("Submit"); got != 64*20 {
		t.Errorf("%d submits were made, want %d", got, 64*20)
	}
}

// TestSharedSubmitsOpenAnew after their stream broke.
func TestSharedSubmitsOpenAnew(t *testing.T) {
	c := newFake()
	n := serve(t, Config{}, c, newFakeCluster())
	conn := &brittle{ClientConnInterface: n.conn}
	shared := frames.NewSubmits(conn)
	ctx := within(t)
	defer shared.Close(ctx)
	for i := range 3 {
		testkit.EventuallyNoError(t, 10*time.Second, func() error {
			_, err := shared.Submit(ctx, streamed(i, 1).Submits[0].Submit)
			return err
		}, "a submit over a new stream")
		conn.snap()
	}
	if conn.opened < 3 {
		t.Errorf("%d streams were opened", conn.opened)
	}
}

// brittle is a connection whose newest stream can be broken.
type brittle struct {
	grpc.ClientConnInterface
	snap   context.CancelFunc
	opened int
}

func (b *brittle) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	ctx, b.snap = context.WithCancel(ctx)
	b.opened++
	return b.ClientConnInterface.NewStream(ctx, desc, method, opts...)
}

// TestLeaderLossInMidStream, on real state machines: each submit is answered or unknown;
// what was answered as committed is, what was refused is nowhere, and none is made twice.
func TestLeaderLossInMidStream(t *testing.T) {
	nodes := realCluster(t, 3)
	ctx := within(t)
	shared := frames.NewSubmits(nodes[0].conn)
	defer shared.Close(ctx)
	type told struct {
		gid fsm.GID
		got *quoratev1.SubmitResponse
		err error
	}
	const callers, each = 32, 40
	answers := make(chan told, callers*each)
	var submitting sync.WaitGroup
	clock := nodes[0].coordinator.Header().ClockMS
	var done atomic.Int64
	for i := range callers {
		submitting.Go(func() {
			for j := range each {
				gid := fsm.NewGID(clock, [10]byte{1, byte(i), byte(j)})
				req := streamed(1, 1).Submits[0].Submit
				req.Begin.Gid = gid.String()
				got, err := shared.Submit(ctx, req)
				answers <- told{gid, got, err}
				done.Add(1)
			}
		})
	}
	testkit.Eventually(t, 10*time.Second, func() bool { return done.Load() > callers*each/4 }, "a quarter to be answered")
	nodes[0].log.elect(nodes[1])
	submitting.Wait()
	close(answers)
	counts := map[string]int{}
	for a := range answers {
		reason := ReasonOf(a.err)
		counts[fmt.Sprint(status.Code(a.err), " ", reason)]++
		record := nodes[0].standing(a.gid)
		stands := record != nil
		switch {
		case a.err == nil && (!stands || record.GetDecision() != fsm.DecisionCommit || !a.got.GetCreated()):
			t.Errorf("%s was answered %v, and stands as %v", a.gid, a.got, record)
		case a.err != nil && stands && reason != ReasonOutcomeUnknown && reason != "":
			t.Errorf("%s was refused with %v, and stands as %v", a.gid, a.err, record)
		case a.err != nil && reason != ReasonNotLeader && reason != ReasonNoLeader && reason != ReasonOutcomeUnknown:
			t.Errorf("%s: %v", a.gid, a.err)
		}
	}
	if len(counts) < 2 {
		t.Errorf("the leader was not lost in mid-stream: %v", counts)
	}
	// Elsewhere the same submits stand as they were answered, and none is made anew.
	next := frames.NewSubmits(nodes[1].conn)
	again := within(t)
	defer next.Close(again)
	for i := range callers {
		submitting.Go(func() {
			for j := range each {
				gid := fsm.NewGID(clock, [10]byte{1, byte(i), byte(j)})
				stood := nodes[0].standing(gid) != nil
				req := streamed(1, 1).Submits[0].Submit
				req.Begin.Gid = gid.String()
				if got, err := next.Submit(again, req); err != nil || got.GetDecision() != quoratev1.Decision_DECISION_COMMIT || got.GetCreated() == stood {
					t.Errorf("%s again: %v, %v; it stood: %v", gid, got, err, stood)
				}
			}
		})
	}
	submitting.Wait()
}

// standing is what the state machine holds of a transaction, nil for nothing.
func (n *realNode) standing(gid fsm.GID) (record *logpb.Transaction) {
	n.View(func(s *fsm.State) { record, _ = s.Get(gid) })
	return record
}
