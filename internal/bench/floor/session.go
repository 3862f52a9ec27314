package floor

import (
	"context"

	"google.golang.org/protobuf/types/known/durationpb"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/frames"
)

// queueMax bounds what waits to be sent over one session.
const queueMax = 1 << 16

// session is one participant's stream. Its frames go together as the product's do.
type session struct {
	out *frames.Queue[*quoratev1.SessionResponse]
	end context.CancelFunc
}

func (s *session) push(m *quoratev1.SessionResponse) {
	if !s.out.Put(m) {
		s.end()
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
	to := &session{out: frames.NewQueue[*quoratev1.SessionResponse](queueMax), end: cancel}
	s.mu.Lock()
	for _, resource := range first.GetAttach().GetResources() {
		s.sessions[resource] = to
	}
	s.mu.Unlock()
	to.push(&quoratev1.SessionResponse{Id: first.GetId(), Frame: &quoratev1.SessionResponse_Attached{Attached: &quoratev1.Attached{
		Heartbeat: durationpb.New(heartbeat), Grace: durationpb.New(2 * heartbeat), BatchMax: frames.SessionFramesMax,
	}}})
	go func() {
		defer cancel()
		for {
			m, err := stream.Recv()
			if err != nil {
				return
			}
			for _, frame := range frames.Requests(m) {
				s.take(ctx, to, frame)
			}
		}
	}()
	var sent []*quoratev1.SessionResponse
	for batch := 1; ; {
		select {
		case <-to.out.Ready():
		case <-ctx.Done():
			return nil
		}
		sent = to.out.Take(sent)
		for rest := sent; len(rest) > 0; batch = frames.Take(first.GetAttach().GetBatchMax()) {
			var message []*quoratev1.SessionResponse
			message, rest = frames.Cut(rest, batch, frames.SessionBytesMax)
			if err := stream.Send(frames.PackResponses(message, s.header)); err != nil {
				return err
			}
		}
	}
}

// take answers one frame once its bytes are in the log. It does not wait for them.
func (s *Server) take(ctx context.Context, to *session, frame *quoratev1.SessionRequest) {
	id := frame.GetId()
	switch f := frame.GetFrame().(type) {
	case *quoratev1.SessionRequest_Enlist:
		go func() {
			if got, err := s.Enlist(ctx, f.Enlist); err == nil {
				got.Header = nil // the message has one
				to.push(&quoratev1.SessionResponse{Id: id, Frame: &quoratev1.SessionResponse_Enlist{Enlist: got}})
			}
		}()
	case *quoratev1.SessionRequest_Vote:
		go func() {
			if got, err := s.Vote(ctx, f.Vote); err == nil {
				got.Header = nil
				to.push(&quoratev1.SessionResponse{Id: id, Frame: &quoratev1.SessionResponse_Vote{Vote: got}})
			}
		}()
	case *quoratev1.SessionRequest_Report:
		s.reported(f.Report, func() {
			if id != 0 {
				to.push(&quoratev1.SessionResponse{Id: id, Frame: &quoratev1.SessionResponse_Report{Report: &quoratev1.ReportResponse{}}})
			}
		})
	case *quoratev1.SessionRequest_Heartbeat:
		to.push(&quoratev1.SessionResponse{Id: id, Frame: &quoratev1.SessionResponse_Heartbeat{Heartbeat: &quoratev1.Heartbeat{}}})
	}
}

// messages makes a list of messages of reports.
func messages(reports []*quoratev1.ReportRequest) []quoratev1.WireMessage {
	list := make([]quoratev1.WireMessage, len(reports))
	for i, r := range reports {
		list[i] = r
	}
	return list
}

// reportsOf is what called branches said, as they would report it themselves.
func reportsOf(gid string, branches []*quoratev1.BranchSpec) []quoratev1.WireMessage {
	list := make([]quoratev1.WireMessage, len(branches))
	for i, b := range branches {
		list[i] = &quoratev1.ReportRequest{Gid: gid, Branch: b.GetId(), Outcome: quoratev1.Outcome_OUTCOME_COMMITTED, Attempt: 1}
	}
	return list
}
