package api

import (
	"context"
	"math/rand/v2"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// TestSubmitsAreReadAlike: in one piece of memory or in many, with names or without, a
// submit becomes the same command, or is refused.
func TestSubmitsAreReadAlike(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 21))
	read, refused, shared := 0, 0, 0
	for i := range 6_000 {
		request := anyVoted(r)
		if i%3 == 0 {
			request = anyRequest(r)
		}
		fresh := func() *reader { return &reader{limits: fsm.DefaultLimits(), endpoints: anyEndpoint{}} }

		nameless, named, pieces := fresh(), fresh(), fresh()
		nameless.nameless = true
		got, want := readSubmit(t.Context(), nameless, request), readSubmit(t.Context(), named, request)
		apart := &logpb.Submit{
			Begin: pieces.begin(t.Context(), "begin.", request.GetBegin()),
			Set:   pieces.specs("set", request.GetSet()), Votes: pieces.ballots("votes", request.GetVotes()),
		}
		if (nameless.err() == nil) != (named.err() == nil) {
			t.Fatalf("%v\nwithout names: %v\nwith names: %v", request, nameless.violations, named.err())
		}
		if named.err() != nil {
			refused++
			nameless.slab.free() // for the next: nothing of this one may show there
			named.slab.free()
			continue
		}
		read++
		apart.Begin.Entry = want.Begin.Entry // which Begin alone does not know
		if !proto.Equal(got, want) || !proto.Equal(got, apart) {
			t.Fatalf("%v was read as\n%v\n%v\n%v", request, got, want, apart)
		}
		for _, vote := range got.Votes {
			for _, spec := range got.Set {
				if vote.Branch == spec {
					shared++
				}
			}
		}
		nameless.slab.free()
		named.slab.free()
	}
	if read < 1000 || refused < 1000 || shared < 400 {
		t.Errorf("%d were read, %d refused, %d votes name what was read: the test sees too little", read, refused, shared)
	}
}

// anyVoted is a submit whose branches vote, as most are, and now and then slip.
func anyVoted(r *rand.Rand) *quoratev1.SubmitRequest {
	request := &quoratev1.SubmitRequest{Begin: &quoratev1.BeginRequest{Gid: testGID.String(), Holder: pick(r, "", testHolder)}}
	if r.IntN(2) == 0 {
		request.Begin.Labels = map[string]string{"color": "red", "b": pick(r, "", "blue", "\x07")}
	}
	for range r.IntN(4) {
		spec := &quoratev1.BranchSpec{Id: pick(r, "1", "2", "3", "4", "5"), Resource: pick(r, "a", "b"), Holder: pick(r, "", testHolder, testHolder)}
		spec.Endpoint = pick(r, "", "", "", "", "http://good:1/x")
		request.Set = append(request.Set, spec)
		for range pick(r, 1, 1, 1, 1, 0, 2) {
			vote := &quoratev1.Ballot{Branch: proto.CloneOf(spec), Vote: quoratev1.Vote_VOTE_PREPARED}
			switch r.IntN(12) {
			case 0:
				vote.Branch.Held = true
			case 1:
				vote.Branch.Resource = "c"
			case 2:
				vote.Branch.Payload = []byte("x")
			case 3:
				vote.Vote, vote.Detail = quoratev1.Vote_VOTE_REFUSED, "no"
			}
			request.Votes = append(request.Votes, vote)
		}
	}
	r.Shuffle(len(request.Votes), func(i, j int) { request.Votes[i], request.Votes[j] = request.Votes[j], request.Votes[i] })
	return request
}

// TestSameSpecComparesEveryField: one that differs in any field is not the same.
func TestSameSpecComparesEveryField(t *testing.T) {
	base := &quoratev1.BranchSpec{Id: "1", Resource: "orders-db", Holder: testHolder}
	if !sameSpec(base, proto.CloneOf(base)) {
		t.Error("its copy is another")
	}
	if sameSpec(nil, nil) || sameSpec(base, nil) {
		t.Error("none is the same as something")
	}
	fields := base.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		other := proto.CloneOf(base)
		field := fields.Get(i)
		m := other.ProtoReflect()
		switch {
		case field.IsList():
			m.Mutable(field).List().Append(protoreflect.ValueOfString("x"))
		case field.Kind() == protoreflect.StringKind:
			m.Set(field, protoreflect.ValueOfString("another"))
		case field.Kind() == protoreflect.BytesKind:
			m.Set(field, protoreflect.ValueOfBytes([]byte("x")))
		case field.Kind() == protoreflect.BoolKind:
			m.Set(field, protoreflect.ValueOfBool(true))
		case field.Kind() == protoreflect.Uint32Kind:
			m.Set(field, protoreflect.ValueOfUint32(7))
		case field.Kind() == protoreflect.MessageKind:
			m.Set(field, protoreflect.ValueOfMessage(durationpb.New(7).ProtoReflect()))
		default:
			t.Fatalf("%s: of a kind that this test does not know", field.Name())
		}
		if sameSpec(base, other) || sameSpec(other, base) || sameSpec(other, proto.CloneOf(other)) && !few(other) {
			t.Errorf("%s is not looked at", field.Name())
		}
	}
}

// TestPlainText: eight characters at a time say what one after another does.
func TestPlainText(t *testing.T) {
	for length := range 20 {
		text := strings.Repeat("~ ", length)[:length]
		if !plain(text) {
			t.Fatalf("%q is not plain", text)
		}
		for at := range length {
			for c := range 256 {
				b := []byte(text)
				b[at] = byte(c)
				if want := c >= ' ' && c <= '~'; plain(string(b)) != want {
					t.Fatalf("%q: plain is %v", b, !want)
				}
			}
		}
	}
}

// TestInitiatorIsTheAddressOfTheCall, in the address's own words.
func TestInitiatorIsTheAddressOfTheCall(t *testing.T) {
	for _, addr := range []net.Addr{
		&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 70}, &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3).To4(), Port: 70},
		&net.TCPAddr{IP: net.ParseIP("::1"), Port: 70}, &net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0", Port: 1},
		&net.TCPAddr{Port: 5}, &net.UnixAddr{Name: "/x", Net: "unix"}, (*net.TCPAddr)(nil), &net.TCPAddr{IP: net.IP{1, 2}, Port: 3},
	} {
		if got := initiator(peer.NewContext(context.Background(), &peer.Peer{Addr: addr})); got != addr.String() {
			t.Errorf("%q, want %q", got, addr.String())
		}
	}
}

// TestAnAnswerSpellsTheGIDItself, however it was asked with.
func TestAnAnswerSpellsTheGIDItself(t *testing.T) {
	want := testGID.String()
	for _, asked := range []string{"", want, strings.ToLower(want), fsm.GID{1}.String()} {
		if got := gidAs(asked, testGID); got != want {
			t.Errorf("asked with %q: %q, want %q", asked, got, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { gidAs(want, testGID) }); n != 0 {
		t.Errorf("the same text is made anew, with %v allocations", n)
	}
}
