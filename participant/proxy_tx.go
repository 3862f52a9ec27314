package participant

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// branchTx is the local transaction of a branch, from BeginTx to its end. Until
// Commit it belongs to database/sql's goroutine; once it is prepared, and pins its
// connection, to whoever holds mu.
type branchTx struct {
	p      *Proxy
	c      *proxyConn
	ctx    context.Context // of BeginTx
	branch proxyBranch
	ref    BranchRef
	xid    string
	mark   mark

	// waited is the error of a statement that waited in vain for a lock, or was a
	// deadlock's victim; failed is set when any statement has failed.
	waited error
	failed bool

	// doomed is set when the cluster has decided rollback while work goes on.
	doomed atomic.Bool

	mu sync.Mutex
	// prepared is set once the local transaction awaits its decision.
	prepared bool
	// raw is the connection that a prepared branch keeps; nil when it keeps none.
	raw driver.Conn
	// reusable connections may serve others once the branch has ended.
	reusable bool
	since    time.Time // when it was prepared
}

// lockWaitLeast is the shortest lock timeout: the branch of a transaction whose
// time is up need not wait, but must be able to begin, to hear so.
const lockWaitLeast = 100 * time.Millisecond

// lockWaitMargin is what a lock timeout leaves of the transaction's time.
const lockWaitMargin = 500 * time.Millisecond

// beginBranch begins the local transaction of the context's next branch. The
// connection is tried first, because a broken one is database/sql's to replace;
// then the branch is registered and enlisted.
func (c *proxyConn) beginBranch(ctx context.Context, info Info, opts driver.TxOptions) (_ driver.Tx, err error) {
	p := c.p
	if c.tainted {
		return nil, fmt.Errorf("resource %q: %w: SQL text has begun or ended a transaction on this connection", p.resource, ErrTransactionControl)
	}
	if err := p.usable(ctx); err != nil {
		return nil, err
	}
	wait := max(lockWaitLeast, min(p.cfg.lockWait, p.client.timeLeft(info)-lockWaitMargin))
	if p.engine.pins() {
		if err := p.pins.reserve(ctx, wait, p.resource); err != nil {
			return nil, err
		}
		defer func() {
			if err != nil {
				p.pins.release()
			}
		}()
	}
	s := c.session()
	m, err := p.engine.open(ctx, s, p.dialect, opening{gid: info.GID, opts: opts, lockWait: wait, young: p.unswept(info.GID)})
	if err != nil {
		c.abandon()
		return nil, p.explainOpen(ctx, info.GID, err)
	}
	_, held := p.engine.(heldEngine)
	b, err := p.client.startBranch(ctx, p.resource, held)
	if err != nil {
		c.abandon()
		return nil, err
	}
	t := &branchTx{p: p, c: c, ctx: ctx, branch: b, ref: b.Ref(), mark: m}
	if t.xid, err = p.engine.xid(b.Prepared()); err == nil {
		err = p.engine.start(ctx, s, t.xid)
	}
	if err != nil {
		c.abandon()
		t.refuse(fmt.Sprintf("the local transaction could not begin: %v", err), false)
		return nil, fmt.Errorf("begin branch %s of %q: %w", t.ref, p.resource, err)
	}
	p.pins.add(t)
	c.branch = t
	return t, nil
}

// abandon ends whatever open began; the connection is not used again.
func (c *proxyConn) abandon() {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	_, _ = c.session().exec(ctx, "ROLLBACK")
	c.tainted = true
}

// admit judges a statement inside the branch.
func (t *branchTx) admit(info Info, carries bool, found statements) error {
	if t.doomed.Load() {
		return t.rolledBack()
	}
	if carries && info.GID != t.ref.GID {
		return fmt.Errorf("participant: the context carries transaction %s, but the local transaction is a branch of %s", info.GID, t.ref.GID)
	}
	if found.control != "" {
		return fmt.Errorf("branch %s: %s: %w", t.ref, found.control, ErrTransactionControl)
	}
	return nil
}

func (t *branchTx) rolledBack() error {
	return &RolledBackError{GID: t.ref.GID, Detail: fmt.Sprintf("branch %s of %q hears it while it is being worked on", t.ref.ID, t.p.resource)}
}

// Commit prepares the branch and votes. nil means that the vote has arrived, or
// with [CommitWaits] that the branch is committed; with [PrepareBehind] nothing yet.
func (t *branchTx) Commit() error {
	t.c.branch = nil
	if t.c.statements > 0 || t.p.cfg.waits { // open statements are database/sql's to close
		return t.commit()
	}
	run := t.branch.prepareBehind()
	if run == nil {
		return t.commit()
	}
	pooled := t.c
	t.c = &proxyConn{p: t.p, raw: pooled.raw, state: pooled.state}
	pooled.gone.Store(true) // database/sql does not touch it any more
	run(func() error {
		defer t.c.handBack()
		return t.commit()
	})
	return nil
}

// handBack ends the use of a connection that has left its pool.
func (c *proxyConn) handBack() {
	switch {
	case c.gone.Load(): // a prepared branch keeps it
	case c.IsValid():
		c.p.pins.give(c.raw, c.state)
	default:
		_ = c.raw.Close()
	}
}

func (t *branchTx) commit() error {
	// A cancelled context must not cut a PREPARE in two; the vote may be cut short.
	ctx := context.Context(uncut{t.p.prepares.Get(context.Background(), commandTimeout), t.ctx})
	if t.doomed.Load() {
		return errors.Join(t.rolledBack(), t.giveUp(ctx, "rolled back while it was being worked on"))
	}
	if t.p.cfg.waits {
		if err := t.branch.CheckWait(); err != nil {
			return errors.Join(err, t.giveUp(ctx, err.Error()))
		}
	}
	t.mark.young = t.p.unswept(t.ref.GID)
	if done, err := t.prepareAtOnce(ctx); done {
		return err
	}
	wrote, err := t.record(ctx)
	if err != nil {
		err = t.explain(err)
		return errors.Join(fmt.Errorf("prepare branch %s of %q: %w", t.ref, t.p.resource, err), t.giveUp(ctx, err.Error()))
	}
	if !wrote {
		return t.commitReadOnly(ctx)
	}
	if err := t.p.engine.prepare(ctx, t.c.session(), t.xid); err != nil {
		// Whatever the error says, the database may have prepared: it is told again.
		return t.maybePrepared(err)
	}
	t.keep()
	return t.vote()
}

// uncut has the values of a context, and not its end.
type uncut struct {
	context.Context
	values context.Context
}

// Value finds the context's own first: what is derived from it must end with it.
func (u uncut) Value(key any) any {
	if v := u.Context.Value(key); v != nil {
		return v
	}
	return u.values.Value(key)
}

// record writes the evidence row, the last statement before the prepare.
func (t *branchTx) record(ctx context.Context) (wrote bool, err error) {
	s := t.c.session()
	if _, held := t.p.engine.(heldEngine); held {
		if err := t.p.dialect.guard(ctx, s); err != nil {
			return false, err
		}
	}
	return t.p.dialect.record(ctx, s, t.ref, t.mark)
}

// keep hands the prepared branch, with its connection where it pins it, to the
// decision. From here on a delivery may end it at any time.
func (t *branchTx) keep() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.prepared, t.since = true, time.Now()
	if t.p.engine.pins() {
		t.raw = t.c.raw
		// Statements that are still open would stay so on the server.
		t.reusable = t.c.statements == 0
		t.c.gone.Store(true)
	}
}

// vote says prepared, and waits for the end where that is wanted.
func (t *branchTx) vote() error {
	verdict, err := t.branch.Vote(t.ctx, Vote{Kind: VotePrepared})
	if err != nil {
		return fmt.Errorf("vote of branch %s of %q: %w", t.ref, t.p.resource, err)
	}
	if verdict == VerdictRollback {
		return &RolledBackError{GID: t.ref.GID, Detail: fmt.Sprintf("branch %s of %q hears it as it votes", t.ref.ID, t.p.resource)}
	}
	if !t.p.cfg.waits {
		return nil
	}
	verdict, outcome, err := t.branch.Wait(t.ctx)
	switch {
	case err != nil:
		return err
	case verdict == VerdictCommit && outcome == OutcomeCommitted:
		return nil
	case verdict == VerdictRollback && outcome == OutcomeRolledBack:
		return &RolledBackError{GID: t.ref.GID}
	}
	return fmt.Errorf("branch %s of %q: %w: decided %v, the branch %v", t.ref, t.p.resource, ErrHeuristic, verdict, outcome)
}

// commitReadOnly ends, in one phase, a branch that wrote nothing: a prepared one
// would look like a heuristic outcome later, for the database may forget it.
func (t *branchTx) commitReadOnly(ctx context.Context) error {
	s := t.c.session()
	if err := t.p.engine.commit(ctx, s, t.xid); err != nil {
		err = t.explain(err)
		return errors.Join(fmt.Errorf("end read-only branch %s of %q: %w", t.ref, t.p.resource, err), t.giveUp(ctx, err.Error()))
	}
	t.restore(ctx)
	t.forget()
	if _, err := t.branch.Vote(t.ctx, Vote{Kind: VoteReadOnly}); err != nil {
		return fmt.Errorf("vote of branch %s of %q: %w", t.ref, t.p.resource, err)
	}
	return nil
}

// Rollback rolls the local transaction back and refuses.
func (t *branchTx) Rollback() error {
	t.c.branch = nil
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), commandTimeout)
	defer cancel()
	return t.giveUp(ctx, t.whyRolledBack())
}

// whyRolledBack is what the cluster is told of a rollback by the service. Of what a
// database says it names locks alone: other errors may hold what is in its rows.
func (t *branchTx) whyRolledBack() string {
	const detail = "rolled back by its own service"
	switch {
	case t.waited != nil:
		return fmt.Sprintf("%s after this: %v", detail, t.waited)
	case t.failed:
		return detail + " after a statement had failed"
	case t.ctx.Err() != nil:
		return fmt.Sprintf("%s when its context had ended: %v", detail, context.Cause(t.ctx))
	}
	return detail
}

// note keeps what a statement's error says of locks.
func (t *branchTx) note(err error) {
	if err == nil {
		return
	}
	t.failed = true
	if f := faultOf(err); f == faultLockTimeout || f == faultDeadlock {
		t.waited = err
	}
}

// giveUp undoes what was not prepared and votes refused.
func (t *branchTx) giveUp(ctx context.Context, why string) error {
	err := t.p.engine.undo(ctx, t.c.session(), t.xid)
	if err != nil {
		t.c.tainted = true // closed, and so rolled back by the server
	} else {
		t.restore(ctx)
	}
	t.forget()
	t.refuse(why, false)
	if err != nil && faultOf(err) != faultLost {
		return fmt.Errorf("roll back branch %s of %q: %w", t.ref, t.p.resource, err)
	}
	return nil
}

// restore puts the session's settings back.
func (t *branchTx) restore(ctx context.Context) {
	if err := t.p.dialect.settings(ctx, t.c.session(), t.mark); err != nil {
		t.c.tainted = true
	}
}

// forget takes a branch out that keeps nothing in the database.
func (t *branchTx) forget() {
	t.p.pins.remove(t)
	if t.p.engine.pins() {
		t.p.pins.release()
	}
}

// refuse votes against the transaction. The refusal is repeated in the background
// where it must be, so there is no error.
func (t *branchTx) refuse(why string, maybePrepared bool) {
	_, _ = t.branch.Vote(context.WithoutCancel(t.ctx), Vote{Kind: VoteRefused, MaybePrepared: maybePrepared, Detail: why})
}

// explain adds to a database's error what only the proxy knows.
func (t *branchTx) explain(err error) error {
	if f := faultOf(err); f != faultLockTimeout && f != faultDeadlock {
		return err
	}
	if other := t.p.pins.sibling(t.ref); other != nil {
		return fmt.Errorf("branch %s of %q waited in vain for a lock, and branch %s of the same transaction has work there: two branches of one transaction can block each other; do both in one local transaction: %w",
			t.ref, t.p.resource, other.ref.ID, err)
	}
	return fmt.Errorf("branch %s of %q waited in vain for a lock%s: %w", t.ref, t.p.resource, t.p.holders(), err)
}

// explainOpen does the same where there is no branch yet. A connection that turned
// out to be broken is a bad one in database/sql's words: nothing has happened, so
// it may take another.
func (p *Proxy) explainOpen(ctx context.Context, gid GID, err error) error {
	switch faultOf(err) {
	case faultLockTimeout:
		return fmt.Errorf("begin a branch of transaction %s: %q is locked%s: %w", gid, p.resource, p.holders(), err)
	case faultLost:
		if ctx.Err() == nil {
			return fmt.Errorf("begin a branch of transaction %s in %q: %w: %w", gid, p.resource, driver.ErrBadConn, err)
		}
	}
	return fmt.Errorf("begin a branch of transaction %s in %q: %w", gid, p.resource, err)
}

// holders names, for people, the oldest branch that awaits its decision here.
func (p *Proxy) holders() string {
	var oldest *branchTx
	var since time.Time
	for _, t := range p.pins.list() {
		t.mu.Lock()
		if t.prepared && (oldest == nil || t.since.Before(since)) {
			oldest, since = t, t.since
		}
		t.mu.Unlock()
	}
	if oldest == nil {
		return ""
	}
	return fmt.Sprintf(" (branch %s has awaited its decision for %v: quorate tx show %s)", oldest.ref, time.Since(since).Round(time.Millisecond), oldest.ref.GID)
}
