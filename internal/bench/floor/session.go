package floor

import (
	"context"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// queueMax bounds what waits to be sent over one session.
const queueMax = 4096

// session is one participant's stream.
type session struct {
	out chan *quoratev1.SessionResponse
	ctx context.Context
}

func (s *session) push(m *quoratev1.SessionResponse) {
	select {
	case s.out <- m:
	case <-s.ctx.Done():
	}
}

func (s *Server) session(resource string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[resource]
}

// Session implements ParticipantService.
func (s *Server) Session(stream quoratev1.ParticipantService_SessionServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	to := &session{out: make(chan *quoratev1.SessionResponse, queueMax), ctx: ctx}
	s.mu.Lock()
	for _, resource := range first.GetAttach().GetResources() {
		s.sessions[resource] = to
	}
	s.mu.Unlock()
	to.push(&quoratev1.SessionResponse{Id: first.GetId(), Frame: &quoratev1.SessionResponse_Attached{Attached: &quoratev1.Attached{
		Header: s.header(), Heartbeat: durationpb.New(heartbeat), Grace: durationpb.New(2 * heartbeat),
	}}})
	go func() {
		for {
			frame, err := stream.Recv()
			if err != nil {
				cancel()
				return
			}
			go s.take(ctx, to, frame)
		}
	}()
	for {
		select {
		case m := <-to.out:
			if err := stream.Send(m); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// take answers one frame once its bytes are in the log.
func (s *Server) take(ctx context.Context, to *session, frame *quoratev1.SessionRequest) {
	answer := &quoratev1.SessionResponse{Id: frame.GetId()}
	switch f := frame.GetFrame().(type) {
	case *quoratev1.SessionRequest_Enlist:
		got, err := s.Enlist(ctx, f.Enlist)
		if err != nil {
			return
		}
		answer.Frame = &quoratev1.SessionResponse_Enlist{Enlist: got}
	case *quoratev1.SessionRequest_Vote:
		got, err := s.Vote(ctx, f.Vote)
		if err != nil {
			return
		}
		answer.Frame = &quoratev1.SessionResponse_Vote{Vote: got}
	case *quoratev1.SessionRequest_Report:
		answer.Frame = &quoratev1.SessionResponse_Report{Report: &quoratev1.ReportResponse{Header: s.header()}}
		_ = s.reported(ctx, f.Report, func() { to.push(answer) })
		return
	case *quoratev1.SessionRequest_Heartbeat:
		answer.Frame = &quoratev1.SessionResponse_Heartbeat{Heartbeat: &quoratev1.Heartbeat{Header: s.header()}}
	default:
		return
	}
	to.push(answer)
}

// messages makes a list of messages of reports.
func messages(reports []*quoratev1.ReportRequest) []proto.Message {
	list := make([]proto.Message, len(reports))
	for i, r := range reports {
		list[i] = r
	}
	return list
}

// reportsOf is what called branches said, as they would report it themselves.
func reportsOf(gid string, branches []*quoratev1.BranchSpec) []proto.Message {
	list := make([]proto.Message, len(branches))
	for i, b := range branches {
		list[i] = &quoratev1.ReportRequest{Gid: gid, Branch: b.GetId(), Outcome: quoratev1.Outcome_OUTCOME_COMMITTED, Attempt: 1}
	}
	return list
}
