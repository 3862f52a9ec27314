package coordinator

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// old lets the cluster's clock go beyond the retention of what stands, while one old
// saga keeps the floor below the horizon.
func (w *world) old() {
	w.t.Helper()
	w.submit(work{mode: logpb.Mode_MODE_SAGA, set: chain(1)})
	for range 400 {
		w.now = w.now.Add(10 * time.Second)
		w.apply(&logpb.Command{Kind: &logpb.Command_Tick{Tick: &logpb.Tick{}}})
	}
	w.core.Applied(w.now)
	w.settle()
	w.takeCalls()
	c := w.state.Clock()
	if c.FloorMS == 0 || c.FloorMS >= c.HorizonMS || c.HorizonMS >= c.ClockMS || c.Incarnation == 0 {
		w.t.Fatalf("the clock is %+v", c)
	}
}

// Whoever is told or called hears all that belongs to it, and nothing that belongs to
// something else: every field of Delivery, those to come too.
func TestADeliverySaysAllThatItMust(t *testing.T) {
	w := newWorld(t)
	w.old()
	w.attach(1, holderN(1), "a")
	w.take(1)
	plan := &logpb.Plan{
		Callback: "http://i/back", CallbackPayload: []byte("who"), CallbackAfterMs: 1000,
		Headers: []*logpb.Label{{Name: "Tenant", Value: "x"}},
	}
	w.ok(&logpb.Command{Kind: &logpb.Command_PutTopic{PutTopic: &logpb.PutTopic{Namespace: DefaultNamespace, Name: "topic",
		Change: logpb.PutTopic_CHANGE_SUBSCRIBE, Subscriber: &logpb.Subscriber{Endpoint: "http://h/do"}}}})
	branch := &logpb.BranchSpec{Id: "1", Endpoint: "topic://topic", Payload: []byte("payload"), CallTimeoutMs: 777}
	outcome := w.committedTx("key 1", branchOf("7", "a", holderN(1)), &logpb.BranchSpec{Id: "8", Resource: "b", Endpoint: "grpc://h/p.S/End"})
	message := w.submit(work{mode: logpb.Mode_MODE_MESSAGE, key: "key 2", plan: plan, set: []*logpb.BranchSpec{branch}})
	calls := w.takeCalls()
	if len(calls) != 2 {
		t.Fatalf("%d calls", len(calls))
	}
	clock := w.state.Clock()
	want := map[string]Delivery{
		"over a session": {GID: outcome, Branch: "7", Resource: "a", Operation: fsm.OperationCommit},
		"to an endpoint": {GID: outcome, Branch: "8", Resource: "b", Operation: fsm.OperationCommit, Endpoint: "grpc://h/p.S/End", Timeout: w.core.cfg.DeliveryTimeout},
		"a call": {
			GID: message, Branch: "1", Operation: fsm.OperationAction, Endpoint: "http://h/do", Timeout: 777 * time.Millisecond,
			Mode: logpb.Mode_MODE_MESSAGE, Key: "key 2", Payload: []byte("payload"), Plan: w.record(message).GetBegin().GetPlan(),
			Topic: "topic", Traceparent: "00-trace",
		},
	}
	got := map[string]Delivery{"over a session": w.take(1)[0], "to an endpoint": calls[0], "a call": calls[1]}
	said := map[string]bool{} // fields that one of them says
	for how, want := range want {
		want.Attempt, want.Epoch = 1, Epoch{Incarnation: clock.Incarnation, Term: w.term}
		want.Verdict = fsm.VerdictCommit
		got := got[how]
		if got.ClockMS > clock.ClockMS || got.FloorMS > clock.FloorMS || got.ClockMS <= clock.HorizonMS || got.FloorMS == 0 {
			t.Errorf("%s: clock %d, floor %d; the state's are %+v", how, got.ClockMS, got.FloorMS, clock)
		}
		want.ClockMS, want.FloorMS = got.ClockMS, got.FloorMS
		if want.Plan != nil {
			if got.Plan.GetHeaders()[0].GetValue() != "x" {
				t.Errorf("%s: the plan is %v", how, got.Plan)
			}
			want.Plan, got.Plan = plan, plan
		}
		g, m := reflect.ValueOf(got), reflect.ValueOf(want)
		for i := range g.NumField() {
			name := g.Type().Field(i).Name
			if !reflect.DeepEqual(g.Field(i).Interface(), m.Field(i).Interface()) {
				t.Errorf("%s: %s is %v, want %v", how, name, g.Field(i), m.Field(i))
			}
			said[name] = said[name] || !m.Field(i).IsZero()
		}
	}
	for i := range reflect.TypeFor[Delivery]().NumField() {
		if name := reflect.TypeFor[Delivery]().Field(i).Name; !said[name] {
			t.Errorf("%s is in none of the deliveries that this test knows", name)
		}
	}
}

// However much a branch says, so much of it is kept: in the log, and for people.
func TestWhatABranchSaysIsBounded(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	w := newWorld(t)
	check := func(where string, n int) {
		t.Helper()
		if n < detailBytesMax/2 || n > detailBytesMax+200 {
			t.Errorf("%s: %d bytes are kept, at most %d and who said it", where, n, detailBytesMax)
		}
	}
	gid := w.submit(work{mode: logpb.Mode_MODE_SAGA, set: chain(1), plan: &logpb.Plan{Retry: &logpb.Retry{IntervalMs: 1000, IntervalMaxMs: 1000}}})
	lastError := func(gid fsm.GID) int { return len(w.core.Deliveries(w.now, gid)[0].LastError) }
	w.called(w.one("action 01 #1"), Answered{}, errors.New(long))
	check("an error", lastError(gid))
	w.advance(time.Second)
	w.called(w.one("action 01 #2"), Answered{Busy: true, Detail: long}, nil)
	check("still working", lastError(gid))
	w.advance(time.Second)
	w.called(w.one("action 01 #3"), Answered{Refused: true, Detail: long}, nil)
	check("a refusal", len(w.record(gid).GetBranches()[0].GetDetail()))

	w.attach(1, holderN(1), "a")
	gid = w.committedTx("", branchOf("1", "a", holderN(1)))
	w.core.Busy(w.now, 1, BranchRef{gid, "1"}, long+"\x1b")
	w.settle()
	check("busy, over a session", lastError(gid))
}

// A branch that answers, and does not say what it did, has said nothing.
func TestAnAnswerThatSaysNothingIsAskedForAgain(t *testing.T) {
	w := newWorld(t)
	gid := w.committedTx("", &logpb.BranchSpec{Id: "1", Endpoint: "http://e/x"})
	w.called(w.takeCalls()[0], Answered{Detail: "well"}, nil)
	if st := w.core.Deliveries(w.now, gid); len(st) != 1 || !strings.Contains(st[0].LastError, "says nothing") {
		t.Errorf("status %+v", st)
	}
	w.advance(time.Second)
	ds := w.takeCalls()
	wantList(t, branchesOf(ds), "1 COMMIT #2")
	w.called(ds[0], Answered{Outcome: committed}, nil)
	w.wantState(gid, fsm.StateCommitted)
}

// What is given up says why, and after how many attempts: people read it.
func TestWhatIsGivenUpSaysWhy(t *testing.T) {
	for _, mode := range []fsm.Mode{logpb.Mode_MODE_SAGA, logpb.Mode_MODE_NOTIFY} {
		w := newWorld(t)
		step := actionOf("01")
		step.AttemptsMax = 2
		gid := w.submit(work{mode: mode, set: []*logpb.BranchSpec{step}})
		w.called(w.one("action 01 #1"), Answered{}, errors.New("at first"))
		w.advance(time.Second)
		w.called(w.one("action 01 #2"), busyAnswer, nil) // which is no failure
		w.advance(time.Second)
		w.called(w.one("action 01 #3"), Answered{}, errors.New("no route to it"))
		w.advance(time.Minute)
		w.nothing()
		b := w.record(gid).GetBranches()[0]
		if !strings.Contains(b.GetDetail(), "no route to it") || b.GetAttempts() != 3 {
			t.Errorf("%v: given up for %q after %d attempts", mode, b.GetDetail(), b.GetAttempts())
		}
	}
}

// Every status names the whole of what it says, whichever way it is read.
func TestAStatusSaysAllThatTheRecordDoes(t *testing.T) {
	w := newWorld(t)
	b := branchOf("1", "a", nil)
	gid := w.begun("", time.Minute, b)
	w.core.Wait(w.now, 1, gid, false)
	w.ok(&logpb.Command{Kind: &logpb.Command_Decide{Decide: &logpb.Decide{
		Gid: gid.Bytes(), Decision: fsm.DecisionRollback, Origin: logpb.Origin_ORIGIN_OPERATOR, Operator: "ann", Detail: "it was asked for",
	}}})
	w.core.Wait(w.now, 2, gid, false)
	w.settle()
	rec := w.record(gid)
	want := Status{
		GID: gid, Decision: fsm.DecisionRollback, State: rec.GetState(), Reason: rec.GetReason(), Index: w.index, Detail: rec.GetDetail(),
	}
	if want.Reason == 0 || want.Detail == "" || want.Index == rec.GetBegan().GetIndex() {
		t.Fatalf("the record says little: %v", rec)
	}
	for id := range uint64(2) {
		if got := w.answers[id+1]; got.Lost || fmt.Sprintf("%+v", got.Status) != fmt.Sprintf("%+v", want) {
			t.Errorf("waiter %d heard %+v, want %+v", id+1, got.Status, want)
		}
	}
}
