// Package bankstore keeps a bank's money in a store of any kind that the SDK
// guards: the embedded manager, Postgres, MySQL or MariaDB, and SQLite as held
// branches. Balances, and a ledger entry for each branch, are written in one local
// transaction, so the books show afterwards which branches took effect.
//
// `quorate demo` and the chaos suites move money with it. It links no driver: the
// program that does brings an Opener.
package bankstore

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate/participant"
)

// ErrFunds means that an account would go below zero.
var ErrFunds = errors.New("lack of funds")

// Kind is what a bank keeps its money in.
type Kind string

// The kinds of stores.
const (
	Embedded Kind = "embedded"
	Postgres Kind = "postgres"
	MySQL    Kind = "mysql"  // MariaDB, too
	SQLite   Kind = "sqlite" // held branches
)

// Spec names a store. The zero value is an embedded one.
type Spec struct {
	Kind Kind
	// DSN of the database; empty for embedded.
	DSN string
}

// String is the kind: a DSN may hold a password.
func (s Spec) String() string { return string(s.Kind) }

// Opener makes a driver's connector for a DSN. The program that links the
// drivers provides it.
type Opener func(kind Kind, dsn string) (driver.Connector, error)

// Config says which books are kept, and where.
type Config struct {
	// Resource is the name under which the cluster knows the store.
	Resource string
	Spec     Spec
	// Path is the file of an embedded store.
	Path string
	// Prefix is that of the tables in a database, so that banks may share one.
	Prefix string
	// Accounts is how many there are, from 0 on.
	Accounts int
	// Opening is what an account opens with.
	Opening func(account int) int64
	// LockWait bounds a branch's wait for a lock; 0: the SDK's default.
	LockWait time.Duration
	// IdleConnections to a database are kept open; 0: database/sql's default.
	IdleConnections int
	// PinnedMax bounds the connections that prepared branches keep; 0: the SDK's default.
	PinnedMax int
}

// Move changes the balance of one account.
type Move struct {
	Account int   `json:"account"`
	Delta   int64 `json:"delta"`
}

// Store keeps one bank's accounts, its ledger, and the SDK's evidence. Its
// methods may be called from any goroutine.
type Store interface {
	// Work makes the moves in one local transaction, the next branch of the
	// transaction that ctx carries. When it returns nil, the branch has prepared and
	// voted. ErrFunds when a balance would go below zero. A finish that is not nil is
	// called when the moves are made: with its error the branch rolls back.
	Work(ctx context.Context, moves []Move, finish func() error) error
	// Read reads balances in a branch that writes nothing.
	Read(ctx context.Context, accounts []int) (sum int64, err error)
	// Books reads everything.
	Books(ctx context.Context) (Books, error)
	Close() error
}

// Open opens the store, its accounts when they are new, and attaches it to the
// cluster.
func Open(ctx context.Context, c Config, client *participant.Client, opener Opener) (Store, error) {
	switch c.Spec.Kind {
	case Embedded:
		return openEmbedded(ctx, c, client)
	case Postgres, MySQL, SQLite:
		return openSQL(ctx, c, client, opener)
	default:
		return nil, fmt.Errorf("no store is named %q", c.Spec.Kind)
	}
}

// ReadBooks reads the books of a store that no process serves as they stand: of
// a database over a fresh connection, of an embedded store from its file.
func ReadBooks(ctx context.Context, c Config, opener Opener) (Books, error) {
	if c.Spec.Kind == Embedded {
		return readFile(ctx, c)
	}
	t, err := OpenTables(c, opener)
	if err != nil {
		return Books{}, err
	}
	defer t.Close()
	return t.Books(ctx)
}

// branchOf names the branch that the next local transaction begun with ctx will
// be: the first child of the handler's call path.
func branchOf(info participant.Info) participant.BranchRef {
	id := "1"
	if info.Path != "" {
		id = info.Path + ".1"
	}
	return participant.BranchRef{GID: info.GID, ID: id}
}
