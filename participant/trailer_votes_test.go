package participant

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

const votesHolder = "01JD9S7KQZZZZZZZZZZZZZZZZZ"

func ballotOf(id, resource string, v Vote) *quoratev1.Ballot {
	return &quoratev1.Ballot{
		Branch: &quoratev1.BranchSpec{Id: id, Resource: resource, Holder: votesHolder},
		Vote:   quoratev1.Vote(v.Kind), MaybePrepared: v.MaybePrepared, Detail: v.Detail,
	}
}

func TestVotesOnTheWire(t *testing.T) {
	want := []*quoratev1.Ballot{
		ballotOf("1", "orders-db", Vote{Kind: VotePrepared}),
		ballotOf("1.2", "a, b; c=d %", Vote{Kind: VoteReadOnly}),
		ballotOf("1.3", "x", Vote{Kind: VoteRefused, Detail: "no, no; \n=no"}),
		ballotOf("2", "x", Vote{Kind: VoteRefused, MaybePrepared: true, Detail: "lost"}),
	}
	text := encodeVotes(want)
	if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		t.Errorf("%q does not fit a header", text)
	}
	got, ok := readVotes(text)
	if !ok || !slices.EqualFunc(got, want, func(a, b *quoratev1.Ballot) bool { return proto.Equal(a, b) }) {
		t.Errorf("%s was read as %v, %t", text, got, ok)
	}
}

// A vote that cannot be read makes the whole answer incomplete: nothing is guessed.
func TestVotesThatCannotBeRead(t *testing.T) {
	for _, text := range []string{
		"1", "1=", "1=prepared", "1=prepared;;" + votesHolder + ";", "1=yes;db;" + votesHolder + ";", "1=prepared;db;me;",
		"1=prepared;db;" + votesHolder, "1=prepared;%zz;" + votesHolder + ";", "=prepared;db;" + votesHolder + ";",
		"1=prepared;db;" + votesHolder + ";,2",
	} {
		tr := readTrailer(func(name string) string {
			return map[string]string{trailerComplete: "true", trailerVotes: text}[name]
		})
		if tr.complete {
			t.Errorf("%q was read as %v", text, tr.ballots)
		}
	}
}

// A callee brings the votes of its own subtree, and of no other.
func TestVotesOfOthersAreNotTaken(t *testing.T) {
	for _, id := range []string{"1", "2.1", "11.1"} {
		s := newScope(Info{GID: GID(votesHolder), Entry: EntryNamed, OneShot: true})
		s.callStarted()
		s.callEnded("1", trailer{complete: true, ballots: []*quoratev1.Ballot{ballotOf(id, "db", Vote{Kind: VotePrepared})}})
		if tr := s.trailer(); tr.complete || len(tr.ballots) > 0 {
			t.Errorf("call 1 brought the vote of %s", id)
		}
	}
}

func FuzzVotes(f *testing.F) {
	f.Add("1=prepared;db;" + votesHolder + ";")
	f.Add("1=maybe-prepared;a%20b;" + votesHolder + ";why,2=read-only;x;" + votesHolder + ";")
	f.Fuzz(func(t *testing.T, text string) {
		got, ok := readVotes(text)
		if !ok {
			return
		}
		again, ok := readVotes(encodeVotes(got))
		if !ok || !slices.EqualFunc(got, again, func(a, b *quoratev1.Ballot) bool { return proto.Equal(a, b) }) {
			t.Errorf("%q: %v was read back as %v", text, got, again)
		}
	})
}
