package participant

import (
	"context"
	"errors"
	"fmt"
)

// atOnce is an engine that can insert the evidence row and prepare in one request, of a
// branch that has surely written.
type atOnce interface {
	// last are the statements: those behind one that fails do not run.
	last(d dialect, ref BranchRef, m mark, xid string) []string
	// refused explains an error with which nothing can have been prepared; nil where
	// something may have been.
	refused(ctx context.Context, s rawSession, d dialect, ref BranchRef, err error) error
	// advise adds to an error of the prepare what to do about it.
	advise(err error) error
}

// prepareAtOnce saves the round trips between the evidence row and the prepare. done is
// false where that cannot be: nothing has happened then.
func (t *branchTx) prepareAtOnce(ctx context.Context) (done bool, _ error) {
	e, ok := t.p.engine.(atOnce)
	s := t.c.session()
	if !ok || !t.mark.wrote || t.failed || s.state.single.Load() {
		return false, nil
	}
	err := s.batch(ctx, e.last(t.p.dialect, t.ref, t.mark, t.xid)...)
	if err == nil {
		t.keep()
		return true, t.vote()
	}
	why := e.refused(ctx, s, t.p.dialect, t.ref, err)
	if f := faultOf(err); why == nil && (f == faultLockTimeout || f == faultDeadlock) {
		why = t.explain(err)
	}
	if why == nil {
		return true, t.maybePrepared(e.advise(err))
	}
	return true, errors.Join(fmt.Errorf("prepare branch %s of %q: %w", t.ref, t.p.resource, why), t.giveUp(ctx, why.Error()))
}

// maybePrepared refuses after an error that leaves open whether the branch is prepared: it
// is told its outcome all the same.
func (t *branchTx) maybePrepared(err error) error {
	t.c.tainted = true
	err = t.explain(err)
	t.forget()
	t.refuse(err.Error(), true)
	return fmt.Errorf("prepare branch %s of %q: %w", t.ref, t.p.resource, err)
}
