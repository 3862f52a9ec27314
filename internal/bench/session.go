package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/frames"
)

// participantWindow is how many deliveries may be outstanding on a session.
const participantWindow = 1024

// errSessionLost fails what was asked over a session that broke; it is asked again over the next.
var errSessionLost = errors.New("the session was lost")

// attachee is a process that takes part, and does no work: it says at once that it
// has done what it is told. It keeps attached until it is closed.
type attachee struct {
	t        *target
	resource string
	holder   string
	gate     *gate // before what it says of its own accord

	ctx    context.Context
	cancel context.CancelFunc
	wait   sync.WaitGroup

	mu      sync.Mutex
	stream  *participantStream
	changed chan struct{} // closed when stream is set or taken away
}

// participantStream is one stream's life.
type participantStream struct {
	out     *frames.Queue[*quoratev1.SessionRequest]
	batch   int // frames that the leader takes in one message
	ended   chan struct{}
	mu      sync.Mutex
	waiting map[uint64]chan *quoratev1.SessionResponse
	last    uint64
}

// attach returns a participant that is attached.
func attach(ctx context.Context, t *target, resource string, g *gate) (*attachee, error) {
	p := &attachee{t: t, resource: resource, gate: g, holder: ulid.Make().String(), changed: make(chan struct{})}
	p.ctx, p.cancel = context.WithCancel(context.WithoutCancel(ctx))
	p.wait.Go(p.keepAttached)
	ctx, cancel := context.WithTimeout(ctx, leaderMax)
	defer cancel()
	if _, err := p.attached(ctx); err != nil {
		p.close()
		return nil, fmt.Errorf("attach %s: %w", resource, err)
	}
	return p, nil
}

func (p *attachee) close() {
	p.cancel()
	p.wait.Wait()
}

// keepAttached attaches to whoever leads, again and again.
func (p *attachee) keepAttached() {
	for p.ctx.Err() == nil {
		_ = p.serve() // whatever it was, the next try tells
		select {
		case <-p.ctx.Done():
			return
		case <-time.After(retryPause):
			_ = p.t.findLeader(p.ctx)
		}
	}
}

// serve attaches once and serves until the stream ends.
func (p *attachee) serve() error {
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	conn := p.t.leader.Load().conns[0]
	stream, err := quoratev1.NewParticipantServiceClient(conn).Session(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&quoratev1.SessionRequest{Id: 1, Frame: &quoratev1.SessionRequest_Attach{Attach: &quoratev1.Attach{
		Holder: p.holder, Resources: []string{p.resource}, Name: "quorate bench", Window: participantWindow, BatchMax: frames.SessionFramesMax,
	}}}); err != nil {
		return err
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	heartbeat := first.GetAttached().GetHeartbeat().AsDuration()
	if heartbeat <= 0 {
		return fmt.Errorf("the first answer is no Attached: %v", first)
	}
	p.t.hear(first.GetAttached().GetHeader())
	s := &participantStream{
		out: frames.NewQueue[*quoratev1.SessionRequest](16 * participantWindow), ended: make(chan struct{}),
		batch: frames.Take(first.GetAttached().GetBatchMax()), waiting: map[uint64]chan *quoratev1.SessionResponse{}, last: 1,
	}
	p.set(s)
	defer p.set(nil)
	defer close(s.ended)
	p.wait.Go(func() {
		defer cancel()
		s.sendAll(ctx, stream, heartbeat)
	})
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		for _, frame := range frames.Responses(m) {
			p.take(s, frame)
		}
	}
}

// sendAll sends what is queued, together, and heartbeats, until the stream ends.
func (s *participantStream) sendAll(ctx context.Context, stream quoratev1.ParticipantService_SessionClient, heartbeat time.Duration) {
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	var sent []*quoratev1.SessionRequest
	for {
		select {
		case <-s.out.Ready():
		case <-beat.C:
			s.out.Put(&quoratev1.SessionRequest{Frame: &quoratev1.SessionRequest_Heartbeat{Heartbeat: &quoratev1.Heartbeat{}}})
		case <-ctx.Done():
			return
		}
		sent = s.out.Take(sent)
		for rest := sent; len(rest) > 0; {
			var message []*quoratev1.SessionRequest
			message, rest = frames.Cut(rest, s.batch, frames.SessionBytesMax)
			if stream.Send(frames.PackRequests(message)) != nil {
				return
			}
		}
	}
}

// take handles what the leader says. It never blocks for long: the leader closes a
// session that is not read.
func (p *attachee) take(s *participantStream, m *quoratev1.SessionResponse) {
	if d := m.GetDeliver(); d != nil {
		opened := p.gate.wait()
		if opened == nil {
			p.report(s, d)
			return
		}
		p.wait.Go(func() {
			select {
			case <-opened:
				p.report(s, d)
			case <-s.ended:
			}
		})
		return
	}
	if m.GetId() == 0 {
		return
	}
	s.mu.Lock()
	answer, asked := s.waiting[m.GetId()]
	delete(s.waiting, m.GetId())
	s.mu.Unlock()
	if asked {
		answer <- m
	}
}

// report says that what was told is done, as the SDK does, without asking for an answer:
// what is lost is delivered again.
func (p *attachee) report(s *participantStream, d *quoratev1.Deliver) {
	outcome := quoratev1.Outcome_OUTCOME_COMMITTED
	if d.GetVerdict() == quoratev1.Verdict_VERDICT_ROLLBACK {
		outcome = quoratev1.Outcome_OUTCOME_ROLLED_BACK
	}
	s.out.Put(&quoratev1.SessionRequest{Frame: &quoratev1.SessionRequest_Report{Report: &quoratev1.ReportRequest{
		Gid: d.GetGid(), Branch: d.GetBranch(), Outcome: outcome, Attempt: d.GetAttempt(), Holder: p.holder,
	}}})
}

// set makes a stream the one that is asked over, or takes it away.
func (p *attachee) set(s *participantStream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stream = s
	close(p.changed)
	p.changed = make(chan struct{})
}

// attached waits for a stream.
func (p *attachee) attached(ctx context.Context) (*participantStream, error) {
	for {
		p.mu.Lock()
		s, changed := p.stream, p.changed
		p.mu.Unlock()
		if s != nil {
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// send queues a frame; its answer goes to the channel. False: it cannot be sent.
func (s *participantStream) send(frame any, answer chan *quoratev1.SessionResponse) bool {
	m := &quoratev1.SessionRequest{}
	switch f := frame.(type) {
	case *quoratev1.SessionRequest_Enlist:
		m.Frame = f
	case *quoratev1.SessionRequest_Vote:
		m.Frame = f
	}
	s.mu.Lock()
	s.last++
	m.Id = s.last
	s.waiting[m.Id] = answer
	s.mu.Unlock()
	return s.out.Put(m)
}

// ask makes a request over the session until it is answered.
func (p *attachee) ask(ctx context.Context, frame any) error {
	begun := time.Now()
	for {
		err := p.askOnce(ctx, frame)
		if err == nil || ctx.Err() != nil || time.Since(begun) > answerMax || !errors.Is(err, errSessionLost) && !again(err) {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryPause):
		}
	}
}

func (p *attachee) askOnce(ctx context.Context, frame any) error {
	s, err := p.attached(ctx)
	if err != nil {
		return err
	}
	answered := make(chan *quoratev1.SessionResponse, 1)
	if !s.send(frame, answered) {
		return errSessionLost
	}
	select {
	case m := <-answered:
		if failed := m.GetError(); failed != nil {
			var st spb.Status
			if err := proto.Unmarshal(failed.GetStatusProto(), &st); err != nil {
				return err
			}
			return status.ErrorProto(&st)
		}
		return nil
	case <-s.ended:
		return errSessionLost
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
