package demo

import "fmt"

// Side is one of the two banks.
type Side int

// The banks.
const (
	BankA Side = iota
	BankB
)

// String is the bank's resource name.
func (s Side) String() string { return [...]string{"bank-a", "bank-b"}[s] }

// Other is the bank that money goes to, or comes from.
func (s Side) Other() Side { return 1 - s }

const (
	// accountsPerBank is large against the concurrency, so that two transfers in
	// flight never meet on an account: the demo shows the coordinator, not a
	// database's lock queue.
	accountsPerBank = 110
	// emptyAccounts are the first accounts of each bank. They hold nothing, so
	// what they send must fail.
	emptyAccounts = 10
	// unfundedEvery is how often a transfer comes from an empty account.
	unfundedEvery = 10
	// openingMin is the least that an account with money opens with.
	openingMin = 1000
	amountMax  = 20
)

// Transfer is one transaction of the demo: amount goes from an account of one
// bank to the account of the same number in the other.
type Transfer struct {
	N       int // from 1
	From    Side
	Account int // the same number in both banks
	Amount  int64
	// Funded says that the account has the money at any time of the run.
	Funded bool
	// DepositFirst calls the receiving bank first, so that a lack of funds finds
	// a prepared branch that must be undone.
	DepositFirst bool
}

// Key is the transaction's key in the cluster.
func (t Transfer) Key() string { return fmt.Sprintf("transfer-%04d", t.N) }

// Delta is what the transfer does to its account in a bank.
func (t Transfer) Delta(s Side) int64 {
	if s == t.From {
		return -t.Amount
	}
	return t.Amount
}

// Plan is all that a run will do, known before it starts.
type Plan struct {
	Transfers []Transfer
	// Opening is what each account with money opens with: enough for all that it
	// will ever send, in whatever order.
	Opening int64
}

// NewPlan plans n transfers. They go to and fro between the banks, round the
// accounts; every tenth comes from an empty account.
func NewPlan(n int) Plan {
	p := Plan{Opening: openingMin}
	sent := map[[2]int]int64{}
	for i := range n {
		t := Transfer{
			N: i + 1, From: Side(i % 2), Amount: 1 + int64(i%amountMax),
			Account: emptyAccounts + i%(accountsPerBank-emptyAccounts),
			Funded:  (i+1)%unfundedEvery != 0, DepositFirst: i/2%2 == 1,
		}
		if t.Funded {
			account := [2]int{int(t.From), t.Account}
			sent[account] += t.Amount
			p.Opening = max(p.Opening, sent[account])
		} else {
			unfunded := i / unfundedEvery
			t.Account, t.From = unfunded%emptyAccounts, Side(unfunded%2)
			t.DepositFirst = unfunded/2%2 == 0
			// An empty account may be paid into: it must never be able to pay this.
			t.Amount = 1_000_000
		}
		p.Transfers = append(p.Transfers, t)
	}
	return p
}

// OpeningOf is what an account opens with.
func (p Plan) OpeningOf(account int) int64 {
	if account < emptyAccounts {
		return 0
	}
	return p.Opening
}

// Total is the money in both banks.
func (p Plan) Total() int64 { return 2 * (accountsPerBank - emptyAccounts) * p.Opening }

// Funded counts the transfers that nothing but a fault can stop.
func (p Plan) Funded() int {
	n := 0
	for _, t := range p.Transfers {
		if t.Funded {
			n++
		}
	}
	return n
}
