package coordinator

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
)

// work is what a transaction of a mode with called branches is made of.
type work struct {
	mode   fsm.Mode
	key    string
	plan   *logpb.Plan
	set    []*logpb.BranchSpec
	after  time.Duration // of the deadline; 0 for none
	holder []byte
}

func (w *world) beginOf(c work, gid fsm.GID) *logpb.Begin {
	return &logpb.Begin{
		Gid: gid.Bytes(), Namespace: DefaultNamespace, Key: c.key, Mode: c.mode, Entry: logpb.Entry_ENTRY_EXPLICIT,
		TimeoutMs: uint64(c.after.Milliseconds()), Plan: c.plan, Holder: c.holder, Traceparent: "00-trace",
	}
}

// submit submits it whole.
func (w *world) submit(c work) fsm.GID {
	w.t.Helper()
	gid := w.gid()
	w.ok(&logpb.Command{Kind: &logpb.Command_Submit{Submit: &logpb.Submit{Begin: w.beginOf(c, gid), Set: c.set}}})
	return gid
}

// prepare begins it, with the branches that a message carries.
func (w *world) prepare(c work) fsm.GID {
	w.t.Helper()
	gid := w.gid()
	begin := w.beginOf(c, gid)
	begin.Branches = c.set
	w.ok(&logpb.Command{Kind: &logpb.Command_Begin{Begin: begin}})
	return gid
}

// stepOf is a step with an action and a compensation.
func stepOf(id string, after ...string) *logpb.BranchSpec {
	return &logpb.BranchSpec{
		Id: id, Endpoint: "http://h:1/do/" + id, Undo: "http://h:1/undo/" + id, Payload: []byte("p" + id), After: after,
	}
}

// chain is n steps, each after the one before.
func chain(n int) []*logpb.BranchSpec {
	var set []*logpb.BranchSpec
	for i := range n {
		s := stepOf(fmt.Sprintf("%02d", i+1))
		if i > 0 {
			s.After = []string{set[i-1].Id}
		}
		set = append(set, s)
	}
	return set
}

// asked lists calls as "compensate 02 #1".
func asked(ds []Delivery) []string {
	out := make([]string, len(ds))
	for i, d := range ds {
		out[i] = strings.TrimSpace(fmt.Sprintf("%s %s", operationName(d.Operation), d.Branch)) + fmt.Sprintf(" #%d", d.Attempt)
	}
	return out
}

// one takes the only call that is in flight.
func (w *world) one(want string) Delivery {
	w.t.Helper()
	ds := w.takeCalls()
	wantList(w.t, asked(ds), want)
	return ds[0]
}

// nothing wants that nobody is called.
func (w *world) nothing() {
	w.t.Helper()
	wantList(w.t, asked(w.takeCalls()))
}

var (
	doneAnswer    = Answered{}
	refusedAnswer = Answered{Refused: true, Detail: "sold out"}
	busyAnswer    = Answered{Busy: true, Detail: "working"}
	errBroken     = errors.New("connection reset")
)

func TestSagasStepsAreCalledInOrderAndTheLastAnswerCommits(t *testing.T) {
	w := newWorld(t)
	plan := &logpb.Plan{Headers: []*logpb.Label{{Name: "Tenant", Value: "x"}}, Retry: &logpb.Retry{CallTimeoutMs: 700}}
	set := chain(3)
	set[1].CallTimeoutMs = 900
	gid := w.submit(work{mode: logpb.Mode_MODE_SAGA, key: "order-1", plan: plan, set: set})
	d := w.one("action 01 #1")
	if d.Endpoint != "http://h:1/do/01" || string(d.Payload) != "p01" || d.Key != "order-1" || d.Mode != logpb.Mode_MODE_SAGA ||
		d.Plan.GetHeaders()[0].GetValue() != "x" || d.Traceparent != "00-trace" || d.Timeout != 700*time.Millisecond ||
		d.Verdict != fsm.VerdictWait || d.GID != gid || d.Epoch.Term != w.term || d.ClockMS == 0 || !d.Called() {
		t.Errorf("the call lacks what a branch must know: %+v", d)
	}
	w.called(d, doneAnswer, nil)
	d = w.one("action 02 #1")
	if d.Timeout != 900*time.Millisecond {
		t.Errorf("the step's own deadline is %v", d.Timeout)
	}
	w.called(d, doneAnswer, nil)
	w.wantState(gid, fsm.StateSealed)
	w.called(w.one("action 03 #1"), doneAnswer, nil)
	w.wantState(gid, fsm.StateCommitted)
	w.nothing()
	wantList(t, w.hits,
		"saga-before-answer@order-1#01", "saga-after-answer@order-1#01", "saga-before-answer@order-1#02", "saga-after-answer@order-1#02",
		"saga-before-answer@order-1#03", "at-decision@order-1", "all-reported@order-1", "saga-after-answer@order-1#03")
	if s := w.core.Stats(w.now); s.Calls != 0 || s.Due != 0 || len(w.core.resources) != 0 || len(w.core.under) != 0 {
		t.Errorf("something is left: %+v", s)
	}
	if w.obs.calls["ACTION http done"] != 3 || w.obs.started != 1 || w.obs.finished != 1 {
		t.Errorf("observed %+v", w.obs)
	}
}

func TestRefusedStepIsCompensatedInExactReverse(t *testing.T) {
	w := newWorld(t)
	gid := w.submit(work{mode: logpb.Mode_MODE_SAGA, set: chain(4)})
	w.called(w.one("action 01 #1"), doneAnswer, nil)
	w.called(w.one("action 02 #1"), doneAnswer, nil)
	w.called(w.one("action 03 #1"), refusedAnswer, nil)
	w.wantState(gid, fsm.StateRollingBack)
	d := w.one("compensate 02 #1")
	if d.Endpoint != "http://h:1/undo/02" || d.Verdict != fsm.VerdictRollback || string(d.Payload) != "p02" {
		t.Errorf("the compensation is %+v", d)
	}
	w.called(d, doneAnswer, nil)
	w.called(w.one("compensate 01 #1"), doneAnswer, nil)
	w.wantState(gid, fsm.StateRolledBack)
	w.nothing()
	if r := w.record(gid); r.GetReason() != logpb.Reason_REASON_REFUSED || !strings.Contains(r.GetDetail(), "sold out") {
		t.Errorf("why: %v %q", r.GetReason(), r.GetDetail())
	}
}

// DTM compensates the step that failed, too, and an empty URL is done at once.
func TestDTMsRefusedStepIsCompensatedTooAndAnEmptyEndpointIsDone(t *testing.T) {
	w := newWorld(t)
	set := chain(3)
	set[0].Endpoint, set[1].Undo = "", ""
	gid := w.submit(work{mode: logpb.Mode_MODE_SAGA, set: set, plan: &logpb.Plan{Dialect: logpb.Dialect_DIALECT_DTM_HTTP, DialectMode: "saga"}})
	w.called(w.one("action 02 #1"), doneAnswer, nil)
	w.called(w.one("action 03 #1"), refusedAnswer, nil)
	w.called(w.one("compensate 03 #1"), doneAnswer, nil)
	w.called(w.one("compensate 01 #1"), doneAnswer, nil)
	w.wantState(gid, fsm.StateRolledBack)
}

func TestStepThatIsStillWorkingHasNotFailed(t *testing.T) {
	w := newWorld(t)
	plan := &logpb.Plan{Retry: &logpb.Retry{IntervalMs: 1000, IntervalMaxMs: 4000, AttemptsMax: 3}}
	gid := w.submit(work{mode: logpb.Mode_MODE_SAGA, set: chain(2), plan: plan})
	for i := range 20 { // the interval stays, and no attempt is used up
		w.called(w.one(fmt.Sprintf("action 01 #%d", i+1)), busyAnswer, nil)
		w.advance(time.Second)
	}
	w.called(w.one("action 01 #21"), Answered{}, errBroken)
	w.advance(time.Second)
	w.called(w.one("action 01 #22"), Answered{}, errBroken)
	w.advance(900 * time.Millisecond)
	w.nothing() // its back-off is between one second and two
	if d := w.core.Deliveries(w.now, gid); len(d) != 1 || d[0].Operation != fsm.OperationAction || d[0].Attempts != 22 ||
		d[0].LastError != errBroken.Error() || !d[0].NextAttempt.After(w.now) {
		t.Errorf("status %+v", d)
	}
	w.advance(1200 * time.Millisecond)
	w.called(w.one("action 01 #23"), Answered{}, errBroken)
	w.wantState(gid, fsm.StateRollingBack)
	if r := w.record(gid).GetReason(); r != logpb.Reason_REASON_GAVE_UP {
		t.Errorf("reason %v", r)
	}
	// It may have been done.
	w.called(w.one("compensate 01 #1"), refusedAnswer, nil) // which it cannot be
	w.advance(time.Second)
	w.called(w.one("compensate 01 #2"), doneAnswer, nil)
	w.wantState(gid, fsm.StateRolledBack)
}

// A branch that is at work after failures is asked again at its plan's interval: they are over.
func TestStepThatWorksAfterFailuresKeepsToItsInterval(t *testing.T) {
	w := newWorld(t)
	w.submit(work{mode: logpb.Mode_MODE_SAGA, set: chain(1), plan: &logpb.Plan{Retry: &logpb.Retry{IntervalMs: 1000, IntervalMaxMs: 60_000}}})
	for i := range 9 {
		ds := w.takeCalls()
		for ; len(ds) == 0 && i < 7; ds = w.takeCalls() {
			w.advance(100 * time.Millisecond)
		}
		wantList(t, asked(ds), fmt.Sprintf("action 01 #%d", i+1))
		if i < 6 {
			w.called(ds[0], Answered{}, errBroken)
			continue
		}
		w.called(ds[0], busyAnswer, nil)
		w.advance(time.Second)
	}
}

// Where the plan says nothing, a branch that works long is not asked all the time.
func TestStepThatWorksLongIsAskedEverySecond(t *testing.T) {
	w := newWorld(t)
	w.submit(work{mode: logpb.Mode_MODE_SAGA, set: chain(1)})
	asked := 0
	for w.now.Sub(w.start) < time.Minute {
		for _, d := range w.takeCalls() {
			asked++
			w.called(d, busyAnswer, nil)
		}
		w.advance(10 * time.Millisecond)
	}
	if asked < 60 || asked > 130 {
		t.Errorf("asked %d times in a minute", asked)
	}
}

// The back-off doubles up to its cap, and never ends.
func TestCompensationIsRetriedForEverWithCappedBackoff(t *testing.T) {
	w := newWorld(t)
	plan := &logpb.Plan{Retry: &logpb.Retry{IntervalMs: 1000, IntervalMaxMs: 8000, AttemptsMax: 1}}
	gid := w.submit(work{mode: logpb.Mode_MODE_SAGA, set: chain(1), plan: plan})
	w.called(w.one("action 01 #1"), Answered{}, errBroken)
	for i := range 50 {
		began := w.now
		for len(w.calls) == 0 {
			w.advance(50 * time.Millisecond)
		}
		full := min(8*time.Second, time.Second<<min(10, max(0, i-1)))
		if gap := w.now.Sub(began); i > 0 && (gap < full/2-50*time.Millisecond || gap > full+100*time.Millisecond) {
			t.Fatalf("attempt %d came after %v, want %v to %v", i+1, gap, full/2, full)
		}
		w.called(w.one(fmt.Sprintf("compensate 01 #%d", i+1)), Answered{}, errBroken)
	}
	if n := w.core.Retry(w.now, gid, ""); n != 1 {
		t.Errorf("retry: %d", n)
	}
	w.settle()
	w.called(w.one("compensate 01 #51"), Answered{}, errBroken)
	w.advance(time.Second) // it forgot its failures
	w.called(w.one("compensate 01 #52"), doneAnswer, nil)
	w.wantState(gid, fsm.StateRolledBack)
}

// No action of ours runs beside its compensation.
func TestCompensationWaitsForTheEndOfItsAction(t *testing.T) {
	for name, end := range map[string]func(w *world, d Delivery){
		"it ends with an error": func(w *world, d Delivery) { w.called(d, Answered{}, errBroken) },
		"it was done":           func(w *world, d Delivery) { w.called(d, doneAnswer, nil) },
		"nobody hears of it": func(w *world, d Delivery) {
			w.advance(2*w.core.cfg.DeliveryTimeout - 3*time.Second)
			w.nothing()
			w.advance(4 * time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			gid := w.submit(work{mode: logpb.Mode_MODE_SAGA, set: chain(2), after: 20 * time.Second})
			w.called(w.one("action 01 #1"), doneAnswer, nil)
			w.advance(19 * time.Second)
			w.called(w.one("action 02 #1"), busyAnswer, nil)
			w.advance(500 * time.Millisecond)
			inFlight := w.one("action 02 #2")
			w.advance(time.Second) // the deadline
			w.wantState(gid, fsm.StateRollingBack)
			w.nothing()
			if d := w.core.Deliveries(w.now, gid); len(d) != 1 || d[0].Operation != fsm.OperationCompensate || !strings.Contains(d[0].LastError, "action") {
				t.Errorf("status %+v", d)
			}
			end(w, inFlight)
			w.called(w.one("compensate 02 #1"), doneAnswer, nil)
			w.called(w.one("compensate 01 #1"), doneAnswer, nil)
			w.wantState(gid, fsm.StateRolledBack)
			if s := w.core.Stats(w.now); s.Calls != 0 || len(w.core.under) != 0 {
				t.Errorf("calls left: %+v", s)
			}
		})
	}
}

// A step that refuses while its saga already rolls back did nothing: it is spared.
func TestLateRefusalSparesTheCompensation(t *testing.T) {
	w := newWorld(t)
	gid := w.submit(work{mode: logpb.Mode_MODE_SAGA, set: chain(2)})
	w.called(w.one("action 01 #1"), doneAnswer, nil)
	late := w.one("action 02 #1")
	w.ok(cmdRollback(gid))
	w.nothing()
	w.called(late, refusedAnswer, nil)
	w.called(w.one("compensate 01 #1"), doneAnswer, nil)
	w.wantState(gid, fsm.StateRolledBack)
}

func TestNewLeaderGoesOnAndRepeatsNoStepThatWasReported(t *testing.T) {
	w := newWorld(t)
	gid := w.submit(work{mode: logpb.Mode_MODE_SAGA, set: chain(3)})
	w.called(w.one("action 01 #1"), doneAnswer, nil)
	old := w.one("action 02 #1")
	w.lead()
	again := w.one("action 02 #1") // it was not reported: the fence is for that
	if again.Epoch.Term != old.Epoch.Term+1 {
		t.Errorf("epochs %v then %v", old.Epoch, again.Epoch)
	}
	// The fence has seen the newer epoch, so the old call is refused: that is no
	// answer to the new one.
	w.called(old, refusedAnswer, nil)
	w.called(old, Answered{}, errBroken)
	w.wantState(gid, fsm.StateSealed)
	w.called(again, doneAnswer, nil)
	w.called(w.one("action 03 #1"), refusedAnswer, nil)
	w.one("compensate 02 #1")
	w.lead()
	w.called(w.one("compensate 02 #1"), doneAnswer, nil)
	w.one("compensate 01 #1")
	w.lead()
	w.called(w.one("compensate 01 #1"), doneAnswer, nil)
	w.wantState(gid, fsm.StateRolledBack)
}

func TestAnswerIsAppendedUntilItIsTakenAndTheStepNotCalledAgain(t *testing.T) {
	w := newWorld(t)
	gid := w.submit(work{mode: logpb.Mode_MODE_SAGA, set: chain(2)})
	w.lose = ErrOverload
	w.called(w.one("action 01 #1"), doneAnswer, nil)
	w.advance(10 * time.Second)
	w.nothing()
	if d := w.core.Deliveries(w.now, gid)[0]; !strings.Contains(d.LastError, "could not be appended") {
		t.Errorf("status %+v", d)
	}
	w.lose = nil
	w.advance(20 * time.Second)
	w.called(w.one("action 02 #1"), doneAnswer, nil)
	w.wantState(gid, fsm.StateCommitted)
}

func TestStoppedSagaIsCalledNoMore(t *testing.T) {
	w := newWorld(t)
	gid := w.submit(work{mode: logpb.Mode_MODE_SAGA, set: chain(2)})
	d := w.one("action 01 #1")
	w.core.Wait(w.now, 7, gid, true)
	w.ok(&logpb.Command{Kind: &logpb.Command_Stop{Stop: &logpb.Stop{Gid: gid.Bytes(), Operator: "op", Reason: "r"}}})
	w.wantState(gid, fsm.StateRolledBack)
	if a, ok := w.answers[7]; !ok || a.Lost || a.Status.Decision != fsm.DecisionRollback {
		t.Errorf("the waiter heard %+v", a)
	}
	w.called(d, doneAnswer, nil)
	w.advance(time.Minute)
	w.nothing()
	if s := w.core.Stats(w.now); s.Calls != 0 || s.Due != 0 {
		t.Errorf("left: %+v", s)
	}
}

func TestTCCConfirmsOrCancelsAllAtOnce(t *testing.T) {
	for _, commit := range []bool{true, false} {
		w := newWorld(t)
		gid := w.prepare(work{mode: logpb.Mode_MODE_TCC, key: "k", after: time.Minute})
		for _, id := range []string{"1", "1.2", "2"} {
			w.ok(cmdEnlist(gid, &logpb.BranchSpec{Id: id, Endpoint: "grpc://h:1/p.S/Confirm", Undo: "grpc://h:1/p.S/Cancel", Payload: []byte(id)}))
		}
		w.nothing()
		word := "confirm"
		if commit {
			w.ok(cmdCommit(gid))
		} else {
			w.ok(cmdRollback(gid))
			word = "cancel"
		}
		ds := w.takeCalls()
		wantList(t, asked(ds), word+" 1 #1", word+" 1.2 #1", word+" 2 #1")
		w.called(ds[0], doneAnswer, nil)
		w.called(ds[1], refusedAnswer, nil)
		w.called(ds[2], Answered{}, errBroken)
		w.advance(100 * time.Millisecond)
		ds = w.takeCalls()
		wantList(t, slices.Sorted(slices.Values(asked(ds))), word+" 1.2 #2", word+" 2 #2")
		for _, d := range ds {
			w.called(d, doneAnswer, nil)
		}
		if got := w.record(gid).GetState() == fsm.StateCommitted; got != commit {
			t.Errorf("commit %v: %v", commit, w.record(gid).GetState())
		}
	}
}

// GUARANTEES S5: the holder of a try is a service; its death decides nothing.
func TestLostParticipantOfATCCDecidesNothing(t *testing.T) {
	w := newWorld(t)
	gid := w.prepare(work{mode: logpb.Mode_MODE_TCC, after: 5 * time.Minute})
	w.ok(cmdEnlist(gid, &logpb.BranchSpec{Id: "1", Endpoint: "http://h/c", Undo: "http://h/x", Holder: holderN(1)}))
	w.advance(time.Minute)
	w.wantState(gid, fsm.StateActive)
	w.ok(cmdCommit(gid))
	w.called(w.one("confirm 1 #1"), doneAnswer, nil)
	w.wantState(gid, fsm.StateCommitted)
}

// TestWhatABranchSaysIsLegible: bytes that are no text would keep the log, or an
// answer to whoever looks, from being written; others steer a terminal.
func TestWhatABranchSaysIsLegible(t *testing.T) {
	const said = "500 \xff\xfe\x1b[31m\u202edaetsni"
	check := func(where, text string) {
		t.Helper()
		if !strings.Contains(text, "500 ?") || !utf8.ValidString(text) || strings.ContainsFunc(text, fsm.IsControl) {
			t.Errorf("%s: %q", where, text)
		}
	}
	w := newWorld(t)
	gid := w.submit(work{mode: logpb.Mode_MODE_SAGA, set: chain(2), plan: &logpb.Plan{Retry: &logpb.Retry{IntervalMs: 1000, AttemptsMax: 3}}})
	lastError := func() string {
		d := w.core.Deliveries(w.now, gid)
		if len(d) != 1 {
			t.Fatalf("%d deliveries", len(d))
		}
		return d[0].LastError
	}
	w.called(w.one("action 01 #1"), Answered{}, errors.New(said))
	check("an error", lastError())
	w.advance(time.Second)
	w.called(w.one("action 01 #2"), Answered{Busy: true, Detail: said}, nil)
	check("still working", lastError())
	w.advance(time.Second)
	w.called(w.one("action 01 #3"), Answered{Refused: true, Detail: said}, nil)
	w.wantState(gid, fsm.StateRolledBack)
	check("a refusal", w.record(gid).GetDetail())
}
