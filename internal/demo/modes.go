package demo

import (
	"context"
	"errors"
	"slices"
	"time"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/internal/branchbank"
	"github.com/quorate/quorate/linearizability"
	"github.com/quorate/quorate/participant"
)

// Mode is how money is moved.
type Mode string

// The modes: in two-phase the banks vote, in the others their branches are called.
const (
	TwoPhase Mode = "two-phase"
	Saga     Mode = Mode(branchbank.Saga)
	TCC      Mode = Mode(branchbank.TCC)
	Message  Mode = Mode(branchbank.Message)
	Workflow Mode = Mode(branchbank.Workflow)
)

// Modes are the choices of --mode.
var Modes = []Mode{TwoPhase, Saga, TCC, Message, Workflow}

const (
	// checkBackAfter is when the cluster asks about a message that nobody submitted.
	checkBackAfter = 2 * time.Second
	// forgetEvery is how often a bank forgets to submit its message, its money gone:
	// the check-back delivers it.
	forgetEvery = 20
)

// attemptBranches makes one transfer whose branches are called.
func (r *run) attemptBranches(ctx context.Context, t Transfer) Attempt {
	b := branchbank.Transfer{
		Key: t.Key(), From: r.banks[t.From].url(), To: r.banks[t.From.Other()].url(),
		Account: t.Account, Amount: t.Amount, DepositFirst: t.DepositFirst, CheckBackAfter: checkBackAfter,
	}
	if r.o.Mode == TCC {
		b.Timeout = transferTimeout
	}
	if t.Funded && t.N%forgetEvery == forgetEvery/2+3 {
		b.Forget = branchbank.ForgetDone
	}
	err := r.branches.Make(ctx, branchbank.Mode(r.o.Mode), b)
	a := Attempt{Transfer: t, At: time.Now()}
	var rolledBack *participant.RolledBackError
	switch {
	case err == nil:
		a.Heard = HeardCommit
	case errors.As(err, &rolledBack):
		a.Heard, a.Reason = HeardRollback, rolledBack.Reason
	case errors.Is(err, branchbank.ErrFunds), errors.Is(err, participant.ErrRefused):
		a.Heard, a.Reason = HeardRollback, "lack of funds"
	default:
		a.Unanswered, a.Reason = true, err.Error()
	}
	return a
}

// verify compares everything, by the mode's rules.
func (r *run) verify(attempts []Attempt, log []*quoratev1.Transaction, books [2]Books) []string {
	if r.o.Mode == TwoPhase {
		return Verify(r.plan, attempts, log, books)
	}
	return VerifyBranches(r.o.Mode, attempts, log, books, [2]branchbank.Config{r.banks[BankA].branches.Config, r.banks[BankB].branches.Config})
}

// VerifyBranches compares the log, what the initiator was told and both banks' books
// by S15, and returns each contradiction in words, sorted.
func VerifyBranches(mode Mode, attempts []Attempt, log []*quoratev1.Transaction, books [2]Books, configs [2]branchbank.Config) []string {
	v := verifier{byKey: map[string]*quoratev1.Transaction{}}
	h := &linearizability.History{Header: linearizability.Header{Format: linearizability.Format, Partial: true, DeliveriesUnseen: true}}
	for _, tx := range log {
		if other, ok := v.byKey[tx.GetKey()]; ok {
			v.found("%s stands for two transactions: %s and %s", tx.GetKey(), other.GetGid(), tx.GetGid())
		}
		v.byKey[tx.GetKey()] = tx
		h.Observations = append(h.Observations, branchbank.Final(tx), branchbank.Planned(tx, branchbank.Mode(mode)))
		for _, b := range tx.GetBranches() {
			if b.GetHeuristic() != quoratev1.Heuristic_HEURISTIC_UNSPECIFIED {
				v.found("%s (%s): branch %s ended on its own: %v", tx.GetKey(), tx.GetGid(), b.GetSpec().GetId(), b.GetHeuristic())
			}
		}
	}
	for _, a := range attempts {
		v.heard(a)
	}
	for side := range books {
		name := Side(side).String()
		h.Observations = append(h.Observations, books[side].Branches.Observations(name)...)
		for _, m := range books[side].Branches.Mistakes(name, configs[side]) {
			v.found("%s", m)
		}
		v.moves(Side(side), attempts, *books[side].Branches)
	}
	h.Observations = append(h.Observations, linearizability.Observation{Sight: linearizability.SightQuiescent})
	for _, violation := range linearizability.Check(context.Background(), h, linearizability.Options{}).Violations {
		v.found("%s", violation)
	}
	slices.Sort(v.mismatches)
	return v.mismatches
}

// heard: nobody was told otherwise than the log says.
func (v *verifier) heard(a Attempt) {
	key := a.Transfer.Key()
	tx, inLog := v.byKey[key]
	switch decision := tx.GetDecision(); {
	case !inLog && a.Heard == HeardCommit:
		v.found("%s: the initiator was told commit, the log does not know it", key)
	case inLog && (a.Heard == HeardCommit && decision != quoratev1.Decision_DECISION_COMMIT ||
		a.Heard == HeardRollback && decision != quoratev1.Decision_DECISION_ROLLBACK):
		v.found("%s (%s): the initiator was told %s, the log says %s", key, tx.GetGid(), a.Heard, word(decision))
	}
}

// moves: what was done is what was asked.
func (v *verifier) moves(side Side, attempts []Attempt, books branchbank.Books) {
	asked := map[string]Transfer{}
	for _, a := range attempts {
		asked[a.Transfer.Key()] = a.Transfer
	}
	for _, e := range books.Effects {
		t, ok := asked[e.Key]
		want := Entry{Account: t.Account, Delta: t.Delta(side)}
		if got := (Entry{Account: e.Account, Delta: e.Delta}); !ok || got != want || v.byKey[e.Key].GetGid() != e.GID {
			v.found("%s (%s): %s did %s of %+v for branch %s, want %+v", e.Key, e.GID, side, e.Operation, got, e.Branch, want)
		}
	}
}
