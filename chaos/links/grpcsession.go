package links

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/frames"
)

// session relays one participant's stream. Its frames are known: requests with an
// id and their answers, and what the leader says unasked.
type session struct {
	*relay
	client grpc.ServerStream
	holder string

	toNode   sync.Mutex // serialises the senders of each direction
	node     grpc.ClientStream
	toClient sync.Mutex

	mu   sync.Mutex
	open map[uint64]*quoratev1.SessionRequest // sent, to be copied once they are answered
}

// session relays a stream until either side ends it.
func (r *relay) session(ctx context.Context, client grpc.ServerStream) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	node, err := r.node.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, quoratev1.ParticipantService_Session_FullMethodName)
	if err != nil {
		return err
	}
	s := &session{relay: r, client: client, node: node, open: map[uint64]*quoratev1.SessionRequest{}}
	go func() {
		_ = s.requests(ctx, client) // it ends with an error, whatever it is
		s.toNode.Lock()
		defer s.toNode.Unlock()
		_ = node.CloseSend()
	}()
	err = s.answers()
	s.retire()
	client.SetTrailer(node.Trailer())
	return ended(err)
}

// requests passes on what the participant says.
func (s *session) requests(ctx context.Context, client grpc.ServerStream) error {
	for {
		var message []byte
		if err := client.RecvMsg(&message); err != nil {
			return err
		}
		said := new(quoratev1.SessionRequest)
		if err := proto.Unmarshal(message, said); err != nil {
			return err
		}
		var now []*quoratev1.SessionRequest
		for _, frame := range frames.Requests(said) {
			switch f := frame.GetFrame().(type) {
			case *quoratev1.SessionRequest_Attach:
				s.attach(f.Attach.GetHolder())
			case *quoratev1.SessionRequest_Enlist, *quoratev1.SessionRequest_Vote, *quoratev1.SessionRequest_Report:
				if s.meddle(ctx, frame) {
					continue
				}
			}
			now = append(now, frame)
		}
		if len(now) == 0 {
			continue
		}
		if err := s.say(frames.PackRequests(now)); err != nil {
			return err
		}
	}
}

// meddle draws what is done with a request; true when it is sent later.
func (s *session) meddle(ctx context.Context, frame *quoratev1.SessionRequest) bool {
	what, after := s.draw(trickDouble, trickLate, trickDelay)
	switch what {
	case trickDelay:
		s.delayed.Add(1)
		s.later(after, func() {
			if ctx.Err() == nil {
				_ = s.say(frame)
			}
		})
		return true
	case trickDouble, trickLate:
		if frame.GetId() != 0 {
			s.mu.Lock()
			s.open[frame.GetId()] = frame
			s.mu.Unlock()
		}
	}
	return false
}

// copy sends a request that was answered OK once more: at once with its own id,
// or late, half of the time in whatever session its process has by then.
func (s *session) copy(frame *quoratev1.SessionRequest) {
	m := s.mischief.Load()
	if s.coin() || m.LateMax == 0 {
		s.doubled.Add(1)
		_ = s.say(frame)
		return
	}
	s.later(s.drawLate(), func() {
		// No answer is wanted: an id may stand for another request by then.
		late := proto.Clone(frame).(*quoratev1.SessionRequest)
		late.Id = 0
		to := s.newest()
		if to == nil || to.say(late) != nil {
			return
		}
		s.late.Add(1)
		if to != s {
			s.elsewhere.Add(1)
		}
	})
}

func (s *session) drawLate() time.Duration {
	m := s.mischief.Load()
	s.Relays.mu.Lock()
	defer s.Relays.mu.Unlock()
	return time.Duration(s.rand.Int64N(int64(max(1, m.LateMax))))
}

// answers passes on what the leader says.
func (s *session) answers() error {
	for {
		var message []byte
		if err := s.node.RecvMsg(&message); err != nil {
			return err
		}
		said := new(quoratev1.SessionResponse)
		if err := proto.Unmarshal(message, said); err != nil {
			return err
		}
		if err := s.tell(message); err != nil {
			return err
		}
		for _, frame := range frames.Responses(said) {
			if err := s.told(frame); err != nil {
				return err
			}
		}
	}
}

// told does what is done after a frame of the leader's was passed on.
func (s *session) told(frame *quoratev1.SessionResponse) error {
	s.mu.Lock()
	asked := s.open[frame.GetId()]
	delete(s.open, frame.GetId())
	s.mu.Unlock()
	switch frame.GetFrame().(type) {
	case *quoratev1.SessionResponse_Deliver, *quoratev1.SessionResponse_VouchFor:
		message, err := proto.Marshal(frame)
		if err != nil {
			return err
		}
		s.repeat(message)
	case *quoratev1.SessionResponse_Error: // it did nothing, and must do nothing later
	default:
		if asked != nil {
			s.copy(asked)
		}
	}
	return nil
}

// repeat tells the participant once more, at once or late, what the leader said
// unasked: by then another may lead.
func (s *session) repeat(message []byte) {
	what, after := s.draw(trickDouble, trickLate)
	switch what {
	case trickDouble:
		s.doubled.Add(1)
		_ = s.tell(message)
	case trickLate:
		s.later(after, func() {
			to := s.newest()
			if to == nil || to.tell(message) != nil {
				return
			}
			s.late.Add(1)
			if to != s {
				s.elsewhere.Add(1)
			}
		})
	}
}

// errRetired: the stream has ended.
var errRetired = errors.New("the session has ended")

func (s *session) say(frame *quoratev1.SessionRequest) error {
	message, err := proto.Marshal(frame)
	if err != nil {
		return err
	}
	s.toNode.Lock()
	defer s.toNode.Unlock()
	return s.node.SendMsg(&message)
}

func (s *session) tell(message []byte) error {
	s.toClient.Lock()
	defer s.toClient.Unlock()
	if s.client == nil {
		return errRetired // a stream must not be used after its handler has returned
	}
	return s.client.SendMsg(&message)
}

// attach makes it the newest session of its process.
func (s *session) attach(holder string) {
	s.Relays.mu.Lock()
	defer s.Relays.mu.Unlock()
	s.holder = holder
	s.sessions[holder] = s
}

func (s *session) newest() *session {
	s.Relays.mu.Lock()
	defer s.Relays.mu.Unlock()
	return s.sessions[s.holder]
}

// retire ends the use of the participant's stream.
func (s *session) retire() {
	s.toClient.Lock()
	s.client = nil
	s.toClient.Unlock()
	s.Relays.mu.Lock()
	defer s.Relays.mu.Unlock()
	if s.sessions[s.holder] == s {
		delete(s.sessions, s.holder)
	}
}
