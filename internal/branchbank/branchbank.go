// Package branchbank is a bank whose branches are called: sagas' actions and
// compensations, TCC's tries, confirms and cancels, messages and check-backs, over
// HTTP. Balances, and a counter for each operation on each branch, change in one
// local transaction behind package fence, so its books show afterwards what took
// effect, how often, and in which order.
//
// `quorate demo --mode ...`, the chaos workload of modes and the acceptance tests
// move money with it; Observations are what linearizability judges (S15).
package branchbank

import (
	"fmt"

	"github.com/quorate/quorate/internal/bankstore"
	"github.com/quorate/quorate/participant/fence"
)

// Config says how a bank is run.
type Config struct {
	// Resource is the bank's name.
	Resource string
	Spec     bankstore.Spec
	// Prefix is that of the tables, so that banks may share a database.
	Prefix string
	// Accounts is how many there are, from 0 on. The first Empty ones hold nothing, each
	// other opens with Opening.
	Accounts, Empty int
	Opening         int64
	// Opener makes the driver's connector.
	Opener bankstore.Opener `json:"-"`
	// Unfenced leaves the fence out, for tests that show what it is for.
	Unfenced bool
	// DropAnswers cuts the connection instead of the first answer that tells the
	// coordinator of an operation on a branch: the work is done, and nobody hears of it.
	DropAnswers bool
	// ArrivalsPath, when set, is a file that every call is appended to before it does
	// anything; ReadArrivals reads it.
	ArrivalsPath string
	// Witness, when set, is called when an operation is done and its answer not sent.
	Witness func(call Call, key string) `json:"-"`
}

func (c Config) opening(account int) int64 {
	if account < c.Empty {
		return 0
	}
	return c.Opening
}

// Total is the money that the bank opens with.
func (c Config) Total() int64 { return int64(c.Accounts-c.Empty) * c.Opening }

// ErrFunds means that an account would go below zero. To the coordinator it is a
// refusal: nothing was done.
var ErrFunds = fmt.Errorf("%w: %w", fence.ErrRefused, bankstore.ErrFunds)

// Move is the payload of a branch: money that comes or, below zero, goes.
type Move struct {
	// Key of the transaction, for people and for faults that are aimed.
	Key     string `json:"key"`
	Account int    `json:"account"`
	Delta   int64  `json:"delta"`
	// Refuse asks the bank to refuse the action, or the try.
	Refuse bool `json:"refuse,omitempty"`
}

// Paths that a bank serves, below its address.
const (
	PathAction     = "/action"
	PathCompensate = "/compensate"
	PathTry        = "/try"
	PathConfirm    = "/confirm"
	PathCancel     = "/cancel"
	PathCheckBack  = "/check-back"
	PathSend       = "/send"
	PathBooks      = "/books"
	PathReady      = "/ready"
)
