package coordinator

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
)

// "A dead branch delays nobody else", where each dead branch has an endpoint of its
// own, as with services that put a transaction's name into the path. A healthy
// newcomer comes to a host and a path that were never called.
func TestHangingEndpointsOfTheirOwnStarveNobody(t *testing.T) {
	const burst = time.Minute
	for name, test := range map[string]struct {
		endpoint string
		n, each  int
		early    time.Duration // how long a newcomer may wait within the first minute
	}{
		"600 paths of one host":   {"http://dead:1/%d", 600, 2, 0},
		"1,100 paths of one host": {"http://dead:1/%d", 1100, 2, 0},
		"600 hosts":               {"http://dead%d:1/x", 600, 1, 3 * time.Second},
		// The pool cannot know them from the healthy before it has called them.
		"1,100 hosts": {"http://dead%d:1/x", 1100, 2, 25 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			for i := range test.each * test.n {
				w.sagaAt(fmt.Sprintf(test.endpoint, i/test.each))
			}
			dead := func(d Delivery) bool { return strings.Contains(d.Endpoint, "dead") }
			var early, late time.Duration
			for i := 0; w.now.Sub(w.start) < 90*time.Second; i++ {
				before := w.now
				took := w.hang(w.messageAt(fmt.Sprintf("http://well%d:1/%d", i, i)), dead)
				if before.Sub(w.start) < burst {
					early = max(early, took)
				} else {
					late = max(late, took)
				}
				w.advance(time.Second)
				w.hangOnce(dead)
				if s := w.core.Stats(w.now); s.Calls > w.core.cfg.CallsMax {
					t.Fatalf("%d calls in flight, at most %d", s.Calls, w.core.cfg.CallsMax)
				}
			}
			if early > test.early || late > 0 {
				t.Errorf("a newcomer took up to %v at first, at most %v is due, and up to %v later, none is due", early, test.early, late)
			}
			// And once they are back, they are all called.
			back := w.now
			for w.core.due.length > 0 {
				if w.now.Sub(back) > time.Minute {
					t.Fatalf("%d are still due a minute after all were back", w.core.due.length)
				}
				w.hangOnce(func(d Delivery) bool { return w.core.under[BranchRef{d.GID, d.Branch}].began.Before(back) })
				w.advance(50 * time.Millisecond)
			}
		})
	}
}

// Those that were called before have places that newcomers do not take, however many
// of these come and hang: what has recovered is found out.
func TestNewcomersLeaveATurnToThoseThatFailed(t *testing.T) {
	w := newWorld(t, func(s *Settings) { s.CallsMax = 64 })
	recovered := w.sagaAt("http://back:1/x")
	hangs := func(d Delivery) bool { return d.GID != recovered || w.now.Sub(w.start) < 20*time.Second }
	for i := 0; w.record(recovered).GetState() != fsm.StateCommitted; i++ {
		if w.now.Sub(w.start) > 2*time.Minute {
			t.Fatalf("not called for long: %+v", w.core.Deliveries(w.now, recovered))
		}
		w.sagaAt(fmt.Sprintf("http://new%d:1/x", i))
		w.advance(50 * time.Millisecond)
		w.hangOnce(hangs)
	}
}

// What a host has shown is remembered while nothing is due there, of so many hosts.
func TestHostsAreRememberedAndForgotten(t *testing.T) {
	w := newWorld(t)
	nobody := func(Delivery) bool { return false }
	for i := range 2 * hostsKept {
		w.hang(w.messageAt(fmt.Sprintf("http://h%d:1/x", i)), nobody)
		w.hang(w.messageAt("http://often:1/x"), nobody)
		if n := len(w.core.hosts); n > hostsKept+1 {
			t.Fatalf("%d hosts are remembered", n)
		}
		if len(w.core.resources) > 1 {
			t.Fatalf("%d resources, and nothing is due", len(w.core.resources))
		}
	}
	last := w.core.hosts[fmt.Sprintf("endpoint h%d:1", 2*hostsKept-1)]
	if last == nil || !last.answered {
		t.Errorf("the last host called is not remembered: %+v", last)
	}
	w.lead()
	if len(w.core.hosts)+len(w.core.unused) != 0 {
		t.Error("a new leadership remembers what another one saw")
	}
}
