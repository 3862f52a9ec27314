package coordinator

import (
	"context"
	"errors"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/failpoint"
)

// What a participant's process asks at one moment, of however many transactions, goes
// into the log together: it came in one message, and an answer to each is sent in one.
// To wait for each by itself would cost a goroutine's turn each, which is more than what
// the request costs otherwise.

// TogetherMax is how many requests may go together.
const TogetherMax = batchCommandsMax

// Asked is one of several requests: to enlist Branch or, where that is nil, to record
// Ballot.
type Asked struct {
	GID    fsm.GID
	Branch *logpb.BranchSpec
	Ballot *logpb.Ballot
}

// Told is what came of one of several requests.
type Told struct {
	Status Status
	Err    error
}

// Together does for each request, which it takes over, what Enlist or Vote does, and
// returns what came of them, in order. One that is refused is so by itself.
func (s *Session) Together(ctx context.Context, asked []Asked) []Told {
	s.Alive()
	told := make([]Told, len(asked))
	commands, of := make([]*logpb.Command, 0, len(asked)), make([]int, 0, len(asked))
	var vouched []BranchRef
	for i := range asked {
		command, err := s.commandOf(&asked[i])
		if err != nil {
			told[i].Err = err
			continue
		}
		if a := &asked[i]; a.vouches() {
			vouched = append(vouched, BranchRef{GID: a.GID, Branch: a.Ballot.GetBranch().GetId()})
		}
		commands, of = append(commands, command), append(of, i)
	}
	defer func() { s.c.pending.Add(-int64(len(commands))) }()
	if len(vouched) > 0 {
		s.Vouch(vouched) // before the votes, or it would be asked for
	}
	for n, r := range s.c.appendTogether(ctx, commands) {
		a, t := &asked[of[n]], &told[of[n]]
		if r.err != nil {
			t.Err = s.c.proposeError(a.GID, r.err)
			continue
		}
		t.Status, t.Err = s.c.told(a, r.result)
	}
	return told
}

// commandOf is the command of a request, which has a place among the pending proposals.
func (s *Session) commandOf(a *Asked) (*logpb.Command, error) {
	spec, u, place := a.Branch, ordinary, failpoint.BeforeEnlist
	if spec == nil {
		spec, u, place = a.Ballot.GetBranch(), ending, failpoint.BeforeVote
	}
	if err := s.own(a.GID, spec); err != nil {
		return nil, err
	}
	if err := s.c.pass(place, a.GID); err != nil {
		return nil, err
	}
	if err := s.c.leads(); err != nil {
		return nil, err
	}
	if err := s.c.admit(u); err != nil {
		return nil, err
	}
	if a.Branch != nil {
		return enlistOf(a.GID, a.Branch), nil
	}
	return voteOf(a.GID, a.Ballot), nil
}

// vouches: the vote says that its connection holds the branch.
func (a *Asked) vouches() bool {
	return a.Branch == nil && a.Ballot.GetBranch().GetHeld() && a.Ballot.GetKind() == logpb.VoteKind_VOTE_KIND_PREPARED
}

// told is the answer to a request that was applied.
func (c *Coordinator) told(a *Asked, r fsm.Result) (Status, error) {
	if a.Branch != nil {
		return c.enlisted(r, a.Branch)
	}
	return c.voted(r, a.Ballot)
}

// appendTogether appends callers' commands in one entry or, where they are too large for
// that, each half by itself, one after the other: in the order in which they were asked.
func (c *Coordinator) appendTogether(ctx context.Context, commands []*logpb.Command) []result {
	came := make([]result, len(commands))
	if len(commands) > 0 {
		c.appendInto(ctx, commands, came)
	}
	return came
}

func (c *Coordinator) appendInto(ctx context.Context, commands []*logpb.Command, came []result) {
	results, _, err := c.replog.Propose(ctx, commands...)
	if half := len(commands) / 2; half > 0 && errors.Is(err, ErrTooLarge) {
		c.appendInto(ctx, commands[:half], came[:half])
		c.appendInto(ctx, commands[half:], came[half:])
		return
	}
	for i := range came {
		if came[i].err = err; err == nil {
			came[i].result = results[i]
		}
	}
}
