package coordinator

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/failpoint"
)

// A log may wrap its errors, as every Go library may. Whether something was
// appended must be read from them all the same: what surely was not must not be
// called unknown, and what is unknown must never be called refused.
func TestErrorsOfTheLogAreSortedWhateverWrapsThem(t *testing.T) {
	n := newNode(t)
	n.follow("other")
	gid := fsm.NewGID(1, [10]byte{1})
	for _, c := range []struct {
		err, want error
	}{
		{ErrNotLeader, ErrNotLeader},
		{ErrNoLeader, ErrNoLeader},
		{ErrOverload, ErrOverload},
		{&OverloadError{Limit: "queue", Max: 1}, ErrOverload},
		{ErrTooLarge, ErrTooLarge},
		{ErrUnknown, ErrUnknown},
		{io.ErrUnexpectedEOF, ErrUnknown},
	} {
		for _, err := range []error{c.err, fmt.Errorf("propose: %w", c.err), errors.Join(io.EOF, c.err)} {
			got := n.proposeError(gid, err)
			if !errors.Is(got, c.want) || errors.Is(got, ErrUnknown) != (c.want == ErrUnknown) {
				t.Errorf("a proposal that failed with %q: %v, want %v", err, got, c.want)
			}
			if notAppended(err) != (c.want != ErrUnknown) {
				t.Errorf("%q: nothing was appended is %v", err, notAppended(err))
			}
			var leads *NotLeaderError
			if c.want == ErrNotLeader && (!errors.As(got, &leads) || leads.Leader.ID != "other") {
				t.Errorf("a proposal that failed with %q does not say who leads: %v", err, got)
			}
			if got := n.readError(err); c.want == ErrNotLeader && !errors.As(got, &leads) {
				t.Errorf("a read that failed with %q does not say who leads: %v", err, got)
			}
		}
	}
}

// A report that is stopped on its way was not said, and its caller hears of it
// once. The node holds at its end that no caller's place is kept.
func TestAReportThatIsStoppedIsUnknown(t *testing.T) {
	arm(t, failpoint.BeforeReport+"=error")
	n := newNode(t)
	b := branchOf("1", "a", holderN(1))
	gid := n.begin("", b)
	n.prepare(gid, b)
	_, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid), Wait: WaitNone})
	n.must(err)
	heard := 0
	_, err = reported(n.ctx, n.Coordinator, gid, func(done func(Status, error)) {
		n.ReportAsync(ReportRequest{GID: gid, Branch: "1", Outcome: committed, Holder: holderN(1)},
			func(s Status, err error) { heard++; done(s, err) })
	})
	if !errors.Is(err, ErrUnknown) || heard != 1 {
		t.Errorf("%v, heard %d times", err, heard)
	}
	n.log.View(func(state *fsm.State) {
		if rec, _ := state.Read(gid); rec.GetState() != fsm.StateCommitting {
			t.Errorf("what was stopped was said: %v", rec)
		}
	})
}
