package demo

import (
	"context"
	"database/sql/driver"
	"fmt"

	"github.com/quorate/quorate/participant"
)

// StoreKind is what a bank keeps its money in.
type StoreKind string

// The kinds of stores.
const (
	Embedded StoreKind = "embedded"
	Postgres StoreKind = "postgres"
	MySQL    StoreKind = "mysql" // MariaDB, too
)

// StoreSpec names a store. The zero value is an embedded one.
type StoreSpec struct {
	Kind StoreKind
	// DSN of the database; empty for embedded.
	DSN string
}

// String is the kind: a DSN may hold a password.
func (s StoreSpec) String() string { return string(s.Kind) }

// Opener makes a driver's connector for a DSN. The command that links the
// drivers provides it.
type Opener func(kind StoreKind, dsn string) (driver.Connector, error)

// store keeps one bank's accounts, its ledger, and the SDK's evidence. Its
// methods may be called from any goroutine.
type store interface {
	// move changes a balance and writes the ledger's entry in one local
	// transaction, a branch of the transaction that ctx carries. When it returns
	// nil, the branch has prepared and voted. ErrFunds when the balance would go
	// below zero.
	move(ctx context.Context, account int, delta int64) error
	// books reads everything.
	books(ctx context.Context) (Books, error)
	close() error
}

// openStore opens the bank's store and attaches it to the cluster.
func openStore(ctx context.Context, c BankConfig, client *participant.Client, opener Opener) (store, error) {
	switch c.Store.Kind {
	case Embedded:
		return openEmbedded(ctx, c, client)
	case Postgres, MySQL:
		return openSQL(ctx, c, client, opener)
	default:
		return nil, fmt.Errorf("no store is named %q", c.Store.Kind)
	}
}
