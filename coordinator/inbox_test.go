package coordinator

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/testkit"
)

func TestInboxKeepsTheOrderAndGivesAllAtOnce(t *testing.T) {
	q := newInbox()
	var got []int
	for i := range 3 {
		q.put(context.Background(), func(*Core, time.Time) { got = append(got, i) })
	}
	q.apply()
	q.apply()
	<-q.woken
	steps, applied := q.take(nil)
	if len(steps) != 3 || !applied {
		t.Fatalf("%d steps, applied %v", len(steps), applied)
	}
	for _, f := range steps {
		f(nil, time.Time{})
	}
	if len(got) != 3 || got[0] != 0 || got[2] != 2 {
		t.Errorf("in the order %v", got)
	}
	if steps, applied = q.take(steps); len(steps) != 0 || applied {
		t.Errorf("given twice: %d steps, applied %v", len(steps), applied)
	}
	q.apply() // and it wakes again
	select {
	case <-q.woken:
	case <-time.After(5 * time.Second):
		t.Error("not woken")
	}
}

// Who comes to a full inbox waits for room, for the end of its patience, or for the
// end of the inbox.
func TestInboxIsBounded(t *testing.T) {
	q := newInbox()
	nothing := func(*Core, time.Time) {}
	for range inputsMax {
		q.put(context.Background(), nothing)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("no patience"))
	if q.put(ctx, nothing) {
		t.Fatal("a step was put where there is no room")
	}
	waiting := func() bool {
		q.mu.Lock()
		defer q.mu.Unlock()
		return q.room != nil
	}
	put := make(chan bool, 2)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { put <- q.put(context.Background(), nothing) })
	}
	testkit.Eventually(t, 5*time.Second, waiting, "they wait for room")
	q.take(nil)
	if first, second := <-put, <-put; !first || !second {
		t.Error("there was room, and a step was refused")
	}
	for range inputsMax - 2 {
		q.put(context.Background(), nothing)
	}
	wg.Go(func() { put <- q.put(context.Background(), nothing) })
	testkit.Eventually(t, 5*time.Second, waiting, "it waits for room")
	if left := q.close(); len(left) != inputsMax {
		t.Errorf("%d steps are left, want %d", len(left), inputsMax)
	}
	if <-put || q.put(context.Background(), nothing) {
		t.Error("a closed inbox took a step")
	}
	wg.Wait()
}
