package fencetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/quorate/quorate/participant/fence"
)

// crowd is how many repeats come at the same time.
const crowd = 6

// together: repeats meet in the middle of each other's local transactions.
func together(ctx context.Context, s Store) error {
	for range 4 {
		b := newBranch(s, "saga")
		errs := make([]error, crowd)
		var all sync.WaitGroup
		for i := range errs {
			all.Go(func() { errs[i] = b.insist(ctx, fence.Action, 2, pause) })
		}
		all.Wait()
		if err := errors.Join(append(errs, b.is(ctx, 1, 0, 0))...); err != nil {
			return err
		}
		all = sync.WaitGroup{}
		for i := range errs {
			all.Go(func() { errs[i] = b.insist(ctx, fence.Compensate, 2, pause) })
		}
		all.Wait()
		if err := errors.Join(append(errs, b.is(ctx, 1, 1, 0))...); err != nil {
			return err
		}
	}
	return nil
}

// actionAgainstEnding: whichever comes first, what is done is undone, and nothing is
// done after it.
func actionAgainstEnding(ctx context.Context, s Store) error {
	for range 8 {
		b := newBranch(s, "saga")
		var action, ending error
		var both sync.WaitGroup
		both.Go(func() { action = b.insist(ctx, fence.Action, 2, pause) })
		both.Go(func() { ending = b.insist(ctx, fence.Compensate, 2, pause) })
		both.Wait()
		if ending != nil {
			return ending
		}
		done := int64(1)
		if errors.Is(action, fence.ErrLate) {
			done = 0
		} else if action != nil {
			return action
		}
		if err := b.is(ctx, done, done, 0); err != nil {
			return fmt.Errorf("the action was answered %v: %w", action, err) //nolint:errorlint // it is told, and is not the error
		}
		err := all(expect("a later action", b.do(ctx, fence.Action, 2, nil), fence.ErrLate), b.is(ctx, done, done, 0))
		if err != nil {
			return err
		}
	}
	return nil
}

// pause lets others come near. It orders nothing.
func pause() { time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond) }

// insist repeats a call as the coordinator does, while the answer is that it is still
// being worked on.
func (b *branch) insist(ctx context.Context, o fence.Operation, term uint64, during func()) error {
	for {
		err := b.s.Do(ctx, b.call(o, term), Work{Counter: b.counter(kind(o)), N: 1, During: during})
		if !errors.Is(err, fence.ErrOngoing) || ctx.Err() != nil {
			return err
		}
		pause()
	}
}
