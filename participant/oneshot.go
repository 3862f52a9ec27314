package participant

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"google.golang.org/grpc"
)

// OneShot makes the whole transaction one request: its branches do not enlist, their
// votes come back with the answers to calls, and the commit brings all of it. One
// record in the log stands before the answer. It is meant for short transactions
// whose calls go through this package's interceptors, or whose branches are in
// the initiator's own process.
//
// The price is paid when the initiator dies before its commit is sent: the cluster
// has not heard of the transaction then, and its prepared branches keep their locks
// for [ClockStaleMax] longer than the timeout. Nor does `quorate tx ls` show it before.
//
// Held branches of the initiator's process have the transaction begun first; those
// of a callee are refused with [ErrOneShot]. A transaction with a key is begun first, too.
func OneShot() TxOption {
	return func(o *txOptions) { o.oneShot, o.entry = true, EntryNamed }
}

// oneShot is a transaction that the cluster hears of when it is to commit.
func (c *Client) oneShot(gid GID, o txOptions) *Transaction {
	t := c.transaction(gid, o)
	t.root.mustBegin = t.beginNow
	t.root.behind.wanted = o.behind
	return t
}

// beginNow begins the transaction before its commit, where a branch needs that.
func (t *Transaction) beginNow(ctx context.Context) error {
	t.mu.Lock()
	begun, dropped := t.begun, t.dropped
	t.mu.Unlock()
	switch {
	case dropped:
		return t.wasDropped()
	case begun:
		return nil
	}
	if _, err := t.c.sendBegin(ctx, t.begin); err != nil {
		return outcomeOf(t.gid, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.begun = true
	return nil
}

// commitOneShot sends the transaction with its branches and their votes.
func (t *Transaction) commitOneShot(ctx context.Context, wait quoratev1.Wait) error {
	if err := t.root.behind.join(); err != nil {
		return err
	}
	tr := t.root.seal()
	if !tr.complete {
		return fmt.Errorf("transaction %s: %w", t.gid, ErrIncomplete)
	}
	switch late, dropped := t.send(); {
	case dropped:
		return t.wasDropped()
	case late:
		return t.expire(ctx)
	}
	byID := func(a, b *quoratev1.BranchSpec) int { return cmp.Compare(a.GetId(), b.GetId()) }
	req := &quoratev1.SubmitRequest{Begin: t.begin, Set: slices.SortedFunc(slices.Values(tr.branches), byID), Votes: tr.ballots, Wait: wait}
	ctx, cancel := t.c.boundBy(ctx, t.root.timeout+t.c.cfg.callTimeout)
	defer cancel()
	for {
		got, err := t.c.submit(ctx, t.gid, req)
		if err != nil {
			return t.c.why(ctx, outcomeOf(t.gid, err))
		}
		if decided, err := t.take(got); decided {
			return err
		}
		// Pending, as for Commit.
		if err := sleep(ctx, backoffLast); err != nil {
			return &OutcomeUnknownError{GID: t.gid, Err: err}
		}
	}
}

// submit sends one Submit, over the stream where that is wanted.
func (c *Client) submit(ctx context.Context, gid GID, req *quoratev1.SubmitRequest) (*quoratev1.SubmitResponse, error) {
	if c.submits != nil {
		return c.submits.Submit(ctx, req)
	}
	return call(ctx, c, gid, func(ctx context.Context, cc grpc.ClientConnInterface) (*quoratev1.SubmitResponse, error) {
		return quoratev1.NewTransactionServiceClient(cc).Submit(ctx, req)
	})
}

// send notes that the transaction is sent, unless it was dropped, or its time is over.
// The cluster sees the deadline of what was begun; of what was not, only its initiator
// can.
func (t *Transaction) send() (late, dropped bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	late = !t.begun && !t.sent && time.Since(t.asked) >= t.root.timeout
	t.sent = t.sent || !late && !t.dropped
	return late, t.dropped
}

// wasDropped is the rollback that the cluster was never asked for.
func (t *Transaction) wasDropped() error {
	return &RolledBackError{GID: t.gid, Reason: "REQUESTED", Detail: "it was rolled back before its commit was asked"}
}

// expire rolls back what would come too late.
func (t *Transaction) expire(ctx context.Context) error {
	detail := fmt.Sprintf("commit was asked %v after the begin, its timeout is %v", time.Since(t.asked).Round(time.Millisecond), t.root.timeout)
	err := t.Rollback(ctx, detail)
	var committed *CommittedError
	if errors.As(err, &committed) {
		return nil
	}
	if err != nil {
		return err
	}
	return &RolledBackError{GID: t.gid, Reason: "TIMEOUT", Detail: detail}
}

// giveUp names the branches that must hear of a rollback. needed is false where the
// cluster has not heard of the transaction, and nobody is left to ask it: then it never
// hears of it, by a commit that is asked at the same moment neither.
func (t *Transaction) giveUp() (branches []*quoratev1.BranchSpec, needed bool) {
	_ = t.root.behind.join() // they may have prepared, and are told either way
	tr := t.root.seal()
	ended := make(map[string]bool, len(tr.ballots))
	for _, b := range tr.ballots {
		vote := VoteKind(b.GetVote())
		ended[b.GetBranch().GetId()] = vote == VoteReadOnly || vote == VoteRefused && !b.GetMaybePrepared()
	}
	branches = slices.DeleteFunc(tr.branches, func(b *quoratev1.BranchSpec) bool { return ended[b.GetId()] })
	calls := t.root.calls()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dropped = t.dropped || !t.begun && !t.sent && len(branches) == 0 && !calls
	return branches, !t.dropped
}

// seal ends the entry of branches, and tells what there is; the initiator's own
// scope has nobody to answer to.
func (s *scope) seal() trailer {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.trailerLocked()
	s.answered = true
	return t
}

// calls reports that a call has not ended, or that one ended without its callee's last
// word.
func (s *scope) calls() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open > 0 || s.lost || len(s.unended) > 0
}

// carry takes a vote of the scope's own branch for the answer; false where that was
// given, and the vote comes to nobody any more.
func (s *scope) carry(b *quoratev1.Ballot) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	if s.answered {
		return false
	}
	s.ballots[b.GetBranch().GetId()] = b
	return true
}

// unfinished notes a branch that an earlier run of the call is still working on:
// whoever counts on this answer must not take it for the whole.
func (s *scope) unfinished(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.oneShot {
		s.unended[id] = true
	}
}

// stands tells a repeated call of the branch that an earlier run made: its vote is
// this answer's, too.
func (s *scope) stands(b *quoratev1.Ballot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.answered {
		s.branches[b.GetBranch().GetId()], s.ballots[b.GetBranch().GetId()] = b.GetBranch(), b
	}
}
