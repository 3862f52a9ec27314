package frames

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// Bounds of one message of a SubmitStream, in both directions.
const (
	// SubmitsMax is the number of submits, or of answers, in one message.
	SubmitsMax = 256
	// SubmitBytesMax is the size up to which they are put together.
	SubmitBytesMax = 256 << 10
	// submitsWaitingMax bounds the submits of one Submits that wait for their answers:
	// as many as a node takes at once.
	submitsWaitingMax = 1024
)

// Submits shares one SubmitStream to one node among any number of callers. Its stream
// is opened by the first one, and opened anew after it broke.
type Submits struct {
	conn grpc.ClientConnInterface

	mu      sync.Mutex
	current *submitStream
	closed  bool
}

// NewSubmits returns one over a connection, which stays the caller's.
func NewSubmits(conn grpc.ClientConnInterface) *Submits { return &Submits{conn: conn} }

// ErrSubmitsClosed is what a Submits answers that was closed.
var ErrSubmitsClosed = errors.New("the stream of submits was closed")

// Submit submits and waits for the answer. Its errors are those of the unary call: what
// the node refused has its typed status. The end of the stream, or of ctx, before the
// answer leaves the outcome unknown.
func (s *Submits) Submit(ctx context.Context, req *quoratev1.SubmitRequest) (*quoratev1.SubmitResponse, error) {
	st, err := s.stream()
	if err != nil {
		return nil, err
	}
	return st.submit(ctx, req)
}

// Close ends the stream once what was submitted is answered, or ctx ends.
func (s *Submits) Close(ctx context.Context) {
	s.mu.Lock()
	s.closed = true
	st := s.current
	s.mu.Unlock()
	if st == nil {
		return
	}
	st.out.Close()
	select {
	case <-st.ended:
	case <-ctx.Done():
	}
	st.cancel(ErrSubmitsClosed)
	<-st.ended
}

// stream returns the one that is open, or opens one.
func (s *Submits) stream() (*submitStream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrSubmitsClosed
	}
	if st := s.current; st != nil && st.ctx.Err() == nil {
		return st, nil
	}
	st := &submitStream{
		ended: make(chan struct{}),
		out:   NewQueue[[]byte](submitsWaitingMax), slots: make(chan struct{}, submitsWaitingMax),
		waiting: map[uint64]chan<- *quoratev1.StreamedAnswer{},
	}
	st.ctx, st.cancel = context.WithCancelCause(context.Background())
	s.current = st
	go func() {
		defer close(st.ended)
		st.cancel(st.run(s.conn))
	}()
	return st, nil
}

// submitStream is one stream, from its opening to its end.
type submitStream struct {
	rpc    quoratev1.TransactionService_SubmitStreamClient // of run and its sender
	ctx    context.Context
	cancel context.CancelCauseFunc
	ended  chan struct{} // closed when nothing more is heard; ctx has the cause

	out   *Queue[[]byte] // encoded, each as a field of its message
	slots chan struct{}

	mu      sync.Mutex
	lastID  uint64
	waiting map[uint64]chan<- *quoratev1.StreamedAnswer
}

// run opens the stream, while its callers queue already, reads answers until it ends, and
// returns why.
func (st *submitStream) run(conn grpc.ClientConnInterface) (err error) {
	if st.rpc, err = quoratev1.NewTransactionServiceClient(conn).SubmitStream(st.ctx, grpc.ForceCodecV2(submitCodec{})); err != nil {
		return err
	}
	var sender sync.WaitGroup
	defer sender.Wait()
	sender.Go(st.send)
	for {
		got, err := st.rpc.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = ErrSubmitsClosed
			}
			st.cancel(err)
			return err
		}
		for _, answer := range got.GetAnswers() {
			if submitted := answer.GetSubmitted(); submitted != nil {
				submitted.Header = got.GetHeader()
			}
			st.hear(answer)
		}
	}
}

// hear gives an answer to who waits for it, and its place to another.
func (st *submitStream) hear(answer *quoratev1.StreamedAnswer) {
	st.mu.Lock()
	to := st.waiting[answer.GetId()]
	delete(st.waiting, answer.GetId())
	st.mu.Unlock()
	if to != nil {
		to <- answer // of capacity 1, and this is its only value
		<-st.slots
	}
}

// send sends what waits, as much in one message as fits.
func (st *submitStream) send() {
	var sent [][]byte
	for last := false; !last; {
		select {
		case <-st.out.Ready():
		case <-st.ctx.Done():
			return
		}
		last = st.out.Closed()
		sent = st.out.Take(sent)
		for rest := sent; len(rest) > 0; {
			var message [][]byte
			message, rest = cut(rest, SubmitsMax, SubmitBytesMax, func(one []byte) int { return len(one) })
			if st.rpc.SendMsg(encoded(message)) != nil {
				return // Recv tells why
			}
		}
	}
	_ = st.rpc.CloseSend()
}

// submit makes one submit and waits. A place that was taken is given back by the answer
// alone: the node is at work on what its caller no longer waits for.
func (st *submitStream) submit(ctx context.Context, req *quoratev1.SubmitRequest) (*quoratev1.SubmitResponse, error) {
	select {
	case st.slots <- struct{}{}:
	case <-st.ctx.Done():
		return nil, st.lost()
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	heard := make(chan *quoratev1.StreamedAnswer, 1)
	st.mu.Lock()
	st.lastID++
	id := st.lastID
	st.waiting[id] = heard
	st.mu.Unlock()
	one, err := encode(id, req)
	if err == nil && !st.out.Put(one) {
		err = ErrSubmitsClosed
	}
	if err != nil {
		st.mu.Lock()
		delete(st.waiting, id)
		st.mu.Unlock()
		<-st.slots
		return nil, err
	}
	select {
	case answer := <-heard:
		return answered(answer)
	case <-st.ended:
		select {
		case answer := <-heard: // it was the last word
			return answered(answer)
		default:
			return nil, st.lost()
		}
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

// lost is the error of a submit whose answer will not come on this stream. The stream's
// own error must not pass for the submit's: it may say that nothing was done, of a
// stream, while a submit that it carried was.
func (st *submitStream) lost() error {
	cause := context.Cause(st.ctx)
	if status.Code(cause) == codes.Unimplemented {
		return cause // of an older node, which took nothing
	}
	return status.Error(codes.Unavailable, fmt.Sprintf("the stream ended before the answer: %v", cause))
}

func answered(answer *quoratev1.StreamedAnswer) (*quoratev1.SubmitResponse, error) {
	if submitted := answer.GetSubmitted(); submitted != nil {
		return submitted, nil
	}
	var failed spb.Status
	if err := proto.Unmarshal(answer.GetStatusProto(), &failed); err != nil {
		return nil, status.Error(codes.Internal, fmt.Sprintf("an answer cannot be read: %v", err))
	}
	if failed.GetCode() == int32(codes.OK) {
		return nil, status.Error(codes.Internal, "an answer is neither a decision nor a refusal")
	}
	return nil, status.FromProto(&failed).Err()
}
