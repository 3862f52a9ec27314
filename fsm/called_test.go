package fsm

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/fsm/logpb"
)

// beginMode is a Begin of a mode whose branches are called.
func beginMode(g GID, mode Mode, plan *logpb.Plan) *logpb.Begin {
	b := &logpb.Begin{Gid: g.Bytes(), Namespace: "default", Mode: mode, Entry: logpb.Entry_ENTRY_EXPLICIT, Plan: plan}
	if mode == logpb.Mode_MODE_TCC {
		b.TimeoutMs = testTimeoutMS
	}
	return b
}

// step makes a branch that is called: "3<1,2" is step 3 after 1 and 2. A "-"
// behind the id leaves the undo out.
func step(text string) *logpb.BranchSpec {
	id, after, _ := strings.Cut(text, "<")
	spec := &logpb.BranchSpec{Payload: []byte("body of " + id)}
	if after != "" {
		spec.After = strings.Split(after, ",")
	}
	id, noUndo := strings.CutSuffix(id, "-")
	spec.Id, spec.Endpoint = id, "http://do/"+id
	if !noUndo {
		spec.Undo = "http://undo/" + id
	}
	return spec
}

func steps(texts ...string) []*logpb.BranchSpec {
	var list []*logpb.BranchSpec
	for _, text := range texts {
		list = append(list, step(text))
	}
	return list
}

// saga submits a saga whole.
func saga(g GID, texts ...string) *logpb.Command {
	return submit(beginMode(g, logpb.Mode_MODE_SAGA, nil), steps(texts...))
}

func answerOf(g GID, branch string, kind logpb.Answer_Kind) *logpb.Command {
	return &logpb.Command{Kind: &logpb.Command_Answer{Answer: &logpb.Answer{Gid: g.Bytes(), Branch: branch, Kind: kind}}}
}

func done(g GID, branch string) *logpb.Command { return answerOf(g, branch, answerDone) }

func refusedMaybe(g GID, branch string) *logpb.Command {
	c := answerOf(g, branch, answerRefused)
	c.GetAnswer().MaybeDone = true
	return c
}

// due is what is due of a transaction, in short: "action 2 3".
func (w *world) due(g GID) string {
	var words []string
	for _, d := range w.s.DueOf(g) {
		if len(words) == 0 {
			words = append(words, strings.ToLower(strings.TrimPrefix(d.Operation.String(), "OPERATION_")))
		}
		words = append(words, d.Branch.GetId())
	}
	return strings.TrimSpace(strings.Join(words, " "))
}

func (w *world) wantDue(g GID, want string) {
	w.t.Helper()
	if got := w.due(g); got != want {
		w.t.Fatalf("due: %q, want %q", got, want)
	}
}

func chain(n int) []string {
	var list []string
	for i := range n {
		text := fmt.Sprintf("%02d", i+1)
		if i > 0 {
			text += fmt.Sprintf("<%02d", i)
		}
		list = append(list, text)
	}
	return list
}

// "A saga of ten steps": forward one by one, and back in exact reverse what was
// done; what was refused did nothing, and what comes after it was never called.
func TestSagaOfTenSteps(t *testing.T) {
	w := newWorld(t)
	g := testGID(testStartMS, 1)
	r := w.must(saga(g, chain(10)...))
	if !r.Created || r.State != StateSealed {
		t.Fatalf("%+v", r)
	}
	for i := 1; i <= 6; i++ {
		id := fmt.Sprintf("%02d", i)
		w.wantDue(g, "action "+id)
		w.must(done(g, id))
	}
	w.wantDue(g, "action 07")
	r = w.must(answerOf(g, "07", answerRefused))
	if r.State != StateRollingBack || r.Reason != logpb.Reason_REASON_REFUSED {
		t.Fatalf("%+v", r)
	}
	for i := 6; i >= 1; i-- {
		id := fmt.Sprintf("%02d", i)
		w.wantDue(g, "compensate "+id)
		w.must(report(g, id, rolledBack))
	}
	w.state(g, StateRolledBack)
	w.wantDue(g, "")
	for _, b := range w.get(g).GetBranches() {
		if len(b.GetSpec().GetPayload()) > 0 || len(b.GetPayloadHash()) != 16 {
			t.Fatalf("%v", b)
		}
	}
	// "A repeated Submit of a finished saga: same -> OK + decision".
	if r = w.must(saga(g, chain(10)...)); r.Decision != DecisionRollback || r.Changed {
		t.Fatalf("%+v", r)
	}
	w.want(GIDConflict, saga(g, chain(9)...))
}

func TestSagaIsDone(t *testing.T) {
	w := newWorld(t)
	g := testGID(testStartMS, 1)
	w.must(saga(g, "1", "2<1", "3<1", "4<2,3"))
	w.wantDue(g, "action 1")
	w.want(Invalid, done(g, "2"))
	w.must(done(g, "1"))
	w.wantDue(g, "action 2 3")
	w.must(done(g, "3"))
	w.wantDue(g, "action 2")
	w.must(done(g, "2"))
	w.wantDue(g, "action 4")
	if r := w.must(done(g, "4")); r.State != StateCommitted || r.Decision != DecisionCommit {
		t.Fatalf("%+v", r)
	}
	w.wantDue(g, "")
}

// What "may have been called" is compensated: its predecessors were done, and
// no answer came.
func TestSagaCompensatesWhatMayHaveBeenCalled(t *testing.T) {
	w := newWorld(t)
	g := testGID(testStartMS, 1)
	b := beginMode(g, logpb.Mode_MODE_SAGA, nil)
	b.TimeoutMs = 5_000
	w.must(submit(b, steps("1", "2<1", "3-<1", "4<1", "5<2,3,4", "6<5")))
	w.must(done(g, "1"))
	w.must(done(g, "3"))
	w.leap(testStartMS + 5_000)
	w.state(g, StateRollingBack)
	// 3 has no undo; 5 and 6 were never callable.
	w.wantDue(g, "compensate 2 4")
	w.must(answerOf(g, "4", answerRefused)) // nothing was done
	w.wantDue(g, "compensate 2")
	w.must(done(g, "2")) // is compensated all the same
	w.want(Invalid, done(g, "5"))
	w.must(report(g, "2", rolledBack))
	w.wantDue(g, "compensate 1")
	w.must(report(g, "1", rolledBack))
	w.state(g, StateRolledBack)
}

func TestSagaConcurrency(t *testing.T) {
	w := newWorld(t)
	g := testGID(testStartMS, 1)
	b := beginMode(g, logpb.Mode_MODE_SAGA, &logpb.Plan{ConcurrencyMax: 2, DelayMs: 700})
	w.must(submit(b, steps("1", "2", "3", "4")))
	w.wantDue(g, "action 1 2")
	if d := w.s.DueOf(g)[0]; d.NotBeforeMS != testStartMS+700 || d.Verdict != VerdictWait {
		t.Fatalf("%+v", d)
	}
	w.must(done(g, "2"))
	w.wantDue(g, "action 1 3")
	w.must(refusedMaybe(g, "1"))
	w.wantDue(g, "compensate 1 2")
	w.must(report(g, "2", rolledBack))
	w.wantDue(g, "compensate 1 3")
}

func TestTCC(t *testing.T) {
	for _, commits := range []bool{true, false} {
		w := newWorld(t)
		g := testGID(testStartMS, 1)
		w.must(begin(beginMode(g, logpb.Mode_MODE_TCC, nil)))
		for _, id := range []string{"1", "1.1", "2"} {
			w.must(enlist(g, step(id)))
			w.must(enlist(g, step(id)))
		}
		other := step("1")
		other.Payload = []byte("other")
		w.want(BranchConflict, enlist(g, other))
		w.want(Invalid, vote(g, step("1"), votePrepared))
		w.wantDue(g, "")
		word, outcome := "cancel", rolledBack
		end := clientRollback(g)
		if commits {
			end, word, outcome = commit(g), "confirm", committed
		}
		w.must(end)
		w.wantDue(g, word+" 1 1.1 2")
		for _, id := range []string{"1.1", "1", "2"} {
			w.must(report(g, id, outcome))
		}
		w.wantDue(g, "")
		if tx := w.get(g); !slices.Contains([]TxState{StateCommitted, StateRolledBack}, tx.GetState()) {
			t.Fatal(tx)
		}
		w.must(enlist(g, step("1"))) // same, by its payload's hash
		w.want(AlreadyDecided, enlist(g, other))
	}
}

// A rollback may name branches that were called and never registered, in
// whatever shape: they are cancelled, none waits for another for ever, and
// nothing of it breaks the record.
func TestTCCRollbackNamesWhatWasCalled(t *testing.T) {
	w := newWorld(t)
	g := testGID(testStartMS, 1)
	w.must(begin(beginMode(g, logpb.Mode_MODE_TCC, nil)))
	w.must(enlist(g, step("1")))
	held := step("6")
	held.Held, held.Topic = true, "news"
	w.must(clientRollback(g, step("2<1"), step("3<4"), step("4<3"), step("5<5"), held, step("7-"), spec("8?")))
	if w.get(g).GetQuarantined() {
		t.Fatal(w.get(g).GetDetail())
	}
	w.wantDue(g, "cancel 2 4 5 6") // 4 named 3 when that stood; 3 named what did not
	for _, id := range []string{"2", "4", "5", "6", "3"} {
		w.must(report(g, id, rolledBack))
	}
	w.wantDue(g, "cancel 1")
	w.must(report(g, "1", rolledBack))
	w.state(g, StateRolledBack)

	// Of a GID that never began nobody knows the mode: a branch that would be
	// called is not sent what a branch that votes is.
	h := testGID(testStartMS, 2)
	w.must(clientRollback(h, step("1"), spec("2")))
	w.wantDue(h, "rollback 2")
}
