package fencetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/quorate/quorate/participant/fence"
)

// random plays random orders of operations, with business that fails and refuses at
// random, against a reference: what has happened, told plainly.
func random(ctx context.Context, s Store, seed uint64, branches int) error {
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range branches {
		if err := oneRandom(ctx, s, r); err != nil {
			return fmt.Errorf("seed %d, branch %d: %w", seed, i, err)
		}
	}
	return nil
}

// story is what has happened to one branch. It shares nothing with the rules that it
// checks.
type story struct {
	done, undone, confirmed bool
	refused, closed         bool // closed: an ending was answered
	term                    uint64
}

func oneRandom(ctx context.Context, s Store, r *rand.Rand) error {
	mode, operations := "saga", []fence.Operation{fence.Action, fence.Action, fence.Compensate}
	if r.IntN(2) == 0 {
		mode, operations = "tcc", []fence.Operation{fence.Try, fence.Try, fence.Cancel, fence.Confirm}
	}
	b, was := newBranch(s, mode), story{}
	var told []string
	for range 8 {
		o := operations[r.IntN(len(operations))]
		term := 1 + r.Uint64N(3)
		end := []error{nil, nil, errBroken, refused("by chance")}[r.IntN(4)]
		want := was.play(o, term, end)
		err := b.do(ctx, o, term, end)
		told = append(told, fmt.Sprintf("%s in term %d, business %v: %v", o, term, end, err))
		if err := all(expect("the last", err, want), b.is(ctx, count(was.done), count(was.undone), count(was.confirmed))); err != nil {
			return fmt.Errorf("%w, after:\n%s", err, strings.Join(told, "\n"))
		}
	}
	return nil
}

func count(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// play goes on with the story, and is the answer to be expected.
func (s *story) play(o fence.Operation, term uint64, end error) error {
	older := term < s.term
	switch o {
	case fence.Try, fence.Action:
		if s.closed {
			return fence.ErrLate
		}
		if older {
			return fence.ErrStale
		}
		if s.refused {
			return fence.ErrRefused
		}
		s.term = term
		if !s.done {
			s.done = end == nil
			s.refused = end != nil && !errors.Is(end, errBroken)
			return end
		}
		return nil
	case fence.Confirm:
		switch {
		case !s.done || s.closed:
			return fence.ErrOrder
		case !s.confirmed && end != nil:
			return end
		}
		s.confirmed = true
	default:
		switch {
		case s.confirmed:
			return fence.ErrOrder
		case s.done && !s.undone && end != nil:
			return end
		}
		s.undone, s.closed = s.done, true
	}
	s.term = max(s.term, term)
	return nil
}
