package bank

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/bankstore"
	"github.com/quorate/quorate/participant"
)

// Finding is a promise that was broken.
type Finding struct {
	// Promise of docs/guarantees.md, such as S14.
	Promise string
	Text    string
	// Lost says that an acknowledgement was lost.
	Lost bool
}

func (f Finding) String() string { return f.Promise + ": " + f.Text }

// Result is what the judge says.
type Result struct {
	Findings []Finding
	// Counts are figures by name: how often each shape was decided each way, what
	// was delivered, which branches ended on their own and why.
	Counts map[string]int64
	// Explained are the branches, `GID/branch`, that a fault is known to have rolled
	// back although they were decided commit, and that were reported so.
	Explained map[string]bool
	// Unexplained are transactions that rolled back although nobody wanted it and no
	// lock stood in the way: none where no fault is made (S4).
	Unexplained []string
}

// Check compares the cluster's word, the initiators' ledgers, the participants'
// journals and the stores with each other, branch by branch. It believes none.
func Check(e *Evidence) *Result {
	c := &checker{
		e: e, r: &Result{Counts: map[string]int64{}, Explained: map[string]bool{}}, byGID: map[string]*quoratev1.Transaction{}, byKey: map[string]*quoratev1.Transaction{},
		work: map[string]Line{}, failed: map[string][]string{}, holders: e.holders(), lost: map[string][]bankstore.Move{},
	}
	for _, tx := range e.Transactions {
		c.byGID[tx.GetGid()] = tx
		if key := tx.GetKey(); key != "" {
			if other, ok := c.byKey[key]; ok {
				c.found("S7", "key %s stands for two transactions: %s and %s", key, other.GetGid(), tx.GetGid())
			}
			c.byKey[key] = tx
		}
	}
	for _, l := range e.Journal {
		if len(l.Work) > 0 {
			c.work[l.ref()] = l
		}
		if l.Failed != "" {
			c.failed[l.GID] = append(c.failed[l.GID], l.Failed)
		}
	}
	c.ledger()
	for _, tx := range e.Transactions {
		c.transaction(tx)
	}
	c.journal()
	for _, r := range e.Plan.Resources {
		c.strays(r)
		c.balances(r)
		c.prepared(r)
	}
	c.money()
	slices.SortFunc(c.r.Findings, func(a, b Finding) int { return strings.Compare(a.String(), b.String()) })
	return c.r
}

type checker struct {
	e       *Evidence
	r       *Result
	byGID   map[string]*quoratev1.Transaction
	byKey   map[string]*quoratev1.Transaction
	work    map[string]Line             // what each branch was to do
	failed  map[string][]string         // why work of a transaction failed
	holders map[string]Line             // processes by instance id
	lost    map[string][]bankstore.Move // branches of commits that are gone, and why is known
}

func (c *checker) found(promise, format string, args ...any) {
	c.r.Findings = append(c.r.Findings, Finding{Promise: promise, Text: fmt.Sprintf(format, args...)})
}

func (c *checker) missing(promise, format string, args ...any) {
	c.r.Findings = append(c.r.Findings, Finding{Promise: promise, Text: fmt.Sprintf(format, args...), Lost: true})
}

func (c *checker) count(name string) { c.r.Counts[name]++ }

// transaction checks one by itself, and its branches against the stores.
func (c *checker) transaction(tx *quoratev1.Transaction) {
	gid, decision := tx.GetGid(), tx.GetDecision()
	commit := decision == quoratev1.Decision_DECISION_COMMIT
	c.count("decided_" + word(decision))
	if shape := tx.GetLabels()["shape"]; shape != "" {
		c.count(shape + "_" + word(decision))
	}
	if tx.GetLabels()["entry"] == "one-shot" {
		c.count("oneshot_" + word(decision))
	}
	if decision == quoratev1.Decision_DECISION_ROLLBACK {
		c.count("reason_" + strings.ToLower(strings.TrimPrefix(tx.GetReason().String(), "ROLLBACK_REASON_")))
	}
	if decision == quoratev1.Decision_DECISION_ROLLBACK && c.unexplained(tx) {
		c.count("rollback_unexplained")
		c.r.Unexplained = append(c.r.Unexplained, fmt.Sprintf("%s (%s) rolled back: %v, %s", gid, tx.GetLabels()["shape"], tx.GetReason(), tx.GetDetail()))
	}
	if s := tx.GetState(); s != quoratev1.State_STATE_COMMITTED && s != quoratev1.State_STATE_ROLLED_BACK {
		c.found("S5", "%s has not ended: %v", gid, s)
	}
	if tx.GetQuarantined() || tx.GetWithheld() {
		c.found("S2", "%s is quarantined or withheld", gid)
	}
	if commit && tx.GetSealed() == nil {
		c.found("S3", "%s is committed, and was never sealed", gid)
	}
	for _, b := range tx.GetBranches() {
		if commit && !b.GetHint() && b.GetVote() != quoratev1.Vote_VOTE_PREPARED && b.GetVote() != quoratev1.Vote_VOTE_READ_ONLY {
			c.found("S3", "%s is committed, and branch %s voted %v", gid, b.GetSpec().GetId(), b.GetVote())
		}
		c.branch(tx, b)
	}
}

// unexplained says that neither its shape nor a lock explains a rollback.
func (c *checker) unexplained(tx *quoratev1.Transaction) bool {
	switch Shape(tx.GetLabels()["shape"]) {
	case "", ShapeRefused, ShapeUnfunded, ShapeAbandoned, ShapeContrary, ShapeHurried, ShapeSibling:
		return false
	}
	texts := append([]string{tx.GetDetail()}, c.failed[tx.GetGid()]...)
	for _, b := range tx.GetBranches() {
		texts = append(texts, b.GetDetail())
	}
	return !slices.ContainsFunc(texts, func(s string) bool {
		return strings.Contains(s, "lock") || strings.Contains(s, "lack of funds") // locked, lock timeout, deadlock
	})
}

// branch checks one branch that the cluster knows against its store.
func (c *checker) branch(tx *quoratev1.Transaction, b *quoratev1.Branch) {
	name := b.GetSpec().GetResource()
	books, ours := c.e.Books[name]
	if !ours {
		if !b.GetHint() {
			c.found("S10", "%s/%s is a branch of %q, which nobody serves", tx.GetGid(), b.GetSpec().GetId(), name)
		}
		return
	}
	ref := tx.GetGid() + "/" + b.GetSpec().GetId()
	moves, written := books.Ledger[ref]
	done := books.Evidence[ref]
	if done != written {
		c.found("S14", "%s of %s: the evidence row says done=%t, the ledger beside it says %t", ref, name, done, written)
	}
	if work, ok := c.work[ref]; written && (!ok || !sameMoves(work.Work, moves)) {
		c.found("S14", "%s of %s did %v, and was to do %v", ref, name, moves, work.Work)
	}
	commit := tx.GetDecision() == quoratev1.Decision_DECISION_COMMIT
	prepared := b.GetVote() == quoratev1.Vote_VOTE_PREPARED
	c.count("branches_" + string(c.kind(name)))
	c.count("vote_" + strings.ToLower(strings.TrimPrefix(b.GetVote().String(), "VOTE_")))
	c.refusals(b)
	if b.GetHeuristic() != quoratev1.Heuristic_HEURISTIC_UNSPECIFIED {
		c.heuristic(tx, b, done)
		return
	}
	if prepared && b.GetOutcome() == quoratev1.Outcome_OUTCOME_UNSPECIFIED {
		c.found("S10", "%s of %s voted prepared, and nothing is known of its end", ref, name)
	}
	switch {
	case commit && prepared && !done:
		c.missing("S14", "%s of %s is decided commit, the store has not done it, and nobody said so", ref, name)
	case commit && !prepared && done:
		c.found("S14", "%s of %s voted %v, and the store has done its work", ref, name, b.GetVote())
	case !commit && done:
		c.found("S14", "%s of %s is decided %s, and the store has done it", ref, name, word(tx.GetDecision()))
	}
}

// refusals counts why branches were refused, as far as the faults of a run show there.
func (c *checker) refusals(b *quoratev1.Branch) {
	if b.GetMaybePrepared() {
		c.count("vote_maybe_prepared")
	}
	for name, text := range map[string]string{
		"refused_deadlock": "deadlock", "refused_lock_timeout": "lock timeout", "refused_sibling": "same transaction has work there",
		"refused_slots": "max_prepared_transactions", "refused_by_itself": "rolled back by its own",
	} {
		if strings.Contains(strings.ToLower(b.GetDetail()), text) {
			c.count(name)
		}
	}
}

// heuristic checks a branch that is said to have ended on its own: somebody must
// have made it, and what is said must be so.
func (c *checker) heuristic(tx *quoratev1.Transaction, b *quoratev1.Branch, done bool) {
	ref, name := tx.GetGid()+"/"+b.GetSpec().GetId(), b.GetSpec().GetResource()
	commit := tx.GetDecision() == quoratev1.Decision_DECISION_COMMIT
	said := strings.TrimPrefix(b.GetHeuristic().String(), "HEURISTIC_")
	if b.GetHeuristic() != quoratev1.Heuristic_HEURISTIC_ROLLBACK || !commit {
		c.found("S14", "%s of %s ended on its own (%s, decided %s), and no fault explains that", ref, name, said, word(tx.GetDecision()))
		return
	}
	if done {
		c.found("S14", "%s of %s is said to have rolled back on its own, and the store has done it", ref, name)
		return
	}
	c.lost[ref] = c.work[ref].Work
	switch why := c.explain(b, ref); why {
	case "":
		c.missing("S14", "%s of %s rolled back though it was decided commit, and no fault explains that", ref, name)
	default:
		c.r.Explained[ref] = true
		c.count("heuristic_" + why)
	}
}

// explain says which fault made a branch roll back after its commit: an operator's
// hand, or the death of the process that held it.
func (c *checker) explain(b *quoratev1.Branch, ref string) string {
	for _, act := range c.e.Acts {
		if act.Resource == b.GetSpec().GetResource() && act.GID+"/"+act.Branch == ref {
			return "by_operator"
		}
	}
	holder, known := c.holders[b.GetSpec().GetHolder()]
	if b.GetSpec().GetHeld() && known && c.e.killed(holder.Seat, holder.Start) {
		return "held_and_killed"
	}
	return ""
}

// strays are effects of branches that the cluster does not know, or has left out.
func (c *checker) strays(r Resource) {
	for ref := range c.e.Books[r.Name].Ledger {
		gid, id, _ := strings.Cut(ref, "/")
		tx := c.byGID[gid]
		if tx == nil {
			c.found("S6", "%s of %s was done, and the cluster does not know the transaction", ref, r.Name)
			continue
		}
		if !slices.ContainsFunc(tx.GetBranches(), func(b *quoratev1.Branch) bool {
			return b.GetSpec().GetId() == id && b.GetSpec().GetResource() == r.Name
		}) {
			c.found("S10", "%s of %s was done, and is no branch of its transaction", ref, r.Name)
		}
	}
}

// balances: each is its opening and its ledger's sum.
func (c *checker) balances(r Resource) {
	books := c.e.Books[r.Name]
	want := map[int]int64{}
	for account := range r.Accounts {
		want[account] = r.Opening
	}
	for _, moves := range books.Ledger {
		for _, m := range moves {
			want[m.Account] += m.Delta
		}
	}
	if !maps.Equal(want, books.Balances) {
		for account, balance := range want {
			if got, ok := books.Balances[account]; !ok || got != balance {
				c.found("S14", "account %d of %s holds %d, by its ledger it should hold %d", account, r.Name, got, balance)
			}
		}
	}
}

// money: the sum over all stores is what it was, less what a branch that is known
// to be gone would have brought.
func (c *checker) money() {
	var sum, want int64
	for _, r := range c.e.Plan.Resources {
		sum += c.e.Books[r.Name].Total()
		want += int64(r.Accounts) * r.Opening
	}
	for _, moves := range c.lost {
		for _, m := range moves {
			want -= m.Delta
		}
	}
	if sum != want {
		c.found("S14", "the money is %d in all, and was %d", sum, want)
	}
}

// prepared: nothing of ours is left, and all of the others' is.
func (c *checker) prepared(r Resource) {
	there := map[string]bool{}
	for _, x := range c.e.Books[r.Name].Prepared {
		there[x.Name] = true
		if x.Cluster == c.e.Cluster {
			c.found("S5", "%s/%s is still prepared in %s", x.GID, x.Branch, r.Name)
		}
	}
	for _, name := range c.e.Foreign[r.Name] {
		c.count("foreign_xids")
		if !there[name] {
			c.found("S14", "%q of %s was prepared by others, and somebody ended it", name, r.Name)
		}
	}
}

func (c *checker) kind(resource string) bankstore.Kind {
	r, err := c.e.Plan.resource(resource)
	if err != nil {
		return "unknown"
	}
	return r.Kind
}

// sameMoves compares without regard to the order.
func sameMoves(a, b []bankstore.Move) bool {
	byAccount := func(x, y bankstore.Move) int { return x.Account - y.Account }
	return slices.Equal(slices.SortedFunc(slices.Values(a), byAccount), slices.SortedFunc(slices.Values(b), byAccount))
}

func word(d quoratev1.Decision) string {
	if d == quoratev1.Decision_DECISION_UNSPECIFIED {
		return "nothing"
	}
	return strings.ToLower(strings.TrimPrefix(d.String(), "DECISION_"))
}

// decided turns what was heard into the cluster's word.
func (w Word) decided() quoratev1.Decision {
	switch w {
	case WordCommit:
		return quoratev1.Decision_DECISION_COMMIT
	case WordRollback:
		return quoratev1.Decision_DECISION_ROLLBACK
	}
	return quoratev1.Decision_DECISION_UNSPECIFIED
}

// verdictOf is a decision as a participant that is a member of the set hears it.
func verdictOf(d quoratev1.Decision) participant.Verdict {
	switch d {
	case quoratev1.Decision_DECISION_COMMIT:
		return participant.VerdictCommit
	case quoratev1.Decision_DECISION_ROLLBACK:
		return participant.VerdictRollback
	}
	return participant.VerdictNone
}
