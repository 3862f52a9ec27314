package coordinator

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// sagaAt is a saga of one step at an endpoint.
func (w *world) sagaAt(endpoint string) fsm.GID {
	w.t.Helper()
	return w.submit(work{mode: logpb.Mode_MODE_SAGA, set: []*logpb.BranchSpec{{Id: "01", Endpoint: endpoint, Undo: endpoint}}})
}

// messageAt is a message to an endpoint.
func (w *world) messageAt(endpoint string) fsm.GID {
	w.t.Helper()
	return w.submit(work{mode: logpb.Mode_MODE_MESSAGE, set: []*logpb.BranchSpec{{Id: "01", Endpoint: endpoint}}})
}

// hang lets the calls that hangs picks take all of their time, answers the others
// at once, and reports how long the transaction took to end.
func (w *world) hang(gid fsm.GID, hangs func(Delivery) bool) time.Duration {
	w.t.Helper()
	began := w.now
	for w.record(gid).GetState() != fsm.StateCommitted {
		if w.now.Sub(began) > time.Minute {
			w.t.Fatalf("not ended after a minute: %+v", w.core.Deliveries(w.now, gid))
		}
		w.hangOnce(hangs)
		if w.record(gid).GetState() != fsm.StateCommitted {
			w.advance(10 * time.Millisecond)
		}
	}
	return w.now.Sub(began)
}

func (w *world) hangOnce(hangs func(Delivery) bool) {
	for _, d := range w.takeCalls() {
		k := w.core.under[BranchRef{d.GID, d.Branch}]
		switch {
		case !hangs(d):
			w.called(d, doneAnswer, nil)
		case k != nil && w.now.Sub(k.began) >= d.Timeout:
			w.called(d, Answered{}, errors.New("deadline exceeded"))
		default:
			w.calls = append(w.calls, d)
		}
	}
}

// "A dead branch delays nobody else": ten sagas whose step hangs, at the same host
// as the healthy one or even at the same path, and for as long as may be.
func TestTenHangingSagasDelayNobody(t *testing.T) {
	for name, healthy := range map[string]string{"another path of their host": "http://h:1/well", "their own path": "http://h:1/hangs"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			var dead []fsm.GID
			for range 10 {
				dead = append(dead, w.sagaAt("http://h:1/hangs"))
			}
			hangs := func(d Delivery) bool { return slices.Contains(dead, d.GID) }
			var worst time.Duration
			for range 200 {
				worst = max(worst, w.hang(w.messageAt(healthy), hangs))
				w.advance(300 * time.Millisecond)
				w.hangOnce(hangs)
			}
			if worst != 0 {
				t.Errorf("a healthy message took up to %v beside them", worst)
			}
			for _, gid := range dead {
				w.wantState(gid, fsm.StateSealed)
				if d := w.core.Deliveries(w.now, gid)[0]; d.Attempts < 3 {
					t.Errorf("and they are hardly called: %+v", d)
				}
			}
		})
	}
}

// However many hang, and at however many places, half of the pool is for what is
// well.
func TestHangingEndpointsNeverFillThePool(t *testing.T) {
	w := newWorld(t, func(s *Settings) { s.CallsMax = 128 })
	var dead []fsm.GID
	hangs := func(d Delivery) bool { return strings.Contains(d.Endpoint, "hangs") }
	for i := range 2000 {
		dead = append(dead, w.sagaAt(fmt.Sprintf("http://h:1/hangs/%d", i%40)))
		if i%40 == 0 {
			w.advance(1500 * time.Millisecond)
			w.hangOnce(hangs)
		}
	}
	var worst time.Duration
	for range 100 {
		worst = max(worst, w.hang(w.messageAt("http://h:1/well"), hangs))
		w.advance(300 * time.Millisecond)
		w.hangOnce(hangs)
		if s := w.core.Stats(w.now); s.Calls > 128 {
			t.Fatalf("%d calls in flight, at most 128", s.Calls)
		}
	}
	if worst != 0 {
		t.Errorf("a healthy message took up to %v beside %d that hang", worst, len(dead))
	}
}

// What hangs for one transaction may answer another: whoever was not called yet
// does not wait behind those that were, and those that fail keep their turns.
func TestNewcomerGoesBesideThoseThatFail(t *testing.T) {
	w := newWorld(t)
	var dead []fsm.GID
	for range 60 {
		dead = append(dead, w.sagaAt("http://h:1/x"))
	}
	hangs := func(d Delivery) bool { return slices.Contains(dead, d.GID) }
	for range 300 {
		w.advance(200 * time.Millisecond)
		w.hangOnce(hangs)
	}
	if r := w.core.resources["endpoint http://h:1/x"]; r.calls > callsHanging+callsFresh {
		t.Errorf("%d places of the pool are held by an endpoint that hangs", r.calls)
	}
	if took := w.hang(w.sagaAt("http://h:1/x"), hangs); took > 0 {
		t.Errorf("a newcomer waited %v", took)
	}
	// And once it has recovered, all that waited are called soon.
	back := w.now
	for w.state.Counts().Due > 0 || w.core.due.length > 0 {
		if w.now.Sub(back) > 2*w.core.cfg.DeliveryTimeout {
			t.Fatalf("%d are still due %v after the endpoint was back", w.core.due.length, w.now.Sub(back))
		}
		w.hangOnce(func(d Delivery) bool { return hangs(d) && w.core.under[BranchRef{d.GID, d.Branch}].began.Before(back) })
		w.advance(50 * time.Millisecond)
	}
}

// BenchmarkMessageBesideHangingSagas is what a message of one branch costs the
// state machine and the driver, beside so many sagas whose step hangs.
func BenchmarkMessageBesideHangingSagas(b *testing.B) {
	for _, n := range []int{0, 10, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := newWorld(b)
			w.onEffect = func(Effect) {}
			for range n {
				w.sagaAt("http://h:1/hangs")
			}
			stuck := w.takeCalls()
			if n > 0 && len(stuck) == 0 {
				b.Fatal("nothing hangs")
			}
			for i := 0; b.Loop(); i++ {
				gid := fsm.NewGID(w.state.ClockMS(), [10]byte{9: 1, 3: byte(i >> 16), 4: byte(i >> 8), 5: byte(i), 6: byte(i >> 24)})
				w.do(&logpb.Command{Kind: &logpb.Command_Submit{Submit: &logpb.Submit{
					Begin: w.beginOf(work{mode: logpb.Mode_MODE_MESSAGE}, gid), Set: []*logpb.BranchSpec{{Id: "01", Endpoint: "http://h:1/well"}},
				}}})
				w.called(w.takeCalls()[0], doneAnswer, nil)
			}
		})
	}
}

// Where the pool leaves one place to an endpoint that fails, retries that are ready
// again at once take turns with what was never called.
func TestRetriesLeaveATurnToNewcomers(t *testing.T) {
	w := newWorld(t, func(s *Settings) {
		s.CallsMax, s.CallsPerResourceMax, s.BackoffMin, s.BackoffMax = 2, 1, time.Millisecond, time.Millisecond
	})
	var specs []*logpb.BranchSpec
	for i := range 4 {
		specs = append(specs, &logpb.BranchSpec{Id: fmt.Sprint(i + 1), Endpoint: "http://h:1/x"})
	}
	w.committedTx("", specs...)
	called := map[string]int{}
	for range 12 {
		for _, d := range w.takeCalls() {
			called[d.Branch]++
			w.advance(2 * time.Second) // the others are ready again by then
			w.called(d, Answered{}, errors.New("down"))
		}
		w.advance(10 * time.Millisecond)
	}
	for _, spec := range specs {
		if called[spec.GetId()] == 0 {
			t.Errorf("branch %s was never called: %v", spec.GetId(), called)
		}
	}
}
