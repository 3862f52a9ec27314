package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/coordinator"
)

// Bounds of one session.
const (
	// sessionRequestsMax bounds the requests of a session that wait for their
	// entry; beyond it the stream is not read, which gRPC's flow control passes
	// on to the participant.
	sessionRequestsMax = 256
	// sessionQueueMax bounds what waits to be sent. A participant that lets it
	// fill up does not read, and is cut.
	sessionQueueMax = 2*sessionRequestsMax + SessionWindowMax
	// farewellTimeout is how long a session that ends tries to send its last words.
	farewellTimeout = 250 * time.Millisecond
)

// errTooSlow ends the session of a participant that does not read.
var errTooSlow = Errorf(ReasonSessionLost, "the participant does not read its session: %d messages wait", sessionQueueMax)

// participantSession is one participant's stream. Three goroutines serve it:
// the handler's own waits for the end; one reads; one sends.
type participantSession struct {
	*Server
	stream  quoratev1.ParticipantService_SessionServer
	ctx     context.Context
	end     context.CancelCauseFunc
	session Session

	out      chan *quoratev1.SessionResponse
	slots    chan struct{} // one for each request under way
	requests sync.WaitGroup
}

// Session multiplexes all that a participant's process and the leader say.
func (p *participants) Session(stream quoratev1.ParticipantService_SessionServer) error {
	ctx, end := context.WithCancelCause(stream.Context())
	defer end(nil)
	s := &participantSession{
		Server: p.Server, stream: stream, ctx: ctx, end: end,
		out:   make(chan *quoratev1.SessionResponse, sessionQueueMax),
		slots: make(chan struct{}, sessionRequestsMax),
	}
	first, err := s.firstFrame()
	if err != nil {
		return err
	}
	if err := s.attach(first); err != nil {
		return err
	}
	sent := make(chan struct{})
	go s.read()
	go func() {
		defer close(sent)
		s.send()
	}()
	s.relay()
	cause := s.cause()
	s.session.Close(cause)
	end(cause)
	// No goroutine may use the stream after this returns; one that is stuck in
	// Send because nobody reads is freed by returning.
	select {
	case <-sent:
	case <-time.After(farewellTimeout):
	}
	if errors.Is(cause, coordinator.ErrDetached) || errors.Is(cause, errStreamEnded) {
		return nil
	}
	return cause
}

// errStreamEnded: the participant ended its stream without a goodbye.
var errStreamEnded = errors.New("the participant's stream has ended")

// firstFrame reads the Attach, within the handshake's time.
func (s *participantSession) firstFrame() (*quoratev1.SessionRequest, error) {
	type received struct {
		frame *quoratev1.SessionRequest
		err   error
	}
	got := make(chan received, 1)
	go func() {
		frame, err := s.stream.Recv()
		got <- received{frame, err}
	}()
	select {
	case r := <-got:
		if errors.Is(r.err, io.EOF) {
			r.err = invalidField("attach", "is missing: the stream ended before it")
		}
		return r.frame, r.err
	case <-s.ctx.Done():
		return nil, context.Cause(s.ctx)
	case <-time.After(HandshakeTimeout):
		return nil, invalidField("attach", "is missing: the first frame of a session must be Attach, and within %v", HandshakeTimeout)
	}
}

// attach opens the session and answers how often to say that one is alive.
func (s *participantSession) attach(frame *quoratev1.SessionRequest) error {
	attach := frame.GetAttach()
	if attach == nil {
		return invalidField("attach", "is missing: the first frame of a session must be Attach")
	}
	ask, err := readAttach(s.endingReader(), attach)
	if err != nil {
		return err
	}
	if err := s.sameCluster(attach.GetClusterId(), "the participant "+attach.GetName()); err != nil {
		return err
	}
	s.session, err = hold(s.ctx, s.Server, func() (Session, error) { return s.coordinator.Attach(s.ctx, ask) })
	if err != nil {
		return err
	}
	s.out <- &quoratev1.SessionResponse{Id: frame.GetId(), Frame: &quoratev1.SessionResponse_Attached{Attached: &quoratev1.Attached{
		Header: s.header(), Heartbeat: durationpb.New(s.session.Heartbeat()), Grace: durationpb.New(s.session.Grace()),
	}}}
	return nil
}

func readAttach(r *reader, attach *quoratev1.Attach) (coordinator.AttachRequest, error) {
	ask := coordinator.AttachRequest{
		Holder: r.holder("attach.holder", attach.GetHolder()), Resources: attach.GetResources(),
		Live: readLive(r, "attach.live", attach.GetLive()), Name: r.shownText(attach.GetName()), Process: attach.GetProcess(),
		Window: int(min(attach.GetWindow(), SessionWindowMax)),
	}
	if attach.GetHolder() == "" {
		r.refuse("attach.holder", "is missing: give the process' instance id, a ULID made at its start")
	}
	for i, resource := range attach.GetResources() {
		r.required(fmt.Sprintf("attach.resources[%d]", i), resource, "a resource has a name, such as orders-db")
	}
	r.text("attach.process", attach.GetProcess(), r.limits.GetTextBytesMax())
	return ask, r.err()
}

func readLive(r *reader, field string, live []*quoratev1.LiveBranch) []coordinator.LiveBranch {
	read := make([]coordinator.LiveBranch, 0, len(live))
	for i, branch := range live {
		at := fmt.Sprintf("%s[%d]", field, i)
		r.branchID(at+".branch", branch.GetBranch())
		read = append(read, coordinator.LiveBranch{
			BranchRef: coordinator.BranchRef{GID: r.gid(at+".gid", branch.GetGid()), Branch: branch.GetBranch()},
			Held:      branch.GetHeld(), Resource: branch.GetResource(),
		})
	}
	return read
}

// relay hands on what the leader says unasked, until the session ends.
func (s *participantSession) relay() {
	for {
		select {
		case m := <-s.session.Outgoing():
			s.push(messageAnswer(m))
		case <-s.session.Done():
			return
		case <-s.ctx.Done():
			return
		}
	}
}

// cause says why the session ended.
func (s *participantSession) cause() error {
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	err := s.session.Err()
	if leaderless(err) {
		// It was the leader a moment ago: the participant should look for the next.
		return Errorf(ReasonNotLeader, "this node leads no more, and the next leader is not known yet").
			With("term", strconv.FormatUint(s.cluster.Status().Term, 10))
	}
	return err
}

// push queues a message without waiting.
func (s *participantSession) push(m *quoratev1.SessionResponse) {
	select {
	case s.out <- m:
	default:
		s.end(errTooSlow)
	}
}

// send writes what is queued, until the session ends and the queue is empty.
func (s *participantSession) send() {
	for {
		select {
		case m := <-s.out:
			if err := s.stream.Send(m); err != nil {
				s.end(errStreamEnded)
				return
			}
		case <-s.ctx.Done():
			for {
				select {
				case m := <-s.out:
					if s.stream.Send(m) != nil {
						return
					}
				default:
					return
				}
			}
		}
	}
}

// read takes the participant's frames until its stream ends.
func (s *participantSession) read() {
	for {
		frame, err := s.stream.Recv()
		if err != nil {
			s.requests.Wait()
			s.end(errStreamEnded)
			return
		}
		s.session.Alive()
		if !s.take(frame) {
			return
		}
	}
}

// take handles one frame, and returns false after the last.
func (s *participantSession) take(frame *quoratev1.SessionRequest) bool {
	id := frame.GetId()
	switch f := frame.GetFrame().(type) {
	case *quoratev1.SessionRequest_Enlist:
		return s.start(id, func() (*quoratev1.SessionResponse, error) { return s.enlist(f.Enlist) })
	case *quoratev1.SessionRequest_Vote:
		return s.start(id, func() (*quoratev1.SessionResponse, error) { return s.vote(f.Vote) })
	case *quoratev1.SessionRequest_Report:
		return s.start(id, func() (*quoratev1.SessionResponse, error) { return s.report(f.Report) })
	case *quoratev1.SessionRequest_Inquire:
		return s.start(id, func() (*quoratev1.SessionResponse, error) { return s.inquire(f.Inquire) })
	case *quoratev1.SessionRequest_Vouch:
		s.vouch(id, f.Vouch)
	case *quoratev1.SessionRequest_Heartbeat:
		// The answer tells the participant that the leader lives: with id 0, too.
		s.push(&quoratev1.SessionResponse{Id: id, Frame: &quoratev1.SessionResponse_Heartbeat{Heartbeat: &quoratev1.Heartbeat{Header: s.header()}}})
	case *quoratev1.SessionRequest_Detach:
		// What was said before the goodbye is heard before it.
		s.requests.Wait()
		s.session.Detach()
		s.end(coordinator.ErrDetached)
		return false
	case *quoratev1.SessionRequest_Attach:
		s.answer(id, nil, invalidField("attach", "is the first frame of a session only"))
	default:
		s.answer(id, nil, invalidField("frame", "is empty, or of a newer version"))
	}
	return true
}

// start runs one request beside the others.
func (s *participantSession) start(id uint64, f func() (*quoratev1.SessionResponse, error)) bool {
	select {
	case s.slots <- struct{}{}:
	case <-s.ctx.Done():
		return false
	}
	s.requests.Add(1)
	go func() {
		defer func() {
			<-s.slots
			s.requests.Done()
		}()
		defer func() {
			if cause := recover(); cause != nil {
				s.end(s.panicked("Session", cause))
			}
		}()
		answer, err := f()
		s.answer(id, answer, err)
	}()
	return true
}

// answer sends an answer, or the error as one. Nobody waits for id 0.
func (s *participantSession) answer(id uint64, answer *quoratev1.SessionResponse, err error) {
	if err != nil {
		typed := translate(err, changes)
		s.enrich(s.ctx, typed)
		serialized, _ := proto.Marshal(typed.GRPCStatus().Proto())
		answer = &quoratev1.SessionResponse{Frame: &quoratev1.SessionResponse_Error{Error: &quoratev1.SessionError{StatusProto: serialized}}}
		if id == 0 {
			s.cfg.Logger.Debug("a frame of a session was refused", "error", typed)
		}
	}
	if id == 0 {
		return
	}
	answer.Id = id
	s.push(answer)
}

// bounded gives a request its time.
func (s *participantSession) bounded() (context.Context, context.CancelFunc) {
	return context.WithTimeout(s.ctx, s.cfg.CallTimeout)
}

func (s *participantSession) enlist(req *quoratev1.EnlistRequest) (*quoratev1.SessionResponse, error) {
	gid, spec, err := readEnlist(s.reader(), req)
	if err != nil {
		return nil, err
	}
	ctx, cancel := s.bounded()
	defer cancel()
	status, err := s.session.Enlist(ctx, gid, spec)
	if err != nil {
		return nil, err
	}
	return &quoratev1.SessionResponse{Frame: &quoratev1.SessionResponse_Enlist{Enlist: &quoratev1.EnlistResponse{
		Header: s.header(), Verdict: verdictAnswer(status.Verdict),
	}}}, nil
}

func (s *participantSession) vote(req *quoratev1.VoteRequest) (*quoratev1.SessionResponse, error) {
	gid, ballot, err := readVote(s.endingReader(), req)
	if err != nil {
		return nil, err
	}
	ctx, cancel := s.bounded()
	defer cancel()
	status, err := s.session.Vote(ctx, gid, ballot)
	if err != nil {
		return nil, err
	}
	return &quoratev1.SessionResponse{Frame: &quoratev1.SessionResponse_Vote{Vote: &quoratev1.VoteResponse{
		Header: s.header(), Verdict: verdictAnswer(status.Verdict),
	}}}, nil
}

func (s *participantSession) report(req *quoratev1.ReportRequest) (*quoratev1.SessionResponse, error) {
	ask, err := readReport(s.endingReader(), req)
	if err != nil {
		return nil, err
	}
	ctx, cancel := s.bounded()
	defer cancel()
	if _, err := s.session.Report(ctx, ask); err != nil {
		return nil, err
	}
	return &quoratev1.SessionResponse{Frame: &quoratev1.SessionResponse_Report{Report: &quoratev1.ReportResponse{Header: s.header()}}}, nil
}

func (s *participantSession) inquire(req *quoratev1.InquireRequest) (*quoratev1.SessionResponse, error) {
	ask, err := readInquire(s.endingReader(), req)
	if err != nil {
		return nil, err
	}
	ctx, cancel := s.bounded()
	defer cancel()
	inquired, err := s.session.Inquire(ctx, ask)
	if err != nil {
		return nil, err
	}
	return &quoratev1.SessionResponse{Frame: &quoratev1.SessionResponse_Inquire{Inquire: s.inquired(inquired)}}, nil
}

func (s *participantSession) vouch(id uint64, vouch *quoratev1.Vouch) {
	r := s.endingReader()
	live := readLive(r, "vouch.branches", vouch.GetBranches())
	if err := r.err(); err != nil {
		s.answer(id, nil, err)
		return
	}
	refs := make([]coordinator.BranchRef, len(live))
	for i, branch := range live {
		refs[i] = branch.BranchRef
	}
	s.session.Vouch(refs)
	s.answer(id, &quoratev1.SessionResponse{Frame: &quoratev1.SessionResponse_Vouched{Vouched: &quoratev1.Vouched{Header: s.header()}}}, nil)
}

// messageAnswer is what the leader says unasked, on the wire.
func messageAnswer(m coordinator.Message) *quoratev1.SessionResponse {
	if d := m.Deliver; d != nil {
		return &quoratev1.SessionResponse{Frame: &quoratev1.SessionResponse_Deliver{Deliver: &quoratev1.Deliver{
			Gid: d.GID.String(), Branch: d.Branch, Resource: d.Resource, Verdict: verdictAnswer(d.Verdict), Attempt: d.Attempt,
			Epoch: epochAnswer(d.Epoch), FloorMs: d.FloorMS, ClockMs: d.ClockMS,
		}}}
	}
	return &quoratev1.SessionResponse{Frame: &quoratev1.SessionResponse_VouchFor{VouchFor: &quoratev1.VouchFor{Branches: liveAnswer(m.VouchFor)}}}
}

func liveAnswer(refs []coordinator.BranchRef) []*quoratev1.LiveBranch {
	live := make([]*quoratev1.LiveBranch, len(refs))
	for i, ref := range refs {
		live[i] = &quoratev1.LiveBranch{Gid: ref.GID.String(), Branch: ref.Branch, Held: true}
	}
	return live
}
