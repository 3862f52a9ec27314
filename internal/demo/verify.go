package demo

import (
	"fmt"
	"slices"
	"strings"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/bankstore"
	"github.com/quorate/quorate/internal/branchbank"
)

// Heard is what the initiator was told about a transfer, at the time.
type Heard int

// The answers an initiator gets.
const (
	HeardUnknown Heard = iota
	HeardCommit
	HeardRollback
)

// Attempt is one transfer as its initiator saw it.
type Attempt struct {
	Transfer Transfer
	Heard    Heard
	// At is when the answer came.
	At time.Time
	// Reason says why it did not commit: the function's error or the cluster's word.
	Reason string
	// Unanswered says that the call ended without a decision, whatever was heard later.
	Unanswered bool
}

// Entry is one line of a bank's ledger, written in the same local transaction
// as the change of the balance.
type Entry = bankstore.Move

// Books are all that a bank holds, read over a fresh connection.
type Books struct {
	Balances map[int]int64 `json:"balances"`
	// Ledger has the entry of each branch that took effect, by GID.
	Ledger map[string]Entry `json:"ledger"`
	// Evidence has the SDK's evidence rows by `GID/branch`: true when it says that
	// the branch's local transaction happened, false when it says that it can no
	// longer happen. A database may hold rows of others, too.
	Evidence map[string]bool `json:"evidence"`
	// Prepared are the GIDs of branches that still wait for their decision.
	Prepared []string `json:"prepared"`

	// Branches are the books of a bank whose branches are called; then there is
	// nothing above.
	Branches *branchbank.Books `json:"-"`
}

// newBooks returns empty books.
func newBooks() Books {
	return Books{Balances: map[int]int64{}, Ledger: map[string]Entry{}, Evidence: map[string]bool{}}
}

// booksOf are a store's books in the demo's terms: a transfer has one branch in a
// bank, and that makes one move.
func booksOf(b bankstore.Books) Books {
	books := Books{Balances: b.Balances, Ledger: map[string]Entry{}, Evidence: b.Evidence}
	for ref, moves := range b.Ledger {
		gid, _, _ := strings.Cut(ref, "/")
		for _, m := range moves {
			books.Ledger[gid] = m
		}
	}
	for _, xid := range b.Prepared {
		books.Prepared = append(books.Prepared, xid.GID)
	}
	return books
}

// Total is the money in the bank.
func (b Books) Total() int64 {
	if b.Branches != nil {
		return b.Branches.Total()
	}
	var sum int64
	for _, balance := range b.Balances {
		sum += balance
	}
	return sum
}

// Verify compares the log, what the initiator was told and both banks' books,
// GID by GID, and returns each contradiction in words, sorted.
func Verify(p Plan, attempts []Attempt, log []*quoratev1.Transaction, books [2]Books) []string {
	v := verifier{plan: p, books: books, byKey: map[string]*quoratev1.Transaction{}, byGID: map[string]*quoratev1.Transaction{}}
	for _, tx := range log {
		if other, ok := v.byKey[tx.GetKey()]; ok {
			v.found("%s stands for two transactions: %s and %s", tx.GetKey(), other.GetGid(), tx.GetGid())
		}
		v.byKey[tx.GetKey()] = tx
		v.byGID[tx.GetGid()] = tx
	}
	for _, a := range attempts {
		v.attempt(a)
	}
	for side := range books {
		v.strangers(Side(side))
		v.stillPrepared(Side(side))
		v.balances(Side(side))
	}
	slices.Sort(v.mismatches)
	return v.mismatches
}

type verifier struct {
	plan       Plan
	books      [2]Books
	byKey      map[string]*quoratev1.Transaction
	byGID      map[string]*quoratev1.Transaction
	mismatches []string
}

func (v *verifier) found(format string, args ...any) {
	v.mismatches = append(v.mismatches, fmt.Sprintf(format, args...))
}

// attempt checks one transfer against the log and both books.
func (v *verifier) attempt(a Attempt) {
	key := a.Transfer.Key()
	tx, inLog := v.byKey[key]
	if !inLog {
		// Its Begin never took effect; that it left no trace in the banks is
		// shown by strangers.
		if a.Heard == HeardCommit {
			v.found("%s: the initiator was told commit, the log does not know it", key)
		}
		return
	}
	decision := tx.GetDecision()
	if a.Heard == HeardCommit && decision != quoratev1.Decision_DECISION_COMMIT ||
		a.Heard == HeardRollback && decision != quoratev1.Decision_DECISION_ROLLBACK {
		v.found("%s (%s): the initiator was told %s, the log says %s", key, tx.GetGid(), a.Heard, word(decision))
	}
	for _, b := range tx.GetBranches() {
		if b.GetHeuristic() != quoratev1.Heuristic_HEURISTIC_UNSPECIFIED {
			v.found("%s (%s): branch %s of %s ended on its own: %v", key, tx.GetGid(), b.GetSpec().GetId(), b.GetSpec().GetResource(), b.GetHeuristic())
		}
	}
	for side := range v.books {
		v.branch(a.Transfer, tx, Side(side))
	}
}

// branch checks one bank's rows of a transfer that the log knows.
func (v *verifier) branch(t Transfer, tx *quoratev1.Transaction, side Side) {
	gid := tx.GetGid()
	entry, written := v.books[side].Ledger[gid]
	happened, hasEvidence := v.evidence(tx, side)
	if hasEvidence && happened != written {
		v.found("%s (%s): %s's evidence row says happened=%t, its ledger says %t", t.Key(), gid, side, happened, written)
	}
	if tx.GetDecision() != quoratev1.Decision_DECISION_COMMIT {
		if written {
			v.found("%s (%s): the log says %s, %s has done it", t.Key(), gid, word(tx.GetDecision()), side)
		}
		return
	}
	want := Entry{Account: t.Account, Delta: t.Delta(side)}
	switch {
	case !written:
		v.found("%s (%s): the log says commit, %s has not done it", t.Key(), gid, side)
	case entry != want:
		v.found("%s (%s): %s did %+v, want %+v", t.Key(), gid, side, entry, want)
	case !hasEvidence:
		v.found("%s (%s): %s has no evidence row of a committed branch", t.Key(), gid, side)
	}
}

// evidence returns the evidence row of the transaction's branch in a bank. A
// bank that has no branch in the log has none.
func (v *verifier) evidence(tx *quoratev1.Transaction, side Side) (happened, ok bool) {
	branches := 0
	for _, b := range tx.GetBranches() {
		if b.GetSpec().GetResource() == side.String() {
			branches++
			happened, ok = v.books[side].Evidence[tx.GetGid()+"/"+b.GetSpec().GetId()]
		}
	}
	if branches > 1 {
		v.found("%s (%s): %s has %d branches, one was called", tx.GetKey(), tx.GetGid(), side, branches)
	}
	return happened, ok
}

// strangers are entries of transactions that the log does not know.
func (v *verifier) strangers(side Side) {
	for gid := range v.books[side].Ledger {
		if v.byGID[gid] == nil {
			v.found("%s: %s has done it, the log does not know it", gid, side)
		}
	}
}

// stillPrepared are branches that nobody told, though the log has ended them. A
// database may hold others', which the log does not know.
func (v *verifier) stillPrepared(side Side) {
	for _, gid := range v.books[side].Prepared {
		if v.byGID[gid] != nil {
			v.found("%s: it is still prepared in %s", gid, side)
		}
	}
}

// balances checks that each balance is its opening and the ledger's sum.
func (v *verifier) balances(side Side) {
	want := map[int]int64{}
	for account := range accountsPerBank {
		want[account] = v.plan.OpeningOf(account)
	}
	for _, e := range v.books[side].Ledger {
		want[e.Account] += e.Delta
	}
	got := v.books[side].Balances
	for account, balance := range want {
		if got[account] != balance {
			v.found("account %d of %s holds %d, by its ledger it should hold %d", account, side, got[account], balance)
		}
	}
	for account := range got {
		if _, ok := want[account]; !ok {
			v.found("%s has an account %d that nobody opened", side, account)
		}
	}
}

// String is the answer in a word.
func (h Heard) String() string { return [...]string{"nothing", "commit", "rollback"}[h] }

func word(d quoratev1.Decision) string {
	if d == quoratev1.Decision_DECISION_UNSPECIFIED {
		return "no decision"
	}
	return strings.ToLower(strings.TrimPrefix(d.String(), "DECISION_"))
}
