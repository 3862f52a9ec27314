package api

import (
	"testing"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/fsm/logpb"
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
		if _, err := read(server.reader, func(r *reader) *logpb.Submit { return readSubmit(b.Context(), r, req) }); err != nil {
			b.Fatal(err)
		}
	}
}
