package fence

import (
	"errors"
	"fmt"

	"github.com/quorate/quorate/participant"
)

// Sentinel errors; they come wrapped with the branch. See [HTTPStatus] for what each is
// to the caller.
var (
	// ErrRefused is the business' own no: nothing was done, nothing will be. A function
	// given to Do returns it, wrapped; it is recorded, and repeats hear it again. It is
	// [participant.ErrRefused].
	ErrRefused = participant.ErrRefused
	// ErrOngoing means that an earlier run of the call, or the sender's local transaction,
	// is still at work: ask again. It is [participant.ErrOngoing].
	ErrOngoing = participant.ErrOngoing
	// ErrLate means that an action or a try came after the branch had been ended without
	// it, or undone: it did not run, and never will.
	ErrLate = errors.New("too late: the branch was rolled back before")
	// ErrStale means that the call was made in the name of an older leader than one that
	// this branch has heard from. It did not run. It says nothing of what is done.
	ErrStale = errors.New("the call is of an older epoch than the newest seen for the branch")
	// ErrSwept means that the transaction is older than what is still recorded. It did
	// not run.
	ErrSwept = errors.New("records of that age have been swept: the transaction ended long ago")
	// ErrOrder means that operations came which cannot follow each other: a confirm after
	// a cancel, a confirm without a try. Somebody must look.
	ErrOrder = errors.New("impossible order of operations")
	// ErrDone is [Fence.Prepare]'s word that the local transaction has been committed
	// before: it must not run again.
	ErrDone = errors.New("the local transaction has been committed before")
	// ErrCall means that the call does not say what is needed.
	ErrCall = errors.New("no usable branch call")
	// ErrNoTable means that the fence's table is not there.
	ErrNoTable = errors.New("the fence has no table")
	// ErrUnsafe means that a store would lose what it acknowledged.
	ErrUnsafe = errors.New("the store may lose what it acknowledges")
)

func badCall(format string, args ...any) error {
	return fmt.Errorf("fence: %w: %s", ErrCall, fmt.Sprintf(format, args...))
}
