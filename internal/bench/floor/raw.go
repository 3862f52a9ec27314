package floor

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// RawMethod has a floor node propose by itself, without any call from outside: what
// is left when gRPC is taken away, too.
const (
	rawService = "quorate.bench.v1.Floor"
	RawMethod  = "/" + rawService + "/Raw"
)

// Raw is what is asked: so many callers propose so many bytes each, again and again.
type Raw struct {
	Callers  int           `json:"callers"`
	Bytes    int           `json:"bytes"`
	Duration time.Duration `json:"duration"`
}

// RawDone is what came of it. Latencies are those of all callers, thinned out evenly
// to at most latenciesMax, in no order.
type RawDone struct {
	Proposed  uint64          `json:"proposed"`
	Took      time.Duration   `json:"took"`
	Latencies []time.Duration `json:"latencies"`
}

// latenciesMax keeps the answer below what a message may hold.
const latenciesMax = 20000

// rawBytesMax and rawDurationMax bound a request.
const (
	rawBytesMax    = 64 << 10
	rawDurationMax = 10 * time.Minute
)

// raw makes the service of RawMethod.
func (s *Server) raw() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: rawService, HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Raw", Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			in := new(wrapperspb.BytesValue)
			if err := decode(in); err != nil {
				return nil, err
			}
			var ask Raw
			if err := json.Unmarshal(in.GetValue(), &ask); err != nil || ask.Callers < 1 || ask.Bytes < 0 || ask.Bytes > rawBytesMax || ask.Duration > rawDurationMax {
				return nil, status.Errorf(codes.InvalidArgument, "%s", in.GetValue())
			}
			done, err := s.proposeRaw(ctx, ask)
			if err != nil {
				return nil, err
			}
			text, err := json.Marshal(done)
			return wrapperspb.Bytes(text), err
		}}},
	}
}

// proposeRaw proposes fresh bytes in a closed loop.
func (s *Server) proposeRaw(ctx context.Context, ask Raw) (RawDone, error) {
	start := time.Now()
	end := start.Add(ask.Duration)
	var proposed atomic.Uint64
	failed := make(chan error, ask.Callers)
	latencies := make([][]time.Duration, ask.Callers)
	var wait sync.WaitGroup
	for caller := range ask.Callers {
		wait.Go(func() {
			for time.Now().Before(end) {
				command := Command(ask.Bytes)
				command = command[:1+ask.Bytes]
				_, _ = rand.Read(command[1:])
				begun := time.Now()
				if err := s.propose(ctx, command); err != nil {
					failed <- err
					return
				}
				latencies[caller] = append(latencies[caller], time.Since(begun))
				proposed.Add(1)
			}
		})
	}
	wait.Wait()
	done := RawDone{Proposed: proposed.Load(), Took: time.Since(start)}
	select {
	case err := <-failed:
		return done, err
	default:
	}
	step, seen := int(done.Proposed)/latenciesMax+1, 0
	for _, of := range latencies {
		for _, d := range of {
			if seen++; seen%step == 0 {
				done.Latencies = append(done.Latencies, d)
			}
		}
	}
	return done, nil
}
