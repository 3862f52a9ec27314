package bank

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/bankstore"
	"github.com/quorate/quorate/linearizability"
	"github.com/quorate/quorate/participant"
)

const (
	testCluster = "01JD9S7KQ000000000000000CC"
	testGID     = "01JD9S7KQ000000000000000G0" // and two digits less
)

func gidOf(n int) string { return fmt.Sprintf("%s%02d", testGID[:24], n) }

// world is evidence that is right in every respect until a test spoils it:
// transaction 1 commits, 2 rolls back, 3 commits and its held branch is lost with
// its process, 4 commits and an operator has rolled a branch of it back, 5 has a
// branch that came after the seal.
type world struct {
	*Evidence
	at int64
}

func goodWorld() *world {
	w := &world{Evidence: &Evidence{
		Plan: &Plan{Resources: []Resource{
			{Name: "a", Kind: bankstore.Postgres, Accounts: 3, Opening: 100, Seats: []Seat{{Name: "a-1"}}},
			{Name: "b", Kind: bankstore.SQLite, Accounts: 3, Opening: 100, Seats: []Seat{{Name: "b-1"}}},
		}},
		Cluster: testCluster, Books: map[string]bankstore.Books{},
		Foreign: map[string][]string{"a": {"backup-7"}},
		Deaths:  []Death{{Seat: "b-1", Start: 1, How: "signal: killed"}},
	}}
	for _, r := range w.Plan.Resources {
		books := bankstore.NewBooks()
		for account := range r.Accounts {
			books.Balances[account] = r.Opening
		}
		w.Books[r.Name] = books
		w.line(r.Name, Line{Holder: "holder-" + r.Name})
	}
	w.prepared("a", bankstore.Xid{Name: "backup-7"})
	for n := 1; n <= 5; n++ {
		w.transact(n)
	}
	w.late(5)
	return w
}

// late is a branch that came after the seal: it worked, and was refused.
func (w *world) late(n int) {
	ref := Line{GID: gidOf(n), Branch: "3.1"}
	ref.Work, ref.Late = []bankstore.Move{{Account: 2, Delta: 3}}, true
	w.line("a", ref)
	ref.Work, ref.Late = nil, false
	ref.Step, ref.Verdict, ref.Attempt = participant.StepHeard, participant.VerdictRollback, 1
	w.line("a", ref)
	ref.Step, ref.Outcome = participant.StepEnded, participant.OutcomeRolledBack
	w.line("a", ref)
}

func (w *world) line(resource string, l Line) {
	w.at++
	l.At, l.Seat, l.Start, l.Term, l.Incarnation = w.at, resource+"-1", 1, 2, 1
	if l.Step != "" || l.Work != nil {
		l.Resource = resource
	}
	w.Journal = append(w.Journal, l)
}

func (w *world) entry(e Entry) {
	w.at++
	e.At, e.Seat, e.Start = w.at, "initiator-1", 1
	w.Ledger = append(w.Ledger, e)
}

func (w *world) prepared(resource string, x bankstore.Xid) {
	books := w.Books[resource]
	books.Prepared = append(books.Prepared, x)
	w.Books[resource] = books
}

// transact plays transaction n whole.
func (w *world) transact(n int) {
	gid, commit := gidOf(n), n != 2
	tx := &quoratev1.Transaction{
		Gid: gid, State: quoratev1.State_STATE_ROLLED_BACK, Decision: quoratev1.Decision_DECISION_ROLLBACK,
		Labels: map[string]string{"shape": "transfer"}, Decided: &quoratev1.Stamp{Index: uint64(10 * n)},
	}
	if commit {
		tx.State, tx.Decision, tx.Sealed = quoratev1.State_STATE_COMMITTED, quoratev1.Decision_DECISION_COMMIT, &quoratev1.Stamp{}
	}
	w.entry(Entry{Op: int64(3 * n), Ask: AskBegin})
	w.entry(Entry{Op: int64(3 * n), GID: gid, Word: WordBegun})
	for i, resource := range []string{"a", "b"} {
		tx.Branches = append(tx.Branches, w.branch(n, resource, fmt.Sprintf("%d.1", i+1), int64(10-20*i), commit))
	}
	ask, word := AskCommit, WordCommit
	if !commit {
		ask, word = AskRollback, WordRollback
	}
	w.entry(Entry{Op: int64(3*n + 1), Ask: ask, GID: gid})
	for _, b := range tx.Branches {
		w.end(n, tx, b)
	}
	w.entry(Entry{Op: int64(3*n + 1), GID: gid, Word: word, Index: uint64(10 * n)})
	w.Transactions = append(w.Transactions, tx)
}

// branch works, prepares and votes.
func (w *world) branch(n int, resource, id string, delta int64, commit bool) *quoratev1.Branch {
	l := Line{GID: gidOf(n), Branch: id}
	work := l
	work.Work = []bankstore.Move{{Account: n % 3, Delta: delta}}
	w.line(resource, work)
	l.Step, l.Vote = participant.StepPrepared, participant.VotePrepared
	w.line(resource, l)
	l.Step, l.Verdict = participant.StepVoted, participant.VerdictWait
	w.line(resource, l)
	outcome := quoratev1.Outcome_OUTCOME_ROLLED_BACK
	if commit {
		outcome = quoratev1.Outcome_OUTCOME_COMMITTED
	}
	return &quoratev1.Branch{
		Spec: &quoratev1.BranchSpec{Id: id, Resource: resource, Held: resource == "b", Holder: "holder-" + resource},
		Vote: quoratev1.Vote_VOTE_PREPARED, Outcome: outcome, Terminal: true,
	}
}

// end has the branch hear and obey, unless it is one that was lost.
func (w *world) end(n int, tx *quoratev1.Transaction, b *quoratev1.Branch) {
	resource, ref := b.GetSpec().GetResource(), gidOf(n)+"/"+b.GetSpec().GetId()
	l := Line{GID: gidOf(n), Branch: b.GetSpec().GetId(), Step: participant.StepHeard, Verdict: verdictOf(tx.GetDecision()), Attempt: 1}
	w.line(resource, l)
	l.Step, l.Outcome = participant.StepEnded, participant.Outcome(b.GetOutcome())
	if n == 3 && resource == "b" || n == 4 && resource == "a" {
		b.Outcome, b.Heuristic = quoratev1.Outcome_OUTCOME_ROLLED_BACK, quoratev1.Heuristic_HEURISTIC_ROLLBACK
		l.Outcome = participant.OutcomeRolledBack
		w.Books[resource].Evidence[ref] = false
		if n == 4 {
			w.Acts = append(w.Acts, Act{Resource: resource, GID: gidOf(n), Branch: b.GetSpec().GetId()})
		}
	} else if tx.GetDecision() == quoratev1.Decision_DECISION_COMMIT {
		w.do(resource, ref, w.workOf(ref)...)
	}
	w.line(resource, l)
}

// do is what a store holds of a branch that took effect.
func (w *world) do(resource, ref string, moves ...bankstore.Move) {
	books := w.Books[resource]
	books.Ledger[ref], books.Evidence[ref] = moves, true
	for _, m := range moves {
		books.Balances[m.Account] += m.Delta
	}
}

func (w *world) workOf(ref string) []bankstore.Move {
	for _, l := range w.Journal {
		if l.Work != nil && l.ref() == ref {
			return l.Work
		}
	}
	return nil
}

// undo takes a branch's effect out of its store.
func (w *world) undo(resource, ref string) {
	books := w.Books[resource]
	for _, m := range books.Ledger[ref] {
		books.Balances[m.Account] -= m.Delta
	}
	delete(books.Ledger, ref)
	delete(books.Evidence, ref)
}

// journal finds the line of a branch's step.
func (w *world) journal(ref string, step participant.Step) *Line {
	for i, l := range w.Journal {
		if l.Step == step && l.ref() == ref {
			return &w.Journal[i]
		}
	}
	panic("no such line")
}

// TestAGoodWorldIsGood: what a fault is known to have done is no breach, and the
// models, which know nothing of banks, agree.
func TestAGoodWorldIsGood(t *testing.T) {
	w := goodWorld()
	r := Check(w.Evidence)
	for _, f := range r.Findings {
		t.Error(f)
	}
	for name, want := range map[string]int64{
		"decided_commit": 4, "decided_rollback": 1, "heuristic_by_operator": 1, "heuristic_held_and_killed": 1, "late_refused": 1, "foreign_xids": 1, "heard_begun": 5,
	} {
		if r.Counts[name] != want {
			t.Errorf("%s: %d, want %d", name, r.Counts[name], want)
		}
	}
	report := linearizability.Check(context.Background(), w.History("", r.Explained), linearizability.Options{})
	for _, v := range report.Violations {
		t.Error(v)
	}
	if report.Stats.GIDs != 5 || report.Stats.Observations < 40 {
		t.Errorf("the models looked at %d transactions and %d observations", report.Stats.GIDs, report.Stats.Observations)
	}
}

// TestAnUnsurePrepareNeedsNoFence: the answer to a prepare was lost, and the refusal that
// says so came after the decision, or never. The branch may have prepared, and then
// nothing is left of it in its store.
func TestAnUnsurePrepareNeedsNoFence(t *testing.T) {
	ref := gidOf(2) + "/1.1"
	w := goodWorld()
	w.Transactions[1].Branches[0].Vote = 0
	w.journal(ref, participant.StepPrepared).Step = participant.StepUnsure
	w.journal(ref, participant.StepVoted).Step = ""
	if found := Check(w.Evidence).Findings; len(found) > 0 {
		t.Errorf("found %v", found)
	}
}

// TestEachLieIsFound: one thing is spoiled, and the check names it.
func TestEachLieIsFound(t *testing.T) {
	one, two, three, four := gidOf(1), gidOf(2), gidOf(3), gidOf(4)
	tests := map[string]struct {
		spoil func(w *world)
		want  string
	}{
		"a coin appears":                 {func(w *world) { w.Books["a"].Balances[0]++ }, "S14: account 0 of a holds 111, by its ledger it should hold 110"},
		"half of a commit is missing":    {func(w *world) { w.undo("a", one+"/1.1") }, "S14: " + one + "/1.1 of a is decided commit, the store has not done it"},
		"a rollback was done":            {func(w *world) { w.do("a", two+"/1.1", w.workOf(two+"/1.1")...) }, "S14: " + two + "/1.1 of a is decided rollback, and the store has done it"},
		"other work was done":            {func(w *world) { w.undo("a", one+"/1.1"); w.do("a", one+"/1.1", bankstore.Move{Delta: 1}) }, "S14: " + one + "/1.1 of a did"},
		"the evidence row is alone":      {func(w *world) { w.Books["a"].Evidence[two+"/1.1"] = true }, "the evidence row says done=true"},
		"a stranger's work":              {func(w *world) { w.do("b", gidOf(77)+"/1", bankstore.Move{}) }, "S6: " + gidOf(77) + "/1 of b was done"},
		"a late branch was done":         {func(w *world) { w.do("a", gidOf(5)+"/3.1", w.workOf(gidOf(5)+"/3.1")...) }, "S10: " + gidOf(5) + "/3.1 of a was done, and is no branch"},
		"a prepared branch is left":      {func(w *world) { w.prepared("a", bankstore.Xid{Name: "q", Cluster: testCluster, GID: one, Branch: "1"}) }, "S5: " + one + "/1 is still prepared in a"},
		"another's xid is gone":          {func(w *world) { b := w.Books["a"]; b.Prepared = nil; w.Books["a"] = b }, `S14: "backup-7" of a was prepared by others`},
		"it has not ended":               {func(w *world) { w.Transactions[0].State = quoratev1.State_STATE_COMMITTING }, "S5: " + one + " has not ended"},
		"a vote is missing":              {func(w *world) { w.Transactions[0].Branches[0].Vote = quoratev1.Vote_VOTE_UNSPECIFIED }, "S3: " + one + " is committed, and branch 1.1 voted"},
		"it was never sealed":            {func(w *world) { w.Transactions[0].Sealed = nil }, "S3: " + one + " is committed, and was never sealed"},
		"a branch never heard":           {func(w *world) { w.Transactions[0].Branches[0].Outcome = 0 }, "S10: " + one + "/1.1 of a voted prepared, and nothing is known of its end"},
		"a key stands for two":           {func(w *world) { w.Transactions[0].Key, w.Transactions[1].Key = "k", "k" }, "S7: key k stands for two transactions"},
		"an acknowledged begin is lost":  {func(w *world) { w.Transactions = w.Transactions[:4] }, "S6: the cluster told initiator-1 that " + gidOf(5) + " is begun"},
		"an acknowledged commit is lost": {func(w *world) { w.Transactions = w.Transactions[:4] }, "S6: initiator-1 was told commit of " + gidOf(5)},
		"a decision was reversed":        {func(w *world) { w.Ledger[3].Word = WordRollback }, "S1: initiator-1 was told rollback of " + one + "; it is decided commit"},
		"a decision has moved":           {func(w *world) { w.Ledger[3].Index++ }, "S2: initiator-1 was told that " + one + " was decided at index 11"},
		"nobody asked for the commit":    {func(w *world) { w.Ledger[2].Ask = AskRollback }, "S3: " + one + " is committed, and its initiator never asked"},
		"a refused commit happened":      {func(w *world) { w.Ledger[3].Word = WordRefused }, "S7: " + one + " is committed, though the only one who asked"},
		"an acknowledged vote is lost":   {func(w *world) { w.Transactions[1].Branches[0].Vote = quoratev1.Vote_VOTE_REFUSED }, "S6: the prepared vote of " + two + "/1.1 was acknowledged"},
		"a participant heard otherwise":  {func(w *world) { w.journal(two+"/1.1", participant.StepHeard).Verdict = participant.VerdictCommit }, "S1: " + two + "/1.1 of a heard commit"},
		"an outsider heard commit":       {func(w *world) { w.journal(gidOf(5)+"/3.1", participant.StepHeard).Verdict = participant.VerdictCommit }, "S1: " + gidOf(5) + "/3.1 of a heard commit"},
		"a participant did otherwise":    {func(w *world) { w.journal(two+"/1.1", participant.StepEnded).Outcome = participant.OutcomeCommitted }, "S11: " + two + "/1.1 of a was committed, and is decided rollback"},
		"a rollback without a fence": {func(w *world) {
			w.journal(two+"/1.1", participant.StepPrepared).Step = ""
			w.Transactions[1].Branches[0].Vote = 0
			w.journal(two+"/1.1", participant.StepVoted).Step = ""
		}, "S12: " + two + "/1.1 of a was rolled back before it had prepared"},
		"it was committed unheard":   {func(w *world) { w.journal(one+"/1.1", participant.StepHeard).Step = "" }, "S11: " + one + "/1.1 of a was committed before anybody there was told"},
		"a loss was not reported":    {func(w *world) { w.Transactions[2].Branches[1].Heuristic = 0 }, "S11: " + three + "/2.1 of b was rolled back, is decided commit, and the cluster was not told"},
		"a loss without a fault":     {func(w *world) { w.Deaths = nil }, "S14: " + three + "/2.1 of b rolled back though it was decided commit, and no fault explains"},
		"a loss without an operator": {func(w *world) { w.Acts = nil }, "S14: " + four + "/1.1 of a rolled back though it was decided commit, and no fault explains"},
		"a loss that is none":        {func(w *world) { w.do("b", three+"/2.1", w.workOf(three+"/2.1")...) }, "S14: " + three + "/2.1 of b is said to have rolled back on its own"},
		"a hazard":                   {func(w *world) { w.Transactions[0].Branches[0].Heuristic = quoratev1.Heuristic_HEURISTIC_HAZARD }, "S14: " + one + "/1.1 of a ended on its own (HAZARD"},
		"a branch of nobody":         {func(w *world) { w.Transactions[0].Branches[0].Spec.Resource = "c" }, `S10: ` + one + `/1.1 is a branch of "c"`},
		"the sum is wrong":           {func(w *world) { w.Books["a"].Balances[0]++ }, "S14: the money is"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := goodWorld()
			tt.spoil(w)
			found := Check(w.Evidence).Findings
			if !slices.ContainsFunc(found, func(f Finding) bool { return strings.Contains(f.String(), tt.want) }) {
				t.Errorf("found %v, want %q", found, tt.want)
			}
		})
	}
}

// TestARollbackIsExplainedByALockOrItsShape, and by nothing else: S4 hangs on it.
func TestARollbackIsExplainedByALockOrItsShape(t *testing.T) {
	const locked = `embedded: key "account/0001" of a is locked by branch 1.1`
	two := gidOf(2)
	for name, tt := range map[string]struct {
		spoil func(w *world)
		want  int // how many are unexplained
	}{
		"nothing":                  {func(*world) {}, 1},
		"its shape":                {func(w *world) { w.Transactions[1].Labels["shape"] = string(ShapeRefused) }, 0},
		"another shape":            {func(w *world) { w.Transactions[1].Labels["shape"] = string(ShapeReader) }, 1},
		"the transaction's detail": {func(w *world) { w.Transactions[1].Detail = locked }, 0},
		"a branch's detail":        {func(w *world) { w.Transactions[1].Branches[1].Detail = locked }, 0},
		"a participant's journal":  {func(w *world) { w.line("a", Line{GID: two, Branch: "3.1", Failed: locked}) }, 0},
		"another's journal":        {func(w *world) { w.line("a", Line{GID: gidOf(1), Branch: "1.1", Failed: locked}) }, 1},
		"another failure":          {func(w *world) { w.line("a", Line{GID: two, Branch: "3.1", Failed: "no such table"}) }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := goodWorld()
			tt.spoil(w)
			if r := Check(w.Evidence); len(r.Unexplained) != tt.want || r.Counts["rollback_unexplained"] != int64(tt.want) {
				t.Errorf("unexplained: %v, counted %d, want %d", r.Unexplained, r.Counts["rollback_unexplained"], tt.want)
			}
		})
	}
}

// TestTheModelsFindWhatTheyCan: spoiled evidence is a bad history, too.
func TestTheModelsFindWhatTheyCan(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil   func(w *world)
		promise string
	}{
		"a decision was reversed": {func(w *world) { w.Ledger[3].Word = WordRollback }, "S1"},
		"a commit is missing":     {func(w *world) { w.undo("a", gidOf(1)+"/1.1"); w.Books["a"].Evidence[gidOf(1)+"/1.1"] = false }, "S14"},
		"a rollback was done":     {func(w *world) { w.Books["a"].Evidence[gidOf(2)+"/1.1"] = true }, "S14"},
		"an xid is left": {func(w *world) {
			w.prepared("a", bankstore.Xid{Name: "q", Cluster: testCluster, GID: gidOf(1), Branch: "1.1"})
		}, "S5"},
		"a commit after rollback": {func(w *world) {
			w.journal(gidOf(2)+"/1.1", participant.StepEnded).Outcome = participant.OutcomeCommitted
		}, "S1"},
		"an acknowledgement lost":  {func(w *world) { w.Transactions = w.Transactions[:4] }, "S6"},
		"money comes from nowhere": {func(w *world) { w.Books["a"].Balances[0]++ }, "S14"},
	} {
		t.Run(name, func(t *testing.T) {
			w := goodWorld()
			explained := Check(w.Evidence).Explained
			tt.spoil(w)
			report := linearizability.Check(context.Background(), w.History("", explained), linearizability.Options{})
			if !slices.Contains(report.Broken(), tt.promise) {
				t.Errorf("broken: %v, want %s among them; %v", report.Broken(), tt.promise, report.Violations)
			}
		})
	}
}
