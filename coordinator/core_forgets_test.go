package coordinator

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// outlivesLeadership are the fields of Core that are no leadership's: what it was made
// with, where it stands, and memory. A field that is added must be forgotten, or be
// named here with a reason.
var outlivesLeadership = []string{
	"cfg", "view", "random", "obs", "points",
	"term", "since", "now", "clock", "pulled", "graceEnd", // set anew by the next one
	"token",            // no number is given twice, or an answer to the one before would be taken for another's
	"effects", "spare", // asked for already
}

// holds tells whether there is anything in a field: a map or a slice that is empty, and
// a list of whatever kind that is, hold nothing.
func holds(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Map, reflect.Slice:
		return v.Len() > 0
	case reflect.Array:
		for i := range v.Len() {
			if holds(v.Index(i)) {
				return true
			}
		}
		return false
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[list]() {
			return v.FieldByName("length").Int() > 0
		}
		for i := range v.NumField() {
			if holds(v.Field(i)) {
				return true
			}
		}
		return false
	default:
		return !v.IsZero()
	}
}

// remembers lists the fields that hold something of a leadership.
func remembers(c *Core) []string {
	var out []string
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		if name := v.Type().Field(i).Name; !slices.Contains(outlivesLeadership, name) && holds(v.Field(i)) {
			out = append(out, name)
		}
	}
	return out
}

// Of a leadership nothing is left, whatever was under way: every field of Core, those to
// come too. Both storms end with the same question.
func TestALeadershipLeavesNothing(t *testing.T) {
	w := newWorld(t, func(s *Settings) { s.SurveyPage = 3 })
	w.lead() // of a survey with pages to come
	gid := w.twoTold("k")
	w.core.Wait(w.now, 1, gid, true)
	w.reports(gid, "1", committed) // and is held
	w.submit(work{mode: logpb.Mode_MODE_SAGA, set: chain(2)})
	for range 10 {
		w.committedTx("", branchOf("1", "nobody's", nil), &logpb.BranchSpec{Id: "2", Endpoint: "http://e/x"})
	}
	w.hold = true
	w.called(w.takeCalls()[0], doneAnswer, nil) // its word is on its way
	w.advance(time.Minute)                      // and a Tick
	w.core.Attach(w.now, 7, AttachRequest{Holder: holderN(7), Resources: []string{"c"}, Process: "p"})
	w.core.resync()
	if got := remembers(w.core); len(got) < 12 {
		t.Fatalf("little is under way: %v", got)
	}
	w.core.Follow(w.now)
	if left := remembers(w.core); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// leavesNothing: once all has ended and everybody is gone, nothing is kept of it, and
// after the leadership nothing at all.
func (w *world) leavesNothing(fail func(format string, args ...any)) {
	c := w.core
	for id := range c.sessions {
		c.Detach(w.now, id, false, ErrDetached)
	}
	w.settle()
	w.takeCalls()
	w.advance(4 * c.cfg.SessionGrace)
	if len(c.under) > 0 { // what is never answered is given up by the core itself
		w.advance(3 * CallTimeoutMax)
	}
	for name, n := range map[string]int{
		"transactions": len(c.txns), "sessions": len(c.sessions), "holders": len(c.holders), "processes": len(c.processes),
		"resources": len(c.resources), "calls": len(c.under) + c.calls, "waiters": len(c.waiters), "proposals": len(c.replies),
		"deliveries": c.due.length, "resources in turn": len(c.runnable) + len(c.crowd), "timers beside the tick's": len(c.timers.heap) - 1,
	} {
		if n != 0 {
			fail("all has ended, and %d %s are kept", n, name)
		}
	}
	c.Follow(w.now)
	w.settle()
	if left := remembers(c); len(left) > 0 {
		fail("left over from the leadership: %v", left)
	}
}

// What a leader asked the log for does not concern the next one, though it be this node
// again: not what came of it, and what stands beside it in one message is heard.
func TestWhatALeaderProposedIsNotTheNextOnes(t *testing.T) {
	w := newWorld(t)
	gid := w.submit(work{mode: logpb.Mode_MODE_SAGA, set: chain(2)})
	w.hold = true
	w.called(w.one("action 01 #1"), doneAnswer, nil)
	old := w.held
	w.hold, w.held = false, nil
	w.lead()
	d := w.one("action 01 #1")
	w.hold = true
	w.called(d, doneAnswer, nil)
	mine := w.held
	if len(old) != 1 || len(mine) != 1 || old[0].Token == mine[0].Token {
		t.Fatalf("proposed %+v, and then %+v", old, mine)
	}
	w.core.Proposed(w.now, ProposeResult{Token: old[0].Token, Err: ErrNotLeader})
	w.settle()
	if len(w.held) != 1 || w.core.find(ref(d)).phase != phaseReporting {
		t.Fatalf("an answer to the leader before is taken for this one's: %d proposals", len(w.held))
	}
	w.core.Proposed(w.now, ProposeResult{Token: old[0].Token, Err: ErrNotLeader}, ProposeResult{Token: mine[0].Token, Err: ErrOverload})
	w.settle()
	if st := w.core.Deliveries(w.now, gid); len(st) != 1 || st[0].NextAttempt.IsZero() {
		t.Fatalf("what stood beside it was not heard: %+v", st)
	}
	w.hold, w.held = false, nil
	w.advance(time.Second)
	w.called(w.one("action 02 #1"), doneAnswer, nil)
	w.wantState(gid, fsm.StateCommitted)
}

// A pull of very many transactions is looked at as a small one is, and so is what
// happens to them next.
func TestAPullOfManyLosesNone(t *testing.T) {
	w := newWorld(t)
	const many = looksKept + 100
	begins, rollbacks := make([]*logpb.Command, many), make([]*logpb.Command, many)
	for i := range many {
		gid := w.gid()
		b := branchOf("1", "a", nil)
		begins[i] = &logpb.Command{Kind: &logpb.Command_Submit{Submit: &logpb.Submit{
			Begin: cmdBegin(gid, "", time.Minute).GetBegin(), Set: []*logpb.BranchSpec{b}}}}
		begins[i].GetSubmit().Begin.Entry = logpb.Entry_ENTRY_NAMED
		rollbacks[i] = cmdRollback(gid)
	}
	for _, r := range w.apply(begins...) {
		if r.Code != fsm.OK {
			t.Fatalf("submit: %v %s", r.Code, r.Detail)
		}
	}
	w.core.Applied(w.now)
	w.settle()
	if n := len(w.core.txns); n != many {
		t.Fatalf("%d are noted, want %d", n, many)
	}
	w.apply(rollbacks...)
	w.core.Applied(w.now)
	w.settle()
	due := 0
	for range w.state.Due() {
		due++
	}
	if n := w.core.Stats(w.now).Due; due != many || n != due {
		t.Errorf("%d are due of %d, and %d delivered", due, many, n)
	}
}
