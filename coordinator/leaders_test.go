package coordinator

import (
	"fmt"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/failpoint"
)

// dying is a world whose leader dies once, at the n-th passing of a place.
type dying struct {
	*world
	place string
	at    int
	dead  bool
	// effects are what services did behind a fence; calls how often they were asked.
	effects, calls map[string]int
	order          []string
}

// settleDying performs effects until there are none. A leader that dies at a place
// performs nothing more, what it was proposing is lost, and the next one leads.
func (w *dying) settleDying() {
	for {
		effects := w.core.Take()
		if len(effects) == 0 {
			return
		}
		for _, e := range effects {
			if hit, ok := e.(HitFailpoint); ok && hit.Name == w.place && !w.dead {
				if w.at--; w.at == 0 {
					w.dead = true
					w.world.calls = nil
					w.core.Follow(w.now)
					w.core.Take()
					w.term++
					w.apply(&logpb.Command{Kind: &logpb.Command_Tick{Tick: &logpb.Tick{}}})
					w.core.Lead(w.now, w.term)
					break
				}
			}
			w.perform(e)
		}
	}
}

// run lets everything be called and answered until the transaction has ended.
// Steps for which refuses holds say no.
func (w *dying) run(gid fsm.GID, refuses func(Delivery) bool) {
	w.t.Helper()
	for range 1000 {
		w.settleDying()
		if st := w.record(gid).GetState(); st == fsm.StateCommitted || st == fsm.StateRolledBack {
			return
		}
		for _, d := range w.takeCalls() {
			if d.Epoch.Term != w.term {
				continue // its leader is gone
			}
			name := operationName(d.Operation) + " " + d.Branch
			w.calls[name]++
			a := doneAnswer
			switch {
			case refuses(d):
				a = refusedAnswer
			case w.effects[name] == 0:
				w.effects[name]++
				w.order = append(w.order, name)
			}
			w.core.Called(w.now, d, a, nil)
			w.settleDying()
		}
		w.now = w.now.Add(time.Second)
		w.core.Expire(w.now)
	}
	w.t.Fatalf("not ended: %v", w.record(gid))
}

func newDying(t *testing.T, place string, at int) *dying {
	return &dying{world: newWorld(t), place: place, at: at, effects: map[string]int{}, calls: map[string]int{}}
}

// A saga of ten steps, with the leader killed before and after each answer and each
// report, in turn: every effect once and in order, and no step that was reported is
// called again.
func TestTenStepsWithTheLeaderLostAtEach(t *testing.T) {
	forward := func(Delivery) bool { return false }
	failsLast := func(d Delivery) bool { return d.Operation == fsm.OperationAction && d.Branch == "10" }
	var ahead, back []string
	for i := range 10 {
		ahead = append(ahead, fmt.Sprintf("action %02d", i+1))
	}
	for i := 9; i > 0; i-- {
		back = append(back, fmt.Sprintf("compensate %02d", i))
	}
	for _, c := range []struct {
		place   string
		times   int
		refuses func(Delivery) bool
		order   []string
	}{
		{failpoint.BeforeAnswer, 10, forward, ahead},
		{failpoint.AfterAnswer, 10, forward, ahead},
		{failpoint.BeforeAnswer, 10, failsLast, append(ahead[:9:9], back...)},
		{failpoint.BeforeReport, 9, failsLast, append(ahead[:9:9], back...)},
		{failpoint.AfterReport, 9, failsLast, append(ahead[:9:9], back...)},
	} {
		for at := 1; at <= c.times; at++ {
			w := newDying(t, c.place, at)
			gid := w.submit(work{mode: logpb.Mode_MODE_SAGA, key: "k", set: chain(10)})
			w.run(gid, c.refuses)
			if !w.dead && !(c.place == failpoint.AfterAnswer && at == 10) && !(c.place == failpoint.AfterReport && at == 9) {
				t.Errorf("%s %d: nobody died", c.place, at)
			}
			wantList(t, w.order, c.order...)
			repeated := 0
			for name, n := range w.calls {
				if n > 2 {
					t.Errorf("%s %d: %s was called %d times", c.place, at, name, n)
				}
				repeated += n - 1
			}
			want := 0
			if w.dead && (c.place == failpoint.BeforeAnswer || c.place == failpoint.BeforeReport) {
				want = 1 // its word was lost with the leader
			}
			if repeated != want {
				t.Errorf("%s %d: %d calls were repeated, want %d: %v", c.place, at, repeated, want, w.calls)
			}
		}
	}
}
