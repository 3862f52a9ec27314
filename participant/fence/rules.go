package fence

import "fmt"

// State is what a row says of its branch.
type State string

// The states of a row. A row that is there was written in the local transaction of what
// it says.
const (
	// StateOpen: an action was heard of (its epoch is noted), and nothing is done.
	StateOpen State = "open"
	// StateDone: the action or the try is done.
	StateDone State = "done"
	// StateRefused: it was refused by the business; nothing is done.
	StateRefused State = "refused"
	// StateConfirmed: the try is done and confirmed.
	StateConfirmed State = "confirmed"
	// StateUndone: it was done, and was compensated or cancelled.
	StateUndone State = "undone"
	// StateFenced: the branch was ended before anything was done: nothing ever will be.
	StateFenced State = "fenced"
)

// Record is a row, without its key.
type Record struct {
	State State
	// Epoch is the newest one that the branch has heard of.
	Epoch Epoch
	// Detail is a refusal's words.
	Detail string
}

// step is what a call comes to.
type step struct {
	// run: the business runs, and next stands with it.
	run  bool
	next Record
	// err, when there is one, is the answer, and nothing changes.
	err error
}

// decide is the fence's whole law: what stands of a branch (nil: nothing), and the call.
func decide(standing *Record, c Call) step {
	was := Record{State: StateOpen}
	if standing != nil {
		was = *standing
	}
	next := was
	if c.Epoch.Compare(was.Epoch) > 0 {
		next.Epoch = c.Epoch
	}
	switch {
	case c.Operation.forward():
		return forward(was, next, c)
	case c.Operation.back():
		return back(was, next, c)
	default:
		return confirm(was, next, c)
	}
}

// forward: an action or a try.
func forward(was, next Record, c Call) step {
	switch {
	case was.State == StateFenced || was.State == StateUndone:
		return step{err: c.failed(ErrLate)}
	case c.Epoch != (Epoch{}) && c.Epoch.Compare(was.Epoch) < 0:
		return step{err: c.failed(fmt.Errorf("%w: %s after %s", ErrStale, c.Epoch, was.Epoch))}
	case was.State == StateRefused && c.refusals():
		return step{err: c.failed(fmt.Errorf("%w before: %s", ErrRefused, was.Detail))}
	case was.State == StateOpen, was.State == StateRefused:
		next.State, next.Detail = StateDone, ""
		return step{run: true, next: next}
	}
	return step{next: next} // done, or confirmed
}

// back: an ending that undoes. It is obeyed from any epoch.
func back(was, next Record, c Call) step {
	switch was.State {
	case StateConfirmed:
		return step{err: c.failed(fmt.Errorf("%w: the branch was confirmed before", ErrOrder))}
	case StateDone:
		next.State = StateUndone
		return step{run: true, next: next}
	case StateOpen, StateRefused:
		next.State, next.Detail = StateFenced, ""
	}
	return step{next: next} // undone, or fenced: now or before
}

// confirm is obeyed from any epoch.
func confirm(was, next Record, c Call) step {
	switch was.State {
	case StateDone:
		next.State = StateConfirmed
		return step{run: true, next: next}
	case StateConfirmed:
		return step{next: next}
	case StateFenced, StateUndone:
		return step{err: c.failed(fmt.Errorf("%w: the branch was cancelled before", ErrOrder))}
	}
	return step{err: c.failed(fmt.Errorf("%w: no try of the branch is recorded as done", ErrOrder))}
}
