package raftnode

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// failStop ends the node at the first error of its disk or of its machine.
//
// A leader whose disk stalls keeps its leadership, since its heartbeats need no
// disk, and the cluster hangs (hashicorp/raft #503, #666, #614). A failed fsync
// may have dropped the pages it was asked to keep, so a later success proves
// nothing: never retry. Both are answered alike: the process ends, the others
// elect a new leader, and a supervisor starts the node again.
type failStop struct {
	report func(error)
	once   sync.Once
	failed chan struct{} // closed after err was set
	err    error

	// running says that the library's goroutines call us, not a caller of Open.
	running atomic.Bool
}

func newFailStop(report func(error)) *failStop {
	return &failStop{report: report, failed: make(chan struct{})}
}

// fail reports err, the first time, and goes on.
func (f *failStop) fail(err error) {
	f.once.Do(func() {
		err = withRoom(err)
		f.err = err
		close(f.failed)
		f.report(fmt.Errorf("%w: %w", ErrFailed, err))
	})
}

// withRoom adds what to do about a full disk, in whatever the store wrapped it.
func withRoom(err error) error {
	if err == nil || !errors.Is(err, syscall.ENOSPC) && !strings.Contains(err.Error(), syscall.ENOSPC.Error()) || errors.Is(err, errNoRoom) {
		return err
	}
	return fmt.Errorf("%w; %w", err, errNoRoom)
}

var errNoRoom = errors.New("the disk is full: make room on the file system of the data directory (delete nothing inside it), then start this node again; nothing that was acknowledged is lost")

// halt reports err and ends the calling goroutine of the library, so that it
// does nothing more with a state that cannot be trusted; some of its callers
// would panic, others retry. While the node is being opened halt returns, and
// the caller returns err.
func (f *failStop) halt(err error) {
	f.fail(err)
	if f.running.Load() {
		runtime.Goexit()
	}
}

// cause returns why the node stopped itself, or nil.
func (f *failStop) cause() error {
	select {
	case <-f.failed:
		return f.err
	default:
		return nil
	}
}

// guard runs one operation of the disk at a time limit. A panic of the store,
// which bbolt answers to a damaged page with, becomes an error.
func (f *failStop) guard(what string, max time.Duration, operation func() error) (err error) {
	if cause := f.cause(); cause != nil {
		return fmt.Errorf("%s refused: %w: %w", what, ErrFailed, cause)
	}
	w := watch(max, func() {
		f.fail(fmt.Errorf("%s has taken longer than %v: the disk does not answer; look at the disk and its controller, then start the node again", what, max))
	})
	defer w.stop()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: %w: the store panicked: %v", what, ErrDamaged, p)
		}
	}()
	if err := operation(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
