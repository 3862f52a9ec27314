package coordinator

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/fsm/logpb"
	"github.com/quorate/quorate/internal/failpoint"
)

// heard is what came of a report.
type heard struct {
	results []fsm.Result
	errs    []error
}

func (h *heard) reply(r fsm.Result, err error) {
	h.results, h.errs = append(h.results, r), append(h.errs, err)
}

// reports is a branch's word that came over a session.
func (w *world) reports(gid fsm.GID, branch string, o fsm.Outcome) *heard {
	h := new(heard)
	w.core.Report(w.now, &logpb.Report{Gid: gid.Bytes(), Branch: branch, Outcome: o}, h.reply)
	w.settle()
	return h
}

func (h *heard) want(t *testing.T, n int) {
	t.Helper()
	if len(h.results) != n {
		t.Fatalf("heard %d times, want %d: %v", len(h.results), n, h.errs)
	}
	for i, r := range h.results {
		if h.errs[i] != nil || r.Code != fsm.OK {
			t.Fatalf("heard %v %s %v", r.Code, r.Detail, h.errs[i])
		}
	}
}

// commands lets the test see every command that is proposed.
func (w *world) commands() *[]*logpb.Command {
	all := new([]*logpb.Command)
	w.onEffect = func(e Effect) {
		if p, ok := e.(Propose); ok && p.Command.GetTick() == nil {
			*all = append(*all, p.Command)
		}
	}
	return all
}

func kinds(all []*logpb.Command) []string {
	out := make([]string, len(all))
	for i, c := range all {
		switch k := c.GetKind().(type) {
		case *logpb.Command_Reports:
			out[i] = fmt.Sprintf("%d reports", len(k.Reports.GetReports()))
		case *logpb.Command_Answers:
			out[i] = fmt.Sprintf("%d answers", len(k.Answers.GetAnswers()))
		default:
			out[i] = fmt.Sprintf("%T", k)[len("*logpb.Command_"):]
		}
	}
	return out
}

// twoTold is a transaction whose two branches were told over their sessions.
func (w *world) twoTold(key string) fsm.GID {
	w.t.Helper()
	w.attach(1, holderN(1), "a")
	w.attach(2, holderN(2), "b")
	return w.committedTx(key, branchOf("1", "a", holderN(1)), branchOf("2", "b", holderN(2)))
}

func TestReportsOfOneTransactionAreOneRecord(t *testing.T) {
	w := newWorld(t)
	gid := w.twoTold("k")
	proposed := w.commands()
	first := w.reports(gid, "1", committed)
	first.want(t, 0)
	w.wantState(gid, fsm.StateCommitting)
	second := w.reports(gid, "2", committed)
	first.want(t, 1)
	second.want(t, 1)
	w.wantState(gid, fsm.StateCommitted)
	wantList(t, kinds(*proposed), "2 reports")
	if first.results[0].State != fsm.StateCommitting || second.results[0].State != fsm.StateCommitted {
		t.Errorf("each branch hears its own part: %v, %v", first.results[0].State, second.results[0].State)
	}
	w.advanceBeating(time.Minute, 1, 2)
	if got := append(w.take(1)[1:], w.take(2)[1:]...); len(got) != 0 {
		t.Errorf("told again: %v", branchesOf(got))
	}
}

// A branch that says nothing delays no other's word for longer than ReportHoldMax,
// and each word's time is its own.
func TestAReportIsHeldNoLongerThanItsTime(t *testing.T) {
	w := newWorld(t)
	hold := w.core.cfg.ReportHoldMax
	gid, other := w.twoTold("k"), w.committedTx("", branchOf("1", "a", holderN(1)), branchOf("2", "b", holderN(2)))
	proposed := w.commands()
	first := w.reports(gid, "1", committed)
	w.advance(hold / 2)
	late := w.reports(other, "2", committed)
	w.advance(hold/2 - 1)
	first.want(t, 0)
	w.advance(1)
	first.want(t, 1)
	late.want(t, 0)
	w.advance(hold / 2)
	late.want(t, 1)
	wantList(t, kinds(*proposed), "Report", "Report")
	wantList(t, w.hits[len(w.hits)-2:], "partly-delivered@k", "partly-delivered@")
	w.reports(gid, "2", committed).want(t, 1)
	w.wantState(gid, fsm.StateCommitted)
	// What was held once can be held again.
	third := w.committedTx("", branchOf("1", "a", holderN(1)), branchOf("2", "b", holderN(2)))
	w.reports(third, "2", committed).want(t, 0)
	w.reports(third, "1", committed).want(t, 1)
	wantList(t, kinds(*proposed)[2:], "Report", "2 reports")
}

// A participant goes on though a branch elsewhere is slow: words that wait for that keep
// half of its session's window at the most, and when they were said it is whole again.
func TestWordsThatWaitLeaveTheirSessionRoom(t *testing.T) {
	const window = 8
	w := newWorld(t, func(s *Settings) { s.SessionWindowMax = window })
	w.attach(1, holderN(1), "a")
	w.attach(2, holderN(2), "b")
	for round := range 2 {
		var gids []fsm.GID
		for range window {
			gids = append(gids, w.committedTx("", branchOf("1", "a", holderN(1)), branchOf("2", "b", holderN(2))))
		}
		w.take(1)
		var all []*heard
		for _, gid := range gids {
			all = append(all, w.reports(gid, "1", committed))
			all[len(all)-1].want(t, 0) // for those that came together
		}
		w.advance(w.core.cfg.ReportHoldMax / holdAnywayShare)
		waiting := 0
		for _, h := range all {
			if len(h.results) == 0 {
				waiting++
			}
		}
		if waiting != window/2 {
			t.Errorf("round %d: %d of %d words wait, want half of the window", round, waiting, window)
		}
		for _, gid := range gids {
			w.reports(gid, "2", committed).want(t, 1)
			w.wantState(gid, fsm.StateCommitted)
		}
		w.take(2)
	}
	if s := w.core.sessions[1]; s.held != 0 {
		t.Errorf("%d words are said to wait, and none does", s.held)
	}
}

// A branch that waits for room in its session's window is about to be told, and to speak.
func TestAReportWaitsForABranchThatWaitsForRoom(t *testing.T) {
	w := newWorld(t)
	w.attach(1, holderN(1), "a")
	w.core.Attach(w.now, 2, AttachRequest{Holder: holderN(2), Resources: []string{"b"}, Name: "narrow", Window: 1})
	w.settle()
	first := w.committedTx("", branchOf("1", "a", holderN(1)), branchOf("2", "b", holderN(2)))
	second := w.committedTx("", branchOf("1", "a", holderN(1)), branchOf("2", "b", holderN(2)))
	proposed := w.commands()
	if told := w.take(2); len(told) != 1 {
		t.Fatalf("told %v", branchesOf(told))
	}
	w.reports(first, "1", committed).want(t, 0)
	w.reports(second, "1", committed).want(t, 0)
	w.reports(first, "2", committed).want(t, 1)
	w.reports(second, "2", committed).want(t, 1)
	wantList(t, kinds(*proposed), "2 reports", "2 reports")
}

// Only what answers a delivery, for the first time and as decided, waits for others.
func TestWhatIsNotHeld(t *testing.T) {
	t.Run("a repeated report takes none along and is not held", func(t *testing.T) {
		w := newWorld(t)
		gid := w.twoTold("")
		w.reports(gid, "1", committed).want(t, 0)
		w.reports(gid, "1", committed).want(t, 1)
	})
	t.Run("a heuristic outcome", func(t *testing.T) {
		w := newWorld(t)
		gid := w.twoTold("")
		proposed := w.commands()
		w.reports(gid, "1", rolledBack).want(t, 1)
		w.reports(gid, "2", committed).want(t, 1)
		wantList(t, kinds(*proposed), "Report", "Report")
	})
	t.Run("and takes along what was held", func(t *testing.T) {
		w := newWorld(t)
		gid := w.twoTold("")
		proposed := w.commands()
		first := w.reports(gid, "1", committed)
		w.reports(gid, "2", rolledBack).want(t, 1)
		first.want(t, 1)
		wantList(t, kinds(*proposed), "2 reports")
	})
	t.Run("where nobody else is being told", func(t *testing.T) {
		w := newWorld(t)
		w.attach(1, holderN(1), "a")
		gid := w.committedTx("", branchOf("1", "a", holderN(1)), branchOf("2", "b", nil))
		w.reports(gid, "1", committed).want(t, 1)
	})
	t.Run("unasked", func(t *testing.T) {
		w := newWorld(t)
		w.reports(w.gid(), "1", committed)
		gid := w.committedTx("", branchOf("1", "a", nil), branchOf("2", "b", nil))
		w.reports(gid, "1", committed).want(t, 1)
	})
	t.Run("by a node that is told not to", func(t *testing.T) {
		w := newWorld(t, func(s *Settings) { s.ReportHoldMax = 0 })
		w.reports(w.twoTold(""), "1", committed).want(t, 1)
	})
}

// A record of several words says all that each of them said alone: every field of theirs,
// those that are yet to come too, but for the transaction, which it names once.
func TestARecordOfSeveralWordsSaysAllThatEachSaid(t *testing.T) {
	full := func(m proto.Message) {
		fields := m.ProtoReflect().Descriptor().Fields()
		for i := range fields.Len() {
			switch f := fields.Get(i); {
			case f.Name() == "gid":
			case f.Kind() == protoreflect.StringKind:
				m.ProtoReflect().Set(f, protoreflect.ValueOfString("said"))
			case f.Kind() == protoreflect.BytesKind:
				m.ProtoReflect().Set(f, protoreflect.ValueOfBytes([]byte("said")))
			case f.Kind() == protoreflect.BoolKind:
				m.ProtoReflect().Set(f, protoreflect.ValueOfBool(true))
			case f.Kind() == protoreflect.EnumKind:
				m.ProtoReflect().Set(f, protoreflect.ValueOfEnum(1))
			case f.Kind() == protoreflect.Uint32Kind:
				m.ProtoReflect().Set(f, protoreflect.ValueOfUint32(7))
			case f.Kind() == protoreflect.Uint64Kind:
				m.ProtoReflect().Set(f, protoreflect.ValueOfUint64(7))
			default:
				t.Fatalf("%s is of a kind that this test does not know", f.FullName())
			}
		}
	}
	report, answer := new(logpb.Report), new(logpb.Answer)
	full(report)
	full(answer)
	gid := fsm.NewGID(1, [10]byte{1})
	reports := packed(gid, []said{{command: reportOf(&logpb.Report{Branch: "1"})}, {command: reportOf(report)}}).GetReports()
	if got := reports.GetReports(); len(got) != 2 || !proto.Equal(got[1], report) {
		t.Errorf("said %v, and the record says %v", report, got)
	}
	answers := packed(gid, []said{{command: answerOf(answer)}, {command: answerOf(&logpb.Answer{Branch: "2"})}}).GetAnswers()
	if got := answers.GetAnswers(); len(got) != 2 || !proto.Equal(got[0], answer) {
		t.Errorf("said %v, and the record says %v", answer, got)
	}
}

func answerOf(a *logpb.Answer) *logpb.Command {
	return &logpb.Command{Kind: &logpb.Command_Answer{Answer: a}}
}

// A step of DTM's that failed is compensated, beside others too.
func TestARefusalInARecordOfSeveralIsCompensated(t *testing.T) {
	w := newWorld(t)
	proposed := w.commands()
	gid := w.submit(work{
		mode: logpb.Mode_MODE_SAGA, set: []*logpb.BranchSpec{stepOf("01"), stepOf("02")},
		plan: &logpb.Plan{Dialect: logpb.Dialect_DIALECT_DTM_HTTP, DialectMode: "saga"},
	})
	calls := w.takeCalls()
	w.called(calls[0], doneAnswer, nil)
	w.called(calls[1], refusedAnswer, nil)
	wantList(t, kinds(*proposed), "2 answers")
	w.wantState(gid, fsm.StateRollingBack)
	undone := w.takeCalls()
	for _, d := range undone {
		w.called(d, doneAnswer, nil)
	}
	undone = append(undone, w.takeCalls()...)
	wantList(t, slices.Sorted(slices.Values(asked(undone))), "compensate 01 #1", "compensate 02 #1")
}

// Before every node knows packed commands, nothing is held.
func TestNothingIsPackedForOlderNodes(t *testing.T) {
	w := newWorld(t)
	gid := w.twoTold("")
	proposed := w.commands()
	w.core.packs = false
	w.reports(gid, "1", committed).want(t, 1)
	w.core.packs = false
	w.reports(gid, "2", committed).want(t, 1)
	wantList(t, kinds(*proposed), "Report", "Report")
}

// A word that was held while packed commands were known, and goes alone since they are no
// more, names its transaction, also where the core was given it.
func TestAGivenWordThatIsNotPackedIsWhole(t *testing.T) {
	w := newWorld(t)
	gid := w.twoTold("")
	proposed := w.commands()
	results := new(heard)
	for _, branch := range []string{"1", "2"} {
		w.core.reportAs(w.now, reportOf(&logpb.Report{Gid: gid.Bytes(), Branch: branch, Outcome: committed}), true, results.reply)
		w.core.packs = false
	}
	w.settle()
	results.want(t, 2)
	wantList(t, kinds(*proposed), "Report", "Report")
	w.wantState(gid, fsm.StateCommitted)
}

// Steps that are called at once are answered in one record; one that another waits
// for is not held, for that would hold up the other.
func TestAnswersOfOneTransactionAreOneRecord(t *testing.T) {
	w := newWorld(t)
	proposed := w.commands()
	gid := w.submit(work{mode: logpb.Mode_MODE_SAGA, key: "s", set: []*logpb.BranchSpec{stepOf("01"), stepOf("02")}})
	calls := w.takeCalls()
	w.called(calls[0], doneAnswer, nil)
	w.wantState(gid, fsm.StateSealed)
	w.called(calls[1], doneAnswer, nil)
	w.wantState(gid, fsm.StateCommitted)
	wantList(t, kinds(*proposed), "2 answers")
	wantList(t, w.hits, "saga-before-answer@s#01", "saga-before-answer@s#02", "at-decision@s", "all-reported@s", "saga-after-answer@s#01", "saga-after-answer@s#02")

	// 03 waits for 01: nothing is held before it is called.
	*proposed = nil
	gid = w.submit(work{mode: logpb.Mode_MODE_SAGA, set: []*logpb.BranchSpec{stepOf("01"), stepOf("02"), stepOf("03", "01")}})
	calls = w.takeCalls()
	w.called(calls[0], doneAnswer, nil)
	last := w.one("action 03 #1")
	w.called(calls[1], doneAnswer, nil)
	w.called(last, doneAnswer, nil)
	w.wantState(gid, fsm.StateCommitted)
	wantList(t, kinds(*proposed), "Answer", "2 answers")
}

func TestDeliveriesOfAMessageAreOneRecord(t *testing.T) {
	w := newWorld(t)
	proposed := w.commands()
	gid := w.submit(work{mode: logpb.Mode_MODE_MESSAGE, set: []*logpb.BranchSpec{actionOf("01"), actionOf("02"), actionOf("03")}})
	for _, d := range w.takeCalls() {
		w.called(d, doneAnswer, nil)
	}
	w.wantState(gid, fsm.StateCommitted)
	wantList(t, kinds(*proposed), "3 reports")
}

// A refusal decides a saga: it is not held, and what was done and is held goes first.
func TestARefusalTakesAlongWhatIsHeld(t *testing.T) {
	w := newWorld(t)
	proposed := w.commands()
	gid := w.submit(work{mode: logpb.Mode_MODE_SAGA, set: []*logpb.BranchSpec{stepOf("01"), stepOf("02"), stepOf("03")}})
	calls := w.takeCalls()
	w.called(calls[0], doneAnswer, nil)
	w.called(calls[1], refusedAnswer, nil)
	w.wantState(gid, fsm.StateRollingBack)
	wantList(t, kinds(*proposed), "2 answers")
	wantList(t, asked(w.takeCalls()), "compensate 01 #1")
}

// A record that could not be appended is said again, by each of its branches.
func TestWordsThatWereNotTakenAreSaidAgain(t *testing.T) {
	w := newWorld(t)
	gid := w.submit(work{mode: logpb.Mode_MODE_MESSAGE, set: []*logpb.BranchSpec{actionOf("01"), actionOf("02")}})
	w.lose = ErrOverload
	for _, d := range w.takeCalls() {
		w.called(d, doneAnswer, nil)
	}
	w.wantState(gid, fsm.StateCommitting)
	w.lose = nil
	w.advance(time.Second)
	w.nothing()
	w.wantState(gid, fsm.StateCommitted)

	gid = w.twoTold("")
	w.lose = ErrOverload
	first, second := w.reports(gid, "1", committed), w.reports(gid, "2", committed)
	w.lose = nil
	for _, h := range []*heard{first, second} {
		if len(h.errs) != 1 || !errors.Is(h.errs[0], ErrOverload) {
			t.Errorf("a participant is not told that its report was not taken: %v", h.errs)
		}
	}
	w.advanceBeating(w.core.cfg.DeliveryTimeout+time.Second, 1, 2)
	wantList(t, branchesOf(w.take(1)), "1 COMMIT #1", "1 COMMIT #2")
	wantList(t, branchesOf(w.take(2)), "2 COMMIT #1", "2 COMMIT #2")
}

// Words that are held when the leadership goes were never appended: who waits is told
// so, once, and the next leader asks anew.
func TestHeldWordsEndWithTheLeadership(t *testing.T) {
	w := newWorld(t)
	gid := w.twoTold("")
	first := w.reports(gid, "1", committed)
	w.follow()
	if len(first.errs) != 1 || !errors.Is(first.errs[0], ErrNotLeader) {
		t.Fatalf("heard %v", first.errs)
	}
	if late := w.reports(gid, "2", committed); len(late.errs) != 1 || !errors.Is(late.errs[0], ErrNotLeader) {
		t.Errorf("a follower takes a report: %v", late.errs)
	}
	w.lead()
	w.take(1)
	w.attach(3, holderN(1), "a")
	wantList(t, branchesOf(w.take(3)), "1 COMMIT #1")
	w.advance(time.Second)
	if len(first.errs) != 1 {
		t.Errorf("heard twice: %v", first.errs)
	}
}

// A transaction with more branches than fit into one record takes a few.
func TestARecordHoldsOnlySoManyWords(t *testing.T) {
	w := newWorld(t)
	proposed := w.commands()
	var set []*logpb.BranchSpec
	for i := range saidMax + 10 {
		set = append(set, actionOf(fmt.Sprintf("%03d", i)))
	}
	gid := w.submit(work{mode: logpb.Mode_MODE_MESSAGE, set: set})
	for calls := w.takeCalls(); len(calls) > 0; calls = w.takeCalls() {
		for _, d := range calls {
			w.called(d, doneAnswer, nil)
		}
	}
	w.advance(w.core.cfg.ReportHoldMax)
	w.wantState(gid, fsm.StateCommitted)
	most := 0
	for _, c := range *proposed {
		most = max(most, len(c.GetReports().GetReports()))
	}
	if most != saidMax {
		t.Errorf("the largest record holds %d words, want %d", most, saidMax)
	}
	if len(*proposed) > 6 {
		t.Errorf("%d records: %v", len(*proposed), kinds(*proposed))
	}
}

// The places of the protocol before and after a report are passed by each branch.
func TestFailpointsAroundPackedReports(t *testing.T) {
	w := newWorld(t)
	w.submit(work{mode: logpb.Mode_MODE_MESSAGE, key: "m", set: []*logpb.BranchSpec{actionOf("01"), actionOf("02")}})
	w.hits = nil
	for _, d := range w.takeCalls() {
		w.called(d, doneAnswer, nil)
	}
	wantList(t, w.hits, failpoint.BeforeReport+"@m#01", failpoint.BeforeReport+"@m#02",
		failpoint.AllReported+"@m", failpoint.AfterReport+"@m#01", failpoint.AfterReport+"@m#02")
}
