package coordinator

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/testkit"
)

// Who has waited hears all that who asks again hears, of each decision.
func TestWhoWaitedHearsWhatWhoAsksAgainHears(t *testing.T) {
	n := newNode(t)
	for _, decision := range []fsm.Decision{fsm.DecisionCommit, fsm.DecisionRollback} {
		gid := n.begin("", branchA)
		waited := make(chan Status, 1)
		go func() {
			s, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid)})
			if err != nil {
				t.Error(err)
			}
			waited <- s
		}()
		testkit.Eventually(t, 5*time.Second, func() bool { return n.Stats().Waiters == 1 }, "the caller waits")
		if decision == fsm.DecisionCommit {
			n.prepare(gid, branchA)
		} else {
			_, err := n.Rollback(n.ctx, RollbackRequest{Transaction: ByGID(gid), Detail: "the customer left"})
			n.must(err)
		}
		s := <-waited
		rec := n.recordOf(gid)
		want := Status{
			GID: gid, Decision: rec.GetDecision(), State: rec.GetState(), Reason: rec.GetReason(),
			Index: rec.GetDecided().GetIndex(), Detail: rec.GetDetail(),
		}
		if s != want || s.Index == 0 || s.Decision != decision {
			t.Errorf("who waited hears %+v, and what stands is %+v", s, want)
		}
		if decision == fsm.DecisionRollback && (s.Reason == 0 || !strings.Contains(s.Detail, "the customer left")) {
			t.Errorf("why it was rolled back is not said: %+v", s)
		}
	}
}

// What undoes is called where that is said, and nowhere else: of every operation.
func TestWhereABranchIsCalledForWhat(t *testing.T) {
	spec := &logpb.BranchSpec{Endpoint: "do", Undo: "undo"}
	want := map[fsm.Operation]struct {
		endpoint          string
		called, callsBack bool
	}{
		fsm.OperationCommit: {"do", false, false}, fsm.OperationRollback: {"do", false, false},
		fsm.OperationAction: {"do", true, false}, fsm.OperationConfirm: {"do", true, false},
		fsm.OperationCompensate: {"undo", true, false}, fsm.OperationCancel: {"undo", true, false},
		fsm.OperationCheckBack: {"do", true, true}, fsm.OperationResume: {"do", true, true},
	}
	for op := fsm.OperationCommit; op <= fsm.OperationResume; op++ {
		w, known := want[op]
		if !known {
			t.Errorf("operation %v is not looked at here", op)
		}
		if endpointOf(spec, op) != w.endpoint || called(op) != w.called || callsBack(op) != w.callsBack {
			t.Errorf("%s: at %q, called %v, calls back %v; want %+v", operationName(op), endpointOf(spec, op), called(op), callsBack(op), w)
		}
	}
}

// A TCC that is rolled back is cancelled where its branches say.
func TestATCCIsCancelledWhereItsBranchesSay(t *testing.T) {
	s := &services{}
	n := nodeWith(t, s)
	st, err := n.Begin(n.ctx, &logpb.Begin{Mode: logpb.Mode_MODE_TCC})
	n.must(err)
	_, err = n.Enlist(n.ctx, st.GID, &logpb.BranchSpec{Id: "1", Endpoint: "http://h/confirm", Undo: "http://h/cancel"})
	n.must(err)
	c, err := n.Rollback(n.ctx, RollbackRequest{Transaction: ByGID(st.GID), Wait: WaitFinish})
	n.must(err)
	if c.State != fsm.StateRolledBack {
		t.Errorf("%+v", c)
	}
	wantList(t, s.list(), "cancel http://h/cancel")
}

// lockedText is a log for people.
type lockedText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lockedText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A report that nobody can put right, and each word of an operator's, is told to people,
// with who and why.
func TestPeopleHearOfWhatOnlyTheyCanMend(t *testing.T) {
	said := &lockedText{}
	n := newNode(t, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(said, nil)) })
	committing := func() fsm.GID {
		gid := n.begin("", branchA)
		n.prepare(gid, branchA)
		_, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid)})
		n.must(err)
		return gid
	}
	contrary, stranger, resolved, stopped := committing(), committing(), committing(), n.begin("", branchA)
	_, _ = n.Report(n.ctx, ReportRequest{GID: contrary, Branch: "1", Outcome: rolledBack})
	_, _ = n.Report(n.ctx, ReportRequest{GID: stranger, Branch: "9", Outcome: committed})
	_, err := n.Resolve(n.ctx, ResolveRequest{Transaction: ByGID(resolved), Branch: "1", Outcome: committed, Operator: "ann", Reason: "burnt"})
	n.must(err)
	_, err = n.Stop(n.ctx, StopRequest{Transaction: ByGID(stopped), Operator: "bob", Reason: "drowned"})
	for what, words := range map[string][]string{
		"a report of no member": {stranger.String(), "branch=9"},
		"a resolution":          {resolved.String(), "ann", "burnt"},
	} {
		if !warned(said.String(), words...) {
			t.Errorf("%s is told nobody: want a warning of %q in\n%s", what, words, said)
		}
	}
	if err == nil && !warned(said.String(), stopped.String(), "bob", "drowned") {
		t.Errorf("a stop is told nobody")
	}
}

func warned(log string, words ...string) bool {
lines:
	for line := range strings.Lines(log) {
		if !strings.Contains(line, "level=WARN") {
			continue
		}
		for _, word := range words {
			if !strings.Contains(line, word) {
				continue lines
			}
		}
		return true
	}
	return false
}

// Of several watchers each is woken by each entry, whoever comes and goes beside it.
func TestEveryWatcherIsWoken(t *testing.T) {
	var w watchers
	woken := func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
	w.join()
	first := w.next()
	w.join()
	second := w.next()
	w.wake()
	if !woken(first) || !woken(second) {
		t.Fatalf("woken: the first %v, the second %v", woken(first), woken(second))
	}
	first = w.next()
	w.leave() // the second
	if first == nil || woken(first) {
		t.Error("who leaves wakes another")
	}
	w.wake()
	if !woken(first) {
		t.Error("who leaves takes another's wake-up along")
	}
	w.leave()
	w.wake() // nobody
	w.join()
	if again := w.next(); again == nil || woken(again) {
		t.Error("who comes after all have left")
	} else if w.wake(); !woken(again) {
		t.Error("who comes after all have left is not woken")
	}
}

// What an inquiry may end is what nobody has seen. A transaction that is known is left to
// its own deadline, however old its branch's xid is.
func TestAnInquiryEndsNothingThatIsKnown(t *testing.T) {
	n := newNode(t)
	s, err := n.Begin(n.ctx, &logpb.Begin{TimeoutMs: 600_000})
	n.must(err)
	n.enlistAll(s.GID, branchA)
	n.prepare(s.GID, branchA)
	n.log.leap(3 * time.Minute)
	q, err := n.Inquire(n.ctx, InquireRequest{GID: s.GID, Branch: "1", Resource: "bank-a", Timeout: time.Second})
	if err != nil || q.Verdict != fsm.VerdictWait || q.Unseen {
		t.Errorf("%+v, %v: want to wait", q, err)
	}
	if rec := n.recordOf(s.GID); rec.GetDecision() != fsm.DecisionNone {
		t.Errorf("an inquiry has decided %v", rec)
	}
}

// Who waits for the end, and whose leader goes when only the decision is known, does not
// hear that it has ended.
func TestWhoWaitsForTheEndHearsNothingLess(t *testing.T) {
	n := newNode(t)
	gid := n.begin("", branchA)
	n.prepare(gid, branchA)
	done := make(chan error, 1)
	go func() {
		s, err := n.Commit(n.ctx, CommitRequest{Transaction: ByGID(gid), Wait: WaitFinish})
		if err == nil {
			t.Errorf("waited for the end, and hears %+v", s)
		}
		done <- err
	}()
	testkit.Eventually(t, 5*time.Second, func() bool { return n.Stats().Waiters == 1 }, "the caller waits")
	n.follow("other")
	if err := <-done; !errors.Is(err, ErrUnknown) || !errors.Is(err, ErrNotLeader) {
		t.Errorf("hears %v", err)
	}
}

// A report that rode in vain, and surely was not appended, is no unknown outcome.
func TestAReportThatSurelyDidNotRideIsNoUnknown(t *testing.T) {
	n := newRidingNode(t, time.Hour)
	gid := n.told()
	heard := n.report(gid)
	n.rides(1)
	n.log.meet(func([]*logpb.Command) error { return &OverloadError{Limit: "queue", Max: 1} }, nil)
	if _, err := n.Begin(n.ctx, &logpb.Begin{}); !errors.Is(err, ErrOverload) {
		t.Errorf("the Begin: %v", err)
	}
	if err := n.hears(heard); !errors.Is(err, ErrOverload) || errors.Is(err, ErrUnknown) {
		t.Errorf("the report: %v", err)
	}
}
