package demo

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/failpoint"
)

// TestPlanFundsWhatItSaysItFunds plays the plan in the worst order for each
// account: everything that it sends, nothing that it gets.
func TestPlanFundsWhatItSaysItFunds(t *testing.T) {
	for _, n := range []int{1, 9, 50, 200, 2000, 20000} {
		p := NewPlan(n)
		sent := map[[2]int]int64{}
		got := map[[2]int]int64{}
		for _, tr := range p.Transfers {
			from := [2]int{int(tr.From), tr.Account}
			if tr.Funded {
				sent[from] += tr.Amount
				got[[2]int{int(tr.From.Other()), tr.Account}] += tr.Amount
			}
		}
		for account, amount := range sent {
			if amount > p.OpeningOf(account[1]) {
				t.Fatalf("n=%d: account %v sends %d of %d", n, account, amount, p.OpeningOf(account[1]))
			}
		}
		for _, tr := range p.Transfers {
			from := [2]int{int(tr.From), tr.Account}
			if !tr.Funded && tr.Amount <= p.OpeningOf(tr.Account)+got[from] {
				t.Fatalf("n=%d: %s is said to lack funds and could have them", n, tr.Key())
			}
		}
		if want := n - n/unfundedEvery; p.Funded() != want {
			t.Fatalf("n=%d: %d funded, want %d", n, p.Funded(), want)
		}
	}
}

func TestPlanGoesBothWaysInBothOrders(t *testing.T) {
	seen := map[[3]bool]int{}
	for _, tr := range NewPlan(200).Transfers {
		seen[[3]bool{tr.From == BankA, tr.DepositFirst, tr.Funded}]++
	}
	if len(seen) != 8 {
		t.Fatalf("of the 8 kinds of transfer the plan has %d: %v", len(seen), seen)
	}
}

func TestTransfersInFlightDoNotMeetOnAnAccount(t *testing.T) {
	p := NewPlan(1000)
	const inFlight = 32
	for i := range p.Transfers {
		used := map[int]string{}
		for _, tr := range p.Transfers[i:min(i+inFlight, len(p.Transfers))] {
			if other := used[tr.Account]; other != "" && tr.Funded {
				t.Fatalf("%s and %s share account %d", other, tr.Key(), tr.Account)
			}
			if tr.Funded {
				used[tr.Account] = tr.Key()
			}
		}
	}
}

func TestAimsAreApartAndAtFundedTransfers(t *testing.T) {
	for _, tt := range []struct{ transfers, kills int }{{20, 1}, {50, 3}, {200, 2}, {2000, 5}, {60, 5}} {
		p := NewPlan(tt.transfers)
		aims := AimKills(p, TwoPhase, Random, tt.kills, true, "/dir", rand.New(rand.NewPCG(1, 0)))
		if len(aims.Leader) != tt.kills || len(aims.Participant) != 1 {
			t.Fatalf("%+v: %d and %d aims", tt, len(aims.Leader), len(aims.Participant))
		}
		marks := map[string]bool{}
		last := 0
		for _, a := range aims.Leader {
			if marks[a.Mark] || len(a.Candidates) == 0 {
				t.Fatalf("%+v: aim %+v", tt, a)
			}
			marks[a.Mark] = true
			for _, key := range a.Candidates {
				i := slices.IndexFunc(p.Transfers, func(tr Transfer) bool { return tr.Key() == key })
				if i < last || !p.Transfers[i].Funded {
					t.Fatalf("%+v: candidate %s is at %d, after %d, funded %t", tt, key, i, last, p.Transfers[i].Funded)
				}
				last = i
			}
		}
		if err := failpoint.Arm(specs(aims.Leader)); err != nil {
			t.Fatalf("%+v: %v", tt, err)
		}
		if err := failpoint.Arm(""); err != nil {
			t.Fatal(err)
		}
	}
}

func specs(aims []Aim) string {
	var all []string
	for _, a := range aims {
		all = append(all, a.Spec())
	}
	return strings.Join(all, ";")
}

func TestRandomTakesEachPhaseInTurn(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 0))
	phases := phasesOf(TwoPhase, Random, 6, rng)
	for _, round := range [][]Phase{phases[:3], phases[3:]} {
		sorted := slices.Sorted(slices.Values(round))
		if !slices.Equal(sorted, []Phase{AfterDecision, AtDecision, BeforeDecision}) {
			t.Fatalf("a round of three is %v", round)
		}
	}
	if got := phasesOf(TwoPhase, AtDecision, 2, rng); !slices.Equal(got, []Phase{AtDecision, AtDecision}) {
		t.Fatalf("a named phase gave %v", got)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"2 nodes": func(o *Options) { o.Nodes = 2 }, "no transfer": func(o *Options) { o.Transfers = 0 },
		"too many kills": func(o *Options) { o.Kills = 200 }, "less than none": func(o *Options) { o.Kills = -1 },
		"unknown phase": func(o *Options) { o.KillLeader = "sometimes" }, "nobody works": func(o *Options) { o.Concurrency = 0 },
	} {
		o := NewOptions()
		if err := o.Validate(); err != nil {
			t.Fatalf("the defaults: %v", err)
		}
		change(&o)
		if err := o.Validate(); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestConcurrencyKeepsKillsApart(t *testing.T) {
	for _, tt := range []struct{ transfers, kills, want int }{{2000, 5, 16}, {200, 2, 8}, {50, 1, 2}, {60, 5, 2}, {10, 0, 2}} {
		o := NewOptions()
		o.Transfers, o.Kills = tt.transfers, tt.kills
		if got := o.concurrency(); got != tt.want {
			t.Errorf("%+v: %d at once", tt, got)
		}
	}
}
