package participant

import "context"

// counting is a dialect whose server does not tell whether a transaction wrote: it counts
// the rows that a session writes, which takes a query before and one after. Most
// branches need neither, because a statement of theirs says how many rows it changed.
type counting interface {
	count(ctx context.Context, s rawSession) (int64, error)
}

// restoring is a dialect that leaves a branch's settings to the next one, and puts the
// session's own back only before other work.
type restoring interface {
	restore(ctx context.Context, s rawSession) error
}

// before counts, ahead of the first statement that may write without saying so.
func (t *branchTx) before(ctx context.Context, found statements) error {
	if found.change && (found.adds || !found.calls) {
		return nil // after tells
	}
	return t.countFrom(ctx)
}

// after judges a statement that has changed no row by the server's count. One that
// deleted none has done nothing, and rows are counted from it on. Any other may have
// written: triggers are run for a row that is set to what it was, and for one that is
// not added because it is there, and functions for its values. It counts as a write.
func (t *branchTx) after(ctx context.Context, found statements) error {
	switch {
	case !found.change || t.mark.wrote || t.mark.counted:
		return nil
	case !found.removes:
		_, needed := t.p.dialect.(counting)
		t.mark.wrote = needed
		return nil
	}
	return t.countFrom(ctx)
}

func (t *branchTx) countFrom(ctx context.Context) (err error) {
	d, needed := t.p.dialect.(counting)
	if !needed || t.mark.wrote || t.mark.counted || t.mark.readOnly {
		return nil
	}
	if t.mark.writes, err = d.count(ctx, t.c.session()); err == nil {
		t.mark.counted = true
	}
	return err
}
