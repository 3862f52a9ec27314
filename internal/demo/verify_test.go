package demo

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	quoratev1 "github.com/quorate/quorate/api/v1"
)

// world is a run's outcome, right in every respect until a test spoils it.
type world struct {
	plan     Plan
	attempts []Attempt
	log      []*quoratev1.Transaction
	books    [2]Books
}

func gidOf(t Transfer) string { return "GID-" + t.Key() }

// rowOf is the key of the evidence row: bank a's branch is 1, bank b's is 2.
func rowOf(s Side, t Transfer) string { return fmt.Sprintf("%s/%d", gidOf(t), s+1) }

// goodWorld commits the funded transfers and rolls the others back.
func goodWorld(n int) *world {
	w := &world{plan: NewPlan(n)}
	for side := range w.books {
		w.books[side] = newBooks()
		for account := range accountsPerBank {
			w.books[side].Balances[account] = w.plan.OpeningOf(account)
		}
	}
	for _, t := range w.plan.Transfers {
		a := Attempt{Transfer: t, Heard: HeardRollback, Reason: "lack of funds"}
		tx := &quoratev1.Transaction{
			Gid: gidOf(t), Key: t.Key(), State: quoratev1.State_STATE_ROLLED_BACK,
			Decision: quoratev1.Decision_DECISION_ROLLBACK, Reason: quoratev1.RollbackReason_ROLLBACK_REASON_REQUESTED,
			Branches: []*quoratev1.Branch{
				{Spec: &quoratev1.BranchSpec{Id: "1", Resource: "bank-a"}},
				{Spec: &quoratev1.BranchSpec{Id: "2", Resource: "bank-b"}},
			},
		}
		if t.Funded {
			a.Heard, a.Reason = HeardCommit, ""
			tx.State, tx.Decision = quoratev1.State_STATE_COMMITTED, quoratev1.Decision_DECISION_COMMIT
			for side := range w.books {
				delta := t.Delta(Side(side))
				w.books[side].Balances[t.Account] += delta
				w.books[side].Ledger[gidOf(t)] = Entry{Account: t.Account, Delta: delta}
				w.books[side].Evidence[rowOf(Side(side), t)] = true
			}
		} else {
			w.books[BankA].Evidence[rowOf(BankA, t)] = false
		}
		w.attempts = append(w.attempts, a)
		w.log = append(w.log, tx)
	}
	return w
}

func (w *world) verify() []string { return Verify(w.plan, w.attempts, w.log, w.books) }

func TestVerifyFindsNothingInAGoodWorld(t *testing.T) {
	if got := goodWorld(60).verify(); len(got) != 0 {
		t.Fatal(strings.Join(got, "\n"))
	}
}

// TestVerifyFindsEachLie spoils one thing at a time: the verifier is shown to
// catch before it is believed.
func TestVerifyFindsEachLie(t *testing.T) {
	funded, unfunded := NewPlan(60).Transfers[4], NewPlan(60).Transfers[9]
	if !funded.Funded || unfunded.Funded {
		t.Fatal("the test's transfers are not what their names say")
	}
	lies := map[string]struct {
		lie  func(w *world)
		want string
	}{
		"money from nowhere":         {func(w *world) { w.books[BankA].Balances[funded.Account]++ }, "by its ledger it should hold"},
		"an account nobody opened":   {func(w *world) { w.books[BankB].Balances[9999] = 0 }, "nobody opened"},
		"an account lost":            {func(w *world) { delete(w.books[BankB].Balances, funded.Account) }, "by its ledger it should hold"},
		"half a transfer":            {func(w *world) { w.undo(BankB, funded) }, "bank-b has not done it"},
		"the other half":             {func(w *world) { w.undo(BankA, funded) }, "bank-a has not done it"},
		"another amount":             {func(w *world) { w.undo(BankA, funded); w.do(BankA, funded, 7) }, "want {Account"},
		"done though rolled back":    {func(w *world) { w.do(BankA, unfunded, -1); w.do(BankB, unfunded, 1) }, "the log says rollback"},
		"done by nobody's decision":  {func(w *world) { w.log[4].Decision = quoratev1.Decision_DECISION_UNSPECIFIED }, "the log says no decision"},
		"told commit, rolled back":   {func(w *world) { w.attempts[9].Heard = HeardCommit }, "was told commit, the log says rollback"},
		"told rollback, committed":   {func(w *world) { w.attempts[4].Heard = HeardRollback }, "was told rollback, the log says commit"},
		"told commit, not in log":    {func(w *world) { w.log = append(w.log[:4:4], w.log[5:]...) }, "the log does not know it"},
		"one key, two transactions":  {func(w *world) { w.log[5].Key = w.log[4].Key }, "stands for two transactions"},
		"a stranger's work":          {func(w *world) { w.books[BankA].Ledger["GID-x"] = Entry{} }, "GID-x: bank-a has done it"},
		"a branch too many":          {func(w *world) { w.log[4].Branches[0].Spec.Resource = "bank-b" }, "has 2 branches"},
		"a branch nobody told":       {func(w *world) { w.books[BankB].Prepared = []string{gidOf(funded)} }, "is still prepared in bank-b"},
		"evidence gone":              {func(w *world) { delete(w.books[BankB].Evidence, rowOf(BankB, funded)) }, "no evidence row"},
		"evidence against":           {func(w *world) { w.books[BankB].Evidence[rowOf(BankB, funded)] = false }, "evidence row says happened=false"},
		"evidence of nothing":        {func(w *world) { w.books[BankA].Evidence[rowOf(BankA, unfunded)] = true }, "evidence row says happened=true"},
		"a heuristic outcome hidden": {func(w *world) { w.log[4].Branches[1].Heuristic = quoratev1.Heuristic_HEURISTIC_ROLLBACK }, "ended on its own"},
	}
	for name, l := range lies {
		t.Run(name, func(t *testing.T) {
			w := goodWorld(60)
			l.lie(w)
			if got := strings.Join(w.verify(), "\n"); !strings.Contains(got, l.want) {
				t.Fatalf("found %q, want %q", got, l.want)
			}
		})
	}
}

// undo takes a branch back, balance and all, as a lost update would.
func (w *world) undo(s Side, t Transfer) {
	w.books[s].Balances[t.Account] -= w.books[s].Ledger[gidOf(t)].Delta
	delete(w.books[s].Ledger, gidOf(t))
	delete(w.books[s].Evidence, rowOf(s, t))
}

func (w *world) do(s Side, t Transfer, delta int64) {
	w.books[s].Balances[t.Account] += delta
	w.books[s].Ledger[gidOf(t)] = Entry{Account: t.Account, Delta: delta}
	w.books[s].Evidence[rowOf(s, t)] = true
}

// TestATransferThatNeverBeganIsNoMismatch: unknown to the log, and no trace.
func TestATransferThatNeverBeganIsNoMismatch(t *testing.T) {
	w := goodWorld(60)
	w.undo(BankA, w.plan.Transfers[4])
	w.undo(BankB, w.plan.Transfers[4])
	w.log = append(w.log[:4:4], w.log[5:]...)
	w.attempts[4].Heard, w.attempts[4].Unanswered = HeardRollback, true
	if got := w.verify(); len(got) != 0 {
		t.Fatal(strings.Join(got, "\n"))
	}
}

func TestFailoversCountOnlyTheNextLeadersDecisions(t *testing.T) {
	start := time.Unix(1000, 0)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	plan := NewPlan(6)
	type row struct {
		heard Heard
		at    int
		term  uint64
	}
	rows := []row{
		{HeardCommit, 10, 2},   // before the kill
		{HeardCommit, 101, 2},  // the dead leader's answer, still on its way
		{HeardRollback, 50, 3}, // no commit
		{HeardCommit, 712, 3},  // the next leader's first
		{HeardCommit, 800, 3},
		{HeardUnknown, 300, 3},
	}
	var attempts []Attempt
	var log []*quoratev1.Transaction
	for i, r := range rows {
		attempts = append(attempts, Attempt{Transfer: plan.Transfers[i], Heard: r.heard, At: at(r.at)})
		log = append(log, &quoratev1.Transaction{Key: plan.Transfers[i].Key(), Decided: &quoratev1.Stamp{Term: r.term}})
	}
	got := Failovers([]Kill{{At: at(100), Term: 2}, {At: at(900), Term: 3}}, attempts, log)
	if len(got) != 1 || got[0] != 612 {
		t.Fatalf("failovers %v, want [612]: of the second kill nothing was heard", got)
	}
}

func TestResultIsRedForEachBrokenPromise(t *testing.T) {
	good := func() *Result {
		return &Result{
			Transfers: 10, Committed: 9, RolledBack: 1, CommitRatio: 1, TotalBefore: 5, TotalAfter: 5, LeaderKills: 1,
			KillPhases: map[Phase]int{AtDecision: 1}, FailoverMS: []float64{600}, ParticipantKills: 1,
			Reasons: map[string]int{"lack of funds": 1}, wantKills: 1, wantParticipantKills: 1, funded: 9,
		}
	}
	if f := good().Failures(); len(f) != 0 {
		t.Fatalf("a good result is red: %v", f)
	}
	for name, spoil := range map[string]func(*Result){
		"one is missing":     func(r *Result) { r.Committed-- },
		"in doubt":           func(r *Result) { r.InDoubt = 1 },
		"mismatch":           func(r *Result) { r.Mismatches = 1 },
		"money":              func(r *Result) { r.TotalAfter++ },
		"no kill":            func(r *Result) { r.LeaderKills = 0 },
		"no participant":     func(r *Result) { r.ParticipantKills = 0 },
		"no failover":        func(r *Result) { r.FailoverMS = nil },
		"few commits":        func(r *Result) { r.CommitRatio = 0.89 },
		"unexplained":        func(r *Result) { r.Unexplained = []string{"transfer-0001"} },
		"a process surprise": func(r *Result) { r.Surprises = []string{"n2 ended"} },
	} {
		r := good()
		spoil(r)
		if len(r.Failures()) == 0 {
			t.Errorf("%s: green", name)
		}
	}
}

func TestTableNamesEverything(t *testing.T) {
	r := &Result{
		Transfers: 200, Committed: 178, RolledBack: 22, Unknown: 1, CommitRatio: 178.0 / 180, TotalBefore: 1000, TotalAfter: 1000,
		LeaderKills: 2, KillPhases: map[Phase]int{AtDecision: 1, BeforeDecision: 1}, FailoverMS: []float64{612.4, 700},
		Reasons: maps.Collect(maps.All(map[string]int{"lack of funds": 20, "TIMEOUT": 2})), funded: 180,
	}
	var b strings.Builder
	if err := r.WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"178  (98.9 % of the funded)", "22  (20 lack of funds, 2 TIMEOUT)", "2  (1 at-decision, 1 before-decision)", "612, 700 ms", "1000 before, 1000 after"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, b.String())
		}
	}
}

// The leader that died before a Submit wrote in the term before the victim's own.
func TestTermAtIsTheKilledLeaders(t *testing.T) {
	at := time.UnixMilli(1000)
	stamp := func(term uint64, ms int64) *quoratev1.Stamp {
		return &quoratev1.Stamp{Term: term, WallTime: timestamppb.New(time.UnixMilli(ms))}
	}
	log := []*quoratev1.Transaction{
		{Key: "earlier", Began: stamp(2, 900), Decided: stamp(2, 990)},
		{Key: "victim", Began: stamp(3, 1200), Decided: stamp(3, 1300)},
		{Key: "undecided", Began: stamp(1, 100)},
	}
	if got := TermAt(at, log); got != 2 {
		t.Errorf("term %d, want 2", got)
	}
}
