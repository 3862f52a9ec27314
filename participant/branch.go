package participant

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// Branch is one branch that this process works on: from its local registration
// until its outcome. A manager starts it, votes once, and is then told the
// verdict through its Commit or Rollback.
type Branch struct {
	c        *Client
	ref      BranchRef
	resource string
	held     bool
	scope    *scope
	att      *Attachment

	voteOnce sync.Once // the scope hears of the vote once

	mu      sync.Mutex
	vote    *Vote // nil until Vote is called
	asking  asking
	verdict Verdict
	outcome Outcome
	decided chan struct{} // closed with a final verdict
	ended   chan struct{} // closed with the outcome, or when there is none to come
}

// BranchOption is a setting of [Client.StartBranch].
type BranchOption func(*Branch)

// Held marks a branch whose vote is not durable: a local transaction that stays
// open until the decision. It is lost with this process.
func Held() BranchOption { return func(b *Branch) { b.held = true } }

// StartBranch makes the next child of the context's call path a branch of
// resource, and enlists it. The resource's manager must be attached.
//
// Of a repeated call, the branch may be there already: [ErrBranchActive] while it
// is being worked on, [ErrVoted] when it has voted. Any error means that there is
// no branch to work on; the caller's local transaction must roll back.
func (c *Client) StartBranch(ctx context.Context, resource string, opts ...BranchOption) (*Branch, error) {
	s := scopeOf(ctx)
	if s == nil {
		return nil, ErrNoTransaction
	}
	if s.cluster != "" && s.cluster != c.ClusterID() {
		return nil, fmt.Errorf("%w: transaction %s is of cluster %s, this client's is %s", ErrOtherCluster, s.gid, s.cluster, c.ClusterID())
	}
	att := c.attachment(resource)
	if att == nil {
		return nil, fmt.Errorf("%w: %q", ErrNotAttached, resource)
	}
	id, err := s.child()
	if err != nil {
		return nil, err
	}
	b := &Branch{
		c: c, ref: BranchRef{GID: s.gid, ID: id}, resource: resource, scope: s, att: att,
		decided: make(chan struct{}), ended: make(chan struct{}),
	}
	for _, set := range opts {
		set(b)
	}
	if standing := c.live.add(b); standing != nil {
		return nil, standing.repeated(ctx, s)
	}
	s.branchStarted(b.spec())
	if b.carried() {
		return b, nil
	}
	if err := b.enter(ctx); err != nil {
		return nil, fmt.Errorf("enlist branch %s of %q: %w", b.ref, resource, err)
	}
	return b, nil
}

// Ref names the branch.
func (b *Branch) Ref() BranchRef { return b.ref }

// GID names the transaction.
func (b *Branch) GID() GID { return b.ref.GID }

// ID is the branch id: its call path.
func (b *Branch) ID() string { return b.ref.ID }

// Resource is what the branch works on.
func (b *Branch) Resource() string { return b.resource }

// Cluster is the id of the cluster, a ULID, as xids hold it.
func (b *Branch) Cluster() string { return b.c.ClusterID() }

// Timeout of the transaction, in whole seconds rounded up, as xids hold it.
func (b *Branch) Timeout() time.Duration {
	return time.Duration(seconds(b.scope.timeout)) * time.Second
}

// Prepared is the record of the branch that a manager must store with its
// prepared work, so that recovery finds it.
func (b *Branch) Prepared() Prepared {
	return Prepared{BranchRef: b.ref, Cluster: b.Cluster(), Timeout: b.Timeout()}
}

// Decided is closed when a final verdict was heard, though it may not have been
// obeyed yet. A branch that is still being worked on learns so that it is rolled back.
func (b *Branch) Decided() <-chan struct{} { return b.decided }

// Verdict is the newest verdict heard.
func (b *Branch) Verdict() Verdict {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.verdict
}

// prepareBehind makes room for a prepare that nobody waits for before the commit of the
// whole; nil where the branch's vote goes elsewhere, or that was not asked for.
func (b *Branch) prepareBehind() (run func(prepare func() error)) {
	if !b.carried() {
		return nil
	}
	return b.scope.behind.begin()
}

// CheckWait returns [ErrWaitsForItself] while the initiator waits for the very
// call that runs: ask before preparing, when the commit is to [Branch.Wait].
func (b *Branch) CheckWait() error {
	if b.scope.isWaited() {
		return fmt.Errorf("branch %s of %q: %w", b.ref, b.resource, ErrWaitsForItself)
	}
	return nil
}

// Wait waits for the branch's end: the verdict, and what the manager did.
func (b *Branch) Wait(ctx context.Context) (Verdict, Outcome, error) {
	if err := b.CheckWait(); err != nil {
		return VerdictNone, OutcomeNone, err
	}
	select {
	case <-b.ended:
	case <-ctx.Done():
		return b.Verdict(), OutcomeNone, &OutcomeUnknownError{GID: b.ref.GID, Err: context.Cause(ctx)}
	case <-b.c.ctx.Done():
		return b.Verdict(), OutcomeNone, &OutcomeUnknownError{GID: b.ref.GID, Err: ErrClosed}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.verdict, b.outcome, nil
}

// Done ends the branch by its own word, without having been told: a held branch
// whose connection broke reports OutcomeRolledBack. It returns when the cluster
// has the report.
func (b *Branch) Done(ctx context.Context, o Outcome, detail string) error {
	b.c.pass(b.att.moment(StepEnded, b.ref, word{}, o))
	b.end(VerdictNone, o)
	_, err := b.c.sess.request(ctx, b.ref.GID, &quoratev1.SessionRequest{Frame: &quoratev1.SessionRequest_Report{
		Report: b.c.report(b.ref, o, detail, 0),
	}})
	return err
}

// spec is the branch as the cluster hears of it.
func (b *Branch) spec() *quoratev1.BranchSpec {
	return &quoratev1.BranchSpec{Id: b.ref.ID, Resource: b.resource, Held: b.held, Holder: b.c.holder}
}

func (b *Branch) liveBranch() *quoratev1.LiveBranch {
	return &quoratev1.LiveBranch{Gid: string(b.ref.GID), Branch: b.ref.ID, Held: b.held, Resource: b.resource}
}

// enter enlists the branch, in a transaction that the cluster has.
func (b *Branch) enter(ctx context.Context) error {
	if b.scope.oneShot {
		err := ErrOneShot
		if begin := b.scope.mustBegin; begin != nil {
			err = begin(ctx)
		}
		if err != nil {
			b.scope.branchForgotten(b.ref.ID)
			b.end(VerdictRollback, OutcomeRolledBack)
			return err
		}
	}
	return b.enlist(ctx)
}

// enlist tells the cluster. After any error the branch is gone again: refused, or
// taken back in the background where the cluster may have heard of it.
func (b *Branch) enlist(ctx context.Context) error {
	_, err := b.c.sess.request(ctx, b.ref.GID, &quoratev1.SessionRequest{Frame: &quoratev1.SessionRequest_Enlist{
		Enlist: &quoratev1.EnlistRequest{Gid: string(b.ref.GID), Branch: b.spec()},
	}})
	if err == nil {
		return nil
	}
	var unknown *OutcomeUnknownError
	if errors.As(err, &unknown) {
		b.refuseLater("the enlisting was not answered in time")
		return err
	}
	b.scope.branchForgotten(b.ref.ID)
	b.end(VerdictRollback, OutcomeRolledBack)
	return decided(b.ref.GID, err)
}

// repeated answers a second start of the branch, for a call that was repeated:
// the work is not done again, and the first vote is said again.
func (b *Branch) repeated(ctx context.Context, again *scope) error {
	b.mu.Lock()
	vote := b.vote
	b.mu.Unlock()
	if vote == nil {
		again.unfinished(b.ref.ID)
		return fmt.Errorf("branch %s of %q: %w", b.ref, b.resource, ErrBranchActive)
	}
	if b.carried() {
		again.stands(b.ballot(*vote))
		return fmt.Errorf("branch %s of %q: %w", b.ref, b.resource, ErrVoted)
	}
	if _, err := b.sendVote(ctx, *vote); err != nil {
		return fmt.Errorf("branch %s of %q: %w, and its vote could not be repeated: %w", b.ref, b.resource, ErrVoted, err)
	}
	return fmt.Errorf("branch %s of %q: %w", b.ref, b.resource, ErrVoted)
}

// hear takes over a verdict; the first final one stands.
func (b *Branch) hear(v Verdict) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.verdict.Final() {
		return
	}
	b.verdict = v
	if v.Final() {
		close(b.decided)
	}
}

// end takes the branch out of the live ones; idempotent.
func (b *Branch) end(v Verdict, o Outcome) {
	if v.Final() {
		b.hear(v)
	}
	b.c.live.remove(b)
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-b.ended:
	default:
		b.outcome = o
		close(b.ended)
	}
}
