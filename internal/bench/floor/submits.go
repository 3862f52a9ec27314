package floor

import (
	"context"
	"errors"
	"io"
	"sync"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/frames"
)

// SubmitStream implements TransactionService: its messages are put together as the
// product's are.
func (s *Server) SubmitStream(stream quoratev1.TransactionService_SubmitStreamServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	out := frames.NewQueue[*quoratev1.StreamedAnswer](queueMax)
	var sender, submits sync.WaitGroup
	sender.Go(func() {
		var sent []*quoratev1.StreamedAnswer
		for last := false; !last; {
			<-out.Ready()
			last = out.Closed()
			sent = out.Take(sent)
			for rest := sent; len(rest) > 0; {
				var answers []*quoratev1.StreamedAnswer
				answers, rest = frames.Cut(rest, frames.SubmitsMax, frames.SubmitBytesMax)
				if stream.Send(&quoratev1.SubmitStreamResponse{Header: s.header(), Answers: answers}) != nil {
					cancel()
				}
			}
		}
	})
	defer sender.Wait()
	defer out.Close()
	defer submits.Wait()
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, one := range message.GetSubmits() {
			submits.Go(func() {
				got, err := s.Submit(ctx, one.GetSubmit())
				if err != nil {
					cancel()
					return
				}
				got.Header = nil
				out.Put(&quoratev1.StreamedAnswer{Id: one.GetId(), Result: &quoratev1.StreamedAnswer_Submitted{Submitted: got}})
			})
		}
	}
}
