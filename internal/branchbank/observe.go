package branchbank

import (
	"fmt"
	"maps"
	"slices"

	quoratev1 "github.com/quorate/quorate/api/v1"
	"github.com/quorate/quorate/linearizability"
	"github.com/quorate/quorate/participant/fence"
)

// Observations are the books in linearizability's words.
func (b Books) Observations(resource string) []linearizability.Observation {
	out := make([]linearizability.Observation, 0, len(b.Effects))
	for _, e := range b.Effects {
		out = append(out, linearizability.Observation{
			Sight: linearizability.SightEffect, At: e.At, GID: e.GID, Branch: e.Branch, Resource: resource,
			Operation: linearizability.Effect(e.Operation), Value: e.N,
		})
	}
	return out
}

// Mistakes are what does not fit within the books: a balance that its effects do
// not explain, or, at rest, money that is neither here nor there.
func (b Books) Mistakes(resource string, c Config) []string {
	want := map[int]Account{}
	for account := range c.Accounts {
		want[account] = Account{Balance: c.opening(account)}
	}
	var out []string
	for _, e := range b.Effects {
		ch, err := changesOf(fence.Operation(e.Operation), e.Delta < 0)
		if err != nil {
			out = append(out, fmt.Sprintf("%s: %s of %s/%s: %v", resource, e.Operation, e.GID, e.Branch, err))
			continue
		}
		a := want[e.Account]
		a.Balance += ch.balance * e.Delta * e.N
		a.Held += ch.held * e.Delta * e.N
		a.Pending += ch.pending * e.Delta * e.N
		want[e.Account] = a
	}
	for _, account := range slices.Sorted(maps.Keys(want)) {
		if got := b.Accounts[account]; got != want[account] {
			out = append(out, fmt.Sprintf("account %d of %s holds %+v, by its effects it should hold %+v", account, resource, got, want[account]))
		} else if got.Held != 0 || got.Pending != 0 {
			out = append(out, fmt.Sprintf("account %d of %s: %d held and %d pending, and everything has ended", account, resource, got.Held, got.Pending))
		}
	}
	for account := range b.Accounts {
		if _, ok := want[account]; !ok {
			out = append(out, fmt.Sprintf("%s has an account %d that nobody opened", resource, account))
		}
	}
	return out
}

// Planned is what a transaction that the log knows was asked to do.
func Planned(tx *quoratev1.Transaction, m Mode) linearizability.Observation {
	return linearizability.Observation{Sight: linearizability.SightPlan, GID: tx.GetGid(), Mode: string(m), Steps: PlanOf(m)}
}

// Final is how a transaction stands at the end.
func Final(tx *quoratev1.Transaction) linearizability.Observation {
	o := linearizability.Observation{
		Sight: linearizability.SightFinal, GID: tx.GetGid(), Result: string(tx.GetResult()),
		State: linearizability.FromWire[linearizability.State](tx.GetState()), Decision: linearizability.FromWire[linearizability.Decision](tx.GetDecision()),
	}
	for _, b := range tx.GetBranches() {
		o.Branches = append(o.Branches, linearizability.BranchView{
			ID: b.GetSpec().GetId(), Vote: linearizability.FromWire[linearizability.Vote](b.GetVote()), Hint: b.GetHint(),
			Outcome: linearizability.FromWire[linearizability.Outcome](b.GetOutcome()), Terminal: b.GetTerminal(),
			Recorded: b.GetRecorded(), Result: string(b.GetResult()),
		})
	}
	return o
}
