package branchbank

import (
	"context"
	"database/sql"
	"fmt"
)

// Account is one account. Held money left the balance by a try and is on its way;
// Pending money was promised by one. Both are zero once everything has ended.
type Account struct {
	Balance int64 `json:"balance"`
	Held    int64 `json:"held"`
	Pending int64 `json:"pending"`
}

// Effect is what an operation on a branch did, and how often.
type Effect struct {
	GID       string `json:"gid"`
	Branch    string `json:"branch"`
	Operation string `json:"operation"`
	Key       string `json:"key"`
	Account   int    `json:"account"`
	Delta     int64  `json:"delta"`
	// N counts how often it took effect; At is when it first did, by a clock that
	// all processes of the machine share, in nanoseconds.
	N  int64 `json:"n"`
	At int64 `json:"at"`
}

// Books are all that a bank holds.
type Books struct {
	Accounts map[int]Account `json:"accounts"`
	Effects  []Effect        `json:"effects"`
}

// Total is the money in the bank; what is held is still its own.
func (b Books) Total() int64 {
	var sum int64
	for _, a := range b.Accounts {
		sum += a.Balance + a.Held
	}
	return sum
}

// ReadBooks reads the books over a connection of its own.
func ReadBooks(ctx context.Context, c Config) (Books, error) {
	s, err := connect(c)
	if err != nil {
		return Books{}, err
	}
	defer s.db.Close()
	return s.books(ctx)
}

// books reads all of it as of one moment.
func (s *store) books(ctx context.Context) (Books, error) {
	b := Books{Accounts: map[int]Account{}}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return b, fmt.Errorf("read the books: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	err = each(ctx, tx, s.query("SELECT id, balance, held, pending FROM %saccounts"), func(r *sql.Rows) error {
		var id int
		var a Account
		err := r.Scan(&id, &a.Balance, &a.Held, &a.Pending)
		b.Accounts[id] = a
		return err
	})
	if err != nil {
		return b, fmt.Errorf("read the accounts: %w", err)
	}
	err = each(ctx, tx, s.query("SELECT gid, branch, operation, txkey, account, delta, n, happened FROM %seffects ORDER BY happened"), func(r *sql.Rows) error {
		var e Effect
		err := r.Scan(&e.GID, &e.Branch, &e.Operation, &e.Key, &e.Account, &e.Delta, &e.N, &e.At)
		b.Effects = append(b.Effects, e)
		return err
	})
	if err != nil {
		return b, fmt.Errorf("read the effects: %w", err)
	}
	return b, nil
}

func each(ctx context.Context, tx *sql.Tx, query string, row func(*sql.Rows) error) error {
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
