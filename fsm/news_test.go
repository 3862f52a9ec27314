package fsm

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// What is kept by the change reads as if each event were kept alone, however alike and
// however long the lists are, and whatever was let go of.
func TestNewsReadAsEvents(t *testing.T) {
	var s State
	var all []Event // each alone
	random := rand.New(rand.NewPCG(5, 6))
	for index := uint64(1); index <= 20_000; index++ {
		s.now = stamp{index: index, term: 1 + index/1000, clockMS: 7 * index}
		for range random.IntN(3) {
			tx := &transaction{gid: testGID(testStartMS, random.Uint64N(5)), state: StateSealed}
			list := s.events.room()
			for range 1 + random.IntN(7) {
				h := happened{EventKind(1 + random.IntN(4)), []string{"", "1", "2", "3"}[random.IntN(4)]}
				list = append(list, h)
				all = append(all, Event{
					Index: index, Term: s.now.term, ClockMS: s.now.clockMS, GID: tx.gid,
					Kind: h.kind, Branch: h.branch, State: StateSealed,
				})
			}
			s.emit(tx, list)
		}
		if index%2500 != 0 {
			continue
		}
		_, oldest, _ := s.Events(index, 0)
		for _, after := range []uint64{oldest, oldest + 1, index - 1000, index - 1, index} {
			got, _, ok := s.Events(after, EventsKept)
			from := slices.IndexFunc(all, func(e Event) bool { return e.Index > after })
			if want := all[max(from, 0):]; from < 0 {
				if len(got) > 0 || !ok {
					t.Fatalf("after %d: %d events, %v, and there are none", after, len(got), ok)
				}
			} else if !ok || !slices.Equal(got, want) {
				t.Fatalf("after %d of %d: %d events, %v, and there are %d", after, index, len(got), ok, len(want))
			}
		}
		kept, _, _ := s.Events(oldest, EventsKept)
		if len(all) > EventsKept && (oldest == 0 || len(kept) < EventsKept-20 || len(kept) > EventsKept) {
			t.Fatalf("of %d events %d are kept, after %d", len(all), len(kept), oldest)
		}
	}
	if len(all) < EventsKept+1000 {
		t.Fatalf("%d events let go of none", len(all))
	}
}
