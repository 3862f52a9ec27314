package fence_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/quorate/quorate/participant/fence"
	"github.com/quorate/quorate/participant/fence/fencetest"
)

// TestS15_EffectsHappenOnceAndInOrder: "each effect once", in every database.
func TestS15_EffectsHappenOnceAndInOrder(t *testing.T) {
	eachDatabase(t, func(t *testing.T, s *sqlStore) {
		fencetest.Run(t, func(*testing.T) fencetest.Store { return s })
	})
}

// TestTheChecksFailWithoutAFence: "the same test without the fence must fail".
func TestTheChecksFailWithoutAFence(t *testing.T) {
	for _, check := range fencetest.Checks() {
		t.Run(check.Name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			if err := check.Run(ctx, new(fencetest.Unfenced)); err == nil {
				t.Fatal("the check passed without a fence: it checks nothing")
			}
		})
	}
}

// planted is a fence with one rule missing.
type planted struct {
	fencetest.Sender
	// change alters the call on its way.
	change func(*fence.Call)
	// instead answers in place of the fence, when it answers true.
	instead func(context.Context, fencetest.Sender, fence.Call, fencetest.Work) (error, bool)
}

func (p planted) Do(ctx context.Context, c fence.Call, w fencetest.Work) error {
	if p.change != nil {
		p.change(&c)
	}
	if p.instead != nil {
		if err, ok := p.instead(ctx, p.Sender, c, w); ok {
			return err
		}
	}
	return p.Sender.Do(ctx, c, w)
}

var errHidden = errors.New("hidden")

// TestPlantedBugsAreFound: GUARANTEES' planted bugs of the fence, each with the check
// that must find it.
func TestPlantedBugsAreFound(t *testing.T) {
	var attempt int
	bugs := []struct {
		name, check string
		planted     planted
	}{
		{"the epoch is not checked", "an older leader's action never runs",
			planted{change: func(c *fence.Call) { c.Epoch = fence.Epoch{} }}},
		{"confirm retried as a new operation", "a repeated confirm runs once",
			planted{instead: func(ctx context.Context, s fencetest.Sender, c fence.Call, w fencetest.Work) (error, bool) {
				if c.Operation != fence.Confirm {
					return nil, false
				}
				attempt++ // the fence is asked about an operation of its own each time
				return s.Do(ctx, fence.Call{GID: c.GID, Branch: strconv.Itoa(attempt), Operation: fence.Action}, w), true
			}}},
		{"a repeat is a new part", "a repeated action runs once",
			planted{change: func(c *fence.Call) { attempt++; *c = c.For(string(rune('a' + attempt))) }}},
		{"an empty rollback leaves no record", "a late action never runs",
			planted{instead: func(_ context.Context, _ fencetest.Sender, c fence.Call, _ fencetest.Work) (error, bool) {
				return nil, c.Operation == fence.Cancel
			}}},
		{"branches are told apart by their transaction alone", "branches, parts and transactions are apart",
			planted{change: func(c *fence.Call) { c.Branch = "1" }}},
		{"a refusal is not recorded", "a refusal stands",
			planted{instead: func(ctx context.Context, s fencetest.Sender, c fence.Call, w fencetest.Work) (error, bool) {
				if !errors.Is(w.End, fence.ErrRefused) {
					return nil, false
				}
				was := w.End
				w.End = errHidden
				err := s.Do(ctx, c, w)
				if errors.Is(err, errHidden) {
					err = was
				}
				return err, true
			}}},
		{"a refused delivery is recorded", "a message's delivery is never refused for good",
			planted{change: func(c *fence.Call) { c.Mode = "saga" }}},
	}
	s := openSQL(t, fence.SQLite)
	for _, bug := range bugs {
		t.Run(bug.name, func(t *testing.T) {
			bug.planted.Sender = s
			for _, check := range fencetest.Checks() {
				if check.Name == bug.check {
					if err := check.Run(t.Context(), bug.planted); err == nil {
						t.Fatalf("%q did not find it", bug.check)
					}
					return
				}
			}
			t.Fatalf("there is no check %q", bug.check)
		})
	}
}
