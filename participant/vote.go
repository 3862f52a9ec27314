package participant

import (
	"context"
	"errors"
	"fmt"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// Vote says the participant's word on the branch, once; it is repeated until it
// is answered or the context ends. A prepared vote must be durable before it is
// said (but for held branches).
//
// VerdictWait is the usual answer: the branch stays prepared, and the verdict
// comes to its manager later. A final verdict is obeyed by the attachment without
// more ado. Of the errors, *[RolledBackError] means that the branch came too late
// and is being rolled back; after any other one a prepared branch is left to
// recovery, which ends it by its verdict. A refusal is said in the background if
// the context has ended, and so is never an error.
func (b *Branch) Vote(ctx context.Context, v Vote) (Verdict, error) {
	b.mu.Lock()
	if b.vote != nil {
		b.mu.Unlock()
		return VerdictNone, fmt.Errorf("branch %s of %q: %w", b.ref, b.resource, ErrVoted)
	}
	b.vote = &v
	b.mu.Unlock()

	switch {
	case v.Kind == VotePrepared:
		b.c.pass(Moment{Step: StepPrepared, Branch: b.ref, Resource: b.resource, Vote: v.Kind})
	case v.MaybePrepared:
		b.c.pass(Moment{Step: StepUnsure, Branch: b.ref, Resource: b.resource, Vote: v.Kind})
	}
	if b.carried() {
		return b.carry(v)
	}
	if v.Kind == VoteRefused {
		return b.refuse(ctx, v), nil
	}
	verdict, err := b.sendVote(ctx, v)
	switch {
	case err == nil && v.Kind == VoteReadOnly:
		b.end(verdict, OutcomeNone)
	case err == nil:
		b.hear(verdict)
		if verdict.Final() {
			b.att.obey(b.ref, word{verdict: verdict})
		}
	case v.Kind == VoteReadOnly:
		b.end(VerdictNone, OutcomeNone)
		err = decided(b.ref.GID, err)
	default:
		b.leftPrepared(err)
		err = b.tooLate(err)
	}
	return verdict, err
}

// sendVote sends the ballot and notes in the scope that it was answered.
func (b *Branch) sendVote(ctx context.Context, v Vote) (Verdict, error) {
	got, err := b.c.sess.request(ctx, b.ref.GID, &quoratev1.SessionRequest{Frame: &quoratev1.SessionRequest_Vote{
		Vote: &quoratev1.VoteRequest{Gid: string(b.ref.GID), Ballot: b.ballot(v)},
	}})
	if err != nil {
		return VerdictNone, err
	}
	b.voteOnce.Do(b.scope.branchVoted)
	verdict := Verdict(got.GetVote().GetVerdict())
	b.c.pass(Moment{Step: StepVoted, Branch: b.ref, Resource: b.resource, Vote: v.Kind, Verdict: verdict})
	return verdict, nil
}

// ballot is the vote as the cluster hears it.
func (b *Branch) ballot(v Vote) *quoratev1.Ballot {
	return &quoratev1.Ballot{Branch: b.spec(), Vote: quoratev1.Vote(v.Kind), MaybePrepared: v.MaybePrepared, Detail: clip(v.Detail)}
}

// refuse says a refusal. Nobody need wait for it, but it should arrive: without
// it the transaction holds its locks until the deadline.
func (b *Branch) refuse(ctx context.Context, v Vote) Verdict {
	if _, err := b.sendVote(ctx, v); !unheard(err) {
		b.afterRefusal(v)
		return VerdictRollback
	}
	b.c.background(b.scope.timeout, func(ctx context.Context) {
		b.sayRefusal(ctx, v)
		b.afterRefusal(v)
	})
	return VerdictRollback
}

// sayRefusal says a refusal until it is heard, or the transaction's time is over.
func (b *Branch) sayRefusal(ctx context.Context, v Vote) {
	var pause backoff
	for {
		_, err := b.sendVote(ctx, v)
		if !unheard(err) {
			return
		}
		if sleep(ctx, pause.next()) != nil {
			b.c.cfg.logger.Warn("a refusal was not heard; the deadline will do it", "branch", b.ref, "err", err)
			return
		}
	}
}

// unheard reports that a vote may have come to nobody: no answer, or a full queue's.
// Whatever else is refused has been looked at, or will not be another time.
func unheard(err error) bool {
	reason := refusedWith(err)
	return err != nil && (reason == "" || reason == reasonQuota)
}

// afterRefusal ends the branch, unless it may have prepared: then it stays live,
// because the cluster keeps it due and delivers the rollback.
func (b *Branch) afterRefusal(v Vote) {
	if !v.MaybePrepared {
		b.end(VerdictRollback, OutcomeRolledBack)
	}
}

// refuseLater takes an enlisted branch back that nobody will work on.
func (b *Branch) refuseLater(why string) {
	v := Vote{Kind: VoteRefused, Detail: why}
	b.mu.Lock()
	b.vote = &v
	b.mu.Unlock()
	b.c.background(b.scope.timeout, func(ctx context.Context) {
		b.sayRefusal(ctx, v)
		b.end(VerdictRollback, OutcomeRolledBack)
	})
}

// leftPrepared hands a branch whose vote was not taken to recovery. A held one
// has no durable record: it stays live, and open, until it is told.
func (b *Branch) leftPrepared(err error) {
	b.c.cfg.logger.Info("a prepared vote was not taken; the verdict is asked for", "branch", b.ref, "err", err)
	if b.held {
		b.att.settleLater(b.ref)
		return
	}
	b.end(VerdictNone, OutcomeNone)
	b.att.kick()
}

// tooLate is err, or the rollback that a refusal of a prepared vote implies.
func (b *Branch) tooLate(err error) error {
	var r *RefusedError
	if errors.As(err, &r) {
		switch r.Reason {
		case reasonSealed, reasonAlreadyDecided, reasonExpired:
			return &RolledBackError{GID: b.ref.GID, Reason: r.Reason, Detail: r.Detail}
		}
	}
	return err
}
