package api

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/quorate/quorate/api/branchcall"
	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// world is a state machine of its own, to which what was read is applied.
type world struct {
	state *fsm.State
	index uint64
}

func newWorld(t testing.TB) *world {
	w := &world{state: fsm.New()}
	w.apply(t, &logpb.Command{Kind: &logpb.Command_Found{Found: &logpb.Found{ClusterId: testCluster.Bytes()}}})
	w.apply(t, &logpb.Command{Kind: &logpb.Command_PutTopic{PutTopic: &logpb.PutTopic{
		Namespace: Namespace, Name: "orders", Change: logpb.PutTopic_CHANGE_SUBSCRIBE, Subscriber: &logpb.Subscriber{Endpoint: "http://good/x"},
	}}})
	return w
}

func (w *world) apply(t testing.TB, command *logpb.Command) fsm.Result {
	t.Helper()
	w.index++
	results, err := w.state.Apply(fsm.Meta{Index: w.index, Term: 1}, &logpb.Batch{ClockMs: 10_000, FeatureLevel: fsm.FeatureLevel, Commands: []*logpb.Command{command}})
	if err != nil {
		t.Fatal(err)
	}
	return results[0]
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// anyRequest draws a Submit from few values, so that most of what can be wrong
// with one comes up, and much is right.
func anyRequest(r *rand.Rand) *quoratev1.SubmitRequest {
	endpoint := func() string {
		return pick(r, "http://good/a", "http://good/a", "http://good/a", "https://good/b?x=1", "grpc://good:1/a.B/C", "grpc://good:1/a.B/C", "grpc://good:1", "topic://orders", "topic://", "http://evil/", "")
	}
	some := func(texts ...string) string { return pick(r, append(texts, "", "", "")...) }
	begin := &quoratev1.BeginRequest{
		Gid: fsm.NewGID(9000, [10]byte{byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())}).String(), Key: some("k\n"),
		Mode: quoratev1.Mode(r.IntN(7)), Entry: quoratev1.Entry(pick(r, 0, 0, 0, 1, 2)),
	}
	if r.IntN(4) == 0 {
		begin.Timeout = durationpb.New(pick(r, 0, time.Second, -1, time.Hour))
	}
	if r.IntN(2) == 0 {
		begin.Plan = &quoratev1.Plan{
			Callback: some(endpoint()), Workflow: some("w"), Dialect: some("dtm-http", "x"), DialectMode: some("saga"), ConcurrencyMax: uint32(r.IntN(3)),
			Headers: map[string]string{pick(r, "X-A", "X-A", "Host", "x y", ""): pick(r, "v", "v", "\n")},
		}
		if r.IntN(2) == 0 {
			begin.Plan.Headers = nil
		}
		if r.IntN(3) == 0 {
			begin.Plan.Retry = &quoratev1.Retry{Interval: durationpb.New(time.Duration(r.IntN(9)-1) * time.Second), IntervalMax: durationpb.New(5 * time.Second)}
		}
	}
	spec := func() *quoratev1.BranchSpec {
		s := &quoratev1.BranchSpec{Id: pick(r, "1", "2", "3", "4", "5", ""), Resource: some("db"), Endpoint: endpoint(), Undo: some(endpoint()), Held: r.IntN(12) == 0, Topic: ""}
		for r.IntN(3) == 0 {
			s.After = append(s.After, pick(r, "1", "2", "3", "9"))
		}
		if r.IntN(4) == 0 {
			s.Payload = []byte("{}")
		}
		return s
	}
	request := &quoratev1.SubmitRequest{Begin: begin}
	for range r.IntN(4) {
		request.Set = append(request.Set, spec())
	}
	for range pick(r, 0, 0, 0, 1) {
		begin.Branches = append(begin.Branches, spec())
	}
	for range pick(r, 0, 0, 0, 1) {
		voter := spec()
		if len(request.Set) > 0 && r.IntN(4) > 0 {
			voter = proto.CloneOf(request.Set[0])
		} else {
			voter.Id = "elsewhere"
		}
		request.Votes = append(request.Votes, &quoratev1.Ballot{Branch: voter, Vote: quoratev1.Vote(r.IntN(4))})
	}
	return request
}

// applied reads a request as Submit or as Begin, and applies what was let
// through. read is false where the reader refused it.
func (w *world) applied(t testing.TB, allow EndpointChecker, request *quoratev1.SubmitRequest, submit bool) (result fsm.Result, read bool) {
	limits := w.state.Limits()
	r := &reader{limits: limits, endpoints: allow}
	if submit {
		command := readSubmit(context.Background(), r, request)
		if r.err() != nil {
			return fsm.Result{}, false
		}
		return w.apply(t, &logpb.Command{Kind: &logpb.Command_Submit{Submit: command}}), true
	}
	begin := r.begin(context.Background(), "", request.GetBegin())
	r.beginMode(begin)
	if r.err() != nil {
		return fsm.Result{}, false
	}
	return w.apply(t, &logpb.Command{Kind: &logpb.Command_Begin{Begin: begin}}), true
}

// TestReaderAndStateMachineAgree: what the reader lets through the state machine
// does not call malformed. (Ballots that name a branch of the set and describe
// another are not drawn: that only the state machine says.) The other way round, a caller would hear of one field at
// a time, in the state machine's words.
func TestReaderAndStateMachineAgree(t *testing.T) {
	allow, err := branchcall.ParseAllow("good")
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(4, 11))
	w := newWorld(t)
	taken := make(map[quoratev1.Mode]int)
	for range 60_000 {
		request := anyRequest(r)
		submit := r.IntN(3) > 0
		result, read := w.applied(t, allow, request, submit)
		if !read {
			continue
		}
		if result.Code == fsm.Invalid {
			text, _ := protojson.Marshal(request)
			t.Fatalf("the reader let through (submit %v) what is %s: %s", submit, result.Detail, text)
		}
		if result.Code == fsm.OK {
			taken[request.GetBegin().GetMode()]++
		}
	}
	for mode := range quoratev1.Mode_name {
		if taken[quoratev1.Mode(mode)] < 10 {
			t.Errorf("only %d of mode %v were taken: the test looks elsewhere", taken[quoratev1.Mode(mode)], quoratev1.Mode(mode))
		}
	}
}

// FuzzSubmitJSON: whatever JSON comes in, reading and applying it ends in an
// answer, and what was read says the same when it is read again.
func FuzzSubmitJSON(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"begin":{"mode":"MODE_SAGA"},"set":[{"id":"1","endpoint":"http://good/a","undo":"http://good/b","after":["2"]},{"id":"2","endpoint":"http://good/a"}]}`,
		`{"begin":{"mode":"MODE_MESSAGE","plan":{"callback":"http://good/c","headers":{"X-A":"b"},"delay":"1.5s"}},"set":[{"id":"1","endpoint":"topic://orders","payload":"e30="}]}`,
		`{"begin":{"mode":6,"plan":{"dialect":"dtm-http","dialect_mode":"msg"}},"set":[{"id":"é"}]}`,
	} {
		f.Add([]byte(seed))
	}
	allow, err := branchcall.ParseAllow("good")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		request := new(quoratev1.SubmitRequest)
		if protojson.Unmarshal(text, request) != nil {
			return
		}
		if request.Begin == nil {
			request.Begin = new(quoratev1.BeginRequest)
		}
		request.Begin.Gid = fsm.NewGID(9000, [10]byte{1}).String()
		before := proto.Clone(request)
		for _, submit := range []bool{true, false} {
			if result, read := newWorld(t).applied(t, allow, request, submit); read && result.Code == fsm.Invalid {
				t.Errorf("the reader let through (submit %v) what is %s", submit, result.Detail)
			}
		}
		if !proto.Equal(before, request) {
			t.Error("reading edits the request")
		}
	})
}
