package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// Footprint is what one operation leaves in the log and on the wire when nothing else
// goes on: of product and floor alike, so that it shows whether the floor does the same
// work. It is counted one operation at a time, and is the least of a few: what a cluster
// does of its own accord now and then only adds to it.
type Footprint struct {
	// Before are the records in the log when the caller is answered, Records all of
	// them; LogBytes is what the leader's log grew by.
	Before   float64 `json:"records_before_answer"`
	Records  float64 `json:"records"`
	LogBytes float64 `json:"log_bytes"`
	// Messages and bytes of messages between the load with its participants and the
	// leader.
	SentMessages     float64 `json:"sent_messages"`
	SentBytes        float64 `json:"sent_bytes"`
	ReceivedMessages float64 `json:"received_messages"`
	ReceivedBytes    float64 `json:"received_bytes"`
	// BranchCalls that were answered, and the bytes of what they carried, metadata included.
	BranchCalls float64 `json:"branch_calls"`
	BranchBytes float64 `json:"branch_bytes"`
}

// footprints is how many operations are looked at.
const footprints = 5

// footprint looks at a few operations, one after another.
func (r *runner) footprint(ctx context.Context, s *system, sc scenario) (Footprint, error) {
	var seen wireCount
	t, err := newTarget(ctx, s.t.seeds, r.o.Creds, grpc.WithStatsHandler(&seen))
	if err != nil {
		return Footprint{}, err
	}
	defer t.close()
	alone := *s
	alone.t, alone.wire = t, &seen
	b, closeBed, err := r.bed(ctx, &alone, sc)
	if err != nil {
		return Footprint{}, err
	}
	defer closeBed()
	defer b.gate.open()
	var all []Footprint
	for range 1 + footprints {
		one, err := b.footprint(ctx, &alone, sc)
		if err != nil {
			return Footprint{}, err
		}
		all = append(all, one)
	}
	if b.product {
		if _, err := b.verify(ctx); err != nil {
			return Footprint{}, err
		}
	}
	return leastFootprint(all[1:]), nil // the first one opens connections
}

// errUnseen: the cluster's metrics cannot be reached from here.
var errUnseen = errors.New("the cluster cannot be measured from here")

// footprint looks at one operation. What the caller does not wait for is held up until
// it was seen what the answer took.
func (b *bed) footprint(ctx context.Context, s *system, sc scenario) (Footprint, error) {
	if sc.leaves {
		b.gate.shut()
	}
	at := func() (*meters, error) {
		m, err := s.read(ctx)
		if err == nil && m == nil {
			err = errUnseen
		}
		return m, err
	}
	before, err := at()
	if err != nil {
		return Footprint{}, err
	}
	s.wire.reset()
	if err := sc.operate(ctx, b, 0); err != nil {
		return Footprint{}, err
	}
	answered, err := at()
	if err != nil {
		return Footprint{}, err
	}
	b.gate.open()
	if sc.leaves {
		if err := b.drain(ctx); err != nil {
			return Footprint{}, err
		}
	}
	after, err := at()
	if err != nil {
		return Footprint{}, err
	}
	f := s.wire.footprint()
	f.Before = answered.minus(before).leader.records
	f.Records = after.minus(before).leader.records
	f.LogBytes = after.minus(before).leader.bytes
	return f, nil
}

// leastFootprint takes the least of each figure by itself, of the records the middle one:
// an entry is counted a moment after its effects are seen, so an operation may leave one
// to the count of the next.
func leastFootprint(of []Footprint) (m Footprint) {
	for _, figure := range []func(*Footprint) *float64{
		func(f *Footprint) *float64 { return &f.Before },
		func(f *Footprint) *float64 { return &f.LogBytes },
		func(f *Footprint) *float64 { return &f.SentMessages }, func(f *Footprint) *float64 { return &f.SentBytes },
		func(f *Footprint) *float64 { return &f.ReceivedMessages }, func(f *Footprint) *float64 { return &f.ReceivedBytes },
		func(f *Footprint) *float64 { return &f.BranchCalls }, func(f *Footprint) *float64 { return &f.BranchBytes },
	} {
		least := *figure(&of[0])
		for i := range of {
			least = min(least, *figure(&of[i]))
		}
		*figure(&m) = least
	}
	records := make([]float64, len(of))
	for i, f := range of {
		records[i] = f.Records
	}
	slices.Sort(records)
	m.Records = records[len(records)/2]
	return m
}

// String is the footprint in one line.
func (f Footprint) String() string {
	return fmt.Sprintf("%v records before the answer, %v in all, %v bytes in the log; sent %v messages, %v bytes; received %v messages, %v bytes; %v branch calls, %v bytes",
		f.Before, f.Records, f.LogBytes, f.SentMessages, f.SentBytes, f.ReceivedMessages, f.ReceivedBytes, f.BranchCalls, f.BranchBytes)
}

// wireCount counts messages. It is not there while rates are measured: it would cost.
type wireCount struct {
	sent, sentBytes, received, receivedBytes, calls, callBytes atomic.Int64
}

var _ stats.Handler = (*wireCount)(nil)

func (w *wireCount) reset() {
	for _, n := range []*atomic.Int64{&w.sent, &w.sentBytes, &w.received, &w.receivedBytes, &w.calls, &w.callBytes} {
		n.Store(0)
	}
}

func (w *wireCount) footprint() Footprint {
	return Footprint{
		SentMessages: float64(w.sent.Load()), SentBytes: float64(w.sentBytes.Load()),
		ReceivedMessages: float64(w.received.Load()), ReceivedBytes: float64(w.receivedBytes.Load()),
		BranchCalls: float64(w.calls.Load()), BranchBytes: float64(w.callBytes.Load()),
	}
}

// uncounted marks the calls by which the benchmark itself looks at the cluster.
type uncounted struct{}

// TagRPC implements stats.Handler.
func (w *wireCount) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	if strings.HasSuffix(info.FullMethodName, "/List") || strings.HasSuffix(info.FullMethodName, "/Status") {
		return context.WithValue(ctx, uncounted{}, true)
	}
	return ctx
}

// HandleRPC implements stats.Handler: as a client of the leader's, and as the branches' server.
func (w *wireCount) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if ctx.Value(uncounted{}) != nil {
		return
	}
	switch s := s.(type) {
	case *stats.OutPayload:
		if s.IsClient() && !idle(s.Payload) {
			w.sent.Add(1)
			w.sentBytes.Add(int64(s.WireLength))
		}
	case *stats.InPayload:
		switch {
		case !s.IsClient():
			w.calls.Add(1)
			w.callBytes.Add(int64(s.WireLength))
		case !idle(s.Payload):
			w.received.Add(1)
			w.receivedBytes.Add(int64(s.WireLength))
		}
	case *stats.InHeader:
		if !s.IsClient() {
			for name, values := range s.Header {
				for _, value := range values {
					w.callBytes.Add(int64(len(name) + len(value)))
				}
			}
		}
	}
}

// idle says that a message belongs to no operation: it tells that somebody lives.
func idle(message any) bool {
	switch m := message.(type) {
	case *quoratev1.SessionRequest:
		return m.GetHeartbeat() != nil
	case *quoratev1.SessionResponse:
		return m.GetHeartbeat() != nil
	}
	return false
}

// TagConn implements stats.Handler.
func (w *wireCount) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (w *wireCount) HandleConn(context.Context, stats.ConnStats) {}
