package api

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/internal/frames"
)

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

// take handles one message, and returns false after the last.
func (s *participantSession) take(message *quoratev1.SessionRequest) bool {
	batch := message.GetBatch().GetFrames()
	switch {
	case message.GetBatch() == nil:
		return s.takeAll([]*quoratev1.SessionRequest{message})
	case len(batch) > frames.SessionFramesMax:
		// Whoever sent them waits for answers: none of them must be passed over in silence.
		s.end(invalidField("batch.frames", "are %d: a leader takes at most %d in one message", len(batch), frames.SessionFramesMax))
		return false
	}
	return s.takeAll(batch)
}

// takeFrame handles one frame, and returns false after the last.
func (s *participantSession) takeFrame(frame *quoratev1.SessionRequest) bool {
	id := frame.GetId()
	switch f := frame.GetFrame().(type) {
	case *quoratev1.SessionRequest_Enlist:
		return s.start(id, func() (*quoratev1.SessionResponse, error) { return s.enlist(f.Enlist) })
	case *quoratev1.SessionRequest_Vote:
		return s.start(id, func() (*quoratev1.SessionResponse, error) { return s.vote(f.Vote) })
	case *quoratev1.SessionRequest_Report:
		return s.report(id, f.Report)
	case *quoratev1.SessionRequest_Inquire:
		return s.start(id, func() (*quoratev1.SessionResponse, error) { return s.inquire(f.Inquire) })
	case *quoratev1.SessionRequest_Vouch:
		s.vouch(id, f.Vouch)
	case *quoratev1.SessionRequest_Heartbeat:
		// The answer tells the participant that the leader lives: with id 0, too.
		s.push(&quoratev1.SessionResponse{Id: id, Frame: &quoratev1.SessionResponse_Heartbeat{Heartbeat: &quoratev1.Heartbeat{}}})
	case *quoratev1.SessionRequest_Detach:
		// What was said before the goodbye is heard before it.
		s.requests.Wait()
		s.session.Detach()
		s.end(coordinator.ErrDetached)
		return false
	case *quoratev1.SessionRequest_Attach:
		s.answer(id, nil, invalidField("attach", "is the first frame of a session only"))
	case *quoratev1.SessionRequest_Batch:
		s.answer(id, nil, invalidField("batch", "holds another batch"))
	default:
		s.answer(id, nil, invalidField("frame", "is empty, or of a newer version"))
	}
	return true
}

// start runs one request beside the others.
func (s *participantSession) start(id uint64, f func() (*quoratev1.SessionResponse, error)) bool {
	if !s.admit() {
		return false
	}
	s.workers.run(func() { s.finish(id, f) })
	return true
}

// admit takes one of the places of the requests under way, when there is one; false: the
// session has ended.
func (s *participantSession) admit() bool {
	select {
	case s.slots <- struct{}{}: // nearly always there is room, and two channels cost more than one
	default:
		select {
		case s.slots <- struct{}{}:
		case <-s.ctx.Done():
			return false
		}
	}
	s.requests.Add(1)
	return true
}

func (s *participantSession) release() {
	<-s.slots
	s.requests.Done()
}

// finish answers one request and gives its place back.
func (s *participantSession) finish(id uint64, f func() (*quoratev1.SessionResponse, error)) {
	defer s.release()
	defer func() {
		if cause := recover(); cause != nil {
			s.end(s.panicked("Session", cause))
		}
	}()
	answer, err := f()
	s.answer(id, answer, err)
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

func (s *participantSession) enlist(req *quoratev1.EnlistRequest) (*quoratev1.SessionResponse, error) {
	gid, spec, err := readEnlist(s.reader, req)
	if err != nil {
		return nil, err
	}
	ctx := s.bounds.Get(s.ctx, s.cfg.CallTimeout)
	status, err := s.session.Enlist(ctx, gid, spec)
	if err != nil {
		return nil, err
	}
	return &quoratev1.SessionResponse{Frame: &quoratev1.SessionResponse_Enlist{Enlist: &quoratev1.EnlistResponse{Verdict: verdictAnswer(status.Verdict)}}}, nil
}

func (s *participantSession) vote(req *quoratev1.VoteRequest) (*quoratev1.SessionResponse, error) {
	gid, ballot, err := readVote(s.endingReader, req)
	if err != nil {
		return nil, err
	}
	ctx := s.bounds.Get(s.ctx, s.cfg.CallTimeout)
	status, err := s.session.Vote(ctx, gid, ballot)
	if err != nil {
		return nil, err
	}
	return &quoratev1.SessionResponse{Frame: &quoratev1.SessionResponse_Vote{Vote: &quoratev1.VoteResponse{Verdict: verdictAnswer(status.Verdict)}}}, nil
}

// report starts what brings a report into the log: nobody waits for it here.
func (s *participantSession) report(id uint64, req *quoratev1.ReportRequest) bool {
	ask, err := readReport(s.endingReader(), req)
	if err != nil {
		s.answer(id, nil, err)
		return true
	}
	if !s.admit() {
		return false
	}
	s.session.ReportAsync(ask, func(_ coordinator.Status, err error) {
		if err == nil {
			if id != 0 { // or nobody waits, as for the answer to a delivery
				s.push(reportedFrame(id))
			}
			s.release()
			return
		}
		// To make an answer of an error may take a look at the state, for which whoever
		// tells of it must not wait.
		s.workers.run(func() { s.finish(id, func() (*quoratev1.SessionResponse, error) { return nil, err }) })
	})
	return true
}

func (s *participantSession) inquire(req *quoratev1.InquireRequest) (*quoratev1.SessionResponse, error) {
	ask, err := readInquire(s.endingReader(), req)
	if err != nil {
		return nil, err
	}
	ctx := s.bounds.Get(s.ctx, s.cfg.CallTimeout)
	inquired, err := s.session.Inquire(ctx, ask)
	if err != nil {
		return nil, err
	}
	return &quoratev1.SessionResponse{Frame: &quoratev1.SessionResponse_Inquire{Inquire: inquiredAnswer(inquired)}}, nil
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
	s.answer(id, &quoratev1.SessionResponse{Frame: &quoratev1.SessionResponse_Vouched{Vouched: &quoratev1.Vouched{}}}, nil)
}

// appendMessage appends what the leader says unasked, on the wire.
func appendMessage(list []*quoratev1.SessionResponse, m coordinator.Message) []*quoratev1.SessionResponse {
	if m.Deliver != nil {
		list = append(list, deliveryFrame(m.Deliver, epochAnswer(m.Deliver.Epoch)))
	}
	if len(m.Deliveries) > 0 {
		epoch := epochAnswer(m.Deliveries[0].Epoch) // one leader says all of them
		for i := range m.Deliveries {
			list = append(list, deliveryFrame(&m.Deliveries[i], epoch))
		}
	}
	if len(m.VouchFor) > 0 {
		list = append(list, &quoratev1.SessionResponse{Frame: &quoratev1.SessionResponse_VouchFor{VouchFor: &quoratev1.VouchFor{Branches: liveAnswer(m.VouchFor)}}})
	}
	return list
}

// deliveryFrame makes a frame in one piece of memory.
func deliveryFrame(d *coordinator.Delivery, epoch *quoratev1.Epoch) *quoratev1.SessionResponse {
	f := &struct {
		frame   quoratev1.SessionResponse
		kind    quoratev1.SessionResponse_Deliver
		deliver quoratev1.Deliver
	}{}
	f.deliver.Gid, f.deliver.Branch, f.deliver.Resource = d.GID.String(), d.Branch, d.Resource
	f.deliver.Verdict, f.deliver.Attempt, f.deliver.Epoch = verdictAnswer(d.Verdict), d.Attempt, epoch
	f.deliver.FloorMs, f.deliver.ClockMs = d.FloorMS, d.ClockMS
	f.kind.Deliver = &f.deliver
	f.frame.Frame = &f.kind
	return &f.frame
}

// reportedFrame makes one in one piece of memory.
func reportedFrame(id uint64) *quoratev1.SessionResponse {
	f := &struct {
		frame  quoratev1.SessionResponse
		kind   quoratev1.SessionResponse_Report
		report quoratev1.ReportResponse
	}{}
	f.kind.Report = &f.report
	f.frame.Id, f.frame.Frame = id, &f.kind
	return &f.frame
}

func liveAnswer(refs []coordinator.BranchRef) []*quoratev1.LiveBranch {
	live := make([]*quoratev1.LiveBranch, len(refs))
	for i, ref := range refs {
		live[i] = &quoratev1.LiveBranch{Gid: ref.GID.String(), Branch: ref.Branch, Held: true}
	}
	return live
}

func readAttach(r *reader, attach *quoratev1.Attach) (coordinator.AttachRequest, error) {
	ask := coordinator.AttachRequest{
		Holder: r.holder("attach.holder", attach.GetHolder()), Resources: attach.GetResources(),
		Live: readLive(r, "attach.live", attach.GetLive()), Name: r.shownText(attach.GetName()), Process: attach.GetProcess(),
		Window: int(min(attach.GetWindow(), SessionWindowMax)), Several: true,
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
		at := r.item(field, i)
		r.branchID(at+".branch", branch.GetBranch())
		read = append(read, coordinator.LiveBranch{
			BranchRef: coordinator.BranchRef{GID: r.gid(at+".gid", branch.GetGid()), Branch: branch.GetBranch()},
			Held:      branch.GetHeld(), Resource: branch.GetResource(),
		})
	}
	return read
}
