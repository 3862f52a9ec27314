package participant

import (
	"cmp"
	"net/url"
	"slices"
	"strings"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// trailerVotes has the votes of a one-shot transaction's branches in the subtree:
// `id=vote;resource;holder;detail`, comma-separated, resource and detail
// percent-encoded. The initiator sends them on with its commit.
const trailerVotes = "quorate-votes"

// voteWords are the votes on the wire; maybe-prepared is a refusal.
var voteWords = map[string]Vote{
	"prepared":       {Kind: VotePrepared},
	"read-only":      {Kind: VoteReadOnly},
	"refused":        {Kind: VoteRefused},
	"maybe-prepared": {Kind: VoteRefused, MaybePrepared: true},
}

func voteWord(b *quoratev1.Ballot) string {
	if b.GetMaybePrepared() {
		return "maybe-prepared"
	}
	return VoteKind(b.GetVote()).String()
}

func encodeVotes(ballots []*quoratev1.Ballot) string {
	parts := make([]string, 0, len(ballots))
	for _, b := range ballots {
		spec := b.GetBranch()
		parts = append(parts, spec.GetId()+"="+strings.Join([]string{
			voteWord(b), url.QueryEscape(spec.GetResource()), spec.GetHolder(), url.QueryEscape(b.GetDetail()),
		}, ";"))
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

// readVotes reads them all; ok is false when one cannot be read, for a vote that
// was misread would be worse than one that is missing.
func readVotes(text string) (ballots []*quoratev1.Ballot, ok bool) {
	if text == "" {
		return nil, true
	}
	for part := range strings.SplitSeq(text, ",") {
		id, rest, _ := strings.Cut(part, "=")
		fields := strings.Split(rest, ";")
		if validPath(id) != nil || len(fields) != 4 {
			return nil, false
		}
		vote, known := voteWords[fields[0]]
		resource, err1 := url.QueryUnescape(fields[1])
		detail, err2 := url.QueryUnescape(fields[3])
		if !known || err1 != nil || err2 != nil || resource == "" || !isULID(fields[2]) {
			return nil, false
		}
		ballots = append(ballots, &quoratev1.Ballot{
			Branch: &quoratev1.BranchSpec{Id: id, Resource: resource, Holder: fields[2]},
			Vote:   quoratev1.Vote(vote.Kind), MaybePrepared: vote.MaybePrepared, Detail: clip(detail),
		})
	}
	slices.SortFunc(ballots, func(a, b *quoratev1.Ballot) int { return cmp.Compare(a.GetBranch().GetId(), b.GetBranch().GetId()) })
	return ballots, true
}
