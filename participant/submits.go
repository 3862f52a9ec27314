package participant

import (
	"context"
	"sync"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/frames"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Submits submits transactions over one stream to the leader, which any number of
// goroutines share: a submit costs less there than a call, at both ends. It follows the
// leader; a cluster that knows no such stream is called instead. Close it.
type Submits struct {
	c *Client

	mu     sync.Mutex
	open   map[grpc.ClientConnInterface]*frames.Submits
	unary  map[grpc.ClientConnInterface]bool // nodes that know no stream of submits
	closed bool
}

// SubmitStream returns the client's submits over a stream.
func (c *Client) SubmitStream() *Submits {
	return &Submits{c: c, open: make(map[grpc.ClientConnInterface]*frames.Submits), unary: make(map[grpc.ClientConnInterface]bool)}
}

// Submit submits a whole transaction, and waits as the request says. Like the calls of
// [Client.Service] it is repeated, to whoever leads, until it is answered or the context
// ends, and fails with the errors of this package. The request must name a gid: with it a
// submit that is repeated is the same one ([Client.NewGID]).
func (s *Submits) Submit(ctx context.Context, req *quoratev1.SubmitRequest) (*quoratev1.SubmitResponse, error) {
	gid := gidOf(req)
	if gid == "" {
		return nil, &RefusedError{Reason: "INVALID", Detail: "a submit over a stream names its gid: make one with NewGID"}
	}
	tries, closed := 0, false
	got, err := call(ctx, s.c, gid, func(ctx context.Context, cc grpc.ClientConnInterface) (*quoratev1.SubmitResponse, error) {
		tries++
		stream, open := s.to(cc)
		if closed = !open; closed {
			return nil, status.Error(codes.InvalidArgument, ErrClosed.Error()) // which is not tried again
		}
		if stream == nil {
			return quoratev1.NewTransactionServiceClient(cc).Submit(ctx, req)
		}
		got, err := stream.Submit(ctx, req)
		switch status.Code(err) {
		case codes.Internal:
			err = unwritable(req, err)
		case codes.Unimplemented:
			s.call(cc)
			return quoratev1.NewTransactionServiceClient(cc).Submit(ctx, req)
		}
		return got, err
	})
	switch {
	case !closed:
		return got, err
	case tries > 1:
		return nil, &OutcomeUnknownError{GID: gid, Err: ErrClosed}
	default:
		return nil, &UnavailableError{Err: ErrClosed}
	}
}

// call has a node called from now on.
func (s *Submits) call(cc grpc.ClientConnInterface) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unary[cc] = true
}

// to is the stream to one node, nil for a node that is called; false: closed.
func (s *Submits) to(cc grpc.ClientConnInterface) (*frames.Submits, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.unary[cc] {
		return nil, !s.closed
	}
	stream := s.open[cc]
	if stream == nil {
		stream = frames.NewSubmits(cc)
		s.open[cc] = stream
	}
	return stream, true
}

// Close ends the streams once what was submitted is answered, or ctx ends.
func (s *Submits) Close(ctx context.Context) {
	s.mu.Lock()
	s.closed = true
	open := s.open
	s.open = nil
	s.mu.Unlock()
	for _, stream := range open {
		stream.Close(ctx)
	}
}
