package fsm

import (
	"fmt"
	"strings"
	"testing"

	"github.com/quorate/quorate/fsm/logpb"
)

// The transition table of PROTOCOL.md, section 3, transcribed by hand. A cell
// says what a command comes to that arrives in a state for the first time
// (fresh), right again (repeated), and once more after the transaction has
// run to its end (late):
//
//	CODE verdict STATE | repeated | late
//
// The verdict is w(ait), c(ommit), r(ollback) or -. Where repeated is left out
// it is as fresh; where late is left out it is as fresh in the column in which
// the transaction has ended. A repeated command must change no byte, nor may
// any refusal. T and T+ are tombstones that are in R and R+; T has branch 1.

var columns = strings.Fields("U X A S C C+ R R+ T T+")

// row is one command in every column.
type row struct {
	name  string
	do    func(w *world, g GID) Result
	cells string // one a column, separated by semicolons or newlines
}

// situation brings a GID into a column's state.
type situation func(w *world, column string) GID

const (
	client      = logpb.Origin_ORIGIN_CLIENT
	participant = logpb.Origin_ORIGIN_PARTICIPANT
	driverSays  = logpb.Origin_ORIGIN_DRIVER
	operator    = logpb.Origin_ORIGIN_OPERATOR
)

// explicitSituation: branch 1 has voted prepared; branch 2 is enlisted, and
// has voted prepared only where the transaction is committed.
func explicitSituation(w *world, column string) GID {
	g := testGID(testStartMS, 1)
	if common(w, g, column) {
		return g
	}
	w.must(explicit(g))
	w.must(enlist(g, spec("1")))
	w.must(enlist(g, spec("2")))
	w.must(vote(g, spec("1"), votePrepared))
	switch column {
	case "R", "R+":
		w.must(clientRollback(g))
	case "S", "C", "C+":
		w.must(commit(g))
		if column != "S" {
			w.must(vote(g, spec("2"), votePrepared))
		}
	}
	conclude(w, g, column)
	return g
}

// namedSituation: branch 1 has enlisted by its vote; branch 2 is a hint once
// commit was asked with the set {1,2}, and has voted where it is committed.
func namedSituation(w *world, column string) GID {
	g := testGID(testStartMS, 1)
	if common(w, g, column) {
		return g
	}
	w.must(named(g))
	w.must(vote(g, spec("1"), votePrepared))
	switch column {
	case "R", "R+":
		w.must(clientRollback(g))
	case "S", "C", "C+":
		w.must(commit(g, "1", "2"))
		if column != "S" {
			w.must(vote(g, spec("2"), votePrepared))
		}
	}
	conclude(w, g, column)
	return g
}

// heldSituation: branch 1 has voted prepared; branch 2 is held, and has voted
// prepared once commit was asked.
func heldSituation(w *world, column string) GID {
	g := testGID(testStartMS, 1)
	if common(w, g, column) {
		return g
	}
	w.must(explicit(g))
	w.must(enlist(g, spec("1")))
	w.must(enlist(g, spec("2!")))
	w.must(vote(g, spec("1"), votePrepared))
	switch column {
	case "R", "R+":
		w.must(clientRollback(g))
	case "S", "C", "C+":
		w.must(commit(g))
		w.must(vote(g, spec("2!"), votePrepared))
		if column != "S" {
			w.must(driver(g, 1, w.term))
		}
	}
	conclude(w, g, column)
	return g
}

// common makes the columns that do not depend on how branches enter.
func common(w *world, g GID, column string) bool {
	switch column {
	case "U":
	case "X":
		w.leap(g.BornMS() + w.s.Limits().GetRetentionMs())
	case "T":
		w.must(clientRollback(g, spec("1")))
	case "T+":
		w.must(clientRollback(g))
	default:
		return false
	}
	return true
}

// conclude reports for every due branch where the column says so.
func conclude(w *world, g GID, column string) {
	if strings.HasSuffix(column, "+") {
		reportAll(w, g)
	}
	if got := w.column(g); got != column {
		w.t.Fatalf("the situation %s is %s", column, got)
	}
}

// reportAll reports for whatever is due, in its order, until nothing is.
func reportAll(w *world, g GID) {
	for {
		due := w.s.DueOf(g)
		if len(due) == 0 {
			return
		}
		for _, d := range due {
			outcome := rolledBack
			if d.Verdict == VerdictCommit || w.get(g).GetDecision() == DecisionCommit {
				outcome = committed
			}
			w.must(report(g, d.Branch.GetId(), outcome))
		}
	}
}

// column is the column in which a GID stands.
func (w *world) column(g GID) string {
	tx, ok := w.s.Get(g)
	if !ok {
		if g.BornMS() <= w.s.Clock().HorizonMS {
			return "X"
		}
		return "U"
	}
	name := map[TxState]string{
		StateActive: "A", StateSealed: "S", StateCommitting: "C", StateCommitted: "C+",
		StateRollingBack: "R", StateRolledBack: "R+",
	}[tx.GetState()]
	if tx.GetTombstone() {
		return strings.Replace(name, "R", "T", 1)
	}
	return name
}

// runToEnd takes the transaction to its end: its deadline passes, every due
// branch reports; what was never created expires.
func runToEnd(w *world, g GID) {
	tx, ok := w.s.Get(g)
	if !ok {
		w.leap(g.BornMS() + w.s.Limits().GetRetentionMs())
		return
	}
	switch {
	case tx.GetDecision() != DecisionNone:
	case tx.GetDeadlineMs() == noDeadline:
		w.must(clientRollback(g))
	default:
		w.leap(tx.GetDeadlineMs())
	}
	reportAll(w, g)
}

func send(c func(g GID) *logpb.Command) func(*world, GID) Result {
	return func(w *world, g GID) Result { return w.do(c(g)) }
}

func verdictLetter(v Verdict) string {
	return map[Verdict]string{VerdictNone: "-", VerdictWait: "w", VerdictCommit: "c", VerdictRollback: "r"}[v]
}

func TestTable(t *testing.T) {
	for _, table := range []struct {
		name    string
		columns []string
		make    situation
		rows    []row
	}{
		{"explicit", columns, explicitSituation, explicitRows},
		{"named", columns, namedSituation, namedRows},
		{"held", columns, heldSituation, heldRows},
		{"saga", sagaColumns, sagaSituation, sagaRows},
		{"tcc", tccColumns, tccSituation, tccRows},
		{"message", messageColumns, messageSituation, messageRows},
		{"notify", notifyColumns, notifySituation, notifyRows},
		{"workflow", workflowColumns, workflowSituation, workflowRows},
	} {
		for _, r := range table.rows {
			t.Run(table.name+"/"+r.name, func(t *testing.T) { testRow(t, table.columns, table.make, r) })
		}
	}
}

func testRow(t *testing.T, columns []string, make situation, r row) {
	cells := strings.FieldsFunc(r.cells, func(c rune) bool { return c == ';' || c == '\n' })
	fresh := map[string]string{}
	var whole []string
	for _, c := range cells {
		if c = strings.TrimSpace(c); c != "" {
			whole = append(whole, c)
		}
	}
	if len(whole) != len(columns) {
		t.Fatalf("%d cells for %d columns", len(whole), len(columns))
	}
	for i, column := range columns {
		fresh[column] = strings.TrimSpace(strings.Split(whole[i], "|")[0])
	}
	for i, column := range columns {
		parts := strings.Split(whole[i], "|")
		want := [3]string{fresh[column], fresh[column]}
		for k, p := range parts {
			if p = strings.TrimSpace(p); p != "" {
				want[k] = p
			}
		}
		testCell(t, make, r, column, want, fresh)
	}
}

func testCell(t *testing.T, make situation, r row, column string, want [3]string, fresh map[string]string) {
	w := newWorld(t)
	g := make(w, column)
	for i, when := range []string{"fresh", "repeated", "late"} {
		if when == "late" {
			runToEnd(w, g)
			if want[i] == "" {
				want[i] = fresh[w.column(g)]
			}
		}
		before := recordOf(w.s, g)
		result := r.do(w, g)
		after := recordOf(w.s, g)
		got := fmt.Sprintf("%v %s %s", result.Code, verdictLetter(result.Verdict), w.column(g))
		if got != want[i] {
			t.Errorf("%s in %s, %s: got %q, want %q (%s)", r.name, column, when, got, want[i], result.Detail)
		}
		switch {
		case result.Code != OK && before != after:
			t.Errorf("%s in %s, %s: refusal %v changed the record", r.name, column, when, result.Code)
		case when == "repeated" && before != after:
			t.Errorf("%s in %s: repeating it changed the record", r.name, column)
		case result.Changed && before == after:
			t.Errorf("%s in %s, %s: said to change what it did not", r.name, column, when)
		}
	}
}

// recordOf is a record's bytes.
func recordOf(s *State, g GID) string {
	if t := s.find(g); t != nil {
		return string(appendTransaction(nil, t))
	}
	return ""
}

// explicitBegin and namedBegin are the content that the situations began with.
func explicitBegin(g GID) *logpb.Begin { return beginOf(g, logpb.Entry_ENTRY_EXPLICIT) }
func namedBegin(g GID) *logpb.Begin    { return beginOf(g, logpb.Entry_ENTRY_NAMED) }

func longer(b *logpb.Begin) *logpb.Begin {
	b.TimeoutMs++
	return b
}

func other(b *logpb.BranchSpec) *logpb.BranchSpec {
	b.Resource = "other"
	return b
}

func ballots(kind logpb.VoteKind, ids ...string) []*logpb.Ballot {
	var list []*logpb.Ballot
	for _, id := range ids {
		list = append(list, ballot(spec(id), kind))
	}
	return list
}

func driverRollback(g GID, incarnation, term uint64) *logpb.Command {
	c := rollback(g, driverSays)
	c.GetDecide().Epoch = &logpb.Epoch{Incarnation: incarnation, Term: term}
	return c
}

func inquire(branch string) func(*world, GID) Result {
	return func(w *world, g GID) Result {
		q := w.s.Inquire(g, branch)
		return Result{Code: q.Code, Verdict: q.Verdict}
	}
}

func tickAt(after func(w *world) uint64) func(*world, GID) Result {
	return func(w *world, g GID) Result {
		if to := after(w); to > w.clock {
			w.leap(to)
		}
		return w.do(tick())
	}
}
