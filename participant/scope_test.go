package participant

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// said is what a callee's trailer says: its branches, all of which have voted if the whole
// is complete.
func said(complete bool, branches ...string) trailer {
	t := trailer{complete: complete, oneShot: true}
	for _, id := range branches {
		spec := &quoratev1.BranchSpec{Id: id, Resource: "r", Holder: string(bornGID)}
		t.branches = append(t.branches, spec)
		t.ballots = append(t.ballots, &quoratev1.Ballot{Branch: spec, Vote: quoratev1.Vote(VotePrepared)})
	}
	return t
}

// What a scope may tell its caller after what its calls have told: whether all is said,
// which branches a rollback must name, and whether one was perhaps missed.
func TestWhatCallsSayOfASubtree(t *testing.T) {
	type ended struct {
		path string
		t    trailer
	}
	unvoted := said(true, "1.1")
	unvoted.ballots = nil
	for name, x := range map[string]struct {
		ended    []ended
		complete bool
		lost     bool
		names    []string
	}{
		"nothing":                   {nil, true, false, []string{}},
		"complete":                  {[]ended{{"1", said(true, "1.1")}}, true, false, []string{"1.1"}},
		"lost":                      {[]ended{{"1", trailer{}}}, false, true, []string{"1"}},
		"lost, and another came":    {[]ended{{"1", trailer{}}, {"2", said(true, "2.1")}}, false, true, []string{"1", "2.1"}},
		"lost, and came again":      {[]ended{{"1", trailer{}}, {"1", said(true, "1.1")}}, true, true, []string{"1.1"}},
		"came, and then was lost":   {[]ended{{"1", said(true, "1.1")}, {"1", trailer{}}}, false, true, []string{"1", "1.1"}},
		"incomplete":                {[]ended{{"1", said(false, "1.1")}}, false, true, []string{"1", "1.1"}},
		"another's branch":          {[]ended{{"1", said(true, "2.1")}}, false, false, []string{}},
		"a branch of call 10":       {[]ended{{"1", said(true, "10.1")}}, false, false, []string{}},
		"the call itself":           {[]ended{{"1", said(true, "1")}}, false, false, []string{}},
		"a branch without its vote": {[]ended{{"1", unvoted}}, false, false, []string{"1.1"}},
		"several":                   {[]ended{{"1", said(true, "1.1", "1.2.1")}, {"2", said(true)}, {"3", said(true, "3.1")}}, true, false, []string{"1.1", "1.2.1", "3.1"}},
	} {
		s := newScope(Info{GID: bornGID, Timeout: time.Minute, Entry: EntryNamed, OneShot: true})
		for _, e := range x.ended {
			s.callStarted()
			s.callEnded(e.path, e.t)
		}
		tr := s.trailer()
		voted := []string{}
		for _, b := range tr.ballots {
			voted = append(voted, b.GetBranch().GetId())
		}
		slices.Sort(voted)
		wantVoted := slices.DeleteFunc(slices.Clone(x.names), func(id string) bool { return len(id) == 1 || name == "a branch without its vote" })
		strangers := name == "another's branch" || name == "a branch of call 10" || name == "the call itself"
		if tr.complete != x.complete || s.lost != x.lost || !slices.Equal(voted, wantVoted) || !strangers && !slices.Equal(namesOf(s), x.names) {
			t.Errorf("%s: complete %t, lost %t, names %v, votes %v", name, tr.complete, s.lost, namesOf(s), voted)
		}
		if s.calls() != (s.lost || len(s.unended) > 0) {
			t.Errorf("%s: calls %t", name, s.calls())
		}
		s.callStarted()
		if s.trailer().complete || !s.calls() {
			t.Errorf("%s: nothing is open though a call is", name)
		}
		s.setWaited(true)
		if s.answer(); s.isWaited() {
			t.Errorf("%s: the initiator has its answer, and waits still", name)
		}
		if _, err := s.child(); !errors.Is(err, ErrAnswered) {
			t.Errorf("%s: a child after the answer: %v", name, err)
		}
	}
}

// A call says all of its transaction, of whatever kind, and nothing of one further out.
func TestWhatACallSays(t *testing.T) {
	for _, info := range []Info{
		{GID: bornGID, Path: "1", Cluster: clusterA, Timeout: time.Second, Entry: EntryExplicit},
		{GID: bornGID, Path: "3.1.2", Cluster: clusterA, Timeout: 9 * time.Minute, Entry: EntryNamed},
		{GID: bornGID, Path: "2", Cluster: clusterB, Timeout: 30 * time.Second, Entry: EntryNamed, OneShot: true},
	} {
		parent := info
		parent.Path = info.Path[:max(0, len(info.Path)-2)]
		call := &outCall{scope: newScope(parent), path: info.Path}
		read := func(by string, get func(string) string) {
			t.Helper()
			if got, ok, err := incoming(get); err != nil || !ok || got != info {
				t.Errorf("by %s: %+v, %t, %v; want %+v", by, got, ok, err, info)
			}
		}
		outer := []string{headerGID, string(bornGID[:25]) + "1", headerBranch, "7", headerCluster, clusterB, headerTimeout, "1", headerEntry, entryNamed}
		if info.Entry == EntryExplicit {
			outer = outer[:8] // explicit is no header
		}
		md, _ := metadata.FromOutgoingContext(withMetadata(metadata.AppendToOutgoingContext(t.Context(), outer...), call))
		for name := range call.headers() {
			if n := len(md.Get(name)); n != 1 {
				t.Errorf("%s is said %d times", name, n)
			}
		}
		read("gRPC", func(name string) string { return first(md, name) })

		// The outgoing request has a path of its own, which is asked for by Call.
		ctx := context.WithValue(withScope(t.Context(), call.scope), callKey{}, reserved{scope: call.scope, path: info.Path})
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, "http://callee.example/", nil)
		for i := 0; i < len(outer); i += 2 {
			r.Header.Set(outer[i], outer[i+1])
		}
		var sent http.Header
		if _, err := Transport(roundTripper(func(r *http.Request) (*http.Response, error) {
			sent = r.Header
			return &http.Response{Header: http.Header{}, Body: http.NoBody}, nil
		})).RoundTrip(r); err != nil {
			t.Fatal(err)
		}
		read("HTTP", sent.Get)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// transportStream takes the trailer that a handler sets.
type transportStream struct {
	grpc.ServerTransportStream
	trailer metadata.MD
}

func (s *transportStream) SetTrailer(md metadata.MD) error { s.trailer = md; return nil }
func (s *transportStream) Method() string                  { return "/x/Y" }

// A handler that fails has said what became of its branches, as one that succeeds has: an
// initiator that can do without the call commits the rest.
func TestAFailedHandlerSaysWhatBecameOfItsBranches(t *testing.T) {
	call := &outCall{scope: newScope(Info{GID: bornGID, Cluster: clusterA, Timeout: time.Second, Entry: EntryNamed, OneShot: true}), path: "1"}
	headers := metadata.New(call.headers())
	for _, want := range []error{nil, status.Error(codes.NotFound, "no such account"), errors.New("no funds")} {
		st := &transportStream{}
		ctx := grpc.NewContextWithServerTransportStream(metadata.NewIncomingContext(t.Context(), headers), st)
		_, err := UnaryServerInterceptor()(ctx, nil, nil, func(ctx context.Context, _ any) (any, error) {
			if info, ok := FromContext(ctx); !ok || info.Path != "1" {
				t.Errorf("the handler is in %+v", info)
			}
			return nil, want
		})
		if !errors.Is(err, want) || !trailerFrom(st.trailer).complete {
			t.Errorf("%v: trailer %v, error %v", want, st.trailer, err)
		}
	}
}

// What was heard of the cluster never goes back, in whatever order answers come; and only
// a clock that is no older is a reason to call it fresh.
func TestWhatWasHeardNeverGoesBack(t *testing.T) {
	header := func(clock, floor, incarnation, term uint64) *quoratev1.ResponseHeader {
		return &quoratev1.ResponseHeader{ClockMs: clock, FloorMs: floor, Epoch: &quoratev1.Epoch{Incarnation: incarnation, Term: term}, ClusterId: clusterA}
	}
	headers := []*quoratev1.ResponseHeader{header(10, 5, 1, 9), header(20, 3, 2, 1), header(15, 8, 1, 10), nil, {}}
	for i := range 120 {
		order := permutation(i, len(headers))
		c := &clock{}
		var newest uint64
		for _, at := range order {
			h := headers[at]
			c.at = time.Now().Add(-time.Hour)
			if err := c.hear(h); err != nil {
				t.Fatal(err)
			}
			_, age := c.now()
			if older := h.GetClockMs() < newest; h != nil && older != (age >= time.Hour) {
				t.Errorf("order %v: after %v the clock is %v old", order, h, age)
			}
			newest = max(newest, h.GetClockMs())
		}
		if ms, _ := c.now(); ms != 20 || c.floor() != 8 || c.newestEpoch() != (epoch{2, 1}) || c.clusterID() != clusterA {
			t.Errorf("order %v: clock %d, floor %d, epoch %v", order, ms, c.floor(), c.newestEpoch())
		}
		if err := c.hear(&quoratev1.ResponseHeader{ClusterId: clusterB, ClockMs: 99, FloorMs: 99}); !errors.Is(err, ErrOtherCluster) {
			t.Error(err)
		}
		if ms, _ := c.now(); ms != 20 || c.floor() != 8 {
			t.Error("another cluster was believed")
		}
	}
}

// permutation is the i-th order of n things.
func permutation(i, n int) []int {
	left := make([]int, n)
	for k := range left {
		left[k] = k
	}
	var out []int
	for ; n > 0; n-- {
		out = append(out, left[i%n])
		left = slices.Delete(left, i%n, i%n+1)
		i /= n
	}
	return out
}

// A path that was reserved for a call is that of calls in its own scope, again and again; a
// handler that runs with the same context numbers its own.
func TestAReservedPathIsItsScopesOwn(t *testing.T) {
	outer, inner := newScope(Info{GID: bornGID, Path: "4"}), newScope(Info{GID: bornGID, Path: "4.7"})
	ctx, err := Call(withScope(t.Context(), outer))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if s, path, err := outgoing(ctx); s != outer || path != "4.1" || err != nil {
			t.Errorf("%q, %v, want the reserved path again", path, err)
		}
	}
	for _, want := range []string{"4.7.1", "4.7.2"} {
		if s, path, err := outgoing(withScope(ctx, inner)); s != inner || path != want || err != nil {
			t.Errorf("%q, %v, want %s", path, err, want)
		}
	}
}

// serverStreamOf is the server's end of a stream.
type serverStreamOf struct {
	grpc.ServerStream
	ctx     context.Context
	trailer metadata.MD
}

func (s *serverStreamOf) Context() context.Context  { return s.ctx }
func (s *serverStreamOf) SetTrailer(md metadata.MD) { s.trailer = md }

func TestAFailedStreamSaysWhatBecameOfItsBranches(t *testing.T) {
	call := &outCall{scope: newScope(Info{GID: bornGID, Cluster: clusterA, Timeout: time.Second, Entry: EntryNamed, OneShot: true}), path: "1"}
	for _, want := range []error{nil, status.Error(codes.NotFound, "no such account"), errors.New("no funds")} {
		st := &serverStreamOf{ctx: metadata.NewIncomingContext(t.Context(), metadata.New(call.headers()))}
		err := StreamServerInterceptor()(nil, st, nil, func(_ any, s grpc.ServerStream) error {
			if info, ok := FromContext(s.Context()); !ok || info.Path != "1" {
				t.Errorf("the handler is in %+v", info)
			}
			return want
		})
		if !errors.Is(err, want) || !trailerFrom(st.trailer).complete {
			t.Errorf("%v: trailer %v, error %v", want, st.trailer, err)
		}
	}
}

// What is said for people is never a reason to refuse what is said for the cluster: it is
// text, of a bounded length, in votes and reports alike.
func TestWhatIsForPeopleFits(t *testing.T) {
	for _, text := range []string{"", "short", strings.Repeat("x", 256), strings.Repeat("x", 257), strings.Repeat("ö", 5000), "\xff\xfe broken", strings.Repeat("\xff", 1000)} {
		b := &Branch{c: &Client{}, ref: BranchRef{GID: bornGID, ID: "1"}}
		for what, got := range map[string]string{
			"a vote":   b.ballot(Vote{Kind: VoteRefused, Detail: text}).GetDetail(),
			"a report": b.c.report(b.ref, OutcomeHazard, text, 1).GetDetail(),
		} {
			if len(got) > 256 || !utf8.ValidString(got) || utf8.ValidString(text) && (!strings.HasPrefix(text, got) || len(text) > len(got) && len(got) < 253) {
				t.Errorf("%s says %q of %q", what, got, text)
			}
		}
	}
}
