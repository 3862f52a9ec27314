package api

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/coordinator"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/frames"
)

// TestAllocationsOfFrames: what a session's frames and the requests of the fast path
// allocate here, between gRPC and the driver. The numbers are exact.
func TestAllocationsOfFrames(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates itself: a plain `go test ./api` counts")
	}
	server := &Server{cfg: Config{Endpoints: anyEndpoint{}}, cluster: newFakeCluster()}
	submit := &quoratev1.SubmitRequest{Begin: &quoratev1.BeginRequest{Gid: testGID.String()}}
	for _, id := range []string{"1", "2"} {
		spec := &quoratev1.BranchSpec{Id: id, Resource: "orders-db", Holder: testHolder}
		submit.Set = append(submit.Set, spec)
		submit.Votes = append(submit.Votes, &quoratev1.Ballot{Branch: spec, Vote: quoratev1.Vote_VOTE_PREPARED})
	}
	vote := &quoratev1.VoteRequest{Gid: testGID.String(), Ballot: submit.GetVotes()[0]}
	enlist := &quoratev1.EnlistRequest{Gid: testGID.String(), Branch: submit.GetSet()[0]}
	report := &quoratev1.ReportRequest{Gid: testGID.String(), Branch: "1", Outcome: quoratev1.Outcome_OUTCOME_COMMITTED, Attempt: 1, Holder: testHolder}
	delivery := coordinator.Message{Deliver: &coordinator.Delivery{GID: testGID, Branch: "1", Resource: "orders-db", Verdict: fsm.VerdictCommit, Attempt: 1}}
	frame, err := proto.Marshal(&quoratev1.SessionRequest{Id: 7, Frame: &quoratev1.SessionRequest_Report{Report: report}})
	if err != nil {
		t.Fatal(err)
	}
	session := &participantSession{
		Server: server, ctx: t.Context(), session: reportedAtOnce{}, slots: make(chan struct{}, 1),
		out: frames.NewQueue[*quoratev1.SessionResponse](8),
	}
	var sent []*quoratev1.SessionResponse
	for _, c := range []struct {
		name string
		want float64
		f    func() error
	}{
		{"a submit with two votes, converted", 1, func() error {
			var memory *slab
			_, err := read(server.reader, func(r *reader) *logpb.Submit {
				read := readSubmit(t.Context(), r, submit)
				memory = r.slab
				return read
			})
			memory.free()
			return err
		}},
		{"a vote, converted", 4, func() error {
			_, _, err := readVote(server.endingReader, vote)
			return err
		}},
		{"an enlist, converted", 3, func() error {
			_, _, err := readEnlist(server.reader, enlist)
			return err
		}},
		{"a report, converted", 1, func() error {
			_, err := readReport(server.endingReader(), report)
			return err
		}},
		{"a frame with a report, unmarshalled", 5, func() error { return proto.Unmarshal(frame, new(quoratev1.SessionRequest)) }},
		{"a report that nobody waits for, taken and answered", 2, func() error {
			session.report(0, report)
			return nil
		}},
		{"a report, taken and answered", 3, func() error {
			session.report(7, report)
			if sent = session.out.Take(sent); len(sent) != 1 || sent[0].GetId() != 7 || sent[0].GetReport() == nil {
				return fmt.Errorf("answered %v", sent)
			}
			return nil
		}},
		{"a delivery, converted", 2, func() error {
			deliveryFrame(delivery.Deliver, nil)
			return nil
		}},
	} {
		if got := testing.AllocsPerRun(512, func() {
			if err := c.f(); err != nil {
				t.Fatal(err)
			}
		}); got != c.want {
			t.Errorf("%s: %v allocations, and it was %v. If it is more, spare what was added, or change the number here and say why; if less, write it here, so that it stays", c.name, got, c.want)
		}
	}
}

// reportedAtOnce is a session whose reports are in the log as soon as they come.
type reportedAtOnce struct{ Session }

func (reportedAtOnce) ReportAsync(_ coordinator.ReportRequest, done func(coordinator.Status, error)) {
	done(coordinator.Status{}, nil)
}
