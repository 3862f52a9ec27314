// Package bank is a workload that moves money: participants in processes of their
// own, several a resource, guard accounts in stores of different kinds, and
// initiators, also in processes of their own, move money between them in
// transactions. Whatever is done to these processes, their databases and the
// cluster, afterwards each transaction has happened in every store, or in none.
//
// Nobody is believed. A participant writes each step of each branch to a journal
// that is synced before it goes on; an initiator writes to a ledger what it asked
// before it asks and what it was told before it goes on; the stores keep a row for
// each branch beside the balances. Check compares all of that with the log, and
// Observations hands it to package linearizability, whose checks know nothing of
// this package.
//
//	plan.go        what the processes of a bank know
//	journal.go     journals and ledgers: lines that are on the disk
//	participant.go the process that guards a resource; work.go its service
//	initiator.go   the process that begins transactions; mix.go what they are
//	bank.go        the processes together, from start to quiescence; seat.go one of them
//	database.go    the servers under the resources, and what an operator does to them
//	check.go       the judge
package bank

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/quorate/quorate/internal/bankstore"
)

// Plan is what every process of a bank knows. The parent writes it to a file; a
// process is told the file and its seat.
type Plan struct {
	// Dir holds journals, ledgers, logs and the embedded stores.
	Dir string
	// Seeds are gRPC addresses of the cluster's nodes.
	Seeds []string
	// Seed of the initiators' choices.
	Seed uint64
	// Workers of each initiator, and Rate, the transactions a second of each
	// initiator in all; 0: as many as they can.
	Workers int
	Rate    float64
	// Timeout of a usual transaction, and what bounds a call.
	Timeout, CallMax time.Duration
	// Resources, and the seats of their processes.
	Resources []Resource
	// Initiators are the seats of the initiating processes.
	Initiators []Seat
}

// Resource is one bank's store and who serves it.
type Resource struct {
	Name string
	Kind bankstore.Kind
	// DSN of a database.
	DSN string
	// Accounts, each opened with Opening.
	Accounts int
	Opening  int64
	Seats    []Seat
}

// Seat is the place of one process, which may be killed and started again there.
type Seat struct {
	Name string
	// Address that a participant serves at.
	Address string
	// Process is the name that outlives its restarts (participant.WithProcess).
	Process string
	// DSN, when set, is the resource's as this seat reaches it: through a proxy.
	DSN string
	// Spare seats are empty until a fault puts a process there.
	Spare bool
}

// Held says that the resource's branches have no durable vote.
func (r Resource) Held() bool { return r.Kind == bankstore.SQLite }

// Exclusive says that one process at a time can have the store open.
func (r Resource) Exclusive() bool { return r.Kind == bankstore.Embedded }

// store is where and what the resource's books are, as a seat reaches them.
func (r Resource) store(p *Plan, s Seat) bankstore.Config {
	dsn := r.DSN
	if s.DSN != "" {
		dsn = s.DSN
	}
	return bankstore.Config{
		Resource: r.Name, Spec: bankstore.Spec{Kind: r.Kind, DSN: dsn}, Path: filepath.Join(p.Dir, r.Name+".db"), Prefix: "bank_",
		Accounts: r.Accounts, Opening: func(int) int64 { return r.Opening }, LockWait: lockWait,
	}
}

// attemptMax bounds one transaction's initiator: longer than its timeout and a
// failover, so that the cluster's word is heard.
func (p *Plan) attemptMax() time.Duration { return p.Timeout + 20*time.Second }

// stopMax bounds a process's graceful end: an initiator finishes what it has begun.
func (p *Plan) stopMax() time.Duration { return p.attemptMax() + 10*time.Second }

// lockWait bounds a branch's wait for a lock: short, so that a lock conflict
// becomes a refusal well before the transaction's deadline.
const lockWait = time.Second

// write stores the plan for the processes.
func (p *Plan) write() error {
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(p.path(), text, 0o600)
}

func (p *Plan) path() string { return filepath.Join(p.Dir, "plan.json") }

// ReadPlan reads the plan that the parent wrote.
func ReadPlan(path string) (*Plan, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("bank: read the plan: %w", err)
	}
	p := new(Plan)
	if err := json.Unmarshal(text, p); err != nil {
		return nil, fmt.Errorf("bank: read the plan %s: %w", path, err)
	}
	return p, nil
}

// participant finds a participant's seat.
func (p *Plan) participant(seat string) (Resource, Seat, error) {
	for _, r := range p.Resources {
		for _, s := range r.Seats {
			if s.Name == seat {
				return r, s, nil
			}
		}
	}
	return Resource{}, Seat{}, fmt.Errorf("bank: the plan has no participant %q", seat)
}

// resource finds a resource by its name.
func (p *Plan) resource(name string) (Resource, error) {
	for _, r := range p.Resources {
		if r.Name == name {
			return r, nil
		}
	}
	return Resource{}, fmt.Errorf("bank: the plan has no resource %q", name)
}
