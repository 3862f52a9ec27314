package api

import (
	"context"
	"errors"
	"io"
	"strconv"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/internal/frames"
	"github.com/quorate/quorate/internal/timebox"
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
	holder  instance // that attached

	out      *frames.Queue[*quoratev1.SessionResponse]
	batch    int           // frames that the participant takes in one message
	slots    chan struct{} // one for each request under way
	requests sync.WaitGroup
	asking   asking
	bounds   timebox.Contexts // of requests
}

// Session multiplexes all that a participant's process and the leader say.
func (p *participants) Session(stream quoratev1.ParticipantService_SessionServer) error {
	ctx, end := context.WithCancelCause(stream.Context())
	defer end(nil)
	s := &participantSession{
		Server: p.Server, stream: stream, ctx: ctx, end: end,
		out:   frames.NewQueue[*quoratev1.SessionResponse](sessionQueueMax),
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

// reader and endingReader know the session's own holder.
func (s *participantSession) reader() *reader {
	r := s.Server.reader()
	r.own = s.holder
	return r
}

func (s *participantSession) endingReader() *reader {
	r := s.Server.endingReader()
	r.own = s.holder
	return r
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
	s.batch, s.holder = frames.Take(attach.GetBatchMax()), instance{attach.GetHolder(), ask.Holder}
	s.push(&quoratev1.SessionResponse{Id: frame.GetId(), Frame: &quoratev1.SessionResponse_Attached{Attached: &quoratev1.Attached{
		Heartbeat: durationpb.New(s.session.Heartbeat()), Grace: durationpb.New(s.session.Grace()), BatchMax: frames.SessionFramesMax,
	}}})
	return nil
}

// relay hands on what the leader says unasked, until the session ends: all that is
// there at once, so that it can leave together.
func (s *participantSession) relay() {
	var said []*quoratev1.SessionResponse
	for {
		select {
		case m := <-s.session.Outgoing():
			said = appendMessage(said[:0], m)
			m.GiveBack() // the frames share nothing with it
			for len(s.session.Outgoing()) > 0 && len(said) < frames.SessionFramesMax {
				m = <-s.session.Outgoing()
				said = appendMessage(said, m)
				m.GiveBack()
			}
			s.push(said...)
			clear(said)
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
			With("term", strconv.FormatUint(s.cluster.Brief().Term, 10))
	}
	return err
}

// push queues frames without waiting. Their headers come when they are sent.
func (s *participantSession) push(list ...*quoratev1.SessionResponse) {
	if !s.out.Put(list...) {
		s.end(errTooSlow)
	}
}

// send writes what is queued, until the session ends and the queue is empty.
func (s *participantSession) send() {
	var sent []*quoratev1.SessionResponse
	batch := 1 // the first frame stands alone: it says that batches may come
	for last := false; !last; {
		select {
		case <-s.out.Ready():
		case <-s.ctx.Done():
			last = true
		}
		sent = s.out.Take(sent)
		for rest := sent; len(rest) > 0; batch = s.batch {
			var message []*quoratev1.SessionResponse
			message, rest = frames.Cut(rest, batch, frames.SessionBytesMax)
			if s.stream.Send(frames.PackResponses(message, s.header)) != nil {
				s.end(errStreamEnded)
				return
			}
		}
	}
}
