package coordinator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/testkit"
)

// ridingNode is a leader whose reports wait for so long, with a participant attached. It
// keeps the kinds of what is proposed together: the commands' memory is used again.
type ridingNode struct {
	*node
	s *Session

	mu      sync.Mutex
	entries [][]string
	refuse  func(commands []*logpb.Command) error // or nil
}

func newRidingNode(t *testing.T, most time.Duration) *ridingNode {
	t.Helper()
	n := &ridingNode{node: newNode(t, func(c *Config) { c.Settings.ReportRideMax = most })}
	n.s = n.attach(holderN(1), "a")
	n.log.meet(func(commands []*logpb.Command) error {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.refuse != nil {
			if err := n.refuse(commands); err != nil {
				return err
			}
		}
		if commands[0].GetTick() == nil {
			n.entries = append(n.entries, kinds(commands))
		}
		return nil
	}, nil)
	return n
}

// told is a transaction whose one branch was told that it is committed.
func (n *ridingNode) told() fsm.GID {
	n.t.Helper()
	b := branchOf("1", "a", holderN(1))
	gid := n.begin("", b)
	n.prepare(gid, b)
	_, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid)})
	n.must(err)
	if m := n.next(n.s); m.Deliver.GID != gid {
		n.t.Fatalf("told %v", m.Deliver)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.entries = nil
	return gid
}

// report reports, and waits until that is on its way.
func (n *ridingNode) report(gid fsm.GID) chan error {
	n.t.Helper()
	heard := make(chan error, 1)
	n.s.ReportAsync(ReportRequest{GID: gid, Branch: "1", Outcome: committed}, func(_ Status, err error) { heard <- err })
	n.query(n.ctx, func(*Core, time.Time) {}) // the step after the report's
	return heard
}

func (n *ridingNode) riding() int {
	n.riders.mu.Lock()
	defer n.riders.mu.Unlock()
	return len(n.riders.waiting)
}

// rides waits until so many commands wait.
func (n *ridingNode) rides(want int) {
	n.t.Helper()
	testkit.Eventually(n.t, 5*time.Second, func() bool { return n.riding() == want }, "the report waits")
}

// hears waits for what came of a report.
func (n *ridingNode) hears(heard chan error) error {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.ctx, 10*time.Second)
	defer cancel()
	select {
	case err := <-heard:
		return err
	case <-ctx.Done():
		n.t.Fatal("a report was never answered")
		return nil
	}
}

func (n *ridingNode) state(gid fsm.GID) (state fsm.TxState) {
	n.log.View(func(s *fsm.State) {
		rec, _ := s.Read(gid)
		state = rec.GetState()
	})
	return state
}

func (n *ridingNode) proposed() [][]string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.entries)
}

func TestAReportRidesWithTheNextCommand(t *testing.T) {
	n := newRidingNode(t, time.Hour)
	gid := n.told()
	heard := n.report(gid)
	n.rides(1)
	if len(heard) != 0 || n.state(gid) != fsm.StateCommitting {
		t.Fatal("it was appended by itself")
	}
	n.begin("next")
	n.must(n.hears(heard))
	if n.state(gid) != fsm.StateCommitted {
		t.Errorf("the transaction is %v", n.state(gid))
	}
	if got := fmt.Sprint(n.proposed()); got != "[[Begin Report]]" {
		t.Errorf("proposed %v, want the report in the entry of the Begin", got)
	}
}

func TestAReportRidesNoLongerThanItsTime(t *testing.T) {
	n := newRidingNode(t, 20*time.Millisecond)
	for range 3 { // the timer is set anew
		gid := n.told()
		asked := time.Now()
		n.must(n.hears(n.report(gid)))
		if took := time.Since(asked); took < 20*time.Millisecond {
			t.Errorf("it waited for %v", took)
		}
		if n.state(gid) != fsm.StateCommitted {
			t.Errorf("the transaction is %v", n.state(gid))
		}
	}
}

// Many reports are worth an entry of their own.
func TestOnlyAFewReportsRide(t *testing.T) {
	n := newRidingNode(t, time.Hour)
	var gids []fsm.GID
	for range ridersMax + 1 {
		gids = append(gids, n.told())
	}
	var heard []chan error
	for _, gid := range gids {
		heard = append(heard, n.report(gid))
	}
	for _, h := range heard {
		n.must(n.hears(h))
	}
	if got := len(n.proposed()); got > batchesMax {
		t.Errorf("%d reports took %d entries", len(gids), got)
	}
	// A caller takes along no more than it should wait for.
	for i := range gids {
		if gids[i] = n.told(); i > ridersAlongMax {
			break
		}
	}
	for i := range ridersAlongMax + 2 {
		heard[i] = n.report(gids[i])
	}
	n.rides(ridersAlongMax + 2)
	n.begin("")
	if got := n.proposed(); len(got) != 1 || len(got[0]) != 1+ridersAlongMax {
		t.Errorf("proposed %v", got)
	}
	n.rides(2)
}

// Who waits for the end does not wait until somebody else has something appended.
func TestNoReportRidesWhileSomebodyWaitsForTheEnd(t *testing.T) {
	wait := func(n *ridingNode, gid fsm.GID) chan error {
		done := make(chan error, 1)
		waiters := n.Stats().Waiters
		n.goroutines.Go(func() {
			_, err := n.await(n.ctx, Status{GID: gid}, true)
			done <- err
		})
		testkit.Eventually(n.t, 5*time.Second, func() bool { return n.Stats().Waiters > waiters || len(done) > 0 }, "somebody waits")
		return done
	}
	watch := func(n *ridingNode, gid fsm.GID) chan error {
		done := make(chan error, 1)
		n.goroutines.Go(func() {
			ended := errors.New("it has ended")
			err := n.Watch(n.ctx, WatchRequest{AfterIndex: 1, Transaction: ByGID(gid)}, func(_ uint64, events []fsm.Event) error {
				if events[len(events)-1].State == fsm.StateCommitted {
					return ended
				}
				return nil
			})
			if errors.Is(err, ended) {
				err = nil
			}
			done <- err
		})
		testkit.Eventually(n.t, 5*time.Second, func() bool { return n.watchers.any() || len(done) > 0 }, "somebody watches")
		return done
	}
	for name, await := range map[string]func(*ridingNode, fsm.GID) chan error{"waits": wait, "watches": watch} {
		t.Run("who "+name+" before the report", func(t *testing.T) {
			n := newRidingNode(t, time.Hour)
			gid := n.told()
			done := await(n, gid)
			heard := n.report(gid)
			n.must(n.hears(done))
			n.must(n.hears(heard))
		})
		t.Run("who "+name+" after the report", func(t *testing.T) {
			n := newRidingNode(t, time.Hour)
			gid := n.told()
			heard := n.report(gid)
			n.rides(1)
			n.must(n.hears(await(n, gid)))
			n.must(n.hears(heard))
		})
	}
}

// What rides is answered when this node leads no more, or closes, and is not lost where
// it could have been appended.
func TestRidersEnd(t *testing.T) {
	t.Run("with the leadership", func(t *testing.T) {
		n := newRidingNode(t, time.Hour)
		heard := n.report(n.told())
		n.rides(1)
		n.follow("other")
		var elsewhere *NotLeaderError
		if err := n.hears(heard); !errors.As(err, &elsewhere) {
			t.Errorf("heard %v", err)
		}
	})
	t.Run("with the node", func(t *testing.T) {
		n := newRidingNode(t, time.Hour)
		gid := n.told()
		heard := n.report(gid)
		n.rides(1)
		n.must(n.Close())
		if err, appended := n.hears(heard), n.state(gid) == fsm.StateCommitted; (err == nil) != appended {
			t.Errorf("heard %v, and it was appended: %v", err, appended)
		}
	})
}

// A caller's proposal that fails takes no report down with it, nor the other way round.
func TestACallersFailureIsNotItsRiders(t *testing.T) {
	for name, c := range map[string]struct {
		err   error
		fails bool // the caller's
	}{
		"no room for both": {ErrTooLarge, false},
		"the caller left":  {context.Canceled, true},
		"nobody can tell":  {fmt.Errorf("%w: the disk", ErrUnknown), true},
	} {
		t.Run(name, func(t *testing.T) {
			n := newRidingNode(t, time.Hour)
			gid := n.told()
			heard := n.report(gid)
			n.rides(1)
			n.mu.Lock()
			n.refuse = func(commands []*logpb.Command) error {
				if len(commands) > 1 {
					return c.err
				}
				return nil
			}
			n.mu.Unlock()
			if _, err := n.Begin(n.ctx, &logpb.Begin{TimeoutMs: 60_000}); (err != nil) != c.fails {
				t.Errorf("the caller hears %v", err)
			}
			n.must(n.hears(heard))
			if n.state(gid) != fsm.StateCommitted {
				t.Errorf("the transaction is %v", n.state(gid))
			}
		})
	}
}

// Only that on which nothing hangs may wait for somebody else's entry.
func TestWhatRides(t *testing.T) {
	type ride struct {
		kind  string
		rides bool
	}
	for _, c := range []struct {
		name string
		make func(w *world)
		want []ride
	}{
		{"the reports of told branches", func(w *world) {
			gid := w.twoTold("")
			w.reports(gid, "1", committed)
			w.reports(gid, "2", committed)
		}, []ride{{"2 reports", true}}},
		{"one that nobody joined in time", func(w *world) {
			w.reports(w.twoTold(""), "1", committed)
			w.advance(w.core.cfg.ReportHoldMax)
		}, []ride{{"Report", true}}},
		{"a heuristic outcome, and what it takes along", func(w *world) {
			gid := w.twoTold("")
			w.reports(gid, "1", committed)
			w.reports(gid, "2", rolledBack)
		}, []ride{{"2 reports", false}}},
		{"a repeated one", func(w *world) {
			gid := w.twoTold("")
			w.reports(gid, "1", rolledBack)
			w.reports(gid, "1", rolledBack)
		}, []ride{{"Report", false}, {"Report", false}}},
		{"where somebody waits for the end", func(w *world) {
			gid := w.twoTold("")
			w.core.Wait(w.now, 1, gid, true)
			w.reports(gid, "1", committed)
			w.reports(gid, "2", committed)
		}, []ride{{"2 reports", false}}},
		{"where somebody waits for the decision that stands", func(w *world) {
			gid := w.twoTold("")
			w.core.Wait(w.now, 1, gid, false)
			w.reports(gid, "1", committed)
			w.reports(gid, "2", committed)
		}, []ride{{"2 reports", true}}},
		{"the actions of a message", func(w *world) {
			w.submit(work{mode: logpb.Mode_MODE_MESSAGE, set: []*logpb.BranchSpec{actionOf("01"), actionOf("02")}})
			for _, d := range w.takeCalls() {
				w.called(d, doneAnswer, nil)
			}
		}, []ride{{"2 reports", true}}},
		{"the first of two actions in order", func(w *world) {
			second := actionOf("02")
			second.After = []string{"01"}
			w.submit(work{mode: logpb.Mode_MODE_MESSAGE, set: []*logpb.BranchSpec{actionOf("01"), second}})
			for calls := w.takeCalls(); len(calls) > 0; calls = w.takeCalls() {
				w.called(calls[0], doneAnswer, nil)
			}
		}, []ride{{"Report", false}, {"Report", true}}},
		{"the steps of a saga, which decide it", func(w *world) {
			w.submit(work{mode: logpb.Mode_MODE_SAGA, set: []*logpb.BranchSpec{stepOf("01"), stepOf("02")}})
			for _, d := range w.takeCalls() {
				w.called(d, doneAnswer, nil)
			}
		}, []ride{{"2 answers", false}}},
		{"much text", func(w *world) {
			gid := w.twoTold("")
			for _, branch := range []string{"1", "2"} {
				w.core.Report(w.now, &logpb.Report{Gid: gid.Bytes(), Branch: branch, Outcome: committed, Detail: string(make([]byte, rideDetailBytesMax/2+1))}, func(fsm.Result, error) {})
				w.settle()
			}
		}, []ride{{"2 reports", false}}},
		{"on a node that is told not to", func(w *world) {
			w.core.cfg.ReportRideMax = 0
			gid := w.twoTold("")
			w.reports(gid, "1", committed)
			w.reports(gid, "2", committed)
		}, []ride{{"2 reports", false}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			var got []ride
			w.onEffect = func(e Effect) {
				if p, ok := e.(Propose); ok {
					kind := kinds([]*logpb.Command{p.Command})[0]
					switch kind {
					case "Report", "2 reports", "2 answers":
						got = append(got, ride{kind, p.Rides})
					}
				}
			}
			c.make(w)
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("proposed %v, want %v", got, c.want)
			}
		})
	}
}

// A report rode with a command whose outcome is unknown, and nobody leads any more when it
// is repeated: the entry may stand, here it does, so its branch must not hear that nothing
// was done.
func TestAReportWhoseRideIsUnknownStaysSo(t *testing.T) {
	for name, last := range map[string]error{
		"no longer the leader": ErrNotLeader,
		"nobody leads":         ErrNoLeader,
		"overload":             &OverloadError{Limit: "queue", Max: 1},
		"closed":               ErrClosed,
	} {
		t.Run(name, func(t *testing.T) {
			n := newRidingNode(t, time.Hour)
			gid := n.told()
			heard := n.report(gid)
			n.rides(1)
			var lost atomic.Bool
			n.log.meet(func([]*logpb.Command) error {
				if lost.Load() {
					return last
				}
				return nil
			}, func(commands []*logpb.Command) error {
				if commands[0].GetBegin() == nil {
					return nil
				}
				lost.Store(true)
				return fmt.Errorf("%w: the leadership went", ErrUnknown)
			})
			if _, err := n.Begin(n.ctx, &logpb.Begin{}); !errors.Is(err, ErrUnknown) {
				t.Errorf("the Begin: %v", err)
			}
			var unknown *UnknownError
			if err := n.hears(heard); !errors.As(err, &unknown) || unknown.GID != gid {
				t.Errorf("the report was appended, and its branch hears: %v", err)
			}
			if n.state(gid) != fsm.StateCommitted {
				t.Errorf("the transaction is %v", n.state(gid))
			}
		})
	}
}
