package coordinator

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/testkit"
)

// Each instance of a process proves the death of the one before it, not only the second.
func TestEachInstanceProvesDeathOfTheOneBefore(t *testing.T) {
	w := newWorld(t)
	for n := range byte(5) {
		w.core.Attach(w.now, SessionID(n+1), AttachRequest{Holder: holderN(n + 1), Resources: []string{"a"}, Process: "p"})
		w.settle()
		if n > 0 {
			if err := w.closed[SessionID(n)]; err == nil {
				t.Errorf("instance %d stays attached beside the next", n)
			}
			for _, gid := range w.state.List(fsm.Cursor{}, fsm.ListQuery{LimitMax: 10}).Transactions {
				w.wantLost(fsm.GID(gid.GetBegin().GetGid()))
			}
		}
		gid := w.begun("", time.Minute, branchOf("1", "a", holderN(n+1)))
		if n < 4 {
			continue
		}
		w.wantState(gid, fsm.StateActive)
	}
}

// Who is attached and has nothing to do stays known: its next work is not lost.
func TestWhoIsIdleStaysAttached(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "a")
	for range 3 {
		gid := w.begun("", time.Minute, branchOf("1", "a", holderN(1)))
		w.advanceBeating(20*time.Second, 1)
		w.wantState(gid, fsm.StateActive)
		w.ok(cmdRollback(gid))
		w.take(1)
		w.ok(cmdReport(gid, "1", rolledBack))
		w.advanceBeating(20*time.Second, 1)
	}
}

// A vouch is a word of life, as any other is.
func TestWhoVouchesIsNotSilent(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "a")
	gid := w.heldTx(heldBranch("1", "a", holderN(1)))
	for range 10 {
		w.advance(w.core.cfg.SessionGrace - time.Second)
		w.vouch(1, gid, "1")
	}
	if err, closed := w.closed[1]; closed {
		t.Errorf("the session of one that vouches ended: %v", err)
	}
}

// Every holder is asked at once, and their answers count in any order.
func TestEveryHolderIsAskedAtOnce(t *testing.T) {
	for _, order := range [][]SessionID{{1, 2, 3}, {3, 2, 1}, {2, 3, 1}} {
		w := newWorld(t)
		var set []*logpb.BranchSpec
		for i := range byte(3) {
			w.attach(SessionID(i+1), holderN(i+1), "a")
			set = append(set, heldBranch(fmt.Sprintf("%d", i+1), "a", holderN(i+1)))
		}
		gid := w.heldTx(set...)
		for _, b := range set {
			w.ok(cmdVote(gid, b, prepared))
		}
		w.ok(cmdCommit(gid))
		for i, id := range order {
			if got := w.vouchFor[id]; len(got) != 1 || got[0].Branch != fmt.Sprintf("%d", id) {
				t.Fatalf("session %d was asked for %v", id, got)
			}
			w.wantState(gid, fsm.StateSealed)
			w.vouch(id, gid, fmt.Sprintf("%d", id))
			if i == len(order)-1 {
				w.wantState(gid, fsm.StateCommitting)
			}
		}
	}
}

// One message vouches for branches of several transactions, and so does what a
// participant holds as it attaches.
func TestAVouchForManyCountsForEach(t *testing.T) {
	for _, attaching := range []bool{true, false} {
		w := newWorld(t)
		w.attach(1, holderN(1), "a")
		var gids []fsm.GID
		var refs []BranchRef
		var live []LiveBranch
		for i := range 4 {
			b := heldBranch("1", "a", holderN(1))
			gid := w.begun(fmt.Sprintf("k%d", i), time.Minute, b)
			w.ok(cmdVote(gid, b, prepared))
			w.ok(cmdCommit(gid))
			gids, refs = append(gids, gid), append(refs, BranchRef{gid, "1"})
			live = append(live, LiveBranch{BranchRef: BranchRef{gid, "1"}, Held: true, Resource: "a"})
		}
		if attaching {
			w.core.Attach(w.now, 2, AttachRequest{Holder: holderN(1), Resources: []string{"a"}, Live: live})
		} else {
			w.core.Vouch(w.now, 1, refs)
		}
		w.settle()
		for _, gid := range gids {
			w.wantState(gid, fsm.StateCommitting)
		}
	}
}

// Words that came over a session and from an endpoint are one record; where it is not
// taken, the endpoint's is said again, and the participant hears so.
func TestWordsOfASessionAndOfAnEndpointGoTogether(t *testing.T) {
	for i := range 4 {
		session, endpoint, sessionFirst := "1", "2", i < 2
		if i%2 == 1 {
			session, endpoint = endpoint, session
		}
		w := newWorld(t)
		w.attach(1, holderN(1), "a")
		proposed := w.commands()
		set := []*logpb.BranchSpec{branchOf(session, "a", holderN(1)), {Id: endpoint, Endpoint: "http://e/x"}}
		gid := w.committedTx("", set...)
		call := w.takeCalls()[0]
		*proposed = nil
		w.lose = ErrOverload
		report := func() {
			w.core.Report(w.now, &logpb.Report{Gid: gid.Bytes(), Branch: session, Outcome: committed}, new(heard).reply)
			w.settle()
		}
		if sessionFirst {
			report()
		}
		w.called(call, Answered{Outcome: committed}, nil)
		if !sessionFirst {
			report()
		}
		wantList(t, kinds(*proposed), "2 reports")
		w.lose = nil
		w.advance(time.Second)
		w.nothing()
		if !w.spoken(gid, endpoint, fsm.OperationCommit) || w.spoken(gid, session, fsm.OperationCommit) {
			t.Errorf("branch %s over a session, first %v: the endpoint's word was not said again", session, sessionFirst)
		}
		w.advanceBeating(30*time.Second, 1) // it is told again
		w.reports(gid, session, committed).want(t, 1)
		w.wantState(gid, fsm.StateCommitted)
	}
}

// Calls that are never answered use up the attempts as those do that fail.
func TestLostAttemptsAreAttempts(t *testing.T) {
	w := newWorld(t)
	step := actionOf("01")
	step.AttemptsMax = 3
	gid := w.submit(work{mode: logpb.Mode_MODE_NOTIFY, set: []*logpb.BranchSpec{step}})
	for i := range 3 {
		d := w.one(fmt.Sprintf("action 01 #%d", i+1))
		w.advance(2*d.Timeout + time.Second)
	}
	w.nothing()
	if b := w.record(gid).GetBranches()[0]; b.GetOutcome() != logpb.Outcome_OUTCOME_GAVE_UP {
		t.Errorf("%v", b)
	}
}

// A participant of several resources gets what waits at each of them.
func TestWhoAttachesGetsWhatWaitsAtEachResource(t *testing.T) {
	w := newWorld(t)
	w.committedTx("", branchOf("1", "a", nil), branchOf("2", "b", nil), branchOf("3", "c", nil))
	w.committedTx("", branchOf("4", "c", nil), branchOf("5", "a", nil))
	w.attach(1, holderN(1), "a", "b", "c")
	wantList(t, slices.Sorted(slices.Values(branchesOf(w.take(1)))), "1 COMMIT #1", "2 COMMIT #1", "3 COMMIT #1", "4 COMMIT #1", "5 COMMIT #1")
}

// A leader that slept through the end and the retention of a transaction forgets all of
// its branches.
func TestOfWhatIsGoneNothingIsDue(t *testing.T) {
	w := newWorld(t)
	gid := w.committedTx("", branchOf("1", "a", nil), branchOf("2", "b", nil), &logpb.BranchSpec{Id: "3", Endpoint: "http://e/x"})
	w.apply(cmdReport(gid, "1", committed), cmdReport(gid, "2", committed), cmdReport(gid, "3", committed))
	for range 400 {
		w.now = w.now.Add(10 * time.Second)
		w.apply(&logpb.Command{Kind: &logpb.Command_Tick{Tick: &logpb.Tick{}}})
	}
	if _, ok := w.state.Get(gid); ok {
		t.Fatal("it still stands")
	}
	w.core.Applied(w.now)
	w.settle()
	w.leavesNothing(t.Errorf)
}

// Of a lost initiator every message is asked about at once, of both kinds of transactions.
func TestEveryMessageOfALostInitiatorIsCheckedBack(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "a")
	for range 5 {
		w.prepare(work{mode: logpb.Mode_MODE_MESSAGE, plan: checkedBackAfter(time.Hour), holder: holderN(1), set: []*logpb.BranchSpec{actionOf("01")}})
	}
	gid := w.begun("", time.Minute, branchOf("1", "a", holderN(1)))
	w.core.Detach(w.now, 1, true, ErrDetached)
	w.settle()
	if got := asked(w.takeCalls()); len(got) != 5 {
		t.Errorf("asked about %v", got)
	}
	w.wantLost(gid)
}

// A retry of a transaction means each of its branches; what is stuck is listed and
// counted whole.
func TestRetryAndStuckMeanAll(t *testing.T) {
	w := newWorld(t)
	var gids []fsm.GID
	for range 3 {
		gids = append(gids, w.committedTx("", &logpb.BranchSpec{Id: "1", Endpoint: "http://e1/x"}, &logpb.BranchSpec{Id: "2", Endpoint: "http://e2/x"}))
		w.advance(time.Second)
	}
	for range 40 {
		for _, d := range w.takeCalls() {
			w.called(d, Answered{}, errBroken)
		}
		w.advance(10 * time.Second)
	}
	for _, d := range w.takeCalls() {
		w.called(d, Answered{}, errBroken)
	}
	if got := w.core.Stuck(w.now); !slices.Equal(got, gids) {
		t.Errorf("stuck are %v, want %v", got, gids)
	}
	if got := w.core.Stats(w.now).Stuck; got[logpb.Mode_MODE_TWO_PHASE] != 6 {
		t.Errorf("stuck are %v", got)
	}
	if len(w.warned) != 6 {
		t.Errorf("%d warnings, want one a branch", len(w.warned))
	}
	if due := w.core.Retry(w.now, gids[1], ""); due != 2 {
		t.Errorf("%d are due", due)
	}
	w.settle()
	ds := w.takeCalls()
	if len(ds) != 2 || ds[0].GID != gids[1] || ds[1].GID != gids[1] || ds[0].Branch == ds[1].Branch {
		t.Errorf("called %v", ds)
	}
}

// A session that nobody reads ends as a stream that breaks does: its participant may come
// back within its grace.
func TestWhoDoesNotReadHasItsGrace(t *testing.T) {
	n := newNode(t)
	s := n.attach(holderN(1), "a")
	gid := n.begin("", branchOf("1", "a", holderN(1)))
	n.step(func(*Core, time.Time) {
		for s.Err() == nil {
			n.push(s.id, Message{})
		}
	})
	testkit.Eventually(t, 5*time.Second, func() bool { return n.Stats().Sessions == 0 }, "the session has ended")
	n.query(n.ctx, func(core *Core, _ time.Time) {
		h := core.holders[holderID(holderN(1))]
		if h == nil || h.lost || !h.grace.armed() || core.txns[gid] == nil || core.txns[gid].deciding {
			t.Errorf("its participant is %+v", h)
		}
	})
}
