package timebox

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestContextsEndInTime: no sooner than asked, and at most an eighth later; those that are
// asked for together are one.
func TestContextsEndInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Contexts
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		const bound = 800 * time.Millisecond
		begun := time.Now()
		first := c.Get(ctx, bound)
		time.Sleep(90 * time.Millisecond)
		if c.Get(ctx, bound) != first {
			t.Error("another context within the slack")
		}
		time.Sleep(20 * time.Millisecond)
		second, secondBegun := c.Get(ctx, bound), time.Now()
		if second == first {
			t.Error("the same context beyond the slack")
		}
		<-first.Done()
		if took := time.Since(begun); took != 900*time.Millisecond {
			t.Errorf("the first ended after %v", took)
		}
		<-second.Done()
		if took := time.Since(secondBegun); took != 900*time.Millisecond || !errors.Is(second.Err(), context.DeadlineExceeded) {
			t.Errorf("the second ended after %v: %v", took, second.Err())
		}
		third := c.Get(ctx, bound)
		cancel()
		if third.Err() == nil {
			t.Error("it lives on after its parent")
		}
		if deadline, _ := new(Contexts).Get(t.Context(), time.Minute).Deadline(); time.Until(deadline) != 61*time.Second {
			t.Errorf("a minute became %v", time.Until(deadline))
		}
	})
}

// TestContextsOfAnotherParent: whoever asks for one below another context gets one that
// ends with that, and not with the one before.
func TestContextsOfAnotherParent(t *testing.T) {
	var c Contexts
	ended, cancel := context.WithCancel(t.Context())
	first := c.Get(ended, time.Minute)
	cancel()
	second := c.Get(t.Context(), time.Minute)
	if first.Err() == nil || second.Err() != nil {
		t.Errorf("below the one that ended: %v, below the other: %v", first.Err(), second.Err())
	}
	if c.Get(t.Context(), time.Minute) != second {
		t.Error("another context within the slack")
	}
}
