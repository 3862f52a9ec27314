package participant

import (
	"context"
	"errors"
	"sync"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// session keeps one stream to the leader, for all resources of the process. When
// the stream or the leader goes, it attaches to the next one; requests wait and
// are sent again.
type session struct {
	c *Client

	mu      sync.Mutex
	running bool
	stream  *stream       // nil while not attached
	changed chan struct{} // closed, and replaced, when stream changes
	refused error         // why the last attach failed, while there is no stream

	wanted chan struct{} // of capacity 1: a resource was attached

	reports *reports
}

func newSession(c *Client) *session {
	s := &session{c: c, changed: make(chan struct{}), wanted: make(chan struct{}, 1)}
	s.reports = newReports(s.tell)
	return s
}

// attach starts the session, or attaches anew, and waits until resource is served.
func (s *session) attach(ctx context.Context, resource string) error {
	s.mu.Lock()
	if !s.running {
		s.running = true
		s.c.goDo(s.run)
	}
	s.mu.Unlock()
	select {
	case s.wanted <- struct{}{}:
	default:
	}
	for {
		st, changed, refused := s.look()
		if st != nil && st.resources[resource] {
			return nil
		}
		if st != nil {
			st.stop(errReattach) // it attached before the resource was there
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if refused == nil {
				refused = context.Cause(ctx)
			}
			return &UnavailableError{Err: refused}
		}
	}
}

// reattach tells the leader which resources are served now.
func (s *session) reattach() {
	if st := s.current(); st != nil {
		st.stop(errReattach)
	}
}

var (
	errReattach = errors.New("the set of resources has changed")
	errGoodbye  = errors.New("the client is being closed")
	errSilent   = errors.New("the leader has fallen silent")
)

// run attaches, again and again, until the client is closed.
func (s *session) run() {
	var pause backoff
	hops := 0
	for s.c.ctx.Err() == nil {
		if len(s.c.attachments()) == 0 { // the last one was detached
			s.set(nil, ErrNotAttached)
			select {
			case <-s.wanted:
			case <-s.c.ctx.Done():
			}
			continue
		}
		st, err := s.open(s.c.ctx)
		if err != nil {
			s.set(nil, err)
			f := failureOf(err)
			if st != nil && s.c.nodes.failed(st.address, f.metadata["leader_grpc"]) && hops < hopsMax {
				hops++
				continue
			}
			hops = 0
			_ = sleep(s.c.ctx, pause.next())
			continue
		}
		pause, hops = backoff{}, 0
		s.set(st, nil)
		for _, a := range s.c.attachments() {
			a.kick()
		}
		err = st.serve()
		s.set(nil, err)
		if s.c.ctx.Err() == nil && !errors.Is(err, errReattach) {
			f := failureOf(err)
			s.c.nodes.failed(st.address, f.metadata["leader_grpc"])
			s.c.cfg.logger.Info("the session ended", "node", st.address, "err", err)
		}
	}
}

func (s *session) set(st *stream, refused error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stream, s.refused = st, refused
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *session) look() (st *stream, changed <-chan struct{}, refused error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stream, s.changed, s.refused
}

func (s *session) current() *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stream
}

// request sends a frame and waits for its answer, on one stream after the other
// until the context ends: every request is idempotent by content. The errors are
// those of call.
func (s *session) request(ctx context.Context, gid GID, req *quoratev1.SessionRequest) (*quoratev1.SessionResponse, error) {
	ctx, cancel := s.c.bound(ctx)
	defer cancel()
	var pause backoff
	var last error
	unknown := false
	tries := 0
	for ctx.Err() == nil {
		st, changed, refused := s.look()
		if st == nil {
			if refused != nil {
				last = refused
			}
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		tries++
		got, err := st.roundTrip(ctx, req)
		if err == nil {
			err = statusOf(got)
		}
		if err == nil {
			return got, nil
		}
		f := failureOf(err)
		if f.final(tries) {
			return nil, f.told(gid, unknown)
		}
		last = err
		unknown = unknown || !f.certain()
		if f.reason == reasonNotLeader {
			st.stop(err)
		}
		_ = sleep(ctx, f.pause(&pause))
	}
	if last == nil {
		last = context.Cause(ctx)
	}
	if unknown {
		return nil, &OutcomeUnknownError{GID: gid, Err: last}
	}
	return nil, &UnavailableError{Err: last}
}

// tell sends frames without waiting for an answer, if there is a stream: it is
// for reports, which the cluster asks for again.
func (s *session) tell(req ...*quoratev1.SessionRequest) {
	if st := s.current(); st != nil {
		_ = st.send(req...)
	}
}

// goodbye gives up what is held, in order, so that nobody waits for the grace.
func (s *session) goodbye() {
	s.reports.flush()
	st := s.current()
	if st == nil {
		return
	}
	_ = st.send(&quoratev1.SessionRequest{Frame: &quoratev1.SessionRequest_Detach{Detach: &quoratev1.Detach{}}})
	st.closeSend()
	select {
	case <-st.done:
	case <-time.After(goodbyeTimeout):
	}
	st.stop(errGoodbye)
}

// goodbyeTimeout bounds the wait for the leader to take leave.
const goodbyeTimeout = 500 * time.Millisecond

// statusOf is the error that an answer carries, or nil.
func statusOf(r *quoratev1.SessionResponse) error {
	e := r.GetError()
	if e == nil {
		return nil
	}
	var sp spb.Status
	if err := proto.Unmarshal(e.GetStatusProto(), &sp); err != nil {
		return err
	}
	return status.FromProto(&sp).Err()
}
