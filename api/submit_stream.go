package api

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/frames"
	"github.com/quorate/quorate/internal/timebox"
)

const (
	// SubmitsPendingMax bounds the submits of one stream that were not answered, or
	// whose answers were not sent; beyond it the stream is not read, which gRPC's flow
	// control passes on to the client.
	SubmitsPendingMax = 1024
	submitStream      = quoratev1.TransactionService_SubmitStream_FullMethodName
)

// submits is one stream of submits. Three goroutines serve it: the handler's own waits
// for the end; one reads; one sends. The server's workers submit.
type submits struct {
	*transactions
	stream quoratev1.TransactionService_SubmitStreamServer
	// ctx ends the submits under way, cause says why: broken streams, and a node that stops.
	ctx context.Context
	end context.CancelCauseFunc

	out     *frames.Queue[*quoratev1.StreamedAnswer]
	slots   chan struct{} // one for each submit, until its answer is sent
	pending sync.WaitGroup
	begin   sync.Mutex // none begins once the context has ended
	bounds  timebox.Contexts
}

// SubmitStream takes many submits over one stream, and answers each when it is decided.
func (t *transactions) SubmitStream(stream quoratev1.TransactionService_SubmitStreamServer) error {
	s := &submits{
		transactions: t, stream: stream,
		out:   frames.NewQueue[*quoratev1.StreamedAnswer](SubmitsPendingMax),
		slots: make(chan struct{}, SubmitsPendingMax),
	}
	s.ctx, s.end = context.WithCancelCause(stream.Context())
	defer s.end(nil)
	read, sent := make(chan error, 1), make(chan struct{})
	go func() { read <- s.read() }()
	go func() {
		defer close(sent)
		s.send()
	}()
	var err error
	select {
	case err = <-read:
	case <-s.ctx.Done():
		err = context.Cause(s.ctx)
	}
	if errors.Is(err, io.EOF) {
		// The client has said all, and waits: whatever it said is answered.
		err = nil
	} else {
		s.end(err)
		s.begin.Lock()
		s.begin.Unlock() //nolint:staticcheck // who has begun is waited for, and nobody begins any more
	}
	// Those under way end with the context, if not before, and know what to answer.
	s.pending.Wait()
	s.out.Close()
	// No goroutine may use the stream after this returns. One that is stuck in Send because
	// nobody reads is freed by returning; who reads no answers is owed no patience.
	select {
	case <-sent:
	case <-time.After(farewellTimeout):
	}
	return err
}

// read takes submits until the client has sent the last, or the stream breaks.
func (s *submits) read() error {
	for {
		message, err := s.stream.Recv()
		if err != nil {
			return err
		}
		list := message.GetSubmits()
		if len(list) > frames.SubmitsMax {
			return invalidField("submits", "are %d: at most %d go into one message; none of them was looked at", len(list), frames.SubmitsMax)
		}
		for _, one := range list {
			select {
			case s.slots <- struct{}{}:
			case <-s.ctx.Done():
				return context.Cause(s.ctx)
			}
			if !s.start(one) {
				return context.Cause(s.ctx)
			}
		}
	}
}

// start submits beside the others, unless the stream has ended.
func (s *submits) start(one *quoratev1.StreamedSubmit) bool {
	s.begin.Lock()
	defer s.begin.Unlock()
	if s.ctx.Err() != nil {
		return false
	}
	s.pending.Add(1)
	s.workers.run(func() {
		defer s.pending.Done()
		s.submit(one.GetId(), one.GetSubmit())
	})
	return true
}

// submit makes one and queues its answer.
func (s *submits) submit(id uint64, req *quoratev1.SubmitRequest) {
	answer := &quoratev1.StreamedAnswer{Id: id}
	submitted, err := s.submitOne(req)
	if err == nil {
		s.cfg.Metrics.answered(submitStream, "")
		answer.Result = &quoratev1.StreamedAnswer_Submitted{Submitted: submitted}
	} else {
		typed := s.typed(s.ctx, submitStream, changes, err)
		serialized, _ := proto.Marshal(typed.GRPCStatus().Proto())
		answer.Result = &quoratev1.StreamedAnswer_StatusProto{StatusProto: serialized}
	}
	s.out.Put(answer) // there is room for as many as have slots
}

// submitOne is Submit within the stream, without the answer's header.
func (s *submits) submitOne(req *quoratev1.SubmitRequest) (answer *quoratev1.SubmitResponse, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			answer, err = nil, s.panicked(submitStream, cause)
		}
	}()
	if req == nil {
		return nil, invalidField("submit", "is missing")
	}
	return s.submitted(s.bounds.Get(s.ctx, s.cfg.CallTimeout), req)
}

// send writes the answers that wait, until the last one is sent.
func (s *submits) send() {
	var sent []*quoratev1.StreamedAnswer
	for last := false; !last; {
		<-s.out.Ready()
		last = s.out.Closed()
		sent = s.out.Take(sent)
		for rest := sent; len(rest) > 0; {
			var answers []*quoratev1.StreamedAnswer
			answers, rest = frames.Cut(rest, frames.SubmitsMax, frames.SubmitBytesMax)
			if err := s.stream.Send(&quoratev1.SubmitStreamResponse{Header: s.headerOfWrites(), Answers: answers}); err != nil {
				s.end(err)
				return
			}
			for range answers {
				<-s.slots
			}
		}
	}
}
