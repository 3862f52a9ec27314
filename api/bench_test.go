package api

import (
	"context"
	"fmt"
	"testing"

	"google.golang.org/grpc"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/frames"
)

// BenchmarkBegin is what a call costs here, without a log behind it.
func BenchmarkBegin(b *testing.B) {
	n := serve(b, Config{}, newFake(), newFakeCluster())
	ctx := within(b)
	req := &quoratev1.BeginRequest{Gid: testGID.String(), Key: "order-1", Labels: map[string]string{"color": "red"}}
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		client := n.transactions()
		for pb.Next() {
			if _, err := client.Begin(ctx, req); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkReadSubmit is the request's conversion alone.
func BenchmarkReadSubmit(b *testing.B) {
	server := &Server{cfg: Config{Endpoints: anyEndpoint{}}, cluster: newFakeCluster()}
	req := &quoratev1.SubmitRequest{Begin: &quoratev1.BeginRequest{Gid: testGID.String()}}
	for _, id := range []string{"1", "2"} {
		spec := &quoratev1.BranchSpec{Id: id, Resource: "orders-db", Holder: testHolder}
		req.Set = append(req.Set, spec)
		req.Votes = append(req.Votes, &quoratev1.Ballot{Branch: spec, Vote: quoratev1.Vote_VOTE_PREPARED})
	}
	b.ReportAllocs()
	for b.Loop() {
		var memory *slab
		_, err := read(server.reader, func(r *reader) *logpb.Submit {
			submit := readSubmit(b.Context(), r, req)
			memory = r.slab
			return submit
		})
		if err != nil {
			b.Fatal(err)
		}
		memory.free()
	}
}

// BenchmarkSubmit is a submit by a call of its own, without a log behind it.
func BenchmarkSubmit(b *testing.B) {
	n := serve(b, Config{}, newFake(), newFakeCluster())
	client := n.transactions()
	benchmarkSubmits(b, client.Submit)
}

// BenchmarkSubmitStream is the same over a stream that all callers share.
func BenchmarkSubmitStream(b *testing.B) {
	n := serve(b, Config{}, newFake(), newFakeCluster())
	shared := frames.NewSubmits(n.conn)
	defer shared.Close(b.Context())
	benchmarkSubmits(b, func(ctx context.Context, req *quoratev1.SubmitRequest, _ ...grpc.CallOption) (*quoratev1.SubmitResponse, error) {
		return shared.Submit(ctx, req)
	})
}

func benchmarkSubmits(b *testing.B, submit func(context.Context, *quoratev1.SubmitRequest, ...grpc.CallOption) (*quoratev1.SubmitResponse, error)) {
	req := streamed(1, 1).Submits[0].Submit
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := submit(b.Context(), req); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkDeliveries is what a delivery costs over a session, to its last frame.
func BenchmarkDeliveries(b *testing.B) {
	for _, takes := range []uint32{0, frames.SessionFramesMax} {
		b.Run(fmt.Sprintf("together=%d", frames.Take(takes)), func(b *testing.B) {
			c := newFake()
			c.next = newFakeSession()
			stream, err := serve(b, Config{}, c, newFakeCluster()).participants().Session(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			if err := stream.Send(attachFrame(func(a *quoratev1.Attach) { a.BatchMax = takes })); err != nil {
				b.Fatal(err)
			}
			if _, err := stream.Recv(); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.ResetTimer()
			const window = 256
			for heard := 0; heard < b.N; {
				c.next.deliver(window)
				for left := window; left > 0; {
					message, err := stream.Recv()
					if err != nil {
						b.Fatal(err)
					}
					left -= len(frames.Responses(message))
				}
				heard += window
			}
		})
	}
}
